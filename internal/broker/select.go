package broker

import (
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
	panic("contract")
}

// A target is what a call names: one capability, or a set of them. It holds
// only what the subject may know of.
type target struct {
	id       string
	set      bool
	provider *provider
	members  []*capability // one, where id is no set
}

// find is what an id names for the subject. What does not exist and what the
// subject has no grant for give the very same error.
func (ix *index) find(s *subject, id string) (*target, error) { panic("contract") }

// call completes the method and path of a request with the default call.
func (t *target) call(r *api.Request) (method, path string, err error) { panic("contract") }

// member picks the capability that a canonical request belongs to: the most
// specific one that admits it. Of a target that is no set it is the only one,
// whether it admits the request or not. It says plainly when nothing can be
// done with the capability: it is broken, or needs what this version lacks.
func (t *target) member(r *policy.Request) (*capability, error) { panic("contract") }

// enabled says why a capability is refused to everyone: it is off.
func (ix *index) enabled(c *capability) error { panic("contract") }

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
func (ix *index) choose(s *subject, one *capability, named string) (choice, error) {
	panic("contract")
}
