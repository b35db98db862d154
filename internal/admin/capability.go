package admin

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// CreateCapability makes a custom capability, of a registry provider or of a
// custom one. Its host is one of its provider's.
func (a *Admin) CreateCapability(ctx context.Context, who grant.Caller, r api.CapabilityCreate) (api.CapabilityDetail, error) {
	if err := a.allow(ctx, who, "capability create"); err != nil {
		return api.CapabilityDetail{}, err
	}
	if !policy.ValidCapabilityID(r.ID) {
		return api.CapabilityDetail{}, api.Errorf(api.InvalidRequest, "capability id %s is none: it reads provider/name", api.Quote(r.ID))
	}
	if _, claimed := a.registry.Capability(r.ID); claimed != nil {
		return api.CapabilityDetail{}, api.Errorf(api.AlreadyExists, "capability %s is the registry's", r.ID).
			WithHint("aivault capability describe %s", r.ID)
	}
	if _, set := a.registry.Set(r.ID); set != nil {
		return api.CapabilityDetail{}, api.Errorf(api.AlreadyExists, "%s names a set of the registry's: %s", r.ID, listed(set.Members)).
			WithHint("aivault capability describe %s", r.ID)
	}
	prefix, _, _ := strings.Cut(r.ID, "/")
	if r.Provider == "" {
		r.Provider = prefix
	}
	if a.registry.Provider(prefix) != nil && r.Provider != prefix {
		return api.CapabilityDetail{}, api.Errorf(api.InvalidRequest, "%s names a capability of %s, not of %s", r.ID, prefix, api.Quote(r.Provider))
	}
	if _, err := policy.CompileIssued(r.ID, r.IssuesToken); err != nil {
		return api.CapabilityDetail{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.CapabilityDetail{}, err
	}
	snap, err := a.update(ctx, who, audit.CapabilityCreated, func(tx *vault.Tx) error {
		if slices.ContainsFunc(tx.State.Capabilities, func(c vault.Capability) bool { return c.ID == r.ID }) {
			return api.Errorf(api.AlreadyExists, "a capability %s exists already", r.ID).
				WithHint("aivault capability delete %s", r.ID)
		}
		hosts, err := a.hostsFor(tx.State, &r)
		if err != nil {
			return err
		}
		host, err := pickHost(a.registry.Provider(r.Provider), &r, hosts)
		if err != nil {
			return err
		}
		if _, err := policy.CompileTemplate(r.ID, r.Provider, []string{host}, r.Methods, r.Paths); err != nil {
			return err
		}
		tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
			ID: r.ID, Provider: r.Provider, Credential: r.Credential, Hosts: []string{host},
			Methods: slices.Clone(r.Methods), Paths: slices.Clone(r.Paths), IssuesToken: slices.Clone(r.IssuesToken), CreatedAtMs: tx.Now(),
		})
		tx.Record.Object, tx.Record.Capability, tx.Record.Provider = r.ID, r.ID, r.Provider
		tx.Record.Host, tx.Record.Credential = host, r.Credential
		return nil
	})
	if err != nil {
		return api.CapabilityDetail{}, err
	}
	d, err := broker.DescribeCapability(a.registry, snap, r.ID)
	d.Limited = a.unlimited(snap, r.ID)
	return d, err
}

