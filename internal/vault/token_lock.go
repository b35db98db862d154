package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/strictjson"
)

// tokensDir holds, by the key of each token that was asked for: KEY.lock, the
// lock; KEY.asked, the note of an ask without an outcome; KEY.room, the room
// reserved for its answer.
const tokensDir = "tokens"

const (
	lockSuffix  = ".lock"
	askedSuffix = ".asked"
	roomSuffix  = ".room"
)

// roomForAnswer is what a change that writes a token may take on disk beside
// the document as it is: the token, sealed, and the lines of the log.
const roomForAnswer = 256 << 10

// TokenLock is held by whoever asks a token endpoint, over reading, asking and
// writing, so that no refresh token is used twice: by this process or another.
type TokenLock struct {
	vault *Vault
	path  string // without a suffix
	lock  *durable.Lock
}

// asked is a note: the endpoint was asked with the token of this version,
// which was had with these sources; version 0 stands for the sources alone.
type asked struct {
	Format  int               `json:"aivaultAsked"`
	Sources map[string]uint64 `json:"sources"`
	Version uint64            `json:"version"`
	AtMs    int64             `json:"atMs"`
}

// LockToken waits for the lock of a token's key, a file under $VAULT/tokens.
func (v *Vault) LockToken(ctx context.Context, key string) (*TokenLock, error) {
	if !isHash(key) {
		return nil, api.Errorf(api.Internal, "vault: the key of a token, %+q, is no hash", key)
	}
	// Nothing is made where there is no vault.
	if _, err := v.Snapshot(ctx); err != nil {
		return nil, err
	}
	dir := v.path(tokensDir)
	if err := durable.MkdirAll(dir); err != nil {
		return nil, v.unavailable(tokensDir, err)
	}
	l := &TokenLock{vault: v, path: filepath.Join(dir, key)}
	lock, err := durable.Acquire(ctx, l.path+lockSuffix)
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, v.unavailable(tokensDir, err)
	}
	l.lock = lock
	sweepRooms(dir)
	return l, nil
}

// sweepRooms removes the room that killed processes left reserved: that of
// keys whose lock nobody holds. Who has one reserves its room anew.
func sweepRooms(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), roomSuffix)
		if !ok || !isHash(key) {
			continue
		}
		if lock, err := durable.TryAcquire(filepath.Join(dir, key+lockSuffix)); err == nil && lock != nil {
			_ = os.Remove(filepath.Join(dir, e.Name())) // what stays is tried again
			_ = lock.Release()
		}
	}
}

// Asked says whether an earlier holder asked the endpoint, with the token of
// this version that was had with these sources, and never learned what came of
// it. A note that cannot be read says so, too.
func (l *TokenLock) Asked(sources map[string]uint64, version uint64) bool {
	// O_NONBLOCK so that a FIFO in the file's place cannot hold us up.
	f, err := os.OpenFile(l.path+askedSuffix, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		return true
	}
	defer f.Close()
	var note asked
	if strictjson.Read(f, maxHeader, &note) != nil || note.Format != 1 {
		return true
	}
	return note.Version == version && maps.Equal(note.Sources, sources)
}

// Ask notes, on disk, that the endpoint is about to be asked with the token of
// this version that was had with these sources (0: with the secrets
// themselves), and reserves room on the disk for the answer, so that nothing
// can be lost for want of it. Nothing may be sent when it fails.
func (l *TokenLock) Ask(sources map[string]uint64, version uint64) error {
	data, err := strictjson.Marshal(asked{1, sources, version, l.vault.now().UnixMilli()})
	if err != nil {
		return api.Errorf(api.Internal, "vault: note that a token is asked for: %w", err)
	}
	err = l.reserve()
	if err == nil {
		err = durable.RemoveTemp(l.path + askedSuffix)
	}
	if err == nil {
		err = durable.WriteFile(l.path+askedSuffix, data)
	}
	if err != nil {
		l.MakeRoom()
		return l.vault.unavailable("no token is asked for, because its answer could not be kept:", err)
	}
	return nil
}

// reserve writes a file as large as what a change will need, of bytes that no
// file system can make smaller.
func (l *TokenLock) reserve() error {
	size := int64(roomForAnswer)
	if s := l.vault.current.Load(); s != nil {
		size += int64(s.size)
	}
	// What stands in its place is not written to: it may be a FIFO, or another
	// name of some other file.
	if err := os.Remove(l.path + roomSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(l.path+roomSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = f.Chmod(0o600) // the umask may have taken bits away
	if err == nil {
		_, err = io.CopyN(f, l.vault.cfg.Rand, size)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Answered ends what Ask began, when the outcome is on disk or when it is
// certain that nothing was given.
func (l *TokenLock) Answered() error {
	l.MakeRoom()
	err := os.Remove(l.path + askedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(l.path))
	}
	if err != nil {
		return l.vault.unavailable("a note of a token that was asked for is left:", err)
	}
	return nil
}

// MakeRoom gives back the room that Ask reserved, right before the answer is
// written.
func (l *TokenLock) MakeRoom() {
	_ = os.Remove(l.path + roomSuffix) // it may be gone, and what stays is swept later
}

// Release lets the next one have the lock. What Ask noted stays noted unless
// Answered was called.
func (l *TokenLock) Release() {
	l.MakeRoom()
	_ = l.lock.Release() // the descriptor is closed whatever flock says
}
