package broker

import (
	"errors"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
)

// A subject is who asks, in which context, and when: all that decides what of
// the vault there is for a call.
type subject struct {
	caller  grant.Caller
	access  grant.Access
	context grant.Scope
	now     time.Time
}

// subject tells what the caller may do under this state.
func (ix *index) subject(caller grant.Caller, context grant.Scope, now time.Time) *subject {
	return &subject{caller: caller, access: ix.rules.Of(caller), context: context, now: now}
}

// knows says whether the subject may know of a capability.
func (s *subject) knows(one *capability) bool { return s.access.Knows(one.id, s.now) }

// errOff is what keeps a capability that works from being called.
var errOff = errors.New("off")

// enabled says why a capability is refused to everyone: it is off.
func (ix *index) enabled(c *capability) error {
	if grant.On(ix.switches, c.id, c.admin) {
		return nil
	}
	return api.Errorf(api.PolicyViolation, "capability %s is %w", c.id, errOff).
		WithHint("aivault capability enable %s", c.id)
}

// A choice is the account that a call uses, and why it may.
type choice struct {
	credential *credential
	login      login
	rules      *policy.Capability // the capability's, its hosts filled for this credential
	binding    string             // id of the binding that chose the credential
	grants     []api.Grant        // that permit it
}

// choose picks the credential of a call: the one it names, if its scope fits
// and the subject's grants allow it; else the caller's binding's; else the
// scope's binding's; else the most specific one. It refuses where the
// capability is off for the credential.
//
// What the subject has no grant for does not exist here: a context that no
// grant reaches answers as an empty one does, and of a level that none permits
// nothing is looked at.
func (ix *index) choose(s *subject, one *capability, named string) (choice, error) {
	if !s.access.Reaches(one.id, s.context, s.now) {
		if named != "" {
			return choice{}, notNamed(s, one, named)
		}
		return choice{}, nothingFor(one, s.context)
	}
	if named != "" {
		c, grants := ix.visible(s, one, named)
		if c == nil {
			return choice{}, notNamed(s, one, named)
		}
		return c.choice(one, grants)
	}
	bound, err := ix.bindingOf(s, one)
	switch {
	case err != nil:
		return choice{}, err
	case bound != nil:
		return ix.chooseBound(s, one, bound)
	}
	var buf [levelsMost]level
	for _, l := range levels(buf[:0], s.context) {
		here := ix.byProvider[place{one.provider.id, l}]
		if len(here) == 0 {
			continue
		}
		if grants, ok := s.access.Permits(one.id, s.context, l.scope, s.now); ok {
			if made, err := chooseAmong(here, one, grants); made.credential != nil || err != nil {
				return made, err
			}
		}
	}
	return choice{}, ix.noCredential(s, one)
}

// chooseAmong picks the one of equally specific credentials that fits; the
// zero choice when none is for this capability at all. One that is broken, or
// that the capability is off for, is never passed over for a less specific
// one, which would quietly use another account.
func chooseAmong(here []*credential, one *capability, grants []api.Grant) (choice, error) {
	var found *credential
	var made choice
	var others []*credential
	var failure error
	for _, c := range here {
		use, err := c.choice(one, grants)
		switch {
		case err == nil && found == nil:
			found, made = c, use
		case err == nil:
			others = append(others, c)
		case !errors.Is(err, errUnfit) && failure == nil:
			failure = err
		}
	}
	switch {
	case len(others) > 0:
		return choice{}, ambiguous(one, append([]*credential{found}, others...))
	case found != nil:
		return made, nil
	}
	return choice{}, failure
}

// chooseBound uses the credential that a binding names, or none: another
// account would not be what the operator decided. The binding is in the choice
// also where it leads nowhere.
func (ix *index) chooseBound(s *subject, one *capability, b *api.Binding) (choice, error) {
	c, grants := ix.visible(s, one, b.Credential)
	if c == nil {
		if !s.caller.Operator {
			return choice{binding: b.ID}, nothingFor(one, s.context)
		}
		return choice{binding: b.ID}, api.Errorf(api.CredentialNotFound, "binding %s says that %s uses credential %s, which is not there for %s in scope %s",
			b.ID, one.id, api.Quote(b.Credential), one.provider.id, s.context).
			WithHint("aivault capability unbind %s", b.ID)
	}
	made, err := c.choice(one, grants)
	made.binding = b.ID
	return made, err
}

// visible finds a credential of the capability's provider by its id, where
// the context sees it and the subject's grants permit it.
func (ix *index) visible(s *subject, one *capability, id string) (*credential, []api.Grant) {
	c := ix.credentials[id]
	if c == nil || c.Provider != one.provider.id {
		return nil, nil
	}
	l, ok := c.level(s.context)
	if !ok {
		return nil, nil
	}
	grants, ok := s.access.Permits(one.id, s.context, l.scope, s.now)
	if !ok {
		return nil, nil
	}
	return c, grants
}

// errUnfit marks a credential that is not for a capability.
var errUnfit = errors.New("cannot make calls of")

// choice is the use of this credential for a capability.
func (c *credential) choice(one *capability, grants []api.Grant) (choice, error) {
	broken := c.check()
	l, ok := c.loginFor(one)
	switch {
	case !ok:
		return choice{}, c.unfit(one)
	case broken != nil:
		return choice{}, broken
	case l.err != nil:
		return choice{}, l.err
	}
	if err := c.certified(l); err != nil {
		return choice{}, err
	}
	if err := c.allowed(one); err != nil {
		return choice{}, err
	}
	rules, err := c.rules(one)
	if err != nil {
		return choice{}, err
	}
	return choice{credential: c, login: l, rules: rules, grants: grants}, nil
}

// unfit says that the credential is not for a capability, and what it lacks.
func (c *credential) unfit(one *capability) error {
	e := api.Errorf(api.CredentialNotFound, "credential %q %w %s", c.ID, errUnfit, one.id)
	if one.provider.entry != nil && (one.only == "" || one.only == c.ID) {
		if names := one.missing(c.Secrets); len(names) > 0 {
			return e.WithHint("%s", storeCommand(one.provider.entry, names[0], c.scope))
		}
	}
	return e
}
