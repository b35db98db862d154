package broker

import (
	"slices"

	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Overlapping lists the capabilities that are on and admit some calls of
// these, too, as the operator sees them: what limits or forbids these alone
// does not hold for those calls.
func Overlapping(r *registry.Registry, s *vault.Snapshot, ids ...string) []string {
	v := operatorsView(newCatalog(r), s)
	var found []string
	for _, id := range ids {
		c := v.capability(id)
		if c == nil {
			continue
		}
		for _, other := range v.overlaps(c) {
			if !slices.Contains(found, other) && v.enabled(v.capability(other)) == nil {
				found = append(found, other)
			}
		}
	}
	return found
}

// overlaps lists the capabilities that the viewer may know of and that admit
// some calls of c, too: the registry's and the operator's own.
func (v *viewer) overlaps(c *capability) []string {
	var ids []string
	for _, id := range v.capabilitiesOf(c.provider.id) {
		if other := v.capability(id); other.id != c.id && v.knows(other) && other.overlaps(c) {
			ids = append(ids, id)
		}
	}
	return ids
}

// overlaps says whether a call may be one of either capability: on the same
// host, and at the same place there. One that is broken admits nothing.
func (c *capability) overlaps(d *capability) bool {
	if c.policy == nil || d.policy == nil || c.hosts[0] != d.hosts[0] {
		return false
	}
	places := c.places()
	return slices.ContainsFunc(d.places(), func(p string) bool { return slices.Contains(places, p) }) && c.policy.Overlaps(d.policy)
}

// places are what the capability's logins put before the path.
func (c *capability) places() []string {
	if c.provider.entry == nil {
		return []string{""}
	}
	var places []string
	for _, l := range c.logins {
		places = append(places, l.Place())
	}
	return places
}

// slashes says whether a member has a rule that declares an escaped '/'.
func (t *target) slashes() bool {
	return slices.ContainsFunc(t.members, func(c *capability) bool { return c.policy != nil && c.policy.Slashes() })
}
