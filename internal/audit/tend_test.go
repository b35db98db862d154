package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// grown makes a log with so many closed segments.
func grown(t testing.TB, cfg Config, closed int) *Log {
	t.Helper()
	l := createSigned(t, cfg)
	for i := 1; segmentNumber(l.tail.file) <= closed; i++ {
		add(t, l, i, i)
	}
	return l
}

// files lists the log's segments as they lie in the directory, by number:
// "1z 2 3" for a compressed and two plain ones.
func files(t testing.TB, cfg Config) string {
	t.Helper()
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		name, packed := strings.CutSuffix(e.Name(), packedSuffix)
		if n := segmentNumber(name); n > 0 && packed {
			out = append(out, fmt.Sprint(n, "z"))
		} else if n > 0 {
			out = append(out, fmt.Sprint(n))
		} else if strings.HasPrefix(name, ".") {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

func TestPack(t *testing.T) {
	cfg := small(t)
	l := grown(t, cfg, 4)
	plain := read(t, current(cfg))
	if err := l.pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, cfg); got != "1z 2z 3z 4 5" {
		t.Errorf("%s", got)
	}
	packed := read(t, current(cfg)+packedSuffix)
	if info, err := os.Stat(current(cfg) + packedSuffix); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil || !bytes.Equal(text, plain) || zip.Name != "" || !zip.ModTime.IsZero() || len(packed) >= len(plain) {
		t.Errorf("%d bytes of %d, %+v, %v", len(packed), len(plain), zip.Header, err)
	}
	intact(t, cfg)

	// Where both are there the plain one counts, and the other is made again.
	if err := errors.Join(os.WriteFile(current(cfg), plain, 0o600), os.WriteFile(current(cfg)+packedSuffix, []byte("junk"), 0o600)); err != nil {
		t.Fatal(err)
	}
	intact(t, cfg)
	if err := l.pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, cfg); got != "1z 2z 3z 4 5" {
		t.Errorf("%s", got)
	}
	intact(t, cfg)
}

// What compressing leaves that was killed after each of its steps.
func TestUnfinishedPack(t *testing.T) {
	for name, change := range map[string]func(path string, plain, packed []byte) error{
		"a temporary file": func(path string, _, packed []byte) error {
			dir, base := filepath.Split(path)
			return os.WriteFile(filepath.Join(dir, "."+base+packedSuffix+".tmp-ABCDEFGHIJKL"), packed[:len(packed)/2], 0o600)
		},
		"both": func(path string, _, packed []byte) error { return os.WriteFile(path+packedSuffix, packed, 0o600) },
		"the compressed one": func(path string, _, packed []byte) error {
			return errors.Join(os.WriteFile(path+packedSuffix, packed, 0o600), os.Remove(path))
		},
	} {
		cfg := small(t)
		l := grown(t, cfg, 3)
		plain := read(t, current(cfg))
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, segmentName(1)), plain, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(other, 0o700), packSegment(t.Context(), other, segmentName(1))); err != nil {
			t.Fatal(err)
		}
		if err := change(current(cfg), plain, read(t, filepath.Join(other, segmentName(1)+packedSuffix))); err != nil {
			t.Fatal(err)
		}
		intact(t, cfg)
		if err := l.pack(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := files(t, cfg); got != "1z 2z 3 4" {
			t.Errorf("%s: %s", name, got)
		}
		intact(t, cfg)
	}
}

