package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const vaultID = "9f1c"

// sample is a record as a call makes it; n tells it from others.
func sample(n int) Record {
	return Record{
		Event: CallAllowed, RequestID: strconv.Itoa(n), Capability: "openai/chat-completions", Credential: "openai",
		Caller:  &Caller{UID: 1000, GID: 1000, PID: 4242, StartedAt: 123456, User: "agent", Program: "python3"},
		Secrets: []SecretUse{{"abcdefghijklmnopqrstuvwxyz", 3}}, Scope: "global", Host: "api.openai.com", Method: "POST", Path: "/v1/chat/completions",
	}
}

func config(t testing.TB) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "audit"), VaultID: vaultID}
}

func create(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.signDelay = time.Hour // tests that have one sign say when
	t.Cleanup(func() { l.Close() })
	return l
}

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.signDelay = time.Hour // tests that have one sign say when
	t.Cleanup(func() { l.Close() })
	return l
}

func add(t testing.TB, l *Log, from, to int) (last Head) {
	t.Helper()
	for i := from; i <= to; i++ {
		h, err := l.Append(t.Context(), sample(i))
		if err != nil {
			t.Fatal(err)
		}
		last = h
	}
	return last
}

// ids walks the log and returns the request ids in order.
func ids(t testing.TB, l *Log) (out []string, last Head) {
	t.Helper()
	last, err := l.Walk(Head{}, func(line []byte, at Head) error {
		got, err := ParseLine(line)
		if err != nil {
			return err
		}
		if got.Seq != at.Seq || int(got.Seq) != len(out)+1 {
			return fmt.Errorf("line %d says seq %d, position says %d", len(out)+1, got.Seq, at.Seq)
		}
		out = append(out, got.RequestID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, last
}

func current(cfg Config) string { return filepath.Join(cfg.Dir, "00000001.jsonl") }

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCreateAndOpen(t *testing.T) {
	cfg := config(t)
	if _, err := Open(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	l := create(t, cfg)
	for _, p := range []struct {
		path string
		mode fs.FileMode
	}{{cfg.Dir, 0o700}, {current(cfg), 0o600}} {
		if info, err := os.Stat(p.path); err != nil || info.Mode().Perm() != p.mode {
			t.Errorf("%s: %v, %v", p.path, info.Mode(), err)
		}
	}
	if _, err := Create(cfg); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	h := add(t, l, 1, 3)
	if h.Seq != 3 || h.File != "00000001.jsonl" || h.Offset != int64(len(read(t, current(cfg)))) || len(h.Hash) != 64 {
		t.Errorf("%+v", h)
	}
	if info, err := os.Stat(filepath.Join(cfg.Dir, "lock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("lock", info.Mode(), err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), sample(4)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if err := l.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync after close: %v", err)
	}
	l = open(t, cfg)
	add(t, l, 4, 4)
	if got, last := ids(t, l); len(got) != 4 || last.Seq != 4 {
		t.Errorf("%q, %+v", got, last)
	}
	if err := os.Remove(current(cfg)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no segment: %v", err)
	}
}

// The document's example: the first bytes of a log, fixed for ever.
func TestVector(t *testing.T) {
	cfg := config(t)
	cfg.VaultID, cfg.Clock = "vault-1", func() time.Time { return time.UnixMilli(1767225600123) }
	l := create(t, cfg)
	for _, r := range []Record{{Event: VaultCreated, Generation: 1}, {Event: VaultCommitted, Generation: 1, Hash: strings.Repeat("ab", 32), Name: "é\n"}} {
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	_, example, _ := strings.Cut(string(read(t, "../../docs/audit-format.md")), "## Example")
	_, example, _ = strings.Cut(example, "```\n")
	want, _, _ := strings.Cut(example, "```")
	if got := string(read(t, current(cfg))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestOpenRefusesWhatIsNotPrivate(t *testing.T) {
	for name, spoil := range map[string]func(Config) error{
		"directory": func(c Config) error { return os.Chmod(c.Dir, 0o750) },
		"segment":   func(c Config) error { return os.Chmod(current(c), 0o644) },
		"link": func(c Config) error {
			moved := filepath.Join(filepath.Dir(c.Dir), "elsewhere")
			return errors.Join(os.Rename(current(c), moved), os.Symlink(moved, current(c)))
		},
		"directory link": func(c Config) error {
			return errors.Join(os.Rename(c.Dir, c.Dir+"2"), os.Symlink(c.Dir+"2", c.Dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			create(t, cfg).Close()
			if err := spoil(cfg); err != nil {
				t.Fatal(err)
			}
			var perm *durable.PermissionError
			if l, err := Open(cfg); !errors.As(err, &perm) {
				t.Errorf("%v, %v", l, err)
			}
		})
	}
	if _, err := Open(Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened without a vault id")
	}
}

func TestAppendRefuses(t *testing.T) {
	l := create(t, config(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, sample(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
	if _, err := l.Append(t.Context(), Record{}); err == nil {
		t.Error("no event")
	}
	if got, _ := ids(t, l); len(got) != 0 {
		t.Errorf("written all the same: %q", got)
	}
}

// While another process holds the lock, records wait; one whose context ends
// is taken back, and the others are written.
func TestAppendWaitsForTheLock(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 1)
	held, err := durable.Acquire(t.Context(), filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			mine := ctx
			if i%2 == 0 {
				mine = t.Context()
			}
			if _, err := l.Append(mine, sample(i+2)); (err != nil) != (i%2 == 1) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	cancel()
	time.Sleep(20 * time.Millisecond)
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	got, _ := ids(t, l)
	if len(got) != 21 {
		t.Errorf("%d lines: %q", len(got), got)
	}
	for _, id := range got[1:] {
		if n, _ := strconv.Atoi(id); n%2 == 1 {
			t.Errorf("record %d was taken back, and is in the log", n)
		}
	}
}

// Whoever is made the leader at the moment in which its context ends passes
// that on: else nobody would lead any more.
func TestCancelledLeaderHandsOver(t *testing.T) {
	l := create(t, config(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		p, next := &pending{wake: make(chan bool, 1)}, &pending{wake: make(chan bool, 1)}
		l.queue, l.leading = []*pending{p, next}, true
		l.queue[0].lead = true
		p.wake <- true
		if l.wait(ctx, p) {
			continue // it saw the wake-up first
		}
		if !errors.Is(p.err, context.Canceled) || len(l.queue) != 1 || !next.lead || len(next.wake) != 1 {
			t.Errorf("%v, %d in the queue, next leads: %v", p.err, len(l.queue), next.lead)
		}
		l.queue, l.leading = nil, false
		return
	}
}

func TestCloseWaitsForAppends(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	held, err := durable.Acquire(t.Context(), filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), sample(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < 5; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		waiting = len(l.queue)
		l.mu.Unlock()
	}
	closed := make(chan error, 1)
	wg.Go(func() { closed <- l.Close() })
	select {
	case err := <-closed:
		t.Errorf("closed with appends under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got, _ := ids(t, open(t, cfg)); len(got) != 5 {
		t.Errorf("%d lines", len(got))
	}
}

func TestOneChainForAll(t *testing.T) {
	cfg := config(t)
	create(t, cfg)
	const logs, workers, each = 3, 8, 40
	var wg sync.WaitGroup
	heads := make(chan Head, logs*workers*each)
	for a := range logs {
		l := open(t, cfg)
		for b := range workers {
			wg.Go(func() {
				for c := range each {
					h, err := l.Append(t.Context(), sample((a*workers+b)*each+c))
					if c%13 == 0 && err == nil {
						h, err = l.AppendSync(t.Context(), sample(1_000_000+(a*workers+b)*each+c))
					}
					if err != nil {
						t.Error(err)
						return
					}
					heads <- h
				}
			})
		}
	}
	wg.Wait()
	close(heads)
	l := open(t, cfg)
	got, last := ids(t, l)
	seen := map[string]bool{}
	for _, id := range got {
		if seen[id] {
			t.Errorf("record %s is there twice", id)
		}
		seen[id] = true
	}
	if want := logs*workers*each + logs*workers*4; len(got) != want || int(last.Seq) != want {
		t.Errorf("%d lines, last %d, want %d", len(got), last.Seq, want)
	}
	// Every position that an append returned is one in the log.
	at := map[uint64]Head{}
	if _, err := l.Walk(Head{}, func(_ []byte, h Head) error { at[h.Seq] = h; return nil }); err != nil {
		t.Fatal(err)
	}
	for h := range heads {
		if at[h.Seq] != h {
			t.Errorf("append returned %+v, the log holds %+v", h, at[h.Seq])
		}
	}
}

func TestTornTailIsCutOff(t *testing.T) {
	for _, torn := range []string{`{"seq":4,"prev":"`, "x", strings.Repeat("\x00", 100_000)} {
		cfg := config(t)
		l := create(t, cfg)
		add(t, l, 1, 3)
		f, err := os.OpenFile(current(cfg), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if got, _ := ids(t, l); len(got) != 3 {
			t.Errorf("a torn line counts: %q", got)
		}
		if tail, err := l.Find(Query{Limit: 10}); err != nil || len(tail) != 3 {
			t.Errorf("tail: %d lines, %v", len(tail), err)
		}
		add(t, open(t, cfg), 4, 4) // a new process
		add(t, l, 5, 5)            // the one that was there
		if got, _ := ids(t, l); strings.Join(got, "") != "12345" {
			t.Errorf("%q", got)
		}
		if bytes.Contains(read(t, current(cfg)), []byte("\x00")) {
			t.Error("the torn tail is still there")
		}
	}
}

func TestReplacedWhileOpen(t *testing.T) {
	for name, spoil := range map[string]func(Config, []byte) error{
		"was removed while in use":  func(c Config, _ []byte) error { return os.Remove(current(c)) },
		"was replaced while in use": func(c Config, b []byte) error { return durable.WriteFile(current(c), b) },
		"the log ends before it":    func(c Config, b []byte) error { return os.Truncate(current(c), int64(len(b)/2)) },
		"does not begin":            func(c Config, b []byte) error { return os.WriteFile(current(c), append(b, "forged\n"...), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			l := create(t, cfg)
			add(t, l, 1, 4)
			if err := spoil(cfg, read(t, current(cfg))); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Append(t.Context(), sample(5)); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "00000001.jsonl") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnotherVaultsLog(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 2)
	cfg.VaultID = "other"
	other := open(t, cfg)
	var chain *ChainError
	if _, err := other.Append(t.Context(), sample(3)); !errors.As(err, &chain) || chain.Line != 1 {
		t.Errorf("append: %v", err)
	}
	if _, err := other.Walk(Head{}, nil); !errors.As(err, &chain) || chain.Line != 1 {
		t.Errorf("walk: %v", err)
	}
}

// A disk that cannot sync: the record that needed it fails, later ones fail,
// and the log recovers when the disk does, writing again what was not synced.
func TestSyncFails(t *testing.T) {
	for _, name := range []string{"at once", "in the background"} {
		t.Run(name, func(t *testing.T) {
			l := create(t, config(t))
			add(t, l, 1, 1)
			broken := errors.New("broken disk")
			l.syncMu.Lock()
			good := l.fsync
			l.fsync = func(*os.File) error { return broken }
			l.syncMu.Unlock()
			if name == "at once" {
				if _, err := l.AppendSync(t.Context(), sample(2)); !errors.Is(err, broken) {
					t.Fatalf("synced: %v", err)
				}
			} else {
				add(t, l, 2, 2)
				for deadline := time.Now().Add(5 * time.Second); !l.syncFail.Load(); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("never synced in the background")
					}
				}
			}
			if _, err := l.Append(t.Context(), sample(3)); !errors.Is(err, broken) {
				t.Fatalf("appended: %v", err)
			}
			if err := l.Sync(); !errors.Is(err, broken) {
				t.Fatalf("Sync: %v", err)
			}
			long := time.Now().Add(-time.Hour)
			if err := os.Chtimes(l.path, long, long); err != nil {
				t.Fatal(err)
			}
			l.syncMu.Lock()
			l.fsync = good
			l.syncMu.Unlock()
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(l.path); err != nil || time.Since(info.ModTime()) > time.Minute {
				t.Errorf("what the disk had lost was not written again: %v", err)
			}
			add(t, l, 4, 4)
			if got, _ := ids(t, l); strings.Join(got, "") != "124" {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestSyncedInTime(t *testing.T) {
	if syncDelay > 50*time.Millisecond {
		t.Errorf("records wait for %v to be synced, the promise is 50 ms", syncDelay)
	}
	cfg := config(t)
	l := create(t, cfg)
	synced := make(chan time.Time, 100)
	l.syncMu.Lock()
	good := l.fsync
	l.fsync = func(f *os.File) error { defer func() { synced <- time.Now() }(); return good(f) }
	l.syncMu.Unlock()
	for range 3 { // the timer is used again
		start := time.Now()
		add(t, l, 1, 5)
		select {
		case at := <-synced:
			// The margin is for a busy machine.
			if took := at.Sub(start); took > 3*time.Second {
				t.Errorf("on disk after %v", took)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("never synced")
		}
	}
	select {
	case <-synced:
		t.Error("synced again without news")
	case <-time.After(3 * syncDelay):
	}
	if _, err := l.AppendSync(t.Context(), sample(6)); err != nil || len(synced) != 1 {
		t.Errorf("AppendSync returned before the record was on disk: %v", err)
	}
	cfg.Sync = true
	s := open(t, cfg)
	count := 0
	s.fsync = func(f *os.File) error { count++; return good(f) }
	add(t, s, 7, 9)
	if count != 3 {
		t.Errorf("%d syncs for 3 records under Config.Sync", count)
	}
}

// One fsync serves all who wait.
func TestSyncIsShared(t *testing.T) {
	l := create(t, config(t))
	var count int
	good := l.fsync
	l.fsync = func(f *os.File) error { count++; time.Sleep(5 * time.Millisecond); return good(f) }
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := l.AppendSync(t.Context(), sample(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if count > 10 {
		t.Errorf("%d syncs for 50 records at once", count)
	}
}

func TestFindTheNewest(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	if got, err := l.Find(Query{Limit: 5}); err != nil || len(got) != 0 {
		t.Errorf("empty: %q, %v", got, err)
	}
	for i := range 700 { // lines of every length, over several blocks
		r := sample(i)
		r.Reason = strings.Repeat("r", i)
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	all := bytes.Split(bytes.TrimSuffix(read(t, current(cfg)), []byte("\n")), []byte("\n"))
	for _, n := range []int{1, 2, 50, 150, 699, 700, 701, 10000} {
		got, err := l.Find(Query{Limit: n})
		if err != nil {
			t.Fatal(err)
		}
		want := all[max(0, len(all)-n):]
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("the newest %d: %d lines that are not the log's last", n, len(got))
		}
	}
}