// hostsFor lists the hosts that the capability may choose from.
func (a *Admin) hostsFor(s *vault.State, r *api.CapabilityCreate) ([]string, error) {
	p := a.registry.Provider(r.Provider)
	var hosts []string
	found := false
	for i := range s.Credentials {
		c := &s.Credentials[i]
		if c.Provider != r.Provider || r.Credential != "" && c.ID != r.Credential {
			continue
		}
		found = true
		for _, h := range c.Hosts {
			if !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
	}
	switch {
	case r.Credential != "" && !found:
		return nil, api.Errorf(api.CredentialNotFound, "there is no credential %s of %s", api.Quote(r.Credential), api.Quote(r.Provider)).
			WithHint("aivault credential list")
	case p != nil:
		hosts = slices.Clone(p.Hosts)
		for i := range p.Logins {
			if !p.Logins[i].Dedicated { // a custom capability cannot use the others
				hosts = append(hosts, p.Logins[i].Hosts...)
			}
		}
		slices.Sort(hosts)
		return slices.Compact(hosts), nil
	case !found:
		return nil, api.Errorf(api.CredentialNotFound, "there is no provider %s: the registry doesn't know it, and no credential is one of it", api.Quote(r.Provider)).
			WithHint("aivault credential create --help")
	}
	return hosts, nil
}

// pickHost is the capability's host. Of a provider whose hosts differ from
// account to account it is the template: each credential fills it.
func pickHost(p *registry.Provider, r *api.CapabilityCreate, hosts []string) (string, error) {
	switch {
	case r.Host == "" && len(hosts) == 1:
		return hosts[0], nil
	case r.Host == "":
		return "", api.Errorf(api.InvalidRequest, "%s has several hosts: %s", r.Provider, strings.Join(hosts, ", ")).
			WithHint("add --host HOST")
	case slices.Contains(hosts, r.Host):
		return r.Host, nil
	}
	if p != nil {
		if params, ok := p.MatchHost(r.Host); ok {
			for _, h := range hosts {
				if filled, ok := p.FillHost(h, params); ok && filled == r.Host {
					return h, nil
				}
			}
		}
	}
	return "", api.Errorf(api.PolicyViolation, "host %s is none of %s's: %s", api.Quote(r.Host), r.Provider, strings.Join(hosts, ", "))
}

// DeleteCapability removes a custom capability, and with it what was said of
// that very id: its policy, its bindings, its switch, and the grants of it.
// Another that is made under its name later would be called without limits by
// whom nobody let call it.
func (a *Admin) DeleteCapability(ctx context.Context, who grant.Caller, id string) (api.CapabilityDetail, error) {
	if err := a.allow(ctx, who, "capability delete"); err != nil {
		return api.CapabilityDetail{}, err
	}
	if _, claimed := a.registry.Capability(id); claimed != nil {
		return api.CapabilityDetail{}, api.Errorf(api.InvalidRequest, "capability %s is the registry's, and stays", id)
	}
	if _, err := a.existing(ctx); err != nil {
		return api.CapabilityDetail{}, err
	}
	snap, err := a.vault.Snapshot(ctx)
	if err != nil {
		return api.CapabilityDetail{}, err
	}
	gone, err := broker.DescribeCapability(a.registry, snap, id)
	if err != nil {
		return api.CapabilityDetail{}, err
	}
	_, err = a.update(ctx, who, audit.CapabilityDeleted, func(tx *vault.Tx) error {
		i := slices.IndexFunc(tx.State.Capabilities, func(c vault.Capability) bool { return c.ID == id })
		if i < 0 {
			return api.Errorf(api.CapabilityNotFound, "there is no capability %s", api.Quote(id))
		}
		tx.Record.Object, tx.Record.Capability, tx.Record.Provider = id, id, tx.State.Capabilities[i].Provider
		st := tx.State
		st.Capabilities = slices.Delete(st.Capabilities, i, i+1)
		st.Policies = slices.DeleteFunc(st.Policies, func(p api.Policy) bool { return p.Capability == id })
		st.Switches = slices.DeleteFunc(st.Switches, func(s api.Switch) bool { return s.Pattern == id })
		st.Bindings = slices.DeleteFunc(st.Bindings, func(b api.Binding) bool { return b.Capability == id })
		for i := range st.Grants {
			g := &st.Grants[i]
			if at := slices.Index(g.Capabilities, id); at >= 0 {
				// An empty list stays: it allows nothing, and keeps the default away.
				g.Capabilities = slices.Delete(slices.Clone(g.Capabilities), at, at+1)
				if len(tx.Record.Grants) < maxRecorded {
					tx.Record.Grants = append(tx.Record.Grants, g.ID)
				}
			}
		}
		return nil
	})
	return gone, err
}
