package vault

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
)

var errAuditKey = errors.New("its audit key is none")

// auditSigner signs the log's checkpoints. It lives as long as the vault is
// open.
type auditSigner struct {
	vaultID string
	public  ed25519.PublicKey

	mu   sync.RWMutex
	dead bool
	seed secret.Value
}

// auditKeyOf is the key that the state seals.
func (s *Snapshot) auditKeyOf() (ed25519.PrivateKey, error) {
	seed, err := b64.DecodeString(s.state.AuditKey)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errAuditKey
	}
	defer clear(seed)
	return ed25519.NewKeyFromSeed(seed), nil
}

// auditPublic is the key that verifies what the vault signs of the log.
func (s *Snapshot) auditPublic() (ed25519.PublicKey, error) {
	key, err := s.auditKeyOf()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return key.Public().(ed25519.PublicKey), nil
}

// Public implements crypto.Signer.
func (s *auditSigner) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer.
func (s *auditSigner) Sign(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.dead {
		return nil, errLocked()
	}
	key := ed25519.NewKeyFromSeed(s.seed.Expose())
	defer clear(key)
	return key.Sign(rand, msg, opts)
}

func (s *auditSigner) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	s.seed.Wipe()
}

// signWith lets the log be signed with the key of an open state. v.mu is held.
func (v *Vault) signWith(s *Snapshot) error {
	key, err := s.auditKeyOf()
	if err != nil {
		return v.unavailable("the state in vault.aiv:", err)
	}
	defer clear(key)
	public := key.Public().(ed25519.PublicKey)
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if old := v.signer; old != nil && old.vaultID == s.header.ID && old.public.Equal(public) {
		return nil
	}
	v.wipeSigner()
	v.signer = &auditSigner{vaultID: s.header.ID, public: public, seed: secret.NewLocked(key.Seed())}
	if v.log != nil && v.logID == s.header.ID {
		v.log.SetSigner(v.signer)
	}
	return nil
}

// signAnew signs a log that nothing of the vault's key signs any more, without
// waiting for the next record. It is left to the process that tends the log:
// whoever only looks changes nothing.
func (v *Vault) signAnew(s *Snapshot) {
	if s.unsigned && v.cfg.AuditTend {
		v.signNow()
	}
}

// signNow signs the log as far as it is written. What cannot be signed stays in
// the log unsigned, until the next who can signs over it.
func (v *Vault) signNow() {
	v.logMu.Lock()
	log := v.log
	v.logMu.Unlock()
	if log != nil {
		_ = log.Checkpoint()
	}
}

// dropSigner takes the key away from the log.
func (v *Vault) dropSigner() {
	v.logMu.Lock()
	defer v.logMu.Unlock()
	v.wipeSigner()
}

// wipeSigner is dropSigner for who holds v.logMu.
func (v *Vault) wipeSigner() {
	if v.signer == nil {
		return
	}
	if v.log != nil {
		v.log.SetSigner(nil)
	}
	v.signer.wipe()
	v.signer = nil
}

// AuditStatus describes the log as far as it can be read; nil where there is
// none.
func (v *Vault) AuditStatus(ctx context.Context) *api.AuditStatus {
	log, err := v.Audit(ctx)
	if err != nil {
		return nil
	}
	st := &api.AuditStatus{Durability: "batch", Checkpoint: log.Signed()}
	if v.cfg.AuditSync {
		st.Durability = "sync"
	}
	v.logMu.Lock()
	if s := v.signer; s != nil {
		st.Key, _ = audit.VerifierKey(s.vaultID, s.public) // of an id that was read from a header
	}
	v.logMu.Unlock()
	if last, err := log.Find(audit.Query{Limit: 1}); err == nil && len(last) == 1 {
		if line, err := audit.ParseLine(last[0]); err == nil {
			st.Records = line.Seq
		}
	}
	return st
}

// SigningFault is why the log could not be signed when that was tried last.
func (v *Vault) SigningFault() error {
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if v.log == nil {
		return nil
	}
	return v.log.SigningFault()
}
