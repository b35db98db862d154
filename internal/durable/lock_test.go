package durable

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := TryAcquire(path); b != nil || err != nil {
		t.Fatalf("a second holder: %v, %v", b, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waited for a held lock: %v", err)
	}
	if err := errors.Join(a.Release(), a.Release()); err != nil {
		t.Fatal(err)
	}
	b, err := TryAcquire(path)
	if b == nil || err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	if c, _ := TryAcquire(path); c != nil {
		t.Fatal("a second Release of the old holder let go the new one's lock")
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the lock's file is gone")
	}
}

func TestLockCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, filepath.Join(t.TempDir(), "lock")); !errors.Is(err, context.Canceled) {
		t.Errorf("a free lock, but the context had ended: %v", err)
	}
}

// Without the lock the counter would lose increments.
func TestLockContended(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "lock")
	const workers, rounds = 8, 100
	counter := filepath.Join(filepath.Dir(path), "counter")
	if err := os.WriteFile(counter, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				l, err := Acquire(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := os.ReadFile(counter)
				n, err2 := strconv.Atoi(string(b))
				err3 := os.WriteFile(counter, []byte(strconv.Itoa(n+1)), 0o600)
				if err := errors.Join(err, err2, err3, l.Release()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := content(t, counter); got != strconv.Itoa(workers*rounds) {
		t.Errorf("counted %s of %d", got, workers*rounds)
	}
}

// Whoever removes the lock's file must not let two in: a new file is a new
// lock, and all move to it.
func TestLockFileRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	kept := NewLockFile(path)
	defer kept.Close()
	if ok, err := kept.TryLock(); !ok || err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kept.Unlock(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	other, err := TryAcquire(path)
	if other == nil || err != nil {
		t.Fatal(err)
	}
	if ok, err := kept.TryLock(); ok || err != nil {
		t.Fatalf("locked the removed file beside the new one: %v", err)
	}
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}
	if ok, err := kept.TryLock(); !ok || err != nil {
		t.Fatalf("after the release: %v", err)
	}
}

func TestLockRefusesALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	if l, err := TryAcquire(link); err == nil {
		t.Error("locked through a symbolic link", l.Release())
	}
	if _, err := TryAcquire(filepath.Join(dir, "none", "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory missing: %v", err)
	}
}

func BenchmarkAcquire(b *testing.B) {
	path := filepath.Join(b.TempDir(), "lock")
	for b.Loop() {
		l, err := Acquire(context.Background(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Release(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLockFile(b *testing.B) {
	l := NewLockFile(filepath.Join(b.TempDir(), "lock"))
	defer l.Close()
	for b.Loop() {
		if err := l.Lock(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := l.Unlock(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAcquireContended(b *testing.B) {
	path := filepath.Join(b.TempDir(), "lock")
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := Acquire(context.Background(), path)
			if err != nil {
				b.Error(err)
				return
			}
			if err := l.Release(); err != nil {
				b.Error(err)
			}
		}
	})
}
