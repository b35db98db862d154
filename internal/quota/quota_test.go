package quota

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
)

// testClock is a clock that a test moves.
type testClock struct {
	mu  sync.Mutex
	now Now
	err error
}

func newClock() *testClock {
	return &testClock{now: Now{BootID: "boot-1", SinceBoot: time.Hour, Wall: time.Unix(1_760_000_000, 0)}}
}

func (c *testClock) read() (Now, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.err
}

// pass lets time pass on both clocks.
func (c *testClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.SinceBoot += d
	c.now.Wall = c.now.Wall.Add(d)
}

// setWall moves the wall clock alone.
func (c *testClock) setWall(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Wall = c.now.Wall.Add(d)
}

// reboot starts another boot; its wall clock stands at d after the old one's.
func (c *testClock) reboot(id string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = Now{BootID: id, SinceBoot: 3 * time.Second, Wall: c.now.Wall.Add(d)}
}

func open(t testing.TB, path string, clock *testClock) *Book {
	b := New(Config{Path: path, Clock: clock.read})
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

// begun is a Book on a new file, and that file.
func begun(t testing.TB) (*Book, *testClock, string) {
	t.Helper()
	clock, path := newClock(), filepath.Join(t.TempDir(), "limits")
	b := open(t, path, clock)
	must(t, b.Begin(t.Context()))
	return b, clock, path
}

func per(n int, keys ...string) (out []Demand) {
	for _, k := range keys {
		out = append(out, Demand{k, n})
	}
	return out
}

// wantWait checks that a call was refused, by which key and for how long; 0 is
// for one that was let through.
func wantWait(t testing.TB, err error, key string, wait time.Duration) {
	t.Helper()
	if wait == 0 {
		must(t, err)
		return
	}
	var over *Exceeded
	if !errors.As(err, &over) || over.Key != key || over.Wait != wait {
		t.Fatalf("error = %v, want %s to have room in %s", err, key, wait)
	}
	if !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), wait.String()) {
		t.Errorf("error = %q", err)
	}
}

func TestFiveAMinute(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	all := per(5, "k")
	for range 5 {
		must(t, b.Check(t.Context(), all, nil))
		must(t, b.Take(t.Context(), all, nil))
		clock.pass(time.Second)
	}
	wantWait(t, b.Take(t.Context(), all, nil), "k", 55*time.Second)
	// Not by another Book, and not after this one starts anew.
	wantWait(t, open(t, path, clock).Take(t.Context(), all, nil), "k", 55*time.Second)
	wantWait(t, b.Check(t.Context(), all, nil), "k", 55*time.Second)
	clock.pass(55*time.Second - 1)
	wantWait(t, b.Take(t.Context(), all, nil), "k", 1)
	clock.pass(1)
	must(t, b.Take(t.Context(), all, nil))
	wantWait(t, b.Take(t.Context(), all, nil), "k", time.Second)
	// Another key has its own window.
	must(t, b.Take(t.Context(), per(1, "other"), nil))
	// Without a demand nothing is counted, and no file is looked at.
	must(t, New(Config{Path: "/nowhere/limits"}).Take(t.Context(), nil, nil))
}

func TestAllAndAny(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		all, any []Demand
		key      string
		wait     time.Duration
	}{
		"all have room":          {per(2, "one"), nil, "", 0},
		"one of all has none":    {append(per(9, "one"), per(1, "one", "two")...), nil, "two", 50 * time.Second},
		"the longest of all":     {per(1, "one", "two"), nil, "two", 50 * time.Second},
		"any has room":           {nil, append(per(1, "one"), per(2, "two")...), "", 0},
		"none of any":            {nil, per(1, "two", "one"), "one", 40 * time.Second},
		"all, and none of any":   {per(1, "new"), per(1, "two", "one"), "one", 40 * time.Second},
		"any, and not all":       {per(1, "one"), per(1, "new"), "one", 40 * time.Second},
		"neither, all longer":    {per(1, "two"), per(1, "one", "two"), "two", 50 * time.Second},
		"neither, any longer":    {per(1, "one"), per(1, "two"), "two", 50 * time.Second},
		"of one key the smaller": {append(per(5, "one"), per(1, "one")...), nil, "one", 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock, _ := begun(t)
			must(t, b.Take(t.Context(), per(1, "one"), nil))
			clock.pass(10 * time.Second)
			must(t, b.Take(t.Context(), per(1, "two"), nil))
			clock.pass(10 * time.Second)
			wantWait(t, b.Check(t.Context(), c.all, c.any), c.key, c.wait)
			wantWait(t, b.Take(t.Context(), c.all, c.any), c.key, c.wait)
			clock.pass(c.wait)
			if c.wait > 0 {
				must(t, b.Check(t.Context(), c.all, c.any))
				clock.pass(-1)
				wantWait(t, b.Check(t.Context(), c.all, c.any), c.key, 1)
			}
		})
	}
}

