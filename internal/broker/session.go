package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/vault"
)

// session is the process's place in the log, as one that makes calls. It is
// taken when the first call is allowed: whoever only explains and lists leaves
// nothing behind.
type session struct {
	current atomic.Pointer[audit.Session]
	mu      sync.Mutex // held while current is replaced
	closed  bool
}

// of returns the session in a log. The calls of a process that is gone get
// their outcome first; what of that cannot be done now is left to the next
// process.
func (s *session) of(ctx context.Context, log *audit.Log, v *vault.Vault) (*audit.Session, error) {
	if now := s.current.Load(); now != nil && now.Of(log) {
		return now, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.current.Load()
	switch {
	case now != nil && now.Of(log):
		return now, nil
	case s.closed:
		return nil, errors.New("broker: it is closed")
	}
	dir := v.CallsDir()
	_, _ = log.Recover(ctx, dir)
	fresh, err := log.OpenSession(ctx, dir)
	if err != nil {
		return nil, err
	}
	s.current.Store(fresh)
	if now != nil {
		_ = now.Close() // of a vault that is no longer here
	}
	return fresh, nil
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if now := s.current.Load(); now != nil {
		_ = now.Close() // what is not written now is unknown to the next process, which says so
	}
}

// Recover writes the outcome of calls whose process is gone, and says how many
// there were. A daemon does so when it starts.
func (b *Broker) Recover(ctx context.Context) (calls int, err error) {
	log, err := b.vault.Audit(ctx)
	if err != nil {
		return 0, nil // no vault, no calls
	}
	return log.Recover(ctx, b.vault.CallsDir())
}

// allow records that the call is about to be made. Nothing is sent when that
// cannot be recorded.
func (b *Broker) allow(ctx context.Context, p *plan) (err error) {
	p.session, err = b.session.of(ctx, p.log, b.vault)
	if err == nil {
		err = p.session.Allow(ctx, &p.open, p.allowed())
	}
	if err != nil {
		return err
	}
	b.vault.Desk().Spend(p.caller.UID, 2) // and its outcome
	return nil
}

// recordOutcome records how a call ended, and before that what was taken out
// of its answer.
func (b *Broker) recordOutcome(p *plan, r audit.Record) error {
	if r.Redactions > 0 {
		b.vault.Desk().Spend(p.caller.UID, 1)
		_ = p.session.Note(&p.open, audit.Record{
			Event: audit.EchoRedacted, RequestID: r.RequestID, Caller: r.Caller, Capability: r.Capability,
			Credential: r.Credential, Host: r.Host, Redactions: r.Redactions,
		})
	}
	return p.session.Finish(&p.open, r)
}

// unrecorded is what a caller is told when the log cannot be written.
func unrecorded(what string, err error) error {
	e := api.Errorf(api.Internal, "%s: %w", what, err)
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return e.WithHint("the disk that holds the vault is full: calls go out again as soon as there is room")
		}
	}
	return e
}
