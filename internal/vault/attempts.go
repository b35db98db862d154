package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	attemptsName = "unlock-attempts"
	freeAttempts = 5
	maxWait      = 30 * time.Second
)

// attempts is $VAULT/unlock-attempts: how many wrong passphrases came in a
// row.
type attempts struct {
	Version int `json:"aivaultUnlockAttempts"`
	Wrong   int `json:"wrong"`
}

// waitAfter is how long an attempt waits after so many wrong ones.
func waitAfter(wrong int) time.Duration {
	if wrong < freeAttempts {
		return 0
	}
	return min(time.Second<<min(wrong-freeAttempts, 10), maxWait)
}

// tryPassphrase derives the key of what a person typed and opens the root key
// with it. Attempts come one after the other, whoever makes them, and each is
// counted before it is made: to kill it does not undo it.
func (v *Vault) tryPassphrase(ctx context.Context, who *audit.Caller, m keysource.Material) (*keyring, error) {
	if m.Passphrase.IsZero() {
		return nil, errLocked()
	}
	lock, err := durable.Acquire(ctx, v.path("unlock.lock"))
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, v.unavailable("unlock.lock", err)
	}
	defer lock.Release()
	wrong := v.readAttempts()
	if d := waitAfter(wrong); d > 0 {
		if err := v.sleep(ctx, d); err != nil {
			return nil, err
		}
	}
	if err := v.writeAttempts(wrong + 1); err != nil {
		return nil, v.unavailable("unlock-attempts is not written:", err)
	}
	v.mu.Lock()
	h, err := v.look() // now: it may have been rotated while we waited
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	keys, err := v.tryKey(ctx, who, h, m)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(v.path(attemptsName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		keys.wipe()
		return nil, v.unavailable("unlock-attempts", err)
	}
	return keys, nil
}

// tryKey opens the root key by what was given, and records a failure.
func (v *Vault) tryKey(ctx context.Context, who *audit.Caller, h header, m keysource.Material) (*keyring, error) {
	keys, err := v.openKeys(ctx, h, m)
	var e *api.Error
	if !errors.As(err, &e) {
		return keys, err // nil, or called off before it was tried
	}
	if err := v.record(ctx, h, audit.Record{Event: audit.VaultUnlockFailed, Caller: who, Code: string(e.Code)}); err != nil {
		return nil, err
	}
	return nil, err
}

// readAttempts takes a file that it cannot understand for five wrong attempts.
func (v *Vault) readAttempts() int {
	// O_NONBLOCK so that a FIFO in the file's place cannot hold us up.
	f, err := os.OpenFile(v.path(attemptsName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		return freeAttempts
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	var a attempts
	if err != nil || strictjson.Unmarshal(data, &a) != nil || a.Version != 1 || a.Wrong < 0 || a.Wrong > 1<<30 {
		return freeAttempts
	}
	return a.Wrong
}

func (v *Vault) writeAttempts(wrong int) error {
	path := filepath.Join(v.cfg.Dir, attemptsName)
	data, err := strictjson.Marshal(attempts{1, wrong})
	if err != nil {
		return err
	}
	if err := durable.RemoveTemp(path); err != nil {
		return err
	}
	return durable.WriteFile(path, data)
}