// A call that is let through because of one of any counts against the others
// too; one that is refused counts against none.
func TestWhatIsCounted(t *testing.T) {
	t.Parallel()
	b, clock, _ := begun(t)
	for range 3 {
		must(t, b.Take(t.Context(), per(9, "all"), append(per(1, "small"), per(3, "large")...)))
		clock.pass(time.Second)
	}
	wantWait(t, b.Take(t.Context(), per(9, "all"), append(per(1, "small"), per(3, "large")...)), "large", 57*time.Second)
	wantWait(t, b.Check(t.Context(), per(3, "all"), nil), "all", 57*time.Second)
	wantWait(t, b.Check(t.Context(), per(1, "small"), nil), "small", 59*time.Second) // the last that was let through
	must(t, b.Check(t.Context(), per(4, "all", "large"), nil))
	// A key that is named twice counts once.
	must(t, b.Take(t.Context(), per(2, "twice", "twice"), per(3, "twice")))
	must(t, b.Check(t.Context(), per(2, "twice"), nil))
}

// No limit among any lets every call through, and the others are counted for
// the time when they are alone.
func TestNoLimitAmongAny(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	for range 20 {
		must(t, b.Take(t.Context(), nil, append(per(2, "small"), per(0, "none")...)))
		clock.pass(time.Second)
	}
	wantWait(t, b.Take(t.Context(), nil, per(2, "small")), "small", 58*time.Second)
	wantWait(t, b.Take(t.Context(), per(2, "small"), per(0, "none")), "small", 58*time.Second)
	l, err := parse(read(t, path))
	must(t, err)
	if len(l.counts) != 1 || len(l.counts[0].starts) != 2 {
		t.Errorf("kept: %+v", l.counts)
	}
	// Where nothing is limited nothing is looked at.
	must(t, os.Remove(path))
	must(t, b.Take(t.Context(), nil, per(0, "none")))
	if _, err := os.Lstat(path); err == nil {
		t.Error("a file was made")
	}
}

func TestLimitsThatChange(t *testing.T) {
	t.Parallel()
	b, clock, _ := begun(t)
	for range 5 {
		must(t, b.Take(t.Context(), per(5, "k"), nil))
		clock.pass(time.Second)
	}
	wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", 58*time.Second)
	wantWait(t, b.Take(t.Context(), per(5, "k"), nil), "k", 55*time.Second)
	must(t, b.Take(t.Context(), per(7, "k"), nil))
	must(t, b.Take(t.Context(), per(7, "k"), nil))
	wantWait(t, b.Take(t.Context(), per(7, "k"), nil), "k", 55*time.Second)
	clock.pass(56 * time.Second)
	wantWait(t, b.Take(t.Context(), per(5, "k"), nil), "k", time.Second)
	must(t, b.Take(t.Context(), per(6, "k"), nil))
}

func TestTheWallClockHasNoEffect(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-1000 * time.Hour, -time.Second, time.Hour, 1000 * time.Hour} {
		b, clock, path := begun(t)
		must(t, b.Take(t.Context(), per(1, "k"), nil))
		clock.pass(20 * time.Second)
		clock.setWall(d)
		wantWait(t, b.Take(t.Context(), per(1, "k"), nil), "k", 40*time.Second)
		wantWait(t, open(t, path, clock).Take(t.Context(), per(1, "k"), nil), "k", 40*time.Second)
		clock.pass(40 * time.Second)
		clock.setWall(d)
		must(t, b.Take(t.Context(), per(1, "k"), nil))
	}
}

func TestAnotherBoot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wall time.Duration // from the last call on
		wait time.Duration
	}{
		"a while":      {15 * time.Second, 35 * time.Second},
		"a window":     {time.Minute, 0},
		"just under":   {49_999_999_999, 1},
		"just enough":  {50 * time.Second, 0},
		"a year":       {365 * 24 * time.Hour, 0},
		"no time":      {0, 50 * time.Second},
		"back":         {-time.Second, 50 * time.Second},
		"far back":     {-100 * 365 * 24 * time.Hour, 50 * time.Second},
		"far ahead":    {200 * 365 * 24 * time.Hour, 0},
		"very far off": {-1 << 63, 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock, path := begun(t)
			must(t, b.Take(t.Context(), per(2, "k"), nil))
			clock.pass(10 * time.Second)
			must(t, b.Take(t.Context(), per(2, "k"), nil))
			clock.reboot("boot-2", c.wall)
			if c.wait == 0 {
				must(t, b.Take(t.Context(), per(2, "k"), nil))
				return
			}
			wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", c.wait)
			// From now on only this boot's clock counts, for everyone.
			clock.setWall(-time.Hour)
			clock.pass(c.wait - 1)
			wantWait(t, open(t, path, clock).Take(t.Context(), per(2, "k"), nil), "k", 1)
			clock.pass(1)
			must(t, b.Take(t.Context(), per(2, "k"), nil))
			if c.wall < 50*time.Second {
				wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", 10*time.Second)
			}
		})
	}
}

