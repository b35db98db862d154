package broker

import (
	"fmt"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// problems names every entry that is broken, and what leaves the installation
// open.
func (v *viewer) problems() []api.Problem {
	list := []api.Problem{}
	add := func(what, why, hint string) { list = append(list, api.Problem{What: what, Why: why, Hint: hint}) }
	for _, id := range slices.Sorted(maps.Keys(v.credentials)) {
		c := v.credentials[id]
		if err := c.check(); err != nil {
			add("credential "+id, api.AsError(err).Message, "aivault credential delete "+id)
		} else if err := c.trouble(); err != nil {
			add("credential "+id, api.AsError(err).Message, api.AsError(err).Hint)
		} else {
			list = append(list, c.ending(v.clock())...)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.capabilities)) {
		if c := v.capabilities[id].compile(); c.err != nil {
			add("capability "+id, api.AsError(c.err).Message, "aivault capability delete "+id)
		}
	}
	if v.snapshot == nil {
		return list
	}
	state := v.snapshot.State()
	for i := range state.Bindings {
		b := &state.Bindings[i]
		if why := v.bindingProblem(b); why != "" {
			add("binding "+b.ID, why, "aivault capability unbind "+b.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.policies)) {
		why := ""
		if _, err := v.limits(id); err != nil {
			why = api.AsError(err).Message
		} else if v.capability(id) == nil {
			why = fmt.Sprintf("there is no capability %s", api.Quote(id))
		}
		if why != "" {
			add("policy "+id, why, "aivault capability policy clear --capability "+id)
		}
	}
	for i := range state.Grants {
		g := &state.Grants[i]
		if why := grantProblem(g); why != "" {
			add("grant "+g.ID, why, "aivault grant remove "+g.ID)
		}
	}
	if state.GrantDefault == api.GrantAllow && slices.ContainsFunc(state.Secrets, ofATenant) {
		add("grants", "some secrets belong to a workspace or group, and a caller without a grant may claim any of these", "aivault grant default deny")
	}
	return list
}

// lostLogins names the credentials whose tokens nobody but a person can renew.
func (b *Broker) lostLogins(v *viewer) []api.Problem {
	var list []api.Problem
	for _, id := range slices.Sorted(maps.Keys(v.credentials)) {
		c := v.credentials[id]
		if c.check() != nil {
			continue
		}
		logins := []login{c.own}
		for _, l := range c.tokens {
			logins = append(logins, l)
		}
		at := slices.IndexFunc(logins, func(l login) bool { return l.want != nil && b.tokens.Lost(v.snapshot, l.want) })
		if at >= 0 {
			list = append(list, api.Problem{
				What: "credential " + id, Why: "what came of renewing its token is not known: it goes on until the token that it has ends", Hint: logins[at].want.Renew,
			})
		}
	}
	return list
}

// ofATenant says whether a secret is not for everyone.
func ofATenant(s vault.Secret) bool { return s.ScopeOf() != grant.Global }

// bindingProblem says why calls that go by a binding fail, or why none does.
func (ix *index) bindingProblem(b *api.Binding) string {
	if !grant.ValidPattern(b.Capability) {
		return "it names no capability"
	}
	c := ix.credentials[b.Credential]
	if c == nil {
		return fmt.Sprintf("there is no credential %s", api.Quote(b.Credential))
	}
	// Some call that the binding is for has to see the credential: one in its
	// own scope, or in a narrower one.
	scope, _ := grant.ParseScope(b.Scope)
	reach := append([]grant.Scope{c.scope}, c.attached...)
	if !scope.Sees(c.scope) && !slices.ContainsFunc(reach, func(s grant.Scope) bool { return s.Sees(scope) }) {
		return fmt.Sprintf("no call in scope %s sees credential %q", scope, c.ID)
	}
	return ""
}

// grantProblem says why a part of a grant allows nothing.
func grantProblem(g *api.Grant) string {
	for _, p := range g.Capabilities {
		if !grant.ValidPattern(p) {
			return api.Quote(p) + " names no capability"
		}
	}
	return ""
}
