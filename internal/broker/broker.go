// Package broker makes authenticated calls on behalf of callers who hold no
// key. Do is one pipeline for every surface: canonicalise, resolve, decide,
// count, record, open the secret, authenticate, send, clean the answer,
// record. Explain decides the same way and stops there.
//
// What it promises: no caller-given value decides where a call goes; a pinned
// secret is used for its provider alone; every call, allowed or refused, is
// in the audit log before its answer is; and no value that may go to a host
// comes back in that host's answers.
package broker

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Config is what a Broker needs.
type Config struct {
	Vault    *vault.Vault
	Registry *registry.Registry
	Egress   *egress.Client
	Quota    *quota.Book      // nil: a call that a rate limit counts is refused
	OAuth    *oauth.Source    // of tokens; default: one of its own, which Close ends
	Clock    func() time.Time // default time.Now
	// Refuse, when not nil, is why no call may be made by this process: a
	// build that does not know the development variables found one set.
	Refuse error
}

// Broker makes calls. Its methods may be called concurrently.
type Broker struct {
	vault   *vault.Vault
	egress  *egress.Client
	tokens  *oauth.Source
	own     *oauth.Source // tokens, where nobody gave one
	quota   *quota.Book
	clock   func() time.Time
	refusal error
	bodies  bodies
	nonces  auth.Nonces
	parsing *turns // of operations that are being read
	catalog *catalog
	scrub   *scrubber
	running *running
	current atomic.Pointer[index]
	renew   sync.Mutex // held while current is replaced
	session session
}

// New makes a Broker.
func New(cfg Config) *Broker {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	b := &Broker{
		vault: cfg.Vault, egress: cfg.Egress, quota: cfg.Quota, clock: cfg.Clock, refusal: cfg.Refuse,
		parsing: newTurns(runtime.GOMAXPROCS(0)),
		catalog: newCatalog(cfg.Registry),
		scrub:   newScrubber(cfg.Clock),
	}
	b.catalog.clock = cfg.Clock
	if b.tokens = cfg.OAuth; b.tokens == nil {
		b.own = oauth.New(oauth.Config{Vault: cfg.Vault, Egress: cfg.Egress, Clock: cfg.Clock, Sign: auth.SignAWS})
		b.tokens = b.own
	}
	b.running = newRunning(b.current.Load, cfg.Clock)
	return b
}

// Close wipes what the Broker keeps of secrets. No call may be running.
func (b *Broker) Close() {
	b.session.close()
	if b.own != nil {
		b.own.Close()
	}
	b.current.Store(nil)
	b.scrub.close()
}

// Observe looks at the vault as it stands. Called before and after a change
// that this process makes, it lets the Broker go on scrubbing a value that the
// change replaced, end the calls whose secret it took away, and wipe the values
// in use as soon as the vault is locked. What had been replaced by then it goes
// on holding: it is looked for again once the vault is unlocked.
func (b *Broker) Observe(ctx context.Context) { _, _ = b.index(ctx) }

// Answer is an upstream's answer as the caller may see it. Body must be
// closed. When it ends with an error, that is an *api.Error.
type Answer struct {
	Planned api.Planned
	Status  int
	Header  http.Header // the few that are passed on, scrubbed
	Length  int64       // -1 unknown
	Body    *AnswerBody
}

// index prepares the vault's current state, unless that was done before.
func (b *Broker) index(ctx context.Context) (*index, error) {
	snap, err := b.vault.Snapshot(ctx)
	if err == nil {
		if ix := b.current.Load(); ix != nil && ix.snapshot == snap {
			return ix, nil
		}
	}
	b.renew.Lock()
	defer b.renew.Unlock()
	// Asked again under the lock, so that no older snapshot replaces a newer.
	snap, err = b.vault.Snapshot(ctx)
	old := b.current.Load()
	if err != nil {
		if code := api.CodeOf(err); old != nil && (code == api.VaultLocked || code == api.VaultUnavailable) {
			b.current.Store(nil)
			b.scrub.drop(nil, nil)
			b.running.review(nil)
		}
		return nil, err
	}
	if old != nil && old.snapshot == snap {
		return old, nil
	}
	ix := newIndex(b.catalog, snap)
	b.scrub.retire(old, ix)
	b.current.Store(ix)
	b.scrub.drop(old, ix)
	b.running.review(ix)
	return ix, nil
}
