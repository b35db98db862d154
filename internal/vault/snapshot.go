package vault

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
)

// Snapshot is the vault's state at one generation. It is immutable; only
// Lock, which wipes the keys, takes its power to open values away.
type Snapshot struct {
	gen    Generation
	hash   string // of the file
	header header
	state  *State
	keys   *keyring

	size int // of the file, in bytes

	secrets     map[string]*Secret
	credentials map[string]*Credential
	tokens      map[string]*Token // those that are not stale

	logEnd    audit.Head // up to where the log was checked
	confirmed bool       // the log says that this file was committed
	unsigned  bool       // no checkpoint of the vault's key lies beside the log, or no key
}

func newSnapshot(gen Generation, hash string, size int, h header, st *State, keys *keyring) *Snapshot {
	s := &Snapshot{gen: gen, hash: hash, size: size, header: h, state: st, keys: keys,
		secrets:     make(map[string]*Secret, len(st.Secrets)),
		credentials: make(map[string]*Credential, len(st.Credentials)),
		tokens:      make(map[string]*Token, len(st.Tokens))}
	for i := range st.Secrets {
		s.secrets[st.Secrets[i].ID] = &st.Secrets[i]
	}
	for i := range st.Credentials {
		s.credentials[st.Credentials[i].ID] = &st.Credentials[i]
	}
	for i := range st.Tokens {
		if t := &st.Tokens[i]; !t.stale(s.Secret) {
			s.tokens[t.Key] = t
		}
	}
	return s
}

// Generation counts the vault's changes, from 1.
func (s *Snapshot) Generation() uint64 { return s.header.Generation }

// State must not be changed.
func (s *Snapshot) State() *State { return s.state }

// Secret finds a secret by id in constant time; nil when there is none.
func (s *Snapshot) Secret(id string) *Secret { return s.secrets[id] }

// Credential finds a credential by id; nil when there is none.
func (s *Snapshot) Credential(id string) *Credential { return s.credentials[id] }

// Open opens a secret's value. The caller wipes it after use.
func (s *Snapshot) Open(id string) (secret.Value, error) {
	sec := s.secrets[id]
	if sec == nil {
		return secret.Value{}, api.Errorf(api.SecretNotFound, "no secret has the id %q", id)
	}
	return openSecret(s.keys, sec)
}

// openSecret names the secret when its value does not open.
func openSecret(k *keyring, sec *Secret) (secret.Value, error) {
	v, err := k.openValue(sec)
	if err != nil && api.CodeOf(err) != api.VaultLocked {
		return secret.Value{}, api.Errorf(api.VaultUnavailable, "vault: open secret %s: %w", sec.ID, err)
	}
	return v, err
}

// Snapshot returns the current state, opening the vault when it can be opened
// without a person (file provider) and reading it again only when its
// generation changed. vault_locked and vault_unavailable otherwise.
//
// It runs before every call: two stats when nothing changed.
func (v *Vault) Snapshot(ctx context.Context) (*Snapshot, error) {
	if s := v.current.Load(); s != nil {
		if gen, err := v.store.Generation(); err == nil && gen == s.gen && s.keys.alive() && !v.marker.locked(v.now()) {
			return s, nil
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refresh(ctx, false)
}