// Of a boot clock that is behind the file's nothing is known but what the
// wall clock says.
func TestABootClockThatWentBack(t *testing.T) {
	t.Parallel()
	b, clock, _ := begun(t)
	must(t, b.Take(t.Context(), per(1, "k"), nil))
	clock.reboot("boot-1", 20*time.Second)
	wantWait(t, b.Take(t.Context(), per(1, "k"), nil), "k", 40*time.Second)
	clock.pass(40 * time.Second)
	must(t, b.Take(t.Context(), per(1, "k"), nil))
}

func TestKeysDropOut(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	for _, k := range []string{"a", "c", "b"} {
		must(t, b.Take(t.Context(), per(10, k), nil))
		clock.pass(20 * time.Second)
	}
	must(t, b.Take(t.Context(), per(10, "d"), nil))
	l, err := parse(read(t, path))
	must(t, err)
	var keys []string
	for _, c := range l.counts {
		keys = append(keys, c.key)
	}
	if got := strings.Join(keys, " "); got != "b c d" {
		t.Errorf("keys = %s", got)
	}
}

func TestBadDemands(t *testing.T) {
	t.Parallel()
	b, _, _ := begun(t)
	for _, d := range []Demand{{"", 1}, {"k", -1}, {"k", MaxPerMinute + 1}, {"a b", 1}, {"\u00e9", 1}, {`a"b`, 1}, {`a\b`, 1},
		{"a\n", 1}, {strings.Repeat("k", MaxKeyBytes+1), 1}} {
		errs := []error{b.Take(t.Context(), []Demand{d}, nil), b.Check(t.Context(), per(1, "k"), []Demand{d})}
		if d.PerMinute == 0 {
			errs = errs[:1] // no limit among any
		}
		for _, err := range errs {
			if err == nil || errors.As(err, new(*Exceeded)) || api.CodeOf(err) != api.Internal {
				t.Errorf("%+v: %v", d, err)
			}
		}
	}
	must(t, b.Take(t.Context(), per(MaxPerMinute, strings.Repeat("k", MaxKeyBytes)), nil))
}

func TestWhatCannotBeKnownIsRefused(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	refused := func(what string, err error, code api.Code) {
		t.Helper()
		if err == nil || errors.As(err, new(*Exceeded)) || api.CodeOf(err) != code || strings.ContainsRune(err.Error(), filepath.Separator) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, now := range map[string]Now{"no boot": {Wall: clock.now.Wall}, "a negative clock": {BootID: "b", SinceBoot: -1, Wall: clock.now.Wall},
		"an odd boot": {BootID: "a\nb", Wall: clock.now.Wall}} {
		refused(name, New(Config{Path: path, Clock: func() (Now, error) { return now, nil }}).Take(t.Context(), per(1, "k"), nil), api.VaultUnavailable)
	}
	clock.err = errors.New("no clock")
	refused("no clock", b.Take(t.Context(), per(1, "k"), nil), api.VaultUnavailable)
	clock.err = nil
	refused("no directory", New(Config{Path: filepath.Join(path, "x", "limits"), Clock: clock.read}).Take(t.Context(), per(1, "k"), nil), api.VaultUnavailable)
	dir := filepath.Join(t.TempDir(), "limits")
	must(t, os.Mkdir(dir, 0o700))
	refused("a directory", open(t, dir, clock).Take(t.Context(), per(1, "k"), nil), api.VaultUnavailable)
	must(t, os.Chmod(dir, 0o755)) // no private file: it is to be replaced, and cannot be
	refused("a directory of everyone's", open(t, dir, clock).Take(t.Context(), per(1, "k"), nil), api.VaultUnavailable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Take(ctx, per(1, "k"), nil); err != context.Canceled {
		t.Errorf("error = %v", err)
	}
	lock, err := durable.Acquire(t.Context(), path+".lock")
	must(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := b.Take(ctx, per(1, "k"), nil); err != context.DeadlineExceeded {
		t.Errorf("error = %v", err)
	}
	must(t, lock.Release())
	must(t, b.Take(t.Context(), per(1, "k"), nil))
}

func TestSystemClock(t *testing.T) {
	t.Parallel()
	clock := systemClock()
	a, err := clock()
	must(t, err)
	b, err := clock()
	must(t, err)
	if a.BootID == "" || a.BootID != b.BootID || a.SinceBoot <= 0 || b.SinceBoot < a.SinceBoot || time.Since(a.Wall).Abs() > time.Hour {
		t.Errorf("%+v, %+v", a, b)
	}
	path := filepath.Join(t.TempDir(), "limits")
	book := New(Config{Path: path})
	must(t, book.Begin(t.Context()))
	must(t, book.Take(t.Context(), per(1, "k"), nil))
	must(t, book.Close())
	l, err := parse(read(t, path))
	must(t, err)
	if l.at.bootID != a.BootID || l.at.boot < int64(b.SinceBoot) || len(l.counts) != 1 || l.counts[0].starts[0] != l.at.boot {
		t.Errorf("%+v", l)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}
