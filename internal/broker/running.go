package broker

import (
	"context"
	"sync"

	"moldable.sh/aivault/internal/api"
)

// running are the calls that use a secret right now. A secret that is taken
// away, or a vault that is locked, ends them: a stream may otherwise go on for
// hours under a key that its operator has revoked.
type running struct {
	mu    sync.Mutex
	calls map[*plan]context.CancelCauseFunc
}

func newRunning() *running { return &running{calls: map[*plan]context.CancelCauseFunc{}} }

func (r *running) add(p *plan, end context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[p] = end
}

func (r *running) remove(p *plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, p)
}

// review ends every call that the state now would not allow; now is nil when
// the vault is closed.
func (r *running) review(now *index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, end := range r.calls {
		if err := p.revoked(now); err != nil {
			end(err)
		}
	}
}

// revoked says why a call that has begun may not go on.
func (p *plan) revoked(now *index) error {
	if now == nil {
		return api.Errorf(api.VaultLocked, "the vault was locked during the call")
	}
	c := now.credentials[p.credential.ID]
	for _, f := range p.login.fields {
		id := p.credential.Secrets[f]
		if c == nil || c.Secrets[f] != id || now.snapshot.Secret(id) == nil || c.check() != nil {
			return api.Errorf(api.PolicyViolation, "credential %q was revoked during the call", p.credential.ID)
		}
	}
	return nil
}
