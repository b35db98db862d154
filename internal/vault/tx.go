package vault

import (
	"fmt"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
)

// Tx is a change being made. It is of no use once fn has returned.
type Tx struct {
	State  *State        // edit freely; slices and maps are copies
	Record *audit.Record // may be completed by fn, e.g. with the new id

	v    *Vault
	keys *keyring
	now  int64
	err  error // of the randomness, which NewID cannot return
}

func (v *Vault) newTx(base *Snapshot, rec *audit.Record) *Tx {
	return &Tx{State: base.state.clone(), Record: rec, v: v, keys: base.keys, now: v.now().UnixMilli()}
}

// Seal fills s.DEK and s.Value with value under s's own id, scope, pin and
// version. Any of these that changes needs a Reseal.
func (tx *Tx) Seal(s *Secret, value secret.Value) error {
	return tx.keys.sealValue(tx.v.cfg.Rand, s, value)
}

// Reseal seals s's value again after edit changed its scope or pin: it opens
// the value as s stands, calls edit, and seals it as s stands then.
func (tx *Tx) Reseal(s *Secret, edit func(*Secret)) error {
	value, err := tx.Open(s)
	if err != nil {
		return err
	}
	defer value.Wipe()
	edit(s)
	return tx.Seal(s, value)
}

// Open opens a value of the state that is being changed (to check it against
// a strategy). The caller wipes it.
func (tx *Tx) Open(s *Secret) (secret.Value, error) { return openSecret(tx.keys, s) }

// NewID returns a fresh id of 26 letters and digits (lower case).
func (tx *Tx) NewID() string {
	id, err := newID(tx.v.cfg.Rand)
	if err != nil {
		tx.err = err
	}
	return id
}

// Now is the change's time in milliseconds.
func (tx *Tx) Now() int64 { return tx.now }

// finish checks the changed state before anything of it is recorded.
func (tx *Tx) finish(base *Snapshot) error {
	if tx.err != nil {
		return api.Errorf(api.Internal, "vault: read randomness: %w", tx.err)
	}
	st := tx.State
	if st == nil {
		return api.Errorf(api.Internal, "vault: the change left no state")
	}
	st.pruneTokens()
	// What no change may touch.
	st.Version, st.AuditKey, st.AuditHead = base.state.Version, base.state.AuditKey, base.state.AuditHead
	if err := st.check(); err != nil {
		return api.Errorf(api.Internal, "vault: refuse the changed state: %w", err)
	}
	for i := range st.Secrets {
		s := &st.Secrets[i]
		if old := base.Secret(s.ID); old != nil && sealedAlike(old, s) {
			continue
		}
		if err := tx.opens(s); err != nil {
			return err
		}
	}
	if err := tx.finishTokens(base); err != nil {
		return err
	}
	// A vault that is full can still be made smaller.
	if size := st.size(); size > maxFile && size > base.state.size() {
		return api.Errorf(api.InvalidRequest, "the vault is full")
	}
	return nil
}

// opens holds a change to its word: a value whose context changed without
// being sealed again would be lost.
func (tx *Tx) opens(s *Secret) error {
	value, err := tx.keys.openValue(s)
	value.Wipe()
	if err != nil {
		return api.Errorf(api.Internal, "vault: refuse the changed state: %w",
			fmt.Errorf("secret %s was changed without being sealed again: %w", s.ID, err))
	}
	return nil
}

func sealedAlike(a, b *Secret) bool {
	return a.Scope == b.Scope && a.Pin == b.Pin && a.PinTenant == b.PinTenant && a.Version == b.Version &&
		a.DEK == b.DEK && a.Value == b.Value
}
