package vault

import (
	"context"
	"errors"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

// Update applies one change: fn edits the copy that tx holds. rec is written
// to the log before the change is, with the generation that the change makes,
// and confirmed after it. An error of fn changes nothing and is returned as
// it is. fn may run again when another process changed the vault meanwhile.
func (v *Vault) Update(ctx context.Context, rec audit.Record, fn func(tx *Tx) error) (*Snapshot, error) {
	var s *Snapshot
	err := v.retry(ctx, func() (err error) {
		s, err = v.update(ctx, rec, fn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// retry runs one change under vault.lock, and again when a writer who holds
// no such lock was faster.
func (v *Vault) retry(ctx context.Context, change func() error) error {
	// Whoever has no vault, or a locked one, hears so before a lock file is made.
	if _, err := v.Snapshot(ctx); err != nil {
		return err
	}
	for range maxRetries {
		err := v.underLock(ctx, change)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return api.Errorf(api.VaultUnavailable, "vault %s: other writers were faster each time", v.cfg.Dir)
}

func (v *Vault) underLock(ctx context.Context, change func() error) error {
	release, err := v.writeLock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := v.takeUp(true); err != nil {
		return err
	}
	return change()
}

func (v *Vault) update(ctx context.Context, rec audit.Record, fn func(tx *Tx) error) (*Snapshot, error) {
	base, log, err := v.begin(ctx)
	if err != nil {
		return nil, err
	}
	rec.Secrets = slices.Clone(rec.Secrets)
	tx := v.newTx(base, &rec)
	if err := fn(tx); err != nil {
		return nil, err
	}
	if err := tx.finish(base); err != nil {
		return nil, err
	}
	return v.commit(ctx, log, change{base.gen, base.next(), tx.State, base.keys, *tx.Record})
}

// begin returns the state to change, confirmed in the log. vault.lock is held.
func (v *Vault) begin(ctx context.Context) (*Snapshot, *audit.Log, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	base, err := v.refresh(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	log, err := v.openLog(base.header.ID)
	if err != nil {
		return nil, nil, forGeneration(err, base.header)
	}
	// Two unconfirmed changes in a row could not be told from an old copy.
	if !base.confirmed {
		err = forGeneration(v.confirm(context.WithoutCancel(ctx), log, base), base.header)
	}
	return base, log, err
}

// next is the header of the document that follows s's.
func (s *Snapshot) next() header {
	h := s.header
	h.Generation++
	h.Previous = s.hash
	return h
}

// change is a document about to replace another.
type change struct {
	old    Generation
	header header
	state  *State
	keys   *keyring
	record audit.Record
}

// commit makes a change durable, from its record to its confirmation, and
// signs the log. vault.lock is held. An error means that the old document is
// in place, unless the last sync of the directory failed.
func (v *Vault) commit(ctx context.Context, log *audit.Log, c change) (*Snapshot, error) {
	s, err := v.replaceDocument(ctx, log, c)
	if err == nil {
		// What cannot be signed now is signed over later; SigningFault tells.
		_ = log.Checkpoint()
	}
	return s, err
}

func (v *Vault) replaceDocument(ctx context.Context, log *audit.Log, c change) (*Snapshot, error) {
	ctx = context.WithoutCancel(ctx) // a change is not left half recorded
	h := c.header
	h.Used = h.Used || len(c.state.Secrets) > 0
	c.record.Generation = h.Generation
	head, err := log.AppendSync(ctx, c.record)
	if err != nil {
		err = v.errLog(err)
		v.mu.Lock()
		defer v.mu.Unlock()
		if in, lookErr := v.look(); lookErr == nil {
			err = forGeneration(err, in)
		}
		return nil, err
	}
	c.state.AuditHead = head
	blob, err := v.sealDocument(h, c.state, c.keys)
	if err != nil {
		return nil, v.unavailable("seal the state:", err)
	}
	// Readers who see the new generation wait here for its snapshot instead
	// of reading the file.
	v.mu.Lock()
	defer v.mu.Unlock()
	gen, err := v.store.CompareAndSwap(c.old, blob)
	if errors.Is(err, ErrConflict) {
		return nil, ErrConflict
	}
	if err != nil {
		return nil, notWritten{v.unavailable("vault.aiv is not written:", err)}
	}
	s := newSnapshot(gen, fileHash(blob), len(blob), h, c.state, c.keys)
	v.seen = seenHeader{gen: gen, header: h, hash: s.hash}
	// The change is on disk, so it is made, whatever becomes of this record:
	// the next change or opening appends it when it is missing.
	_ = v.recordCommit(ctx, log, s)
	if v.closed {
		c.keys.wipe()
		return s, nil
	}
	v.setKeys(c.keys)
	if err := v.signWith(s); err != nil {
		return nil, err
	}
	v.current.Store(s)
	return s, nil
}

// notWritten marks an error of the store, after which it is open whether the
// old or the new document is in place.
type notWritten struct{ error }

func (e notWritten) Unwrap() error { return e.error }