// The plain segment goes only when the compressed one is known to be right.
func TestPackFails(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		signal.Ignore(syscall.SIGXFSZ)
		l := open(t, Config{Dir: dir, VaultID: vaultID})
		want := files(t, l.cfg)
		for limit := uint64(0); limit < 600; limit += 61 {
			var old syscall.Rlimit
			if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old),
				syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: old.Max})); err != nil {
				t.Fatal(err)
			}
			err := l.pack(t.Context())
			if err2 := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err2 != nil {
				t.Fatal(err2)
			}
			if !errors.Is(err, syscall.EFBIG) {
				t.Errorf("limit %d: %v", limit, err)
			}
			if got := files(t, l.cfg); got != want {
				t.Errorf("limit %d: %s", limit, got)
			}
		}
		if err := l.pack(t.Context()); err != nil {
			t.Error(err)
		}
		return
	}
	cfg := small(t)
	l := grown(t, cfg, 3)
	if out, err := child(t, cfg, "").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	if got := files(t, cfg); got != "1z 2z 3 4" {
		t.Error(got)
	}
	for segmentNumber(l.tail.file) < 6 {
		add(t, l, 1, 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.pack(ctx); !errors.Is(err, context.Canceled) || files(t, cfg) != "1z 2z 3 4 5 6" {
		t.Errorf("%v: %s", err, files(t, cfg))
	}
	if err := os.Symlink("/dev/null", filepath.Join(cfg.Dir, segmentName(3)+packedSuffix)); err != nil {
		t.Fatal(err)
	}
	if err := l.pack(t.Context()); err != nil { // a link in its place is itself replaced
		t.Error(err)
	}
	if got := files(t, cfg); got != "1z 2z 3z 4z 5 6" {
		t.Error(got)
	}
	intact(t, cfg)
}

// What is not exactly what packSegment makes is refused, by every reader.
func TestPackedIsStrict(t *testing.T) {
	squeeze := func(text []byte, change func(*gzip.Writer)) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if change != nil {
			change(w)
		}
		_, err := w.Write(text)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	flip := func(at int) func(z, _ []byte) []byte {
		return func(z, _ []byte) []byte { z[(at+len(z))%len(z)] ^= 0x10; return z }
	}
	for _, c := range []struct {
		name   string
		change func(z, text []byte) []byte
		why    string
	}{
		{"empty", func(z, _ []byte) []byte { return nil }, "too short"},
		{"trailing garbage", func(z, _ []byte) []byte { return append(z, z[len(z)-8:]...) }, "something follows"},
		{"a second member", func(z, text []byte) []byte { return append(z, squeeze(text, nil)...) }, "something follows"},
		{"an empty second member", func(z, _ []byte) []byte { return append(z, squeeze(nil, nil)...) }, "claims to hold 0 bytes"},
		{"a name", func(_, text []byte) []byte { return squeeze(text, func(w *gzip.Writer) { w.Name = "x" }) }, "does not begin"},
		{"a time", func(_, text []byte) []byte {
			return squeeze(text, func(w *gzip.Writer) { w.ModTime = time.Unix(1, 0) })
		}, "does not begin"},
		{"cut off", func(z, _ []byte) []byte { return z[:len(z)/2] }, ""},
		{"without its trailer", func(z, _ []byte) []byte { return z[:len(z)-8] }, ""},
		{"a flipped bit in it", flip(200), ""},
		{"a flipped checksum", flip(-8), "was changed"},
		{"a flipped length", flip(-4), ""},
		{"plain text", func(_, text []byte) []byte { return text }, "does not begin"},
		{"a bomb", func(z, _ []byte) []byte { return append(z[:len(z)-4], 1, 0, 0, 4) }, "claims to hold 67108865 bytes"},
		{"a bomb that claims less", func(_, text []byte) []byte {
			z := squeeze(append(bytes.Clone(text), make([]byte, 1<<20)...), nil)
			return binary.LittleEndian.AppendUint32(z[:len(z)-4], uint32(len(text)))
		}, "holds more than it claims"},
		{"another part of the log", func(_, text []byte) []byte { return squeeze(text[:bytes.IndexByte(text, '\n')+1], nil) }, "was not closed"},
		{"less than one that was closed", func(_, text []byte) []byte { return squeeze(text[bytes.IndexByte(text, '\n')+1:], nil) }, "stands in its place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := small(t)
			l := grown(t, cfg, 2)
			text := read(t, current(cfg))
			if err := packSegment(t.Context(), cfg.Dir, segmentName(1)); err != nil {
				t.Fatal(err)
			}
			path := current(cfg) + packedSuffix
			if err := os.WriteFile(path, c.change(read(t, path), text), 0o600); err != nil {
				t.Fatal(err)
			}
			var chain *ChainError
			if _, err := l.Walk(Head{}, nil); !errors.As(err, &chain) || !strings.HasPrefix(chain.File, segmentName(1)) || !strings.Contains(chain.Why, c.why) {
				t.Errorf("walk: %v", err)
			}
			if _, err := l.Find(Query{}); !errors.As(err, &chain) && !strings.Contains(c.name, "one that was closed") && c.name != "another part of the log" {
				t.Errorf("find: %v", err)
			}
		})
	}
	for name, spoil := range map[string]func(path string) error{
		"public": func(p string) error { return os.Chmod(p, 0o644) },
		"a link": func(p string) error { return errors.Join(os.Rename(p, p+"2"), os.Symlink(p+"2", p)) },
	} {
		cfg := small(t)
		l := grown(t, cfg, 2)
		if err := errors.Join(packSegment(t.Context(), cfg.Dir, segmentName(1)), spoil(current(cfg)+packedSuffix)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Walk(Head{}, nil); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// The tender works when a segment is closed, blocks nobody, and ends with the
// log.
func TestTend(t *testing.T) {
	cfg := small(t)
	cfg.Tend = true
	l := grown(t, cfg, 5)
	for deadline := time.Now().Add(30 * time.Second); files(t, cfg) != "1z 2z 3z 4z 5 6"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(files(t, cfg))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	intact(t, cfg)
	// Whoever does not tend leaves it.
	cfg.Tend = false
	l = openSigned(t, cfg)
	for segmentNumber(l.tail.file) < 8 {
		add(t, l, 1, 1)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, cfg); got != "1z 2z 3z 4z 5 6 7 8" {
		t.Error(got)
	}
	// What fails is told, and does not fail the log.
	told := make(chan error, 10)
	cfg.Tend, cfg.TendFailed = true, func(err error) { told <- err }
	if err := os.Mkdir(filepath.Join(cfg.Dir, segmentName(5)+packedSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	l = openSigned(t, cfg)
	if err := <-told; err == nil || !strings.Contains(err.Error(), segmentName(5)) {
		t.Errorf("%v", err)
	}
	add(t, l, 1, 1)
}

// A tender that is faster than who goes on in the next segment finds it empty,
// as a killed rotation leaves it: its first line wakes it once more.
func TestTheFirstLineWakesTheTender(t *testing.T) {
	l := create(t, config(t))
	l.wakeTender = make(chan struct{}, 1)
	for n, want := range []int{1, 0} {
		add(t, l, n, n)
		if got := len(l.wakeTender); got != want {
			t.Errorf("line %d: woken %d times", n+1, got)
		}
		for len(l.wakeTender) > 0 {
			<-l.wakeTender
		}
	}
}

// aged is a log whose segments were closed at one-day intervals, the last of
// them now.
func aged(t *testing.T, closed int, retain time.Duration) (l *Log, keep *Head, now *time.Time) {
	t.Helper()
	cfg := config(t)
	keep, now = new(Head), new(time.Time)
	*now = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	cfg.Clock = func() time.Time { return *now }
	cfg.segmentAge = 24 * time.Hour
	cfg.Retain = retain
	cfg.Keep = func() Head { return *keep }
	l = createSigned(t, cfg)
	for i := range closed + 1 {
		if i > 0 {
			*now = now.Add(cfg.segmentAge)
		}
		*keep = add(t, l, 3*i+1, 3*i+3)
	}
	if l.tail.file != segmentName(closed+1) {
		t.Fatalf("%+v", l.tail)
	}
	return l, keep, now
}

func TestPrune(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		retain time.Duration
		change func(l *Log, keep *Head) error
		want   string
	}{
		// Ten closed segments; n was closed 10-n days ago.
		{"for good", 0, nil, "1 2 3 4 5 6 7 8 9 10 11"},
		{"long enough for all", 10 * day, nil, "1 2 3 4 5 6 7 8 9 10 11"},
		{"five days", 5 * day, nil, "5 6 7 8 9 10 11"},
		{"five days, compressed", 5 * day, func(l *Log, _ *Head) error { return l.pack(t.Context()) }, "5z 6z 7z 8z 9z 10 11"},
		{"never the two last", time.Hour, nil, "10 11"},
		{"what the vault needs", time.Hour, func(_ *Log, k *Head) error { *k = Head{9, "", segmentName(3), 5}; return nil }, "3 4 5 6 7 8 9 10 11"},
		{"what the vault needs is the first", time.Hour, func(_ *Log, k *Head) error { *k = Head{1, "", segmentName(1), 5}; return nil }, "1 2 3 4 5 6 7 8 9 10 11"},
		{"the vault does not say", time.Hour, func(_ *Log, k *Head) error { *k = Head{}; return nil }, "1 2 3 4 5 6 7 8 9 10 11"},
		{"nobody knows what the vault needs", time.Hour, func(l *Log, _ *Head) error { l.cfg.Keep = nil; return nil }, "1 2 3 4 5 6 7 8 9 10 11"},
		{"locked", time.Hour, func(l *Log, _ *Head) error { l.SetSigner(nil); return nil }, "1 2 3 4 5 6 7 8 9 10 11"},
		{"no checkpoints", time.Hour, func(l *Log, _ *Head) error { return os.Remove(checkpointsOf(l.cfg)) }, "1 2 3 4 5 6 7 8 9 10 11"},
		{"checkpoints of another key", time.Hour, func(l *Log, _ *Head) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.signer = testKey(2)
			return nil
		}, "1 2 3 4 5 6 7 8 9 10 11"},
		{"no closing checkpoint of the fourth", time.Hour, func(l *Log, _ *Head) error { return dropNote(l.cfg, segmentName(4)) }, "4 5 6 7 8 9 10 11"},
		{"twice", 5 * day, func(l *Log, _ *Head) error { return l.prune(t.Context()) }, "5 6 7 8 9 10 11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, keep, _ := aged(t, 10, c.retain)
			before, err := l.Find(Query{})
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				if err := c.change(l, keep); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := files(t, l.cfg); sorted(got) != c.want {
				t.Fatalf("%s", got)
			}
			// What is left is provable, is a part of what was there, and goes on.
			add(t, l, 99, 99)
			var first uint64
			end, err := l.Walk(Head{}, func(_ []byte, at Head) error {
				if first == 0 {
					first = at.Seq
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			after, err := l.Find(Query{})
			if err != nil || uint64(len(after)) != end.Seq-first+1 {
				t.Fatalf("%d lines, %d to %d: %v", len(after), first, end.Seq, err)
			}
			pruned := strings.HasPrefix(c.want, "1 ")
			var records []string
			for _, line := range after {
				r, err := ParseLine(line)
				if err != nil {
					t.Fatal(err)
				}
				if r.Event == LogPruned {
					records = append(records, r.Object+" "+r.Reason)
				}
			}
			if pruned != (len(records) == 0) || len(records) > 1 {
				t.Errorf("%q", records)
			}
			if !bytes.Equal(after[0], before[first-1]) {
				t.Errorf("begins with %s", after[0])
			}
			// Another process opens it, and goes on; also one that slept.
			if h := add(t, openSigned(t, l.cfg), 100, 100); h.Seq != end.Seq+1 {
				t.Errorf("%+v after %+v", h, end)
			}
			if !pruned && !strings.Contains(records[0], fmt.Sprintf("up to line %d,", first-1)) {
				t.Errorf("%q, and what is left begins with line %d", records, first)
			}
		})
	}
}

func sorted(files string) string {
	f := strings.Fields(files)
	slices.SortFunc(f, func(a, b string) int {
		var x, y int
		fmt.Sscan(strings.TrimSuffix(a, "z"), &x)
		fmt.Sscan(strings.TrimSuffix(b, "z"), &y)
		return x - y
	})
	return strings.Join(f, " ")
}

// dropNote removes the closing checkpoint of a segment.
func dropNote(cfg Config, file string) error {
	data, err := os.ReadFile(checkpointsOf(cfg))
	if err != nil {
		return err
	}
	var kept []byte
	eachNote(data, func(n signedNote, _ int) bool {
		if n.Head.File != file {
			kept = append(kept, n.encode()...)
		}
		return true
	})
	return os.WriteFile(checkpointsOf(cfg), kept, 0o600)
}

// Retention by a real clock in the background, and after a kill in the middle
// of it.
func TestPruneGoesOn(t *testing.T) {
	l, _, now := aged(t, 6, 2*24*time.Hour)
	cfg := l.cfg
	slept := open(t, cfg)
	add(t, slept, 1, 1)
	l.Close()
	// Killed when it had recorded the removal of four and removed one.
	if err := os.Remove(current(cfg)); err != nil {
		t.Fatal(err)
	}
	cfg.Tend = true
	l = openSigned(t, cfg)
	for deadline := time.Now().Add(30 * time.Second); files(t, cfg) != "4z 5z 6 7"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(files(t, cfg))
		}
	}
	*now = now.Add(24 * time.Hour)
	if h := add(t, slept, 2, 2); h.File != segmentName(7) && h.File != segmentName(8) {
		t.Errorf("%+v", h)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, cfg).Walk(Head{}, nil); err != nil {
		t.Error(err)
	}
}

// A tender with nothing to do wakes once an hour where something may become
// too old, and never where all is kept.
func TestTenderSleeps(t *testing.T) {
	for _, retain := range []time.Duration{0, time.Hour} {
		dir := filepath.Join(t.TempDir(), "audit")
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			cfg := Config{Dir: dir, VaultID: vaultID, Tend: true, Retain: retain, Keep: func() Head { asked++; return Head{} }}
			l, err := Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Hour + time.Minute)
			synctest.Wait()
			if want := map[time.Duration]int{0: 0, time.Hour: 11}[retain]; asked != want {
				t.Errorf("retention %v: looked %d times, want %d", retain, asked, want)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzPacked: whatever is in a compressed segment, reading it ends, holds no
// more than the cap, and gives what gzip gives or an error.
func FuzzPacked(f *testing.F) {
	text := bytes.Repeat([]byte("a line of the log, or not\n"), 300)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text)
	_ = w.Close()
	f.Add(b.Bytes(), int64(0))
	f.Add(append(bytes.Clone(b.Bytes()), 0), int64(5000))
	f.Add(b.Bytes()[:b.Len()-9], int64(100))
	dir := f.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1)+packedSuffix)
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p, size, err := openText(dir, segmentName(1))
		if err != nil {
			return
		}
		defer p.Close()
		// Read in two pieces, the second first.
		at = max(0, min(at, size))
		got := make([]byte, size)
		_, err1 := p.ReadAt(got[at:], at)
		_, err2 := p.ReadAt(got[:at], 0)
		if err1 != nil && !errors.Is(err1, io.EOF) || err2 != nil {
			return
		}
		want, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("read what gzip does not: %v", err)
		}
		all, err := io.ReadAll(want)
		if at < size && (err != nil || !bytes.Equal(all, got)) {
			t.Fatalf("read %d bytes, gzip %d, %v", len(got), len(all), err)
		}
	})
}
