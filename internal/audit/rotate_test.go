package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/durable"
)

// small is a configuration in which a segment holds a few records.
func small(t testing.TB) Config {
	cfg := config(t)
	cfg.SegmentSize = 2000
	return cfg
}

func createSigned(t testing.TB, cfg Config) *Log {
	l := create(t, cfg)
	l.SetSigner(testKey(1))
	return l
}

func openSigned(t testing.TB, cfg Config) *Log {
	l := open(t, cfg)
	l.SetSigner(testKey(1))
	return l
}

// intact checks a log with several segments: the chain, that each segment but
// the last is closed, and that each has its closing checkpoint. It returns the
// request ids of the samples.
func intact(t testing.TB, cfg Config) (ids []string, segments int) {
	t.Helper()
	l := open(t, Config{Dir: cfg.Dir, VaultID: cfg.VaultID})
	closing := map[string]Head{}
	var last Line
	var at Head
	end, err := l.Walk(Head{}, func(line []byte, head Head) error {
		r, err := ParseLine(line)
		if err != nil {
			return err
		}
		if at.File != head.File && at.File != "" {
			if last.Event != LogRotated || last.Object != head.File {
				t.Errorf("%s ends with %s %s", at.File, last.Event, last.Object)
			}
			closing[at.File] = at
		}
		if r.RequestID != "" {
			ids = append(ids, r.RequestID)
		}
		last, at = r, head
		return nil
	})
	if err != nil {
		t.Fatalf("after line %d: %v", end.Seq, err)
	}
	for _, c := range notes(t, cfg, testKey(1)) {
		if closing[c.Head.File] == c.Head {
			delete(closing, c.Head.File)
		}
	}
	if len(closing) > 0 {
		t.Errorf("segments without a closing checkpoint: %+v", closing)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return ids, segmentNumber(end.File)
}

func TestRotationBySize(t *testing.T) {
	cfg := small(t)
	l := createSigned(t, cfg)
	var heads []Head
	for i := range 50 {
		heads = append(heads, add(t, l, i+1, i+1))
	}
	got, n := intact(t, cfg)
	if len(got) != 50 || n < 8 {
		t.Fatalf("%d records in %d segments", len(got), n)
	}
	for i := range n - 1 {
		info, err := os.Stat(filepath.Join(cfg.Dir, segmentName(i+1)))
		if err != nil || info.Size() < cfg.SegmentSize || info.Size() > cfg.SegmentSize+2*MaxLine || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	// Every position that an append returned goes on holding.
	other := open(t, cfg)
	for _, h := range heads {
		if end, err := other.Walk(h, nil); err != nil || end != heads[49] {
			t.Errorf("from %+v: %+v, %v", h, end, err)
		}
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".tmp-") {
			t.Errorf("%s was left", e.Name())
		}
	}
}

// A segment is closed for its age only when there is something to write, and
// by no clock that jumped back.
func TestRotationByAge(t *testing.T) {
	cfg := config(t)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	cfg.Clock = func() time.Time { return now }
	l := createSigned(t, cfg)
	file := func() string { return add(t, l, 1, 1).File }
	if got := file(); got != segmentName(1) {
		t.Fatal(got)
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{
		{segmentAge - time.Millisecond, 1}, {time.Millisecond, 2}, {-20 * segmentAge, 2}, {20 * segmentAge, 2},
		{100 * segmentAge, 3}, {0, 3}, {time.Hour, 3},
	} {
		now = now.Add(c.after)
		if got := file(); got != segmentName(c.want) {
			t.Errorf("%v later: %s, want %d", c.after, got, c.want)
		}
	}
	// Another process reads the age from the file.
	other := openSigned(t, cfg)
	now = now.Add(segmentAge)
	if got := add(t, other, 2, 2).File; got != segmentName(4) {
		t.Errorf("another process: %s", got)
	}
	intact(t, cfg)
}

// Without a key a log goes on in the old segment; with it, the next record
// closes that.
func TestRotationNeedsTheKey(t *testing.T) {
	cfg := small(t)
	l := create(t, cfg)
	if h := add(t, l, 1, 20); h.File != segmentName(1) {
		t.Fatalf("%+v", h)
	}
	l.SetSigner(testKey(1))
	if h := add(t, l, 21, 21); h.File != segmentName(2) || h.Seq != 22 {
		t.Fatalf("%+v", h)
	}
	l.SetSigner(nil)
	if h := add(t, l, 22, 40); h.File != segmentName(2) {
		t.Fatalf("%+v", h)
	}
	if got, n := intact(t, cfg); len(got) != 40 || n != 2 {
		t.Errorf("%d records in %d segments", len(got), n)
	}
}

// Several logs of one process, all of which rotate, and readers.
func TestRotationByMany(t *testing.T) {
	cfg := small(t)
	logs := []*Log{createSigned(t, cfg), openSigned(t, cfg), open(t, cfg)}
	var wg sync.WaitGroup
	for a, l := range logs {
		for b := range 3 {
			wg.Go(func() {
				for c := range 30 {
					h, err := l.Append(t.Context(), sample(a*1000+b*100+c))
					if c%7 == 0 && err == nil {
						_, err = l.Walk(h, nil)
					}
					if err == nil {
						err = l.Check()
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	got, n := intact(t, cfg)
	slices.Sort(got)
	if len(slices.Compact(got)) != 270 || n < 30 {
		t.Errorf("%d records in %d segments", len(got), n)
	}
}

// Real processes: some with the key, some without, one that compresses.
func TestRotationByProcesses(t *testing.T) {
	const processes, each = 4, 80
	if dir := os.Getenv(childDir); dir != "" {
		name := os.Getenv(childName)
		cfg := Config{Dir: dir, VaultID: vaultID, SegmentSize: 2000, Tend: name == "0"}
		l := open(t, cfg)
		if name != "3" {
			l.SetSigner(testKey(1))
		}
		for i := range each {
			r := sample(i)
			r.RequestID = fmt.Sprint(name, "-", i)
			if _, err := l.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := l.Check(); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	cfg := small(t)
	create(t, cfg).Close()
	var wg sync.WaitGroup
	for p := range processes {
		cmd := child(t, cfg, strconv.Itoa(p))
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	got, n := intact(t, cfg)
	next := map[string]int{}
	for _, id := range got {
		p, i, _ := strings.Cut(id, "-")
		if strconv.Itoa(next[p]) != i {
			t.Errorf("%s: out of its caller's order", id)
		}
		next[p]++
	}
	if len(got) != processes*each || n < 30 {
		t.Errorf("%d records in %d segments", len(got), n)
	}
}

// A process that is killed at any instant, among them all steps of rotating
// and compressing, leaves a log that goes on.
func TestKilledRotation(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		l := open(t, Config{Dir: dir, VaultID: vaultID, SegmentSize: 600, Tend: true})
		l.SetSigner(testKey(1))
		for i := 0; ; i++ {
			r := sample(i)
			r.RequestID = fmt.Sprint(os.Getpid(), "-", i)
			h, err := l.Append(t.Context(), r)
			fmt.Printf("confirmed %s %d %v\n", r.RequestID, h.Seq, err)
		}
	}
	cfg := small(t)
	cfg.SegmentSize = 600
	createSigned(t, cfg).Close()
	waiting := openSigned(t, cfg) // another process, which appends now and then
	confirmed := map[string]bool{}
	for round := range 12 {
		for _, line := range killWriter(t, cfg) {
			if f := strings.Fields(line); len(f) == 4 && f[0] == "confirmed" {
				if f[3] != "<nil>" {
					t.Fatal(line)
				}
				confirmed[f[1]] = true
			}
		}
		l := openSigned(t, cfg)
		if round%3 == 0 {
			l = waiting
		}
		r := sample(0)
		r.RequestID = fmt.Sprint("after-", round)
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		confirmed[r.RequestID] = true
		if err := l.pack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The end that a killed process did not sign is signed with the next news.
	if err := waiting.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	got, n := intact(t, cfg)
	there := map[string]bool{}
	for _, id := range got {
		there[id] = true
	}
	for id := range confirmed {
		if !there[id] {
			t.Errorf("%s was confirmed, and is not there", id)
		}
	}
	if n < 10 {
		t.Errorf("%d segments", n)
	}
}

// What a rotation that was killed leaves after each of its steps.
func TestUnfinishedRotation(t *testing.T) {
	next := func(c Config) string { return filepath.Join(c.Dir, segmentName(2)) }
	closing := func(l *Log) []byte {
		line := append(l.tail.appendPrefix(nil), "1700000000000,"...)
		line, _ = appendBody(line, &Record{Event: LogRotated, Object: segmentName(2)})
		return append(line, '\n')
	}
	for _, c := range []struct {
		name   string
		change func(c Config, l *Log) error
		file   int // in which the next record is
	}{
		{"nothing", func(Config, *Log) error { return nil }, 1},
		{"a temporary file", func(c Config, _ *Log) error {
			return os.WriteFile(filepath.Join(c.Dir, ".00000002.jsonl.tmp-ABCDEFGHIJKL"), nil, 0o600)
		}, 1},
		{"an empty segment", func(c Config, _ *Log) error { return os.WriteFile(next(c), nil, 0o600) }, 1},
		{"a torn closing line", func(c Config, l *Log) error {
			return errors.Join(os.WriteFile(next(c), nil, 0o600), addTo(current(c), string(closing(l)[:150])))
		}, 1},
		{"a closing line without its newline", func(c Config, l *Log) error {
			b := closing(l)
			return errors.Join(os.WriteFile(next(c), nil, 0o600), addTo(current(c), string(b[:len(b)-1])))
		}, 1},
		{"a closing line without its checkpoint", func(c Config, l *Log) error {
			return errors.Join(os.WriteFile(next(c), nil, 0o600), addTo(current(c), string(closing(l))))
		}, 2},
	} {
		for _, who := range []string{"a new process", "one that was there", "one that opened it before, and has no key"} {
			cfg := config(t) // nothing is due
			l := createSigned(t, cfg)
			add(t, l, 1, 3)
			sleeper := open(t, cfg)
			if err := c.change(cfg, l); err != nil {
				t.Fatal(err)
			}
			if end, err := l.Walk(Head{}, nil); err != nil || int(end.Seq) != 2+c.file {
				t.Errorf("%s: read as %+v, %v", c.name, end, err)
			}
			if err := l.Check(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			appender := l
			switch who {
			case "a new process":
				appender = openSigned(t, cfg)
			case "one that opened it before, and has no key":
				appender = sleeper
			}
			if h := add(t, appender, 4, 4); h.File != segmentName(c.file) || int(h.Seq) != 3+c.file {
				t.Errorf("%s, %s: %+v", c.name, who, h)
			}
			if got, _ := ids(t, l); len(got) != 3+c.file {
				t.Errorf("%s, %s: %q", c.name, who, got)
			}
			l.cfg.SegmentSize = 1 // now it is
			if h := add(t, l, 5, 5); h.File != segmentName(c.file+1) {
				t.Errorf("%s, %s: rotated to %+v", c.name, who, h)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if got, n := intact(t, cfg); len(got) != 5 || n != c.file+1 {
				t.Errorf("%s, %s: %d records in %d segments", c.name, who, len(got), n)
			}
		}
	}
}

// What is in the way of a rotation fails it, and is not written over.
func TestRotationRefuses(t *testing.T) {
	for name, block := range map[string]func(path string) error{
		"a segment that holds something": func(p string) error { return os.WriteFile(p, []byte("{\n"), 0o600) },
		"a link":                         func(p string) error { return os.Symlink("/dev/null", p) },
		"a public file":                  func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Chmod(p, 0o644)) },
		"a directory":                    func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		cfg := small(t)
		l := createSigned(t, cfg)
		for l.tail.offset < cfg.SegmentSize {
			add(t, l, 1, 1)
		}
		before := read(t, current(cfg))
		next := filepath.Join(cfg.Dir, segmentName(2))
		if err := block(next); err != nil {
			t.Fatal(err)
		}
		if h, err := l.Append(t.Context(), sample(2)); err == nil || h != (Head{}) {
			t.Errorf("%s: appended at %+v", name, h)
		}
		if !bytes.Equal(read(t, current(cfg)), before) {
			t.Errorf("%s: the old segment was changed", name)
		}
		if err := os.Remove(next); err != nil {
			t.Fatal(err)
		}
		if h := add(t, l, 2, 2); h.File != segmentName(2) {
			t.Errorf("%s: afterwards %+v", name, h)
		}
	}
}

// A closed segment is followed by another, and whoever removes that is found
// out.
func TestClosedWithoutNext(t *testing.T) {
	cfg := small(t)
	l := createSigned(t, cfg)
	for l.tail.file == segmentName(1) {
		add(t, l, 1, 1)
	}
	l.Close()
	if err := os.Remove(filepath.Join(cfg.Dir, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	l = open(t, cfg)
	if _, err := l.Append(t.Context(), sample(1)); !errors.As(err, &chain) || chain.File != segmentName(2) {
		t.Errorf("append: %v", err)
	}
	if _, err := l.Walk(Head{}, nil); !errors.As(err, &chain) || chain.File != segmentName(2) {
		t.Errorf("walk: %v", err)
	}
}

// A process that slept while others closed, compressed and removed segments
// goes on at the end, and notices when the log became shorter instead.
func TestSleptThrough(t *testing.T) {
	for _, rotations := range []int{1, 2, 3, 6} {
		cfg := small(t)
		l := createSigned(t, cfg)
		add(t, l, 1, 1)
		never, once := open(t, cfg), open(t, cfg)
		add(t, once, 2, 2)
		for segmentNumber(l.tail.file) <= rotations {
			add(t, l, 3, 3)
		}
		if err := l.pack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(current(cfg)); errors.Is(err, fs.ErrNotExist) != (rotations > 1) {
			t.Fatalf("after %d rotations: %v", rotations, err)
		}
		for name, sleeper := range map[string]*Log{"never appended": never, "appended once": once} {
			if err := sleeper.Check(); err != nil {
				t.Errorf("%s, %d rotations: %v", name, rotations, err)
			}
			if h := add(t, sleeper, 4, 4); h.File != segmentName(rotations+1) {
				t.Errorf("%s, %d rotations: %+v", name, rotations, h)
			}
			if err := sleeper.Check(); err != nil {
				t.Errorf("%s, %d rotations, then: %v", name, rotations, err)
			}
		}
		intact(t, cfg)
	}
	cfg := small(t)
	l := createSigned(t, cfg)
	add(t, l, 1, 1)
	sleeper := open(t, cfg)
	add(t, sleeper, 2, 2)
	woken := open(t, cfg)
	f, name, err := openCurrent(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := woken.use(f, chain{file: name, seq: 99}, false); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if _, err := woken.Append(t.Context(), sample(3)); !errors.As(err, &chain) || chain.Line != 99 {
		t.Errorf("went on in a log that is shorter than it was: %v", err)
	}
	if err := os.Rename(current(cfg), filepath.Join(cfg.Dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Check(); !errors.Is(err, errRemoved) {
		t.Errorf("removed, not closed: %v", err)
	}
	if _, err := sleeper.Append(t.Context(), sample(3)); !errors.Is(err, errRemoved) {
		t.Errorf("appended to a removed segment: %v", err)
	}
}

// A full disk at every step of a rotation: what was confirmed is there, once,
// and with room again the log goes on.
func TestRotationOnAFullDisk(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		signal.Ignore(syscall.SIGXFSZ)
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		room := func(n uint64) {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: old.Max}); err != nil {
				t.Fatal(err)
			}
		}
		l := open(t, Config{Dir: dir, VaultID: vaultID, SegmentSize: 1500})
		l.SetSigner(testKey(1))
		var want []string
		id, failed := 0, 0
		for limit := uint64(0); limit < 3200; limit += 97 {
			room(limit)
			for range 6 {
				id++
				if _, err := l.Append(t.Context(), sample(id)); err == nil {
					want = append(want, strconv.Itoa(id))
				} else if failed++; !errors.Is(err, syscall.EFBIG) {
					t.Errorf("limit %d: %v", limit, err)
				}
			}
			room(old.Cur)
			id++
			add(t, l, id, id)
			want = append(want, strconv.Itoa(id))
		}
		if failed < 20 {
			t.Errorf("%d appends failed", failed)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got, n := intact(t, Config{Dir: dir, VaultID: vaultID}); !slices.Equal(got, want) || n < 15 {
			t.Errorf("%d records in %d segments, confirmed %d", len(got), n, len(want))
		}
		return
	}
	cfg := config(t)
	create(t, cfg).Close()
	if out, err := child(t, cfg, "").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("child: %v\n%s", err, out)
	}
}

// The old segment is on disk before anything follows it.
func TestRotationSyncs(t *testing.T) {
	cfg := small(t)
	l := createSigned(t, cfg)
	for l.tail.offset < cfg.SegmentSize {
		add(t, l, 1, 1)
	}
	broken := errors.New("broken disk")
	l.syncMu.Lock()
	good := l.fsync
	l.fsync = func(f *os.File) error {
		if filepath.Base(f.Name()) == segmentName(1) {
			return broken
		}
		return good(f)
	}
	l.syncMu.Unlock()
	if _, err := l.Append(t.Context(), sample(2)); !errors.Is(err, broken) {
		t.Fatalf("went on: %v", err)
	}
	if size := len(read(t, filepath.Join(cfg.Dir, segmentName(2)))); size > 0 {
		t.Error("something was written behind what is not on disk")
	}
	l.syncMu.Lock()
	l.fsync = good
	l.syncMu.Unlock()
	if h := add(t, l, 3, 3); h.File != segmentName(2) {
		t.Errorf("%+v", h)
	}
	intact(t, cfg)

	// Nor does a process without the key go on behind what somebody else closed,
	// who was killed before it was synced.
	cfg = config(t)
	l = create(t, cfg)
	add(t, l, 1, 3)
	l.syncMu.Lock()
	l.fsync = func(*os.File) error { return broken }
	l.syncMu.Unlock()
	line := append(l.tail.appendPrefix(nil), "1700000000000,"...)
	line, err := appendBody(line, &Record{Event: LogRotated, Object: segmentName(2)})
	if err := errors.Join(err, os.WriteFile(filepath.Join(cfg.Dir, segmentName(2)), nil, 0o600), addTo(current(cfg), string(line)+"\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), sample(4)); !errors.Is(err, broken) {
		t.Errorf("went on: %v", err)
	}
	l.syncMu.Lock()
	l.fsync = good
	l.syncMu.Unlock()
	if h := add(t, l, 5, 5); h.File != segmentName(2) || h.Seq != 5 {
		t.Errorf("%+v", h)
	}
}

// A part of the log that is closed in the middle of many appends takes none
// of them twice, and none is lost while its lock is contended.
func TestRotationUnderLoad(t *testing.T) {
	cfg := small(t)
	cfg.Sync = true
	l := createSigned(t, cfg)
	held, err := durable.Acquire(t.Context(), filepath.Join(cfg.Dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), sample(i)); err != nil {
				t.Error(err)
			}
		})
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	sign(t, l) // one batch may have taken them all, and closed nothing
	got, _ := intact(t, cfg)
	slices.Sort(got)
	if len(slices.Compact(got)) != 200 {
		t.Errorf("%d records", len(got))
	}
}

// With Config.Sync a record is on disk before Append returns; without it
// Append waits for no disk.
func TestSyncComesFirst(t *testing.T) {
	for _, first := range []bool{true, false} {
		cfg := config(t)
		cfg.Sync = first
		l := create(t, cfg)
		syncing, goOn := make(chan int64, 1), make(chan struct{})
		good := l.fsync
		l.fsync = func(f *os.File) error {
			info, err := f.Stat()
			if err != nil {
				return err
			}
			syncing <- info.Size()
			<-goOn
			return good(f)
		}
		done := make(chan error, 1)
		go func() {
			_, err := l.Append(t.Context(), sample(1))
			done <- err
		}()
		if !first {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if size := <-syncing; size != int64(len(read(t, current(cfg)))) || size == 0 {
			t.Errorf("synced %d bytes", size)
		}
		if first {
			select {
			case <-done:
				t.Error("returned before the record was on disk")
			default:
			}
		}
		close(goOn)
		if first {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		l.syncMu.Lock()
		l.fsync = good
		l.syncMu.Unlock()
	}
}
