package admin

import (
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// chooseOnly reads the patterns of --only: each has to match a capability of
// the provider that the secret is pinned to.
func (a *Admin) chooseOnly(st *vault.State, provider string, patterns []string) ([]chosen, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	if provider == "" {
		return nil, api.Errorf(api.InvalidRequest, "only some capabilities can be enabled by a secret that enables any: this name belongs to no provider").
			WithHint("aivault capability list")
	}
	if len(patterns) > maxPatterns {
		return nil, api.Errorf(api.InvalidRequest, "more than %d capabilities and patterns are named at once", maxPatterns)
	}
	all := a.known(st, patterns...)
	var list []chosen
	for _, p := range patterns {
		one, err := a.expand(all, []string{p})
		if api.CodeOf(err) == api.CapabilityNotFound {
			return nil, noneOf(provider, p)
		} else if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(one[0].patterns, func(pattern string) bool {
			return slices.ContainsFunc(matched(all, pattern), func(k known) bool { return k.provider == provider })
		}) {
			return nil, noneOf(provider, p)
		}
		list = append(list, one...)
	}
	return list, nil
}

func noneOf(provider, pattern string) error {
	return api.Errorf(api.InvalidRequest, "%s matches no capability of %s", api.Quote(pattern), provider).
		WithHint("aivault capability list --provider %s", provider)
}

func refuseOnly(only []chosen, why string) error {
	if len(only) == 0 {
		return nil
	}
	return api.Errorf(api.InvalidRequest, "there is nothing to limit to %s: this %s", api.Quote(only[0].given), why).
		WithHint("leave --only out; aivault capability disable PATTERN turns capabilities off")
}

// limitTo makes an automatic credential one for some capabilities alone, and
// turns on what is an admin's among them and named by its own id. A credential
// that serves everything already is not narrowed: calls may rely on it.
func (a *Admin) limitTo(st *vault.State, p *registry.Provider, c *vault.Credential, only []chosen) error {
	if len(only) == 0 {
		return nil
	}
	if len(c.Only) == 0 && len(c.Secrets) > 0 && len(broker.Missing(p, c.Secrets)) == 0 {
		return refuseOnly(only, "completes credential "+c.ID+", which serves every capability of "+p.ID)
	}
	for _, pattern := range flat(only) {
		if !slices.Contains(c.Only, pattern) {
			c.Only = append(c.Only, pattern)
		}
	}
	if len(c.Only) > maxPatterns {
		return api.Errorf(api.InvalidRequest, "credential %s is limited to more than %d capabilities and patterns", c.ID, maxPatterns)
	}
	for _, one := range only {
		if _, entry := a.registry.Capability(one.given); entry != nil && entry.Access == "admin" {
			st.Switches = addSwitch(st.Switches, api.Switch{Pattern: one.given, On: true})
		}
	}
	if len(st.Switches) > maxSwitches {
		return api.Errorf(api.InvalidRequest, "more than %d capabilities and patterns are turned on or off", maxSwitches)
	}
	return nil
}

// unlimit undoes limitTo where an automatic credential goes: an admin
// capability that was turned on for it is off again, unless another credential
// is for it too.
func (a *Admin) unlimit(st *vault.State, gone *vault.Credential) {
	for _, id := range gone.Only {
		_, entry := a.registry.Capability(id)
		if entry == nil || entry.Access != "admin" || slices.ContainsFunc(st.Credentials, func(c vault.Credential) bool {
			return c.ID != gone.ID && slices.Contains(c.Only, id)
		}) {
			continue
		}
		st.Switches = slices.DeleteFunc(st.Switches, func(s api.Switch) bool { return s.On && s.Pattern == id })
	}
}

// enabled lists the capabilities that a registry provider's credential can
// make calls of: it has a login for them, is for them, and they are on.
func (a *Admin) enabled(st *vault.State, c *vault.Credential) []string {
	p := a.registry.Provider(c.Provider)
	var ids []string
	for _, k := range a.known(st, c.Provider+"/*") {
		if k.provider != c.Provider || k.entry == nil || k.only != "" && k.only != c.ID {
			continue
		}
		if len(c.Only) > 0 && !grant.Covers(c.Only, k.id) || !grant.On(st.Switches, k.id, k.admin) {
			continue
		}
		if canLogIn(p, k.entry, c.Secrets) {
			ids = append(ids, k.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// canLogIn says whether the fields at hand complete a login that the
// capability may use, at every one of its hosts.
func canLogIn(p *registry.Provider, c *registry.Capability, have map[string]string) bool {
	return slices.ContainsFunc(p.LoginsOf(c), func(l *registry.Login) bool {
		return l.NotYet == "" && p.Reaches(l, p.HostsOf(c)) &&
			!slices.ContainsFunc(l.Fields(), func(f string) bool { return have[f] == "" })
	})
}
