// Package vault keeps aivault's state: one sealed, tamper-evident document.
// docs/vault-format.md specifies it.
//
// Readers take an immutable Snapshot; one Generation a request tells whether
// it is still the last. A change is applied under the vault's lock, logged,
// sealed with the log's head, written, and confirmed in the log, so that a
// crash between any two steps leaves the old state or the new one.
//
// Failures that a caller may see are api errors: vault_locked,
// vault_unavailable.
package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// Config is what a Vault needs.
type Config struct {
	Dir            string                 // $VAULT
	DefaultKeyFile string                 // of the file key provider
	Dev            bool                   // made and opened only by builds with the tag aivault_dev
	Argon2id       keysource.Argon2Params // zero: the product's; tests use less
	AuditSync      bool                   // every record is on disk before what it records happens
	AuditTend      bool                   // this process compresses and removes closed parts of the log
	AuditRetain    time.Duration          // how long they are kept; 0: for good
	AuditFailed    func(error)            // told why that could not be done; may be nil
	Clock          func() time.Time       // default time.Now
	Rand           io.Reader              // default crypto/rand
	Store          Store                  // default: the file vault.aiv in Dir
}

// Vault is one vault directory, whether or not there is a vault in it. Its
// methods may be called concurrently.
//
// Locks are taken in this order: unlock.lock, vault.lock, mu. What holds mu
// only tries vault.lock.
type Vault struct {
	cfg    Config
	store  Store
	marker marker
	sleep  func(context.Context, time.Duration) error
	step   func(name string) // tests: a restore's steps
	desk   *audit.Desk

	segmentSize int64 // tests: of the log's parts; 0 for the usual one

	current atomic.Pointer[Snapshot] // nil: not open
	writing chan struct{}            // holds a token while a goroutine of this process has vault.lock

	mu      sync.Mutex
	closed  bool
	seen    seenHeader
	keys    *keyring
	retired []weak.Pointer[keyring] // of before a rotation: calls may still use them
	checked checkedLog
	relock  *time.Timer // of Unlock with a time

	logMu     sync.Mutex
	logClosed bool
	log       *audit.Log
	logID     string // the vault that log belongs to
	signer    *auditSigner
}

// seenHeader is the header of the document last read, so that a locked vault
// can be described without reading it again.
type seenHeader struct {
	gen    Generation
	header header
	hash   string
	err    error // why it could not be taken apart
}

// New makes no file and reads none.
func New(cfg Config) *Vault {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	v := &Vault{cfg: cfg, store: cfg.Store, sleep: sleep, step: func(string) {}, writing: make(chan struct{}, 1)}
	v.marker.path = v.path("locked")
	v.desk = audit.NewDesk(v.Audit, cfg.Clock)
	if v.store == nil {
		v.store = NewFileStore(v.path("vault.aiv"), v.path("store.lock"))
	}
	return v
}

func (v *Vault) path(name string) string { return filepath.Join(v.cfg.Dir, name) }
func (v *Vault) logDir() string          { return v.path("audit") }
func (v *Vault) now() time.Time          { return v.cfg.Clock() }

func (v *Vault) keyConfig(vaultID string) keysource.Config {
	return keysource.Config{VaultID: vaultID, DefaultKeyFile: v.cfg.DefaultKeyFile,
		DefaultArgon2id: v.cfg.Argon2id, Rand: v.cfg.Rand}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// States of a vault.
const (
	None     = "none"
	Locked   = "locked"
	Unlocked = "unlocked"
	Broken   = "broken"
)

// Status describes the vault as far as it can be known without a key.
type Status struct {
	Dir        string
	State      string // None, Locked, Unlocked, Broken
	Generation uint64
	Key        keysource.Params // zero when None
	Used       bool             // has ever held a secret
	Typed      bool             // open by a key that a person typed (a passphrase)
	Problem    error            // why Broken or Locked
}

// Status never makes anything and never fails.
func (v *Vault) Status(ctx context.Context) Status {
	st := Status{Dir: v.cfg.Dir}
	_, err := v.Snapshot(ctx)
	v.mu.Lock()
	h := v.seen.header
	v.mu.Unlock()
	st.Generation, st.Key, st.Used = h.Generation, h.Key, h.Used
	if err == nil {
		err = v.checkLogFile(ctx)
	}
	switch {
	case err == nil:
		st.State, st.Typed = Unlocked, h.Key.Provider == keysource.Passphrase
	case errors.Is(err, errNoDocument):
		st.State = None
	case api.CodeOf(err) == api.VaultLocked:
		st.State, st.Problem = Locked, err
	default:
		st.State, st.Problem = Broken, err
	}
	return st
}

// checkLogFile says why the next call could not be recorded, and so would be
// refused, though the vault is open.
func (v *Vault) checkLogFile(ctx context.Context) error {
	log, err := v.Audit(ctx)
	if err != nil {
		return err
	}
	if err := log.Check(); err != nil {
		return v.unavailable("its audit log:", err).WithHint("put the log back, then run aivault restart")
	}
	return nil
}

// writeLock takes vault.lock, under which the document and the keys change.
func (v *Vault) writeLock(ctx context.Context) (release func(), err error) {
	// Goroutines of one process queue here: the lock on the file is polled.
	select {
	case v.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	lock, err := durable.Acquire(ctx, v.path("vault.lock"))
	if err != nil {
		<-v.writing
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, v.unavailable("vault.lock", err)
	}
	return func() {
		_ = lock.Release() // the descriptor is closed whatever flock says
		<-v.writing
	}, nil
}

// Close forgets the keys and closes the log.
func (v *Vault) Close() error {
	v.desk.Close() // what it has to tell goes into the log
	v.mu.Lock()
	v.closed = true
	v.closeKeys()
	v.mu.Unlock()
	var err error
	if c, ok := v.store.(io.Closer); ok {
		err = c.Close()
	}
	v.logMu.Lock()
	defer v.logMu.Unlock()
	v.logClosed = true
	if v.log != nil {
		if failed := v.log.Close(); failed != nil { // it signs what is not signed yet
			// The vault was there to its end, so this is no vault_unavailable.
			e := api.AsError(v.errLog(failed))
			err = errors.Join(err, api.Errorf(api.Internal, "%s", e.Message).WithHint("%s", e.Hint))
		}
		v.log, v.logID = nil, ""
	}
	v.wipeSigner()
	return err
}

// dropKeys ends the snapshot and wipes every key. v.mu is held.
func (v *Vault) dropKeys() {
	v.closeKeys()
	v.dropSigner()
}

// closeKeys is dropKeys but for the one that signs the log. v.mu is held.
func (v *Vault) closeKeys() {
	v.current.Store(nil)
	if v.keys != nil {
		v.keys.wipe()
		v.keys = nil
	}
	for _, w := range v.retired {
		if k := w.Value(); k != nil {
			k.wipe()
		}
	}
	v.retired = nil
	if v.relock != nil {
		v.relock.Stop()
		v.relock = nil
	}
}

// setKeys puts other keys in the place of those in use. Calls that run keep
// what they hold. v.mu is held.
func (v *Vault) setKeys(k *keyring) {
	if v.keys == k {
		return
	}
	if v.keys != nil {
		kept := v.retired[:0]
		for _, w := range v.retired {
			if w.Value() != nil {
				kept = append(kept, w)
			}
		}
		v.retired = append(kept, weak.Make(v.keys))
	}
	v.keys = k
}
