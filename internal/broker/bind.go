package broker

import (
	"cmp"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
)

// bindings are a state's, by whom and by the scope that they are for; in each
// place as the state has them.
type bindings map[boundAt][]*api.Binding

type boundAt struct {
	kind  byte // 'u' and 'g' with an id, 0 for everyone
	id    uint32
	scope grant.Scope
}

// newBindings indexes bindings. One that names no capability applies to none:
// it is among the state's problems.
func newBindings(list []api.Binding) bindings {
	if len(list) == 0 {
		return nil
	}
	all := make(bindings, len(list))
	for i := range list {
		b := &list[i]
		at := boundAt{}
		at.scope, _ = grant.ParseScope(b.Scope)
		if c := b.Consumer; c != nil && c.UID != nil {
			at.kind, at.id = 'u', *c.UID
		} else if c != nil {
			at.kind, at.id = 'g', *c.GID
		}
		all[at] = append(all[at], b)
	}
	return all
}

// comparePatterns orders patterns that match the same capability: an exact one
// before one with '*', then the longer one.
func comparePatterns(a, b string) int {
	wild := func(p string) int { return min(strings.Count(p, "*"), 1) }
	return cmp.Or(wild(a)-wild(b), len(b)-len(a))
}

// bindingOf finds the binding that a call goes by, nil when there is none: the
// user's own, then those of the caller's groups, then those for everyone;
// within each that of the most specific scope.
func (ix *index) bindingOf(s *subject, one *capability) (*api.Binding, error) {
	if len(ix.bindings) == 0 {
		return nil, nil
	}
	groups := make([]boundAt, 0, len(s.caller.Groups)+1)
	for _, gid := range append(s.caller.Groups[:len(s.caller.Groups):len(s.caller.Groups)], s.caller.GID) {
		groups = append(groups, boundAt{kind: 'g', id: gid})
	}
	for _, consumers := range [][]boundAt{{{kind: 'u', id: s.caller.UID}}, groups, {{}}} {
		for _, scope := range scopesOf(s.context) {
			if b, err := ix.bestBinding(s, consumers, scope, one); b != nil || err != nil {
				return b, err
			}
		}
	}
	return nil, nil
}

// bestBinding picks among the bindings of equal consumers in one scope.
func (ix *index) bestBinding(s *subject, consumers []boundAt, scope grant.Scope, one *capability) (*api.Binding, error) {
	var found, rival *api.Binding
	for _, at := range consumers {
		at.scope = scope
		for _, b := range ix.bindings[at] {
			if !grant.Match(b.Capability, one.id) || ix.isForOthers(b, one) {
				continue
			}
			order := -1
			if found != nil {
				order = comparePatterns(b.Capability, found.Capability)
			}
			switch {
			case order < 0:
				found, rival = b, nil
			case order == 0 && b.Credential != found.Credential:
				rival = b
			}
		}
	}
	if rival != nil {
		return nil, ambiguousBindings(s, one.id, found, rival)
	}
	return found, nil
}

// isForOthers says whether a binding whose pattern names no provider is, by
// its credential, for those of another one. A pattern that names the provider
// is for it, whatever became of the credential.
func (ix *index) isForOthers(b *api.Binding, one *capability) bool {
	provider, _, _ := strings.Cut(b.Capability, "/")
	c := ix.credentials[b.Credential]
	return strings.Contains(provider, "*") && c != nil && c.Provider != one.provider.id
}

func ambiguousBindings(s *subject, capability string, a, b *api.Binding) error {
	e := api.Errorf(api.CredentialAmbiguous, "several bindings fit %s equally well", capability)
	if s.caller.Operator {
		e = api.Errorf(api.CredentialAmbiguous, "%s: %s to %s and %s to %s", e.Message, a.ID, api.Quote(a.Credential), b.ID, api.Quote(b.Credential))
	}
	return e.WithHint("aivault invoke %s --credential ID", capability)
}

// scopesOf are the scopes that a call made in context c sees, the most
// specific first.
func scopesOf(c grant.Scope) []grant.Scope {
	switch {
	case c.Workspace == "":
		return []grant.Scope{grant.Global}
	case c.Group == "":
		return []grant.Scope{c, grant.Global}
	}
	return []grant.Scope{c, {Workspace: c.Workspace}, grant.Global}
}
