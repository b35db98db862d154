package vault

import (
	"fmt"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
)

// check holds what every reader of a state relies on: that each entry can be
// told from the others, and that whom and what it is for can be read in one
// way alone. An entry that is merely wrong, by a pattern that is none or a
// host that cannot be, is not refused here: it breaks its own calls, and a
// state that does not open would break all of them.
func (st *State) check() error {
	for _, part := range []func(*State) error{
		(*State).checkSecrets, (*State).checkCredentials, (*State).checkCapabilities,
		(*State).checkPolicies, (*State).checkBindings, (*State).checkGrants, (*State).checkTokens,
	} {
		if err := part(st); err != nil {
			return err
		}
	}
	return nil
}

// unique refuses an id that is missing or was there before.
type unique[K comparable] struct {
	what string
	seen map[K]struct{}
}

func newUnique[K comparable](what string, n int) unique[K] {
	return unique[K]{what, make(map[K]struct{}, n)}
}

func (u unique[K]) add(id K) error {
	var none K
	if id == none {
		return fmt.Errorf("%s is missing", u.what)
	}
	if _, twice := u.seen[id]; twice {
		return fmt.Errorf("%s %+q is there twice", u.what, fmt.Sprint(id))
	}
	u.seen[id] = struct{}{}
	return nil
}

func (st *State) checkSecrets() error {
	ids := newUnique[string]("the id of a secret", len(st.Secrets))
	for i := range st.Secrets {
		s := &st.Secrets[i]
		scope, ok := grant.ParseScope(s.Scope)
		if !ok {
			return fmt.Errorf("secret %q has a scope that does not parse", s.ID)
		}
		if err := ids.add(s.ID); err != nil {
			return err
		}
		for j, g := range s.Groups {
			group, ok := grant.ParseScope(g)
			if !ok || group.Group == "" {
				return fmt.Errorf("secret %q is attached to what is no group", s.ID)
			}
			// No workspace lends to another.
			if scope != grant.Global && group.Workspace != scope.Workspace {
				return fmt.Errorf("secret %q is attached to a group of another workspace", s.ID)
			}
			// Who detaches a group relies on its being there once.
			if slices.Contains(s.Groups[:j], g) {
				return fmt.Errorf("secret %q is attached to one group twice", s.ID)
			}
		}
	}
	return nil
}

func (st *State) checkCredentials() error {
	ids := newUnique[string]("the id of a credential", len(st.Credentials))
	for i := range st.Credentials {
		c := &st.Credentials[i]
		if _, ok := grant.ParseScope(c.Scope); !ok {
			return fmt.Errorf("credential %q has a scope that does not parse", c.ID)
		}
		if err := ids.add(c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (st *State) checkCapabilities() error {
	ids := newUnique[string]("the id of a capability", len(st.Capabilities))
	for i := range st.Capabilities {
		if err := ids.add(st.Capabilities[i].ID); err != nil {
			return err
		}
	}
	return nil
}

// checkPolicies leaves what a policy says to whoever prepares it: a bad one
// refuses the calls of its capability.
func (st *State) checkPolicies() error {
	ids := newUnique[string]("the policy of a capability", len(st.Policies))
	for i := range st.Policies {
		if err := ids.add(st.Policies[i].Capability); err != nil {
			return err
		}
	}
	return nil
}

// consumerKey is a consumer without its names: equal for the same user or group.
func consumerKey(c api.Consumer) (key string, ok bool) {
	switch {
	case (c.UID == nil) == (c.GID == nil):
		return "", false
	case c.UID != nil:
		return fmt.Sprint("uid:", *c.UID), true
	}
	return fmt.Sprint("gid:", *c.GID), true
}

func (st *State) checkBindings() error {
	ids := newUnique[string]("the id of a binding", len(st.Bindings))
	places := newUnique[[3]string]("the binding of a capability, scope and consumer", len(st.Bindings))
	for i := range st.Bindings {
		b := &st.Bindings[i]
		if err := ids.add(b.ID); err != nil {
			return err
		}
		if _, ok := grant.ParseScope(b.Scope); !ok {
			return fmt.Errorf("binding %q has a scope that does not parse", b.ID)
		}
		consumer := "everyone"
		if b.Consumer != nil {
			var ok bool
			if consumer, ok = consumerKey(*b.Consumer); !ok {
				return fmt.Errorf("binding %q is for neither one user nor one group", b.ID)
			}
		}
		if err := places.add([3]string{b.Capability, b.Scope, consumer}); err != nil {
			return err
		}
	}
	return nil
}

// checkGrants is stricter than the rest: a grant that one reader takes for
// narrower than another does has let someone in.
func (st *State) checkGrants() error {
	if st.GrantDefault != api.GrantAllow && st.GrantDefault != api.GrantDeny {
		return fmt.Errorf("what callers without a grant may do is neither %s nor %s", api.GrantAllow, api.GrantDeny)
	}
	ids := newUnique[string]("the id of a grant", len(st.Grants))
	for i := range st.Grants {
		g := &st.Grants[i]
		if err := ids.add(g.ID); err != nil {
			return err
		}
		if _, ok := consumerKey(g.Consumer); !ok {
			return fmt.Errorf("grant %q is for neither one user nor one group", g.ID)
		}
		context := grant.Scope{Workspace: g.WorkspaceID, Group: g.GroupID}
		if parsed, ok := grant.ParseScope(context.String()); !ok || parsed != context {
			return fmt.Errorf("grant %q is for a context that does not parse", g.ID)
		}
		if g.StrictScope && context == grant.Global {
			return fmt.Errorf("grant %q is strict about a context that it does not name", g.ID)
		}
		// A reader could take a negative number for no limit.
		if g.RatePerMinute < 0 || g.ExpiresAtMs < 0 {
			return fmt.Errorf("grant %q has a negative limit", g.ID)
		}
	}
	return nil
}

// checkTokens wants keys that can be told apart, since each names a file, and
// tokens that are somebody's. Whether one opens is found when it is used.
func (st *State) checkTokens() error {
	keys := newUnique[string]("the key of a token", len(st.Tokens))
	for i := range st.Tokens {
		t := &st.Tokens[i]
		if err := keys.add(t.Key); err != nil {
			return err
		}
		switch {
		case !isHash(t.Key):
			return fmt.Errorf("the key of a token, %+q, is no hash", t.Key)
		case len(t.Sources) == 0:
			return fmt.Errorf("token %s was had with no secret", t.Key)
		case t.Version == 0:
			return fmt.Errorf("token %s has no version", t.Key)
		}
	}
	return nil
}
