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
	"io"
	"time"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

// Generation identifies one version of the stored document. It can be
// compared; it says nothing about order.
type Generation string

// Store keeps the one document. The embedded default is a file; anything with
// the same three calls will do.
type Store interface {
	// Generation is cheap. fs.ErrNotExist: there is no document.
	Generation() (Generation, error)
	// Load returns the document and its generation.
	Load() ([]byte, Generation, error)
	// CompareAndSwap replaces the document when its generation is still old
	// ("" for none), else ErrConflict. It returns when the document is durable.
	CompareAndSwap(old Generation, blob []byte) (Generation, error)
}

// Config is what a Vault needs.
type Config struct {
	Dir            string                 // $VAULT
	DefaultKeyFile string                 // of the file key provider
	Dev            bool                   // made and opened only by builds with the tag aivault_dev
	Argon2id       keysource.Argon2Params // zero: the product's; tests use less
	AuditSync      bool
	Clock          func() time.Time // default time.Now
	Rand           io.Reader        // default crypto/rand
	Store          Store            // default: the file vault.aiv in Dir
}

// Vault is one vault directory, whether or not there is a vault in it. Its
// methods may be called concurrently.
type Vault struct{}

// New makes no file and reads none.
func New(cfg Config) *Vault { panic("contract") }

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
func (v *Vault) Status(ctx context.Context) Status { panic("contract") }

// Snapshot returns the current state, opening the vault when it can be opened
// without a person (file provider) and reading it again only when its
// generation changed. vault_locked and vault_unavailable otherwise.
func (v *Vault) Snapshot(ctx context.Context) (*Snapshot, error) { panic("contract") }

// Audit returns the vault's log, also while it is locked; vault_unavailable
// where there is no vault.
func (v *Vault) Audit(ctx context.Context) (*audit.Log, error) { panic("contract") }

// CanCreate says (nil) that a vault may be made here: none is there, no audit
// log of a lost one, and nothing of another product. Else vault_unavailable.
func (v *Vault) CanCreate() error { panic("contract") }

// Init makes a vault, or replaces one that has never held a secret (keeping
// its id and log); already_exists for any other.
func (v *Vault) Init(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	panic("contract")
}

// Unlock opens the vault with what a person gave; for > 0 locks again after
// so long. Of an open vault it checks the passphrase. It also ends a Lock.
// changed is false when there was nothing to unlock. Wrong passphrases are
// counted in the vault's directory; after five in a row each attempt waits.
func (v *Vault) Unlock(ctx context.Context, who *audit.Caller, m keysource.Material, lockAfter time.Duration) (changed bool, err error) {
	panic("contract")
}

// Lock forgets the keys and refuses every call, here and in every other
// process that uses this vault, until Unlock.
func (v *Vault) Lock(ctx context.Context, who *audit.Caller) error { panic("contract") }

// Rotate makes a new root key under a new KEK and drops the old one.
func (v *Vault) Rotate(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	panic("contract")
}

// Update applies one change: fn edits the copy that tx holds. rec is written
// to the log before the change is, with the generation that the change makes,
// and confirmed after it. An error of fn changes nothing and is returned as
// it is. fn may run again when another process changed the vault meanwhile.
func (v *Vault) Update(ctx context.Context, rec audit.Record, fn func(tx *Tx) error) (*Snapshot, error) {
	panic("contract")
}

// Close forgets the keys and closes the log.
func (v *Vault) Close() error { panic("contract") }

// Tx is a change being made.
type Tx struct {
	State  *State        // edit freely; slices and maps are copies
	Record *audit.Record // may be completed by fn, e.g. with the new id
}

// Seal fills s.DEK and s.Value with value under s's own id, scope, pin and
// version. Any of these that changes needs a Reseal.
func (tx *Tx) Seal(s *Secret, value secret.Value) error { panic("contract") }

// Reseal seals s's value again after edit changed its scope or pin: it opens
// the value as s stands, calls edit, and seals it as s stands then.
func (tx *Tx) Reseal(s *Secret, edit func(*Secret)) error { panic("contract") }

// Open opens a value of the state that is being changed (to check it against
// a strategy). The caller wipes it.
func (tx *Tx) Open(s *Secret) (secret.Value, error) { panic("contract") }

// NewID returns a fresh id of 26 letters and digits (lower case).
func (tx *Tx) NewID() string { panic("contract") }

// Now is the change's time in milliseconds.
func (tx *Tx) Now() int64 { panic("contract") }

// Snapshot is the vault's state at one generation.
type Snapshot struct{}

// Generation counts the vault's changes, from 1.
func (s *Snapshot) Generation() uint64 { panic("contract") }

// State must not be changed.
func (s *Snapshot) State() *State { panic("contract") }

// Secret finds a secret by id in constant time; nil when there is none.
func (s *Snapshot) Secret(id string) *Secret { panic("contract") }

// Credential finds a credential by id; nil when there is none.
func (s *Snapshot) Credential(id string) *Credential { panic("contract") }

// Open opens a secret's value. The caller wipes it after use.
func (s *Snapshot) Open(id string) (secret.Value, error) { panic("contract") }
