package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
)

// faultyStore fails as a full disk does: before the document is replaced, or
// in the sync after it.
type faultyStore struct {
	*memStore
	before, after bool
}

func (s *faultyStore) CompareAndSwap(old Generation, blob []byte) (Generation, error) {
	full := &os.PathError{Op: "write", Path: "vault.aiv", Err: syscall.ENOSPC}
	if s.before {
		return "", full
	}
	gen, err := s.memStore.CompareAndSwap(old, blob)
	if s.after && err == nil {
		return "", full
	}
	return gen, err
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	store := &faultyStore{memStore: new(memStore)}
	cfg.Store = store
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "1")
	elsewhere := filepath.Join(t.TempDir(), "other.key")
	for range 3 {
		store.before = true
		_, err := tryPut(t.Context(), v, "two", "2")
		wantCode(t, err, api.VaultUnavailable, cfg.Dir, "no space left")
		err = v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File})
		wantCode(t, err, api.VaultUnavailable, "no space left")
		err = v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File, Path: elsewhere})
		wantCode(t, err, api.VaultUnavailable, "no space left")
		wantValue(t, v, "one", "1")
		store.before = false
		x := open(t, cfg)
		if n := len(mustSnapshot(t, x).State().Secrets); n != 1 {
			t.Errorf("%d secrets", n)
		}
		if exists(elsewhere) || exists(v.path(rekeyingName)) {
			t.Error("the key of a failed rotation is left")
		}
	}
	// The document was replaced, though the store could not say so.
	store.after = true
	_, err := tryPut(t.Context(), v, "two", "2")
	wantCode(t, err, api.VaultUnavailable)
	wantCode(t, v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File, Path: elsewhere}), api.VaultUnavailable)
	store.after = false
	for _, x := range []*Vault{v, open(t, cfg)} {
		wantValue(t, x, "two", "2")
	}
	if exists(cfg.DefaultKeyFile) || !exists(elsewhere) {
		t.Error("the old key is left, or the new one lost")
	}
	put(t, v, "three", "3")
	wantValue(t, open(t, cfg), "three", "3")
}

// A change whose confirmation cannot be written is made; the next one writes
// the confirmation first.
func TestConfirmationKeptBack(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
	nothing := func() {}
	hook.before, hook.after = nothing, nothing
	cfg.Store = hook
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	log := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
	hook.after = func() { must(t, os.Rename(log, log+".away")) }
	put(t, v, "one", "1")
	hook.after = nothing
	_, err := tryPut(t.Context(), v, "two", "2")
	wantCode(t, err, api.VaultUnavailable) // without a log nothing changes
	must(t, os.Rename(log+".away", log))
	put(t, v, "two", "2")
	want := "vault.created vault.committed secret.created vault.committed secret.created vault.committed"
	if got := strings.Join(events(t, v), " "); got != want {
		t.Errorf("log = %s", got)
	}
	cfg.Store = nil
	wantValue(t, open(t, cfg), "two", "2")
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := New(cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	must(t, v.Close())
	must(t, v.Close())
	_, err := v.Audit(t.Context())
	wantCode(t, err, api.VaultUnavailable)
	_, err = tryPut(t.Context(), v, "one", "1")
	wantCode(t, err, api.VaultLocked)
	_, err = v.Unlock(t.Context(), who, keysource.Material{}, 0)
	wantCode(t, err, api.VaultLocked)
}

// Once a change is on disk it is confirmed, though its caller has gone.
func TestCallerGoneAfterTheWrite(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
	hook.before, hook.after = func() {}, func() {}
	cfg.Store = hook
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	ctx, cancel := context.WithCancel(t.Context())
	hook.after = cancel
	_, err := tryPut(ctx, v, "one", "1")
	must(t, err)
	if got := events(t, v); got[len(got)-1] != "vault.committed" {
		t.Errorf("log = %v", got)
	}
	// One who goes earlier changes nothing.
	if _, err := tryPut(ctx, v, "two", "2"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}
