package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	backupVersion   = 1
	maxBackupHeader = 1 << 10
	// PeekSize is how much of a backup PeekBackup reads ahead at most.
	PeekSize = maxBackupHeader + maxHeader + 2
)

// backupHeader is the first line of a backup; docs/backup-format.md specifies
// the file.
type backupHeader struct {
	Format        int    `json:"aivaultBackup"`
	ID            string `json:"id"`
	Vault         string `json:"vault"`
	Generation    uint64 `json:"generation"` // of the vault that it was made of
	MadeAtMs      int64  `json:"madeAtMs"`
	DocumentBytes int64  `json:"documentBytes"`
	DocumentHash  string `json:"documentHash"`
}

func (h backupHeader) encode() ([]byte, error) { return strictjson.Marshal(h) }

// parseBackupHeader accepts exactly what encode writes.
func parseBackupHeader(line []byte) (backupHeader, error) {
	var h backupHeader
	if err := strictjson.Unmarshal(line, &h); err != nil {
		return h, errNewer
	}
	if h.Format != backupVersion {
		return h, errNewer
	}
	if !validID(h.ID) || !validID(h.Vault) || h.Generation == 0 || h.Generation > maxGeneration || h.MadeAtMs < 0 ||
		h.DocumentBytes < 1 || h.DocumentBytes > maxFile || !isHash(h.DocumentHash) {
		return h, errDamaged
	}
	again, err := h.encode()
	if err != nil || !bytes.Equal(again, line) {
		return h, errDamaged
	}
	return h, nil
}

// maxGeneration leaves room for the generations that follow.
const maxGeneration = 1 << 53

// BackupInfo is what a backup says of itself without a key. Until it is
// restored nothing of it is proven.
type BackupInfo struct {
	VaultID    string
	Generation uint64 // of the vault that it was made of
	MadeAtMs   int64
	Key        keysource.Params // what opens it
	Alone      bool             // it was sealed anew under a passphrase of its own
}

// PeekBackup reads what a backup says of itself, and takes nothing out of r,
// whose buffer holds PeekSize bytes or more.
func PeekBackup(r *bufio.Reader) (BackupInfo, error) {
	ahead, err := r.Peek(PeekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return BackupInfo{}, err
	}
	first, rest, ok := bytes.Cut(ahead, []byte("\n"))
	if !ok || len(first) > maxBackupHeader || !bytes.HasPrefix(first, []byte(`{"aivaultBackup":`)) {
		return BackupInfo{}, api.Errorf(api.InvalidRequest, "the file is no backup of an aivault vault")
	}
	b, err := parseBackupHeader(first)
	if err != nil {
		return BackupInfo{}, errBackup(err)
	}
	second, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return BackupInfo{}, errBackup(errDamaged)
	}
	h, err := parseHeader(second)
	if err != nil {
		return BackupInfo{}, errBackup(err)
	}
	return infoOf(b, h), nil
}

func infoOf(b backupHeader, h header) BackupInfo {
	return BackupInfo{VaultID: b.Vault, Generation: b.Generation, MadeAtMs: b.MadeAtMs, Key: h.Key, Alone: h.Generation != b.Generation}
}

// errBackup says what is wrong with a backup file.
func errBackup(err error) error {
	var coded *api.Error
	if errors.As(err, &coded) {
		return named(coded, "the backup: ")
	}
	return api.Errorf(api.InvalidRequest, "the backup %w", err)
}

// Backup is a copy of the vault at one generation, ready to be written.
type Backup struct {
	Info BackupInfo

	line     []byte // the first line
	document []byte
	key      secret.Value // of the log's copy
	log      *audit.Log
	to       audit.Head        // its last line in this copy
	broken   func(error) error // tells the way out of a log that is
}

