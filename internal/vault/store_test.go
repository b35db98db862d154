package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// memStore is the second implementation that keeps the contract honest.
type memStore struct {
	mu   sync.Mutex
	n    int
	blob []byte
}

func (s *memStore) Generation() (Generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		return "", fs.ErrNotExist
	}
	return Generation(fmt.Sprint(s.n)), nil
}

func (s *memStore) Load() ([]byte, Generation, error) {
	gen, err := s.Generation()
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.blob), gen, err
}

func (s *memStore) CompareAndSwap(old Generation, blob []byte) (Generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Generation("")
	if s.n > 0 {
		now = Generation(fmt.Sprint(s.n))
	}
	if now != old {
		return "", ErrConflict
	}
	s.n++
	s.blob = bytes.Clone(blob)
	return Generation(fmt.Sprint(s.n)), nil
}

func fileStoreIn(t testing.TB, dir string) *FileStore {
	s := NewFileStore(filepath.Join(dir, "vault.aiv"), filepath.Join(dir, "store.lock"))
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// storeContract is what every Store promises. two returns two handles of one
// new document.
func storeContract(t *testing.T, two func(t *testing.T) (a, b Store)) {
	t.Run("none", func(t *testing.T) {
		a, _ := two(t)
		if _, err := a.Generation(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("generation: %v", err)
		}
		if _, _, err := a.Load(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("load: %v", err)
		}
		if _, err := a.CompareAndSwap("x", []byte("1")); !errors.Is(err, ErrConflict) {
			t.Errorf("swap: %v", err)
		}
	})
	t.Run("write and read", func(t *testing.T) {
		a, b := two(t)
		var gen Generation
		seen := map[Generation]bool{}
		for i := range 20 {
			blob := []byte(fmt.Sprintf("document %d", i%2)) // the same size, the same bytes again
			next, err := a.CompareAndSwap(gen, blob)
			must(t, err)
			if seen[next] || next == "" {
				t.Fatalf("generation %q came back", next)
			}
			seen[next] = true
			for _, s := range []Store{a, b} {
				got, loaded, err := s.Load()
				must(t, err)
				now, err := s.Generation()
				must(t, err)
				if !bytes.Equal(got, blob) || loaded != next || now != next {
					t.Fatalf("%q at %q, %q; want %q at %q", got, loaded, now, blob, next)
				}
			}
			if _, err := b.CompareAndSwap(gen, []byte("stale")); !errors.Is(err, ErrConflict) {
				t.Fatalf("a stale swap: %v", err)
			}
			gen = next
		}
		if _, err := a.CompareAndSwap("", []byte("x")); !errors.Is(err, ErrConflict) {
			t.Errorf("a second first: %v", err)
		}
	})
	t.Run("one winner", func(t *testing.T) {
		a, b := two(t)
		gen, err := a.CompareAndSwap("", []byte("0"))
		must(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			s := []Store{a, b}[i%2]
			wg.Go(func() {
				_, err := s.CompareAndSwap(gen, []byte{byte(i)})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%d won", won)
		}
	})
}

func TestFileStore(t *testing.T) {
	t.Parallel()
	storeContract(t, func(t *testing.T) (a, b Store) {
		dir := filepath.Join(t.TempDir(), "d")
		must(t, durable.MkdirAll(dir))
		return fileStoreIn(t, dir), fileStoreIn(t, dir)
	})
}

func TestMemStore(t *testing.T) {
	t.Parallel()
	storeContract(t, func(*testing.T) (a, b Store) { s := new(memStore); return s, s })
}

// Nothing above the store notices which one it is.
func TestVaultOnAnotherStore(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Store = new(memStore)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "1")
	must(t, v.Rotate(t.Context(), who, passRequest("p")))
	x := open(t, cfg)
	wantLocked(t, x)
	unlock(t, x, pass("p"), true)
	wantValue(t, x, "one", "1")
	if exists(filepath.Join(cfg.Dir, "vault.aiv")) {
		t.Error("a file was written")
	}
}

// A writer without our locks is noticed, and the change is made on top of his.
func TestConflictIsRetried(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	mem := new(memStore)
	cfg.Store = mem
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	runs := 0
	cfg.Store = &conflictStore{memStore: mem, conflicts: 3}
	w := open(t, cfg)
	_, err := w.Update(t.Context(), record("x"), func(tx *Tx) error { runs++; return nil })
	must(t, err)
	if runs != 4 {
		t.Errorf("fn ran %d times, want 4", runs)
	}
	mustSnapshot(t, open(t, cfg))
}

type conflictStore struct {
	*memStore
	conflicts int
}

func (s *conflictStore) CompareAndSwap(old Generation, blob []byte) (Generation, error) {
	if s.conflicts > 0 {
		s.conflicts--
		return "", ErrConflict
	}
	return s.memStore.CompareAndSwap(old, blob)
}

func TestFileStoreRefusesOddFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, durable.MkdirAll(dir))
	s := fileStoreIn(t, dir)
	target := filepath.Join(dir, "target")
	write(t, target, []byte("x"))
	for name, make := range map[string]func(path string) error{
		"symlink":   func(p string) error { return os.Symlink(target, p) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":      mkfifo,
		"public":    func(p string) error { write(t, p, []byte("x")); return os.Chmod(p, 0o644) },
	} {
		path := filepath.Join(dir, "vault.aiv")
		must(t, make(path))
		if _, _, err := s.Load(); err == nil {
			t.Errorf("%s was read", name)
		}
		must(t, os.Remove(path))
	}
}

// A file edited in place is another generation, even with its time put back.
func TestGenerationSeesEditsInPlace(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, durable.MkdirAll(dir))
	s := fileStoreIn(t, dir)
	gen, err := s.CompareAndSwap("", []byte("abc"))
	must(t, err)
	path := filepath.Join(dir, "vault.aiv")
	info, err := os.Stat(path)
	must(t, err)
	for range 1000 { // until the file system's clock has moved on
		write(t, path, []byte("abd"))
		must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		if now, err := s.Generation(); err != nil || now != gen {
			return
		}
	}
	t.Error("an edit was not seen")
}

// A generation that comes back (an inode number used again) does not bring an
// old snapshot back, once another document was seen.
func TestOldGenerationBringsNoSnapshotBack(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	store := new(memStore)
	cfg.Store = store
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	old := put(t, v, "one", "1")
	other := open(t, cfg)
	put(t, other, "two", "2")
	v.mu.Lock()
	_, err := v.look()
	v.mu.Unlock()
	must(t, err)
	store.n-- // as if the newest document had the old one's generation
	if s := mustSnapshot(t, v); s == old || s.Secret("two") == nil {
		t.Error("an old snapshot was taken for the current one")
	}
}
