package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// A viewer is who looks at what there is.
type viewer struct {
	*index
	*subject        // of calls that claim no scope
	why      string // what keeps the vault closed
}

// look is what the caller may see. Without an open vault it is what the
// registry alone says, and why tells what is in the way (to any caller, so
// that it names no directory).
func (b *Broker) look(ctx context.Context, who grant.Caller) *viewer {
	ix, err := b.index(ctx)
	if err == nil {
		return ix.viewer(who, b.clock())
	}
	v := newIndex(b.catalog, nil).viewer(who, b.clock())
	v.why = "there is no vault that could be opened"
	if api.CodeOf(err) == api.VaultLocked {
		v.why = "the vault is locked"
	}
	return v
}

func (ix *index) viewer(who grant.Caller, now time.Time) *viewer {
	return &viewer{index: ix, subject: ix.subject(who, grant.Global, now)}
}

// in is the subject of calls that claim a scope.
func (v *viewer) in(context grant.Scope) *subject {
	s := *v.subject
	s.context = context
	return &s
}

// elsewhere lists contexts beside the global one in which the viewer might
// call a capability: those that the grants which limit it name, and, in their
// workspaces, the scopes of accounts. The operator is told of all of them;
// whom no grant names a workspace, of none: they are other people's names, and
// a grant that holds everywhere tells no more of them than no grant does.
func (v *viewer) elsewhere(one *capability) []grant.Scope {
	if v.access.Everything() && !v.caller.Operator {
		return nil
	}
	list := v.access.Contexts(one.id, v.now)
	named := slices.Clone(list)
	for _, c := range v.accounts()[one.provider.id] {
		if _, fits := c.loginFor(one); !fits || c.check() != nil {
			continue
		}
		for _, s := range append([]grant.Scope{c.scope}, c.attached...) {
			if v.caller.Operator || inWorkspaceOf(named, s) {
				list = append(list, s)
			}
		}
	}
	list = slices.DeleteFunc(list, func(s grant.Scope) bool {
		return s == grant.Global || !v.access.Reaches(one.id, s, v.now)
	})
	slices.SortFunc(list, func(a, b grant.Scope) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}

// readiness is whether a call of a capability could go out, and if not, why.
type readiness struct {
	ready, off bool
	reason     string // also where it is ready, but not for every call
	credential string
	context    grant.Scope // that the rest was judged in
}

// readiness judges a capability in the global context, and where that does not
// do in others that the viewer has: the first ones are named.
func (v *viewer) readiness(one *capability) readiness {
	switch {
	case one.err != nil:
		return readiness{reason: api.AsError(one.err).Message}
	case v.enabled(one) != nil:
		return readiness{off: true, reason: "off"}
	case one.notYet() != "":
		return readiness{reason: "needs " + one.notYet() + ", which this version does not have yet"}
	case v.why != "":
		return readiness{reason: v.why}
	}
	first := v.readyIn(one, v.subject)
	if first.ready {
		return first
	}
	global := v.access.Reaches(one.id, grant.Global, v.now)
	const most = 3
	var found readiness
	var names []string
	for _, context := range v.elsewhere(one) {
		r := v.readyIn(one, v.in(context))
		switch {
		case r.ready && len(names) == most:
			names = append(names, "others")
		case r.ready:
			if names = append(names, context.String()); len(names) == 1 {
				found = r
			}
		case !global:
			// The global context is none of the viewer's: what is missing, is
			// missing here.
			first, global = r, true
		}
		if len(names) > most {
			break
		}
	}
	if !found.ready {
		return first
	}
	if found.reason != "" {
		found.reason = "; " + found.reason
	}
	found.reason = "ready in " + joined(names) + found.reason
	return found
}

// readyIn judges a capability in one context.
func (v *viewer) readyIn(one *capability, s *subject) readiness {
	made, err := v.choose(s, one, "")
	r := readiness{context: s.context}
	switch api.CodeOf(err) {
	case "":
		r.ready, r.credential = true, made.credential.ID
	case api.CredentialAmbiguous:
		r.ready, r.reason = true, "several credentials fit: name one with --credential"
	case api.CredentialNotFound:
		r.reason = "waiting for a credential of " + one.provider.id
		if made.binding != "" && s.caller.Operator {
			r.reason = api.AsError(err).Message
		} else if names := v.waitsFor(s, one).list(); len(names) > 0 {
			r.reason = "waiting for " + joined(names)
		}
	default:
		r.off, r.reason = errors.Is(err, errOff), api.AsError(err).Message
	}
	return r
}

// sees says whether the viewer may be told of a credential: some call of its
// could use it, made in the global context or in one that its grants lead to.
func (v *viewer) sees(c *credential) bool {
	if v.caller.Operator {
		return true
	}
	for _, id := range v.capabilitiesOf(c.Provider) {
		contexts := v.access.Contexts(id, v.now)
		for _, s := range append([]grant.Scope{c.scope}, c.attached...) {
			if inWorkspaceOf(contexts, s) {
				contexts = append(contexts, s)
			}
		}
		for _, context := range append(contexts, grant.Global) {
			if l, ok := c.level(context); ok {
				if _, ok := v.access.Permits(id, context, l.scope, v.now); ok {
					return true
				}
			}
		}
	}
	return false
}

// inWorkspaceOf says whether a scope lies in the workspace of one of the
// contexts.
func inWorkspaceOf(contexts []grant.Scope, s grant.Scope) bool {
	return s.Workspace != "" && slices.ContainsFunc(contexts, func(c grant.Scope) bool { return c.Workspace == s.Workspace })
}

// accounts are the credentials of each provider, by id.
func (ix *index) accounts() map[string][]*credential {
	ix.accountsOnce.Do(func() {
		ix.ofProvider = map[string][]*credential{}
		for _, c := range ix.credentials {
			ix.ofProvider[c.Provider] = append(ix.ofProvider[c.Provider], c)
		}
		for _, list := range ix.ofProvider {
			slices.SortFunc(list, func(a, b *credential) int { return strings.Compare(a.ID, b.ID) })
		}
	})
	return ix.ofProvider
}

// pins are the providers that some secret is pinned to.
func (ix *index) pins() map[string]bool {
	ix.pinsOnce.Do(func() {
		ix.pinned = map[string]bool{}
		if ix.snapshot == nil {
			return
		}
		secrets := ix.snapshot.State().Secrets
		for i := range secrets {
			ix.pinned[secrets[i].Pin] = true
		}
	})
	return ix.pinned
}

// operatorsView is how a state that was just made looks to the operator.
func operatorsView(c *catalog, s *vault.Snapshot) *viewer {
	return newIndex(c, s).viewer(grant.Caller{Operator: true}, time.Now())
}
