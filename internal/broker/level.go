package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// A level is where a call looks for credentials: what belongs to a scope, or
// what is attached to a group beside that.
type level struct {
	scope    grant.Scope
	attached bool
}

// levels appends to buf what a call made in context c may use, the most
// specific first. No scope that c does not see is among them.
func levels(buf []level, c grant.Scope) []level {
	if c.Group != "" {
		buf = append(buf, level{scope: c}, level{scope: c, attached: true})
	}
	if c.Workspace != "" {
		buf = append(buf, level{scope: grant.Scope{Workspace: c.Workspace}})
	}
	return append(buf, level{scope: grant.Global})
}

// levelsMost is how many levels a context has at most.
const levelsMost = 4

// mayHold says whether what belongs to scope may hold a secret: it sees the
// secret's own scope, or is a group that the secret is attached to. Attached
// is only what is global or of the group's own workspace, whatever the entry
// says.
func mayHold(scope grant.Scope, s *vault.Secret) bool {
	own := s.ScopeOf()
	if scope.Sees(own) {
		return true
	}
	return scope.Group != "" && own.Workspace == scope.Workspace && slices.Contains(s.Groups, scope.String())
}

// attach finds the groups that the credential is attached to beside its own
// scope: those that one of its secrets is attached to, and that may hold all
// of them.
func (c *credential) attach() {
	for _, id := range c.Secrets {
		s := c.index.snapshot.Secret(id)
		if s == nil {
			return
		}
		for _, group := range s.Groups {
			g, ok := grant.ParseScope(group)
			if ok && g.Group != "" && g != c.scope && !slices.Contains(c.attached, g) && c.fitsIn(g) {
				c.attached = append(c.attached, g)
			}
		}
	}
	slices.SortFunc(c.attached, func(a, b grant.Scope) int { return strings.Compare(a.String(), b.String()) })
}

// fitsIn says whether a scope may hold every secret of the credential.
func (c *credential) fitsIn(scope grant.Scope) bool {
	for _, id := range c.Secrets {
		if s := c.index.snapshot.Secret(id); s == nil || !mayHold(scope, s) {
			return false
		}
	}
	return true
}

// level is where a call made in a context finds the credential: the most
// specific place, if it sees it at all.
func (c *credential) level(context grant.Scope) (l level, ok bool) {
	switch {
	case !c.visible:
		return level{}, false
	case c.scope == context:
		return level{scope: context}, true
	case slices.Contains(c.attached, context):
		return level{scope: context, attached: true}, true
	}
	return level{scope: c.scope}, context.Sees(c.scope)
}