// Backup makes a copy of the vault and records that it did. With a passphrase
// the copy is sealed anew, and opens with that and nothing else. Close wipes
// its key.
//
// What the copy holds is decided under the vault's lock, so that it is one
// generation and the log up to the record of the copy itself. Nothing is held
// while it is written: the document is in memory, and the log only grows.
func (v *Vault) Backup(ctx context.Context, rec audit.Record, passphrase secret.Value) (b *Backup, err error) {
	// Whoever has no vault, or a locked one, hears so before a key is derived.
	s, err := v.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var alone *keysource.NewKey
	if !passphrase.IsZero() {
		r := keysource.Request{Provider: keysource.Passphrase, Material: keysource.Material{Passphrase: passphrase}}
		if alone, err = keysource.Prepare(ctx, v.keyConfig(s.header.ID), r); err != nil {
			return nil, err
		}
		defer alone.KEK.Wipe()
	}
	err = v.retry(ctx, func() (err error) {
		b, err = v.backup(ctx, rec, alone)
		return err
	})
	return b, err
}

// backup makes the copy. vault.lock is held.
func (v *Vault) backup(ctx context.Context, rec audit.Record, alone *keysource.NewKey) (*Backup, error) {
	base, log, err := v.begin(ctx)
	if err != nil {
		return nil, err
	}
	blob, gen, err := v.store.Load()
	if err != nil {
		return nil, v.unavailable("vault.aiv", err)
	}
	if gen != base.gen {
		return nil, ErrConflict
	}
	id, err := newID(v.cfg.Rand)
	if err != nil {
		return nil, api.Errorf(api.Internal, "vault: read randomness: %w", err)
	}
	h, keys := base.header, base.keys
	if alone != nil {
		h = base.next()
		h.Key = alone.Params
		if keys, err = makeKeyring(v.cfg.Rand, &h, alone.KEK.Clone()); err != nil {
			return nil, api.Errorf(api.Internal, "vault: make a root key: %w", err)
		}
		defer keys.wipe()
	}
	rec.Event, rec.Object, rec.Generation, rec.Provider = audit.BackupMade, id, base.header.Generation, h.Key.Provider
	head, err := log.AppendSync(context.WithoutCancel(ctx), rec)
	if err != nil {
		return nil, forGeneration(v.errLog(err), base.header)
	}
	if alone != nil {
		if blob, err = v.sealAlone(base, h, keys, head); err != nil {
			return nil, err
		}
	}
	b := backupHeader{backupVersion, id, h.ID, base.header.Generation, v.now().UnixMilli(), int64(len(blob)), fileHash(blob)}
	line, err := b.encode()
	if err != nil {
		return nil, api.Errorf(api.Internal, "vault: encode a backup's header: %w", err)
	}
	key, err := keys.backupKey(id)
	if err != nil {
		return nil, err
	}
	return &Backup{Info: infoOf(b, h), line: line, document: blob, key: key, log: log, to: head,
		broken: func(err error) error { return forGeneration(v.errLog(err), base.header) }}, nil
}

// sealAlone is the document of a backup with keys of its own: a direct
// successor of the one that it was made of, as a rotation would have made it.
func (v *Vault) sealAlone(base *Snapshot, h header, keys *keyring, head audit.Head) ([]byte, error) {
	st, err := v.rewrapped(base, keys)
	if err != nil {
		return nil, err
	}
	st.AuditHead = head
	blob, err := v.sealDocument(h, st, keys)
	if err != nil {
		return nil, v.unavailable("seal the backup:", err)
	}
	return blob, nil
}

// Write writes the backup to w.
func (b *Backup) Write(ctx context.Context, w io.Writer) error {
	for _, part := range [][]byte{b.line, {'\n'}, b.document} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	sealer, err := newChunkWriter(w, b.key, b.line)
	if err != nil {
		return err
	}
	if err := b.log.Archive(ctx, b.to, sealer); errors.As(err, new(*audit.ChainError)) {
		return b.broken(err)
	} else if err != nil {
		return err
	}
	return sealer.Close()
}

// Close wipes the backup's key.
func (b *Backup) Close() { b.key.Wipe() }

// backupKey is the key of the log's copy in the backup with an id.
func (k *keyring) backupKey(id string) (key secret.Value, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.dead {
		return secret.Value{}, errLocked()
	}
	b, err := hkdf.Key(sha256.New, k.backup.Expose(), []byte(id), forBackupLog, chacha20poly1305.KeySize)
	return secret.New(b), err
}
