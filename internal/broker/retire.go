package broker

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
)

// How many values are scrubbed after others took their place. They come by
// the hour, and a broker may run for years: of the first of 32 that were
// replaced one after the other nobody has use any more.
const (
	keptOfOne = 32     // times that a credential's values, or the token of one key, were replaced
	keptInAll = 16_384 // of all credentials and logins; beyond, the oldest quarter goes
	mostOfOne = 512    // values that one replacement holds of how it was used before
)

// retired are values that were replaced or deleted: an upstream may repeat
// them for as long as it likes. The same may have been in use in several ways,
// and have ended at different times.
type retired struct {
	scopes []grant.Scope // the credential's own, and the groups that it was attached to
	hosts  []string
	values []secret.Value
	token  tokenID // of a token; else zero
	of     string  // the credential or the token's key
	nth    uint64  // since the broker started
}

// hold takes ownership of the values that were of's and are no longer. What is
// held by that name already stays, and is as new as these. It is called with
// the lock held.
func (s *scrubber) hold(name string, r retired) {
	if before, known := s.retired[name]; known {
		r.scopes, r.hosts = merged(before.scopes, r.scopes), merged(before.hosts, r.hosts)
		for _, v := range before.values {
			if len(r.values) >= mostOfOne || slices.ContainsFunc(r.values, v.Equal) {
				v.Wipe()
			} else {
				r.values = append(r.values, v)
			}
		}
		list := s.kept[r.of]
		i := slices.Index(list, name)
		s.kept[r.of] = slices.Delete(list, i, i+1)
	}
	s.held++
	r.nth = s.held
	s.retired[name] = r
	s.kept[r.of] = append(s.kept[r.of], name)
	if list := s.kept[r.of]; len(list) > keptOfOne {
		s.forget(list[0])
	}
	if len(s.retired) <= keptInAll {
		return
	}
	names := make([]string, 0, len(s.retired))
	for name := range s.retired {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(s.retired[a].nth, s.retired[b].nth) })
	for _, name := range names[:keptInAll/4] {
		s.forget(name)
	}
}

// forget is called with the lock held.
func (s *scrubber) forget(name string) {
	r := s.retired[name]
	wipeValues(r.values)
	delete(s.retired, name)
	if list := slices.DeleteFunc(s.kept[r.of], func(n string) bool { return n == name }); len(list) > 0 {
		s.kept[r.of] = list
	} else {
		delete(s.kept, r.of)
	}
}

// retire keeps what the credentials of old held and those of now no longer
// do.
func (s *scrubber) retire(old, now *index) {
	if old == nil || old.snapshot == nil {
		return
	}
	s.retireTokens(old, now)
	for id, c := range old.credentials {
		if c.sameValues(now.credentials[id]) {
			continue
		}
		values, _ := c.values(s.now()) // what no longer opens cannot be kept
		s.retireTokensOf(c)
		if len(values) == 0 {
			continue
		}
		s.mu.Lock()
		s.hold(c.versions(), retired{scopes: c.reach(), hosts: c.hosts, values: values, of: c.owner()})
		s.mu.Unlock()
	}
}

// sameValues says whether other still uses all of c's values.
func (c *credential) sameValues(other *credential) bool {
	if other == nil || other.Scope != c.Scope || !slices.Equal(other.hosts, c.hosts) || !slices.Equal(other.attached, c.attached) {
		return false
	}
	if !reflect.DeepEqual(other.Token, c.Token) || !reflect.DeepEqual(other.Auth, c.Auth) {
		return false // its tokens are others
	}
	for field, id := range c.Secrets {
		was, is := c.index.snapshot.Secret(id), other.index.snapshot.Secret(id)
		if other.Secrets[field] != id || was != nil && (is == nil || is.Version != was.Version) {
			return false
		}
	}
	return true
}

// equal says whether the credential is as it was, with the same secrets: then
// the very same values are made of it. sameValues asks for less, whether any
// went away.
func (c *credential) equal(was *credential) bool {
	if !reflect.DeepEqual(c.Credential, was.Credential) || !slices.Equal(c.hosts, was.hosts) || !slices.Equal(c.attached, was.attached) {
		return false
	}
	for _, id := range c.Secrets {
		if !reflect.DeepEqual(c.index.snapshot.Secret(id), was.index.snapshot.Secret(id)) {
			return false
		}
	}
	return true
}

// owner names the credential as one whose values are held.
func (c *credential) owner() string { return "credential|" + c.ID }

// versions names the credential together with the versions of its values.
// Where they could go is no part of it, nor how they were rendered: else one
// value that is attached here and there would take the place of many.
func (c *credential) versions() string {
	var parts []string
	for field, id := range c.Secrets {
		if s := c.index.snapshot.Secret(id); s != nil {
			parts = append(parts, field+"="+id+"@"+strconv.FormatUint(s.Version, 10))
		}
	}
	slices.Sort(parts)
	return c.owner() + "|" + strings.Join(parts, "|")
}
