package broker

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
)

// Capabilities lists what the caller may know of, with what each capability
// still waits for. The operator and whom no grant limits see all of the
// registry and of the vault; anyone else what a grant names.
func (b *Broker) Capabilities(ctx context.Context, who grant.Caller) (api.CapabilityList, error) {
	return b.CapabilitiesBy(ctx, who, api.CapabilityQuery{})
}

// CapabilitiesBy is Capabilities for a part of the list. For what is usable no
// provider is looked into that the caller sees no credential of.
func (b *Broker) CapabilitiesBy(ctx context.Context, who grant.Caller, q api.CapabilityQuery) (api.CapabilityList, error) {
	v := b.look(ctx, who)
	list := api.CapabilityList{Capabilities: []api.CapabilitySummary{}, Sets: []api.CapabilitySet{}, Available: []api.AvailableProvider{}}
	ready := map[string]bool{}
	for _, id := range v.idsBy(q) {
		c := v.capability(id)
		if c == nil || !v.knows(c) {
			continue
		}
		s := api.CapabilitySummary{ID: id, Provider: c.provider.id, Origin: c.origin(), Methods: c.methods()}
		r := v.readiness(c)
		s.Ready, s.Off, s.Reason = r.ready, r.off, r.reason
		ready[id] = r.ready
		if q.Usable && !r.ready && !(r.off && v.couldServe(c)) {
			continue
		}
		if c.entry != nil {
			s.Access, s.Description = c.entry.Access, c.entry.Description
		}
		list.Capabilities = append(list.Capabilities, s)
	}
	for _, id := range v.registry.Providers() {
		if q.Provider != "" && id != q.Provider {
			continue
		}
		account := v.anyAccount(id)
		if account || !q.Usable {
			list.Sets = append(list.Sets, v.sets(v.registry.Provider(id), ready)...)
		}
		if v.access.Everything() && !account && !v.waitsForAccount(id) {
			s := v.registry.Summary(id)
			list.Available = append(list.Available, api.AvailableProvider{
				Provider: id, Title: s.Title, Capabilities: s.Capabilities, Secrets: append([]string{}, s.First...), Login: s.ByLogin(),
			})
		}
	}
	if q.Usable {
		list.Sets = slices.DeleteFunc(list.Sets, func(s api.CapabilitySet) bool { return !s.Ready })
	}
	slices.SortFunc(list.Sets, func(a, b api.CapabilitySet) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// sets lists a provider's sets with the members that the viewer may know of.
func (v *viewer) sets(p *registry.Provider, ready map[string]bool) []api.CapabilitySet {
	var list []api.CapabilitySet
	for i := range p.Sets {
		t, err := v.find(v.subject, p.Sets[i].ID)
		if err != nil {
			continue
		}
		s := api.CapabilitySet{ID: t.id, Provider: p.ID, Description: p.Sets[i].Description, Members: t.memberIDs()}
		s.Ready = slices.ContainsFunc(s.Members, func(id string) bool { return ready[id] })
		list = append(list, s)
	}
	return list
}

// idsBy lists the ids of what may be on a list, registry and custom.
func (v *viewer) idsBy(q api.CapabilityQuery) []string {
	var ids []string
	for _, id := range v.registry.Providers() {
		if q.Provider != "" && id != q.Provider || q.Usable && !v.anyAccount(id) {
			continue
		}
		for i := range v.registry.Provider(id).Capabilities {
			ids = append(ids, v.registry.Provider(id).Capabilities[i].ID)
		}
	}
	for id, c := range v.capabilities {
		if q.Provider != "" && c.entry.Provider != q.Provider {
			continue
		}
		if _, claimed := v.registry.Capability(id); claimed == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// couldServe says whether a capability would be of use were it on: the viewer
// sees a credential, or it is the operator's own.
func (v *viewer) couldServe(c *capability) bool {
	return c.provider.entry == nil || v.anyAccount(c.provider.id)
}

// anyAccount says whether the viewer sees a credential of a provider.
func (v *viewer) anyAccount(provider string) bool {
	return slices.ContainsFunc(v.accounts()[provider], v.sees)
}

// Providers and Problems are the broker's part of a status: the providers that
// the caller sees a credential of, and, for the operator, what is broken.
func (b *Broker) Providers(ctx context.Context, who grant.Caller) ([]api.ProviderStatus, []api.Problem) {
	v := b.look(ctx, who)
	if !who.Operator {
		return v.providers(), []api.Problem{}
	}
	return v.providers(), append(v.problems(), b.lostLogins(v)...)
}

func (v *viewer) providers() []api.ProviderStatus {
	list := []api.ProviderStatus{}
	for _, id := range v.registry.Providers() {
		if !v.anyAccount(id) && v.waitsForAccount(id) {
			waiting := needs{host: HostFlag(v.registry.Provider(id))}.list()
			if len(waiting) == 0 {
				waiting = []string{"a credential"}
			}
			list = append(list, api.ProviderStatus{Provider: id, Waiting: waiting})
		}
	}
	for name := range v.accounts() {
		if !v.anyAccount(name) {
			continue
		}
		s := api.ProviderStatus{Provider: name}
		for _, id := range v.capabilitiesOf(name) {
			if c := v.capability(id); c.provider.id == name && v.knows(c) && v.readiness(c).ready {
				s.Capabilities++
			}
		}
		s.Ready = s.Capabilities > 0
		if p := v.registry.Provider(name); p != nil {
			s.Waiting = v.waiting(p)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b api.ProviderStatus) int { return strings.Compare(a.Provider, b.Provider) })
	return list
}

// waitsForAccount says whether the vault holds a secret of a provider that is
// in no account, because nobody said whose it is or the account was deleted;
// only the operator is told.
func (v *viewer) waitsForAccount(provider string) bool {
	return v.caller.Operator && v.pins()[provider]
}

// waiting names what a provider's credentials wait for: nothing when one of
// them is complete.
func (v *viewer) waiting(p *registry.Provider) []string {
	var best []string
	for _, c := range v.accounts()[p.ID] {
		if !v.sees(c) {
			continue
		}
		missing := Missing(p, c.Secrets)
		if len(missing) == 0 {
			return nil
		}
		if best == nil || len(missing) < len(best) {
			best = missing
		}
	}
	return best
}
