package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/strictjson"
)

// Running is what a daemon writes into $VAULT/daemon.lock, which it holds
// locked for as long as it lives.
type Running struct {
	PID         int      `json:"pid"`
	Version     string   `json:"version"`
	Sockets     []string `json:"sockets"`
	StartedAtMs int64    `json:"startedAtMs"`
}

// LockFile is where the daemon of the vault in dir says that it is there.
func LockFile(dir string) string { return filepath.Join(dir, "daemon.lock") }

// maxLockFile bounds what is read of a lock file: anyone may have written it.
const maxLockFile = 16 << 10

// ReadRunning returns what the vault's last daemon wrote about itself; ok is
// false where there is nothing. Whether that daemon still runs is for the
// lock, or for its sockets, to tell.
func ReadRunning(dir string) (r Running, ok bool) {
	path := LockFile(dir)
	if durable.CheckPrivate(path) != nil {
		return Running{}, false
	}
	f, err := os.Open(path)
	if err != nil {
		return Running{}, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLockFile+1))
	if err != nil || len(b) == 0 || len(b) > maxLockFile || strictjson.Unmarshal(b, &r) != nil {
		return Running{}, false
	}
	return r, r.PID > 0 && len(r.Sockets) > 0
}

// startPatience is how long a starting daemon waits for one that is leaving.
const startPatience = 3 * time.Second

// vaultLock is the held $VAULT/daemon.lock.
type vaultLock struct {
	path string
	lock *durable.Lock
}

// acquireVault makes this process the vault's daemon. A daemon that answers
// at one of its sockets is respected at once; one that is on its way out is
// waited for.
func acquireVault(ctx context.Context, dir string) (*vaultLock, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, api.Errorf(api.VaultUnavailable, "daemon: make the vault's directory: %w", err)
	}
	path := LockFile(dir)
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		lock, err := durable.TryAcquire(path)
		if err != nil {
			e := api.Errorf(api.VaultUnavailable, "daemon: lock the vault: %w", err)
			if perm, ok := errors.AsType[*durable.PermissionError](err); ok {
				e = e.WithHint("%s", perm.Fix)
			}
			return nil, e
		}
		if lock != nil {
			v := &vaultLock{path, lock}
			return v, v.write(nil)
		}
		r, known := ReadRunning(dir)
		if known {
			for _, s := range r.Sockets {
				if answers(s) {
					return nil, taken(dir, r)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, taken(dir, r)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func taken(dir string, r Running) error {
	if r.PID == 0 {
		return api.Errorf(api.AlreadyExists, "another daemon is starting or stopping for the vault %q", dir)
	}
	return api.Errorf(api.AlreadyExists, "a daemon runs for the vault %q: pid %d, at %s", dir, r.PID, strings.Join(r.Sockets, ", ")).
		WithHint("aivault daemon stop")
}

// announce says who holds the lock and where it listens.
func (v *vaultLock) announce(r Running) error {
	b, err := strictjson.Marshal(r)
	if err != nil {
		return api.Errorf(api.Internal, "daemon: write %q: %w", v.path, err)
	}
	return v.write(append(b, '\n'))
}

func (v *vaultLock) write(b []byte) error {
	if err := v.lock.SetContent(b); err != nil {
		return api.Errorf(api.Internal, "daemon: write %q: %w", v.path, err)
	}
	return nil
}

func (v *vaultLock) release() error {
	err := v.write(nil)
	if rerr := v.lock.Release(); err == nil {
		err = rerr
	}
	return err
}
