package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// Restored says what became of a restore.
type Restored struct {
	From     uint64 // generation that was put back or accepted
	Reset    bool   // the vault is now another one than before
	Alone    bool   // the backup had a passphrase of its own
	MovedLog string // where the log that was in place is now, within the vault's directory
	Notice   string // why nothing was changed
}

// incoming is a backup that was read up to its copy of the log: its document
// is whole and opens.
type incoming struct {
	head  backupHeader
	line  []byte // of head
	h     header
	doc   []byte
	state *State
	keys  *keyring
	own   bool // keys are nobody else's: who gives up wipes them
	rest  io.Reader
}

func (in *incoming) giveUp() {
	if in.own {
		in.keys.wipe()
	}
}

// Restore puts the vault of a backup in place. accept is the generation of the
// backup where what is in place is newer, or cannot be told to be older; 0
// where nothing is accepted. What is in the way is never removed.
//
// Everything in the backup is proven before anything of the vault is touched:
// the copy of the log is written to a directory of its own, which takes the
// log's place in one step when that is what is to be done.
func (v *Vault) Restore(ctx context.Context, rec audit.Record, r io.Reader, accept uint64, m keysource.Material) (Restored, error) {
	in, err := v.readBackup(ctx, r, m)
	if err != nil {
		return Restored{}, err
	}
	out, err := v.restore(ctx, rec, in, accept)
	if err != nil {
		in.giveUp()
	}
	return out, err
}

func (v *Vault) restore(ctx context.Context, rec audit.Record, in *incoming, accept uint64) (out Restored, err error) {
	// What can be refused is refused before a directory is made.
	if accept != 0 && accept != in.head.Generation {
		return out, api.Errorf(api.InvalidRequest, "this backup is of generation %d, not %d: nothing was accepted", in.head.Generation, accept).
			WithHint("aivault restore FILE --accept %d", in.head.Generation)
	}
	if err := durable.MkdirAll(v.cfg.Dir); err != nil {
		return out, v.unavailable("the directory", err)
	}
	// A vault that does not open for this alone would be taken for a broken
	// one, and its newer tokens would be lost.
	if err := durable.CheckPrivate(v.cfg.Dir); err != nil {
		return out, v.unavailable("the directory", err)
	}
	lock, err := v.restoreLock(ctx)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	s, err := v.stageBackup(ctx, in)
	if err != nil {
		return out, errors.Join(err, v.unstage())
	}
	err = v.conflicting(ctx, func() error {
		out, err = v.place(ctx, rec, in, s, accept)
		return err
	})
	return out, errors.Join(err, s.close(), v.unstage())
}

// conflicting is retry for a change of a vault that may not open.
func (v *Vault) conflicting(ctx context.Context, change func() error) error {
	for range maxRetries {
		if err := v.underLock(ctx, change); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return api.Errorf(api.VaultUnavailable, "vault %s: other writers were faster each time", v.cfg.Dir)
}

func (v *Vault) restoreLock(ctx context.Context) (*durable.Lock, error) {
	lock, err := durable.Acquire(ctx, v.path("restore.lock"))
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, v.unavailable("restore.lock", err)
	}
	return lock, nil
}

// readBackup reads and opens all of a backup but the copy of the log.
func (v *Vault) readBackup(ctx context.Context, r io.Reader, m keysource.Material) (*incoming, error) {
	br := bufio.NewReaderSize(r, PeekSize)
	if _, err := PeekBackup(br); err != nil {
		return nil, err
	}
	in := &incoming{rest: br}
	line, err := br.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	in.line = line[:len(line)-1]
	if in.head, err = parseBackupHeader(in.line); err != nil {
		return nil, errBackup(err)
	}
	// The length is a claim: memory is taken as the bytes come.
	if in.doc, err = io.ReadAll(io.LimitReader(br, in.head.DocumentBytes)); err != nil {
		return nil, err
	}
	if int64(len(in.doc)) != in.head.DocumentBytes {
		return nil, errBackup(errors.New("is cut off"))
	}
	if fileHash(in.doc) != in.head.DocumentHash {
		return nil, errBackup(errDamaged)
	}
	return in, v.openBackup(ctx, in, m)
}

// openBackup opens the document of a backup.
func (v *Vault) openBackup(ctx context.Context, in *incoming, m keysource.Material) error {
	h, line, sealed, err := splitDocument(in.doc)
	if err != nil {
		return errBackup(err)
	}
	in.h = h
	anew := h.Generation == in.head.Generation+1 && h.Key.Provider == keysource.Passphrase
	if h.ID != in.head.Vault || h.Generation != in.head.Generation && !anew {
		return errBackup(errDamaged)
	}
	switch {
	case h.Dev && !v.cfg.Dev:
		return api.Errorf(api.VaultUnavailable, "the backup is of a vault that a development build made, which alone opens it")
	case h.Dev != v.cfg.Dev:
		return api.Errorf(api.VaultUnavailable, "the backup is of a vault that a release build made: a development build does not open it")
	}
	// Before a key is looked for: that it is another vault's would be said of
	// the key alone.
	if err := v.checkVacant(h.ID); err != nil {
		return err
	}
	if in.keys, in.own, err = v.backupKeys(ctx, h, m); err != nil {
		return err
	}
	var plain []byte
	err = in.keys.use(func(state, _ []byte) error {
		plain, err = unseal(state, sealed, line)
		return err
	})
	if err == nil {
		in.state, err = decodeState(plain)
		clear(plain)
	}
	if err != nil {
		in.giveUp()
		return errBackup(err)
	}
	return nil
}

// backupKeys opens the root key of a backup by the keys in use, by what was
// given, or by what needs no person. own is false for the keys in use.
func (v *Vault) backupKeys(ctx context.Context, h header, m keysource.Material) (k *keyring, own bool, err error) {
	if s, err := v.Snapshot(ctx); err == nil && s.keys.wrapped == wrappedOf(h) {
		return s.keys, false, nil
	}
	if h.Key.Provider == keysource.Passphrase && m.Passphrase.IsZero() {
		return nil, false, api.Errorf(api.VaultLocked, "this backup opens with a passphrase").
			WithHint("aivault restore FILE --passphrase-file PATH")
	}
	kek, err := keysource.Open(ctx, v.keyConfig(h.ID), h.Key, m)
	if err != nil {
		return nil, false, errBackup(err)
	}
	k, err = openKeyring(h, kek)
	switch {
	case err != nil && h.Key.Provider == keysource.Passphrase:
		return nil, false, api.Errorf(api.VaultLocked, "wrong passphrase for this backup").WithHint("aivault restore FILE --passphrase-file PATH")
	case err != nil:
		return nil, false, errBackup(errors.New("does not open with its key: it was damaged, or put together from several"))
	}
	return k, true, nil
}

// madeAt is when a backup was made, for people.
func (in *incoming) madeAt() string {
	return time.UnixMilli(in.head.MadeAtMs).UTC().Format(time.RFC3339)
}

// hash is that of the backup's document.
func (in *incoming) hash() string { return in.head.DocumentHash }

// describe says in the log what was put back.
func (in *incoming) describe(rec *audit.Record, why string) {
	rec.Event, rec.Object, rec.Hash, rec.Provider = audit.VaultRestored, in.head.ID, in.hash(), in.h.Key.Provider
	rec.Reason = fmt.Sprintf("the backup of generation %d made at %s %s", in.head.Generation, in.madeAt(), why)
}

// restored is the answer of a restore that changes what is in place.
func (in *incoming) restored() Restored {
	return Restored{From: in.head.Generation, Reset: true, Alone: in.h.Generation != in.head.Generation}
}
