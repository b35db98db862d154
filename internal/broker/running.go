package broker

import (
	"context"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
)

// running are the calls that use a secret right now. What takes away what a
// call needs ends it: a stream may otherwise go on for hours under a key that
// its operator has revoked, or for a caller who has no grant any more.
type running struct {
	current func() *index
	clock   func() time.Time
	mu      sync.Mutex
	calls   map[*plan]*runningCall
}

type runningCall struct {
	end    context.CancelCauseFunc
	expiry *time.Timer // of the grants that permit it, nil when one of them never expires
}

func newRunning(current func() *index, clock func() time.Time) *running {
	return &running{current: current, clock: clock, calls: map[*plan]*runningCall{}}
}

func (r *running) add(p *plan, end context.CancelCauseFunc) {
	call := &runningCall{end: end}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[p] = call
	if now := r.current(); now != p.credential.index {
		// The vault changed since the call was decided.
		if _, err := p.stillAllowed(now, r.clock()); err != nil {
			end(err)
			return
		}
	}
	r.await(p, call, p.grants)
}

func (r *running) remove(p *plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if call := r.calls[p]; call != nil && call.expiry != nil {
		call.expiry.Stop()
	}
	delete(r.calls, p)
}

// await looks at a call again when the last of its grants expires. It is
// called with the lock held.
func (r *running) await(p *plan, call *runningCall, grants []api.Grant) {
	until := int64(0)
	for i := range grants {
		if grants[i].ExpiresAtMs == 0 {
			return
		}
		until = max(until, grants[i].ExpiresAtMs)
	}
	if len(grants) > 0 {
		call.expiry = time.AfterFunc(time.UnixMilli(until).Sub(r.clock()), func() { r.expired(p) })
	}
}

func (r *running) expired(p *plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := r.calls[p]
	if call == nil {
		return
	}
	grants, err := p.stillAllowed(r.current(), r.clock())
	if err != nil {
		call.end(err)
		return
	}
	r.await(p, call, grants) // others permit it by now
}

// review ends every call that the state now would not allow; now is nil when
// the vault is closed.
func (r *running) review(now *index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.clock()
	for p, call := range r.calls {
		if _, err := p.stillAllowed(now, at); err != nil {
			call.end(err)
		}
	}
}

// stillAllowed lists the grants that permit a call that has begun, or says why
// it may not go on. A value that was replaced meanwhile, and an account that
// the caller's next call would use instead, let it finish.
func (p *plan) stillAllowed(now *index, at time.Time) ([]api.Grant, error) {
	if now == nil {
		return nil, api.Errorf(api.VaultLocked, "the vault was locked during the call")
	}
	revoked := api.Errorf(api.PolicyViolation, "credential %q was revoked during the call", p.credential.ID)
	c := now.credentials[p.credential.ID]
	if c == nil || c.check() != nil {
		return nil, revoked
	}
	for _, f := range p.credential.used(p.login) {
		if id := p.credential.Secrets[f]; c.Secrets[f] != id || now.snapshot.Secret(id) == nil {
			return nil, revoked
		}
	}
	l, visible := c.level(p.context)
	if !visible {
		return nil, revoked
	}
	one := now.capability(p.capability.id)
	if one == nil || one.err != nil || now.enabled(one) != nil || c.allowed(one) != nil {
		return nil, api.Errorf(api.PolicyViolation, "capability %s was turned off during the call", p.capability.id)
	}
	grants, ok := now.subject(p.caller, p.context, at).access.Permits(one.id, p.context, l.scope, at)
	if !ok {
		return nil, api.Errorf(api.PolicyViolation, "the grant that permitted the call ended during it")
	}
	return grants, nil
}
