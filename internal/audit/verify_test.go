package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/durable"
)

// logFiles is a log as it lies in its directory: names and content.
type logFiles map[string][]byte

func takeFiles(t testing.TB, dir string) logFiles {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := logFiles{}
	for _, e := range entries {
		if e.Name() != lockName {
			files[e.Name()] = read(t, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

// put makes dir hold these files and no others.
func (f logFiles) put(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, kept := f[e.Name()]; !kept {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, data := range f {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (f logFiles) clone() logFiles {
	c := maps.Clone(f)
	for name := range c {
		c[name] = bytes.Clone(c[name])
	}
	return c
}

// lines of a segment, each with its newline.
func (f logFiles) lines(name string) [][]byte {
	return slices.DeleteFunc(bytes.SplitAfter(f[name], []byte("\n")), func(l []byte) bool { return len(l) == 0 })
}

func (f logFiles) setLines(name string, lines [][]byte) { f[name] = bytes.Join(lines, nil) }

// verified is a log of n lines, the vault's changes among them, that is signed
// after the lines that signed names and after the last.
func verified(t testing.TB, cfg Config, n int, signed ...int) logFiles {
	t.Helper()
	l := create(t, cfg)
	grow(t, l, 1, n, signed...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return takeFiles(t, cfg.Dir)
}

// grow appends until line n is there: a log that closes a segment needs fewer
// records.
func grow(t testing.TB, l *Log, from, n int, signed ...int) {
	t.Helper()
	l.SetSigner(testKey(1))
	for i := from; i <= n; {
		h, err := Head{}, error(nil)
		if i%7 == 3 {
			h = committed(t, l, uint64(i))
		} else {
			h, err = l.Append(t.Context(), sample(i))
		}
		if err != nil {
			t.Fatal(err)
		}
		if i = int(h.Seq) + 1; slices.Contains(signed, int(h.Seq)) {
			sign(t, l)
		}
	}
}

func verify(t testing.TB, cfg VerifyConfig) Report {
	t.Helper()
	r, err := Verify(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// against is the usual question: the log in dir, and the key kept elsewhere.
func against(t testing.TB, dir string) VerifyConfig {
	return VerifyConfig{Dir: dir, Key: verifierKey(t, Config{VaultID: vaultID}, testKey(1))}
}

func wantProblem(t testing.TB, r Report, file string, line int, why string) {
	t.Helper()
	if p := r.Problem; p == nil {
		t.Errorf("not found: %+v", r)
	} else if p.File != file || int(p.Line) != line || !strings.Contains(p.Why, why) {
		t.Errorf("found %q, line %d: %s; want %q, line %d: %s", p.File, p.Line, p.Why, file, line, why)
	}
}

const seg1, seg2, seg3 = "00000001.jsonl", "00000002.jsonl", "00000003.jsonl"

func TestVerify(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	grow(t, l, 1, 12, 5, 9)
	l.SetSigner(nil)
	add(t, l, 13, 16) // a locked vault's
	grow(t, l, 17, 19)
	sign(t, l)
	last := add(t, l, 20, 22) // after the last checkpoint
	l.SetSigner(nil)
	key := verifierKey(t, cfg, testKey(1))
	want := Report{VaultID: vaultID, Key: key, Records: 22, FirstSeq: 1, LastSeq: 22, LastHash: last.Hash, Segments: 1, Checkpoints: 3, SignedSeq: 19, AfterCheckpoint: 3}
	if got := verify(t, VerifyConfig{Dir: cfg.Dir, Key: key}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	want.KeyFrom = keyName
	if got := verify(t, VerifyConfig{Dir: cfg.Dir}); got != want {
		t.Errorf("by the key beside the log:\ngot  %+v\nwant %+v", got, want)
	}
	// Without any key the checkpoints are compared, and called unsigned.
	if err := os.Remove(filepath.Join(cfg.Dir, keyName)); err != nil {
		t.Fatal(err)
	}
	want.Key, want.KeyFrom, want.Checkpoints, want.SignedSeq, want.AfterCheckpoint = "", "", 0, 0, 22
	if got := verify(t, VerifyConfig{Dir: cfg.Dir}); got != want {
		t.Errorf("without a key:\ngot  %+v\nwant %+v", got, want)
	}
	// A torn tail is a writer at work, of the log and of the checkpoints.
	files := takeFiles(t, cfg.Dir)
	torn := files.clone()
	torn[seg1] = append(torn[seg1], `{"seq":23,"prev`...)
	torn[checkpointsName] = append(torn[checkpointsName], torn[checkpointsName][:100]...)
	torn.put(t, cfg.Dir)
	if got := verify(t, VerifyConfig{Dir: cfg.Dir, VaultID: vaultID}); got != want {
		t.Errorf("with a torn tail:\ngot  %+v\nwant %+v", got, want)
	}
	// An empty log, and one that nobody has signed.
	empty := config(t)
	create(t, empty).Close()
	if got := verify(t, VerifyConfig{Dir: empty.Dir, VaultID: vaultID}); got != (Report{VaultID: vaultID, Segments: 1}) {
		t.Errorf("an empty log: %+v", got)
	}
}

func TestVerifyRefusesWhatDoesNotFit(t *testing.T) {
	cfg := config(t)
	files := verified(t, cfg, 9, 5)
	other := config(t)
	other.VaultID = "other"
	verified(t, other, 9, 5)
	key := verifierKey(t, cfg, testKey(1))
	for name, c := range map[string]struct {
		cfg VerifyConfig
		why string
	}{
		"no log":                    {VerifyConfig{Dir: t.TempDir(), Key: key}, "does not exist"},
		"no key":                    {VerifyConfig{Dir: cfg.Dir, Key: "key"}, "is none of an audit log"},
		"key of something else":     {VerifyConfig{Dir: cfg.Dir, Key: strings.Replace(key, "aivault/", "aivau1t/", 1)}, "is none of an audit log"},
		"key of another vault":      {VerifyConfig{Dir: cfg.Dir, Key: verifierKey(t, other, testKey(1)), VaultID: vaultID}, "is of vault"},
		"checkpoint of another":     {VerifyConfig{Dir: cfg.Dir, Key: key, Checkpoint: read(t, checkpointsOf(other))}, "is of vault"},
		"checkpoint that is none":   {VerifyConfig{Dir: cfg.Dir, Key: key, Checkpoint: []byte("hello\n")}, "is none of an audit log"},
		"checkpoint of another key": {VerifyConfig{Dir: cfg.Dir, Key: verifierKey(t, cfg, testKey(2)), Checkpoint: read(t, checkpointsOf(cfg))}, "not signed by the key"},
	} {
		r, err := Verify(c.cfg)
		var bad *GivenError
		if err == nil || !strings.Contains(err.Error(), c.why) || errors.As(err, &bad) == (name == "no log") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := Verify(VerifyConfig{Dir: t.TempDir()}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no log, and no key: %v", err)
	}
	unknown := files.clone()
	delete(unknown, keyName)
	delete(unknown, checkpointsName)
	unknown.put(t, cfg.Dir)
	if r, err := Verify(VerifyConfig{Dir: cfg.Dir}); err == nil || !strings.Contains(err.Error(), "nothing says which vault's") {
		t.Errorf("%+v, %v", r, err)
	}
}

// Every flipped bit of the log is found, and the line that it is in is named.
func TestVerifyNamesTheLineOfEveryFlippedBit(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	l.SetSigner(testKey(1))
	for range 5 {
		if _, err := l.Append(t.Context(), Record{Event: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	good := read(t, current(cfg))
	ask := against(t, cfg.Dir)
	line := 1
	for i := range good {
		for bit := range 8 {
			// One bit of each byte will do, but for one line and the newlines.
			if line != 3 && good[i] != '\n' && bit != i%8 {
				continue
			}
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if err := os.WriteFile(current(cfg), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, ask); r.Problem == nil || int(r.Problem.Line) != line || r.Problem.File != seg1 {
				t.Fatalf("bit %d of byte %d, in line %d: %+v, %v", bit, i, line, r, r.Problem)
			}
		}
		if good[i] == '\n' {
			line++
		}
	}
	if err := os.WriteFile(current(cfg), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, ask); r.Problem != nil || r.Records != 5 {
		t.Errorf("an untouched log: %+v", r)
	}
}

// Every flipped bit of the checkpoints is found in the checkpoint that it is
// in, but for what makes the last of them an unfinished one.
func TestVerifyNamesTheFlippedCheckpoint(t *testing.T) {
	cfg := config(t)
	files := verified(t, cfg, 6, 2, 4)
	good := files[checkpointsName]
	ask := against(t, cfg.Dir)
	begin := []int{0} // where each begins
	for _, b := range blocks(good) {
		begin = append(begin, begin[len(begin)-1]+len(b))
	}
	for i := range good {
		n := 0
		for i >= begin[n+1] {
			n++
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(checkpointsOf(cfg), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r := verify(t, ask)
		if r.Problem == nil && n == 2 && r.Checkpoints == 2 && r.AfterCheckpoint == 2 {
			continue
		}
		if r.Problem == nil || r.Problem.File != checkpointsName || int(r.Problem.Line) != 1+n*noteLines {
			t.Fatalf("byte %d: %+v, %v", i, r, r.Problem)
		}
	}
}

// rechain writes lines anew from the i-th on (from 0), so that each follows.
func rechain(lines [][]byte, i int) {
	c := genesis(vaultID)
	for n, line := range lines {
		if n >= i {
			_, rest, _ := bytes.Cut(line, []byte(prefixAt))
			lines[n] = append(c.appendPrefix(nil), rest...)
		}
		c.advance(bytes.TrimSuffix(lines[n], []byte("\n")))
	}
}

func TestVerifyNamesTheFirstBadLine(t *testing.T) {
	const n = 13
	signed := []int{4, 9}
	cfg := config(t)
	good := verified(t, cfg, n, signed...)
	another := config(t)
	another.VaultID = "other"
	foreign := verified(t, another, n)
	fork := config(t)
	fork.Clock = func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	forked := verified(t, fork, n)
	nextSigned := func(line int) int {
		for _, s := range append(signed, n) {
			if s >= line {
				return s
			}
		}
		return 0
	}
	type tampering struct {
		change func(l [][]byte, i int) [][]byte // i is the line's index
		line   func(i int) int                  // that is named; 0: not to be found
		from   int                              // the first line that it makes sense for
	}
	itself := func(i int) int { return i + 1 }
	signedNext := func(i int) int { return nextSigned(i + 1) }
	edit := func(line []byte) []byte { return bytes.Replace(line, []byte(`"event":"`), []byte(`"event":"x`), 1) }
	for name, c := range map[string]tampering{
		"untouched": {func(l [][]byte, i int) [][]byte { return l }, func(int) int { return 0 }, 0},
		"edited":    {func(l [][]byte, i int) [][]byte { l[i] = edit(l[i]); return l }, itself, 0},
		"edited, and all that follows written anew": {func(l [][]byte, i int) [][]byte {
			l[i] = edit(l[i])
			rechain(l, i+1)
			return l
		}, signedNext, 0},
		"dropped": {func(l [][]byte, i int) [][]byte { return slices.Delete(l, i, i+1) }, itself, 0},
		"dropped, and all that follows written anew": {func(l [][]byte, i int) [][]byte {
			l = slices.Delete(l, i, i+1)
			rechain(l, i)
			return l
		}, signedNext, 0},
		"duplicated":           {func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, l[i]) }, func(i int) int { return i + 2 }, 0},
		"put in without care":  {func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, []byte("{\"event\":\"forged\"}\n")) }, itself, 0},
		"an empty line put in": {func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, []byte("\n")) }, itself, 0},
		"put in so that it follows": {func(l [][]byte, i int) [][]byte {
			return slices.Insert(l, i, edit(l[i]))
		}, itself, 0},
		"put in, and all that follows written anew": {func(l [][]byte, i int) [][]byte {
			l = slices.Insert(l, i, edit(l[i]))
			rechain(l, i)
			return l
		}, signedNext, 0},
		"swapped with the one before": {func(l [][]byte, i int) [][]byte { l[i], l[i-1] = l[i-1], l[i]; return l }, func(i int) int { return i }, 1},
		"moved to the end": {func(l [][]byte, i int) [][]byte {
			line := l[i]
			return append(slices.Delete(l, i, i+1), line)
		}, itself, 0},
		"truncated before it": {func(l [][]byte, i int) [][]byte { return l[:i] }, itself, 0},
		"truncated within it": {func(l [][]byte, i int) [][]byte { l[i] = l[i][:len(l[i])/2]; return l[:i+1] }, itself, 0},
		"without its newline": {func(l [][]byte, i int) [][]byte { l[i] = l[i][:len(l[i])-1]; return l[:i+1] }, itself, 0},
		"another vault's log from here on": {func(l [][]byte, i int) [][]byte {
			return append(l[:i], foreign.lines(seg1)[i:]...)
		}, itself, 0},
		"another log of this vault from here on": {func(l [][]byte, i int) [][]byte {
			return append(l[:i], forked.lines(seg1)[i:]...)
		}, func(i int) int {
			if i == 0 {
				return signed[0] // all of it: it follows from the start as ours does
			}
			return i + 1
		}, 0},
		"another log of this vault, chained on": {func(l [][]byte, i int) [][]byte {
			l = append(l[:i], forked.lines(seg1)[i:]...)
			rechain(l, i)
			return l
		}, signedNext, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			ask := against(t, dir)
			for i := c.from; i < n; i++ {
				bad := good.clone()
				bad.setLines(seg1, c.change(bad.lines(seg1), i))
				bad.put(t, dir)
				r := verify(t, ask)
				want := c.line(i)
				// A closing line that came to the end is not missed there, but the
				// rest has moved.
				if name == "moved to the end" && i == n-1 || want == 0 {
					if r.Problem != nil {
						t.Errorf("line %d: %v", i+1, r.Problem)
					}
					continue
				}
				if r.Problem == nil || int(r.Problem.Line) != want || r.Problem.File != seg1 {
					t.Errorf("line %d: want line %d, found %v", i+1, want, r.Problem)
				}
			}
		})
	}
}

// What is after the last checkpoint is chained alone: what the chain does not
// show is found against a position known from elsewhere.
func TestVerifyAfterTheLastCheckpoint(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	grow(t, l, 1, 10)
	sign(t, l)
	add(t, l, 11, 16)
	l.SetSigner(nil)
	l.Close()
	good := takeFiles(t, cfg.Dir)
	ask := against(t, cfg.Dir)
	try := func(change func(l [][]byte) [][]byte) Report {
		t.Helper()
		bad := good.clone()
		bad.setLines(seg1, change(bad.lines(seg1)))
		bad.put(t, cfg.Dir)
		return verify(t, ask)
	}
	wantProblem(t, try(func(l [][]byte) [][]byte { l[12][150] ^= 1; return l }), seg1, 13, "it was changed, or another log")
	wantProblem(t, try(func(l [][]byte) [][]byte { return slices.Delete(l, 12, 13) }), seg1, 13, "line 14 stands in its place")
	wantProblem(t, try(func(l [][]byte) [][]byte { l[10][150] ^= 1; return l }), seg1, 11, "")
	wantProblem(t, try(func(l [][]byte) [][]byte { l[9][150] ^= 1; return l }), seg1, 10, "it is not the line that is signed")
	if r := try(func(l [][]byte) [][]byte { return l[:13] }); r.Problem != nil || r.AfterCheckpoint != 3 {
		t.Errorf("%+v", r)
	}
}

// Logs of several segments, compressed and removed ones among them.
func TestVerifySegments(t *testing.T) {
	build := func(t *testing.T) (Config, *Log, logFiles) {
		cfg := config(t)
		cfg.SegmentSize = 2500
		l := create(t, cfg)
		grow(t, l, 1, 30)
		sign(t, l)
		if err := l.pack(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.SetSigner(nil)
		return cfg, l, takeFiles(t, cfg.Dir)
	}
	cfg, l, good := build(t)
	last, err := l.Walk(Head{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := segments(cfg.Dir)
	if err != nil || len(names) < 5 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	ask := against(t, cfg.Dir)
	r := verify(t, ask)
	if r.Problem != nil || r.LastSeq != last.Seq || r.LastHash != last.Hash || r.Segments != len(names) || r.AfterCheckpoint != 0 || r.Checkpoints != len(names) {
		t.Fatalf("%+v", r)
	}
	var ends []int // the last line of each segment
	for _, n := range notes(t, cfg, testKey(1)) {
		ends = append(ends, int(n.Head.Seq))
	}
	packed := seg1 + packedSuffix
	if good[packed] == nil || good[seg2+packedSuffix] == nil {
		t.Fatalf("not compressed: %v", slices.Sorted(maps.Keys(good)))
	}
	closed, current := names[len(names)-2], names[len(names)-1]
	for name, c := range map[string]struct {
		change func(f logFiles)
		file   string
		line   int
		why    string
	}{
		"first removed":                  {func(f logFiles) { delete(f, packed) }, seg1, ends[0], "no record says that it was removed"},
		"first removed, and checkpoints": {func(f logFiles) { delete(f, packed); delete(f, checkpointsName) }, seg1, 1, "no checkpoint says how it ended"},
		"two removed":                    {func(f logFiles) { delete(f, packed); delete(f, seg2+packedSuffix) }, seg2, ends[1], "no record says that it was removed"},
		"second removed":                 {func(f logFiles) { delete(f, seg2+packedSuffix) }, seg2, ends[0] + 1, "is missing"},
		"last closed removed":            {func(f logFiles) { delete(f, closed) }, closed, ends[len(ends)-3] + 1, "is missing"},
		"last removed":                   {func(f logFiles) { delete(f, current) }, current, ends[len(ends)-2] + 1, "is missing"},
		"compressed, damaged":            {func(f logFiles) { f[packed][len(f[packed])/2] ^= 1 }, "", 0, ""},
		"compressed, cut short":          {func(f logFiles) { f[packed] = f[packed][:len(f[packed])-20] }, "", 0, ""},
		"compressed, something after it": {func(f logFiles) { f[packed] = append(f[packed], "more"...) }, "", 0, ""},
		"compressed, another one's":      {func(f logFiles) { f[packed] = f[seg2+packedSuffix] }, seg1, 1, "stands in its place"},
		"compressed twice":               {func(f logFiles) { f[packed] = append(f[packed], f[packed]...) }, "", 0, ""},
		"closed, cut short":              {func(f logFiles) { f.setLines(closed, f.lines(closed)[:3]) }, closed, ends[len(ends)-3] + 4, ""},
		"closed, longer":                 {func(f logFiles) { f[closed] = append(f[closed], "{}\n"...) }, closed, ends[len(ends)-2] + 1, ""},
		"closing checkpoint removed":     {func(f logFiles) { f[checkpointsName] = []byte(strings.Join(blocks(f[checkpointsName])[1:], "")) }, checkpointsName, 0, "the checkpoint that closed 00000001.jsonl"},
		"a later one removed": {func(f logFiles) {
			b := blocks(f[checkpointsName])
			f[checkpointsName] = []byte(strings.Join(slices.Delete(b, 2, 3), ""))
		}, checkpointsName, 0, "the checkpoint that closed 00000003.jsonl"},
		"checkpoints reordered": {func(f logFiles) {
			b := blocks(f[checkpointsName])
			b[1], b[2] = b[2], b[1]
			f[checkpointsName] = []byte(strings.Join(b, ""))
		}, checkpointsName, 1 + 2*noteLines, "not later"},
		"a checkpoint twice": {func(f logFiles) {
			b := blocks(f[checkpointsName])
			f[checkpointsName] = []byte(strings.Join(slices.Insert(b, 1, b[0]), ""))
		}, checkpointsName, 1 + noteLines, "not later"},
		"all checkpoints removed":       {func(f logFiles) { delete(f, checkpointsName) }, checkpointsName, 0, "there is no checkpoint"},
		"checkpoints emptied":           {func(f logFiles) { f[checkpointsName] = nil }, checkpointsName, 0, "there is no checkpoint"},
		"key replaced":                  {func(f logFiles) { f[keyName] = []byte(verifierKey(t, cfg, testKey(2)) + "\n") }, keyName, 0, "not the key that was given"},
		"an older segment in its place": {func(f logFiles) { f[current] = f[closed] }, current, ends[len(ends)-2] + 1, "stands in its place"},
		"the last checkpoint not written": {func(f logFiles) {
			b := blocks(f[checkpointsName])
			f[checkpointsName] = []byte(strings.Join(b[:len(b)-1], ""))
		}, "", -1, ""},
		"a rotation that was killed": {func(f logFiles) {
			f[segmentName(len(names)+1)] = nil
		}, "", -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good.clone()
			c.change(bad)
			bad.put(t, cfg.Dir)
			r := verify(t, ask)
			switch {
			case c.line < 0 && r.Problem != nil:
				t.Errorf("%v", r.Problem)
			case c.file == "" && c.line == 0:
				if r.Problem == nil || r.Problem.File != packed {
					t.Errorf("%v", r.Problem)
				}
			case c.line >= 0:
				wantProblem(t, r, c.file, c.line, c.why)
			}
		})
	}

	// A log whose oldest segments were removed for their age.
	cfg, l, _ = build(t)
	now := time.Now().Add(48 * time.Hour)
	l.cfg.Retain, l.cfg.Clock, l.cfg.Keep = time.Hour, func() time.Time { return now }, func() Head { return last }
	l.SetSigner(testKey(1))
	if err := l.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	sign(t, l)
	names, err = segments(cfg.Dir)
	if err != nil || names[0] == seg1 {
		t.Fatalf("nothing was removed: %v, %v", names, err)
	}
	ask = against(t, cfg.Dir)
	r = verify(t, ask)
	if first := segmentNumber(names[0]); r.Problem != nil || int(r.FirstSeq) != ends[first-2]+1 {
		t.Errorf("%+v, %v", r, r.Problem)
	}
	pruned := takeFiles(t, cfg.Dir)
	// What was kept of the checkpoints begins with lines that are gone.
	kept := blocks(pruned[checkpointsName])
	start := slices.IndexFunc(kept, func(n string) bool { return strings.Contains(n, "\n"+segmentName(segmentNumber(names[0])-1)+" ") })
	if start < 1 {
		t.Fatalf("no older checkpoint: %d", start)
	}
	for what, c := range map[string]struct {
		notes []string
		fits  bool
	}{"all": {kept, true}, "up to where it begins": {kept[:start+1], true}, "older ones": {kept[:start], false}} {
		ask.Checkpoint = []byte(strings.Join(c.notes, ""))
		r, err := Verify(ask)
		var bad *GivenError
		if c.fits && r.Problem != nil || c.fits != (err == nil) || !c.fits && !errors.As(err, &bad) {
			t.Errorf("%s: %v, %v", what, r.Problem, err)
		}
	}
	forged := pruned.clone()
	forged[checkpointsName] = []byte(strings.Join(kept[:start+1], ""))
	lines := forged.lines(names[len(names)-1])
	forged.setLines(names[len(names)-1], lines[:len(lines)-1])
	forged.put(t, cfg.Dir)
	ask.Checkpoint = []byte(strings.Join(kept, ""))
	if r := verify(t, ask); r.Problem == nil || !strings.Contains(r.Problem.Why, "the log ends before it") {
		t.Errorf("cut short, and older checkpoints are given, too: %v", r.Problem)
	}
	ask.Checkpoint = nil
	delete(pruned, names[0])
	delete(pruned, names[0]+packedSuffix)
	pruned.put(t, cfg.Dir)
	wantProblem(t, verify(t, ask), names[0], ends[segmentNumber(names[0])-1], "no record says that it was removed")
}

// A log that goes on in a compressed part is one that nobody can append to.
func TestVerifyWhereTheLogEndsCompressed(t *testing.T) {
	for name, left := range map[string]bool{"the last": false, "before what a killed rotation left": true} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			l := createSigned(t, cfg)
			add(t, l, 1, 5)
			l.Close()
			if left {
				if err := durable.CreateFile(filepath.Join(cfg.Dir, seg2), nil); err != nil {
					t.Fatal(err)
				}
			}
			if r := verify(t, against(t, cfg.Dir)); r.Problem != nil {
				t.Fatal(r.Problem)
			}
			pack(t, cfg, 1)
			wantProblem(t, verify(t, against(t, cfg.Dir)), seg1+packedSuffix, 0, "the log goes on in it")
			if _, err := Open(cfg); err == nil {
				t.Error("it was opened")
			}
		})
	}
}

// Of a part that is compressed the first bad line is named, as of any other.
func TestVerifyNamesTheBadLineOfACompressedPart(t *testing.T) {
	cfg := config(t)
	cfg.SegmentSize = 2500
	l := create(t, cfg)
	grow(t, l, 1, 30)
	sign(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	good, ask := takeFiles(t, cfg.Dir), against(t, cfg.Dir)
	edit := func(line []byte) []byte { return bytes.Replace(line, []byte(`"uid":1`), []byte(`"uid":2`), 1) }
	for name, c := range map[string]struct {
		file   string
		change func(l [][]byte) [][]byte
	}{
		"in the middle": {seg1, func(l [][]byte) [][]byte { l[1] = edit(l[1]); return l }},
		"the last": {seg1, func(l [][]byte) [][]byte {
			l[len(l)-1] = bytes.Replace(l[len(l)-1], []byte(`"atMs":`), []byte(`"atMs":1`), 1)
			return l
		}},
		"the first of a part": {seg2, func(l [][]byte) [][]byte { l[0] = edit(l[0]); return l }},
		"one taken out":       {seg2, func(l [][]byte) [][]byte { return slices.Delete(l, 1, 2) }},
		"one put in twice":    {seg2, func(l [][]byte) [][]byte { return slices.Insert(l, 1, edit(l[1])) }},
		"two joined":          {seg1, func(l [][]byte) [][]byte { l[1][len(l[1])-1] = ' '; return l }},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good.clone()
			bad.setLines(c.file, c.change(bad.lines(c.file)))
			bad.put(t, cfg.Dir)
			want := verify(t, ask).Problem
			if want == nil || want.Line == 0 {
				t.Fatalf("not found: %v", want)
			}
			for _, name := range []string{seg1, seg2} {
				if err := packSegment(t.Context(), cfg.Dir, name); err != nil {
					t.Fatal(err)
				}
			}
			if got := verify(t, ask).Problem; got == nil || *got != *want {
				t.Errorf("plain: %v; compressed: %v", want, got)
			}
		})
	}
}

// A writer whose disk is full takes back what a verifier may have read.
func TestDiagnoseOfALineThatIsGone(t *testing.T) {
	cfg := config(t)
	files := verified(t, cfg, 5)
	v := &verification{cfg: VerifyConfig{Dir: cfg.Dir}, at: chain{seq: 6, file: seg1, offset: int64(len(files[seg1])) + 500}}
	v.last = place{seg1, int64(len(files[seg1]))}
	want := v.at.broken("x")
	if err := v.diagnose(want); err != want {
		t.Errorf("%v", err)
	}
	v.last = place{seg3, 0}
	if err := v.diagnose(want); err == nil || err.Error() != missing(seg3).Error() {
		t.Errorf("a part that is gone: %v", err)
	}
}

// A log put back together with its checkpoints looks whole; a checkpoint that
// was kept elsewhere tells.
func TestVerifyAgainstACheckpointKeptElsewhere(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	grow(t, l, 1, 8, 3)
	sign(t, l)
	old := takeFiles(t, cfg.Dir)
	grow(t, l, 9, 14)
	sign(t, l)
	now := takeFiles(t, cfg.Dir)
	l.Close()
	all := blocks(now[checkpointsName])
	newest := all[len(all)-1]
	ask := against(t, cfg.Dir)
	ask.Checkpoint = []byte(newest)
	if r := verify(t, ask); r.Problem != nil {
		t.Errorf("nothing was put back: %v", r.Problem)
	}
	old.put(t, cfg.Dir)
	if r := verify(t, against(t, cfg.Dir)); r.Problem != nil || r.Records != 8 {
		t.Errorf("%+v", r)
	}
	for what, checkpoint := range map[string]string{
		"as it stands in the file": newest, "without the empty line": strings.TrimSuffix(newest, "\n"), "the whole file": string(now[checkpointsName]),
	} {
		ask.Checkpoint = []byte(checkpoint)
		t.Run(what, func(t *testing.T) {
			wantProblem(t, verify(t, ask), seg1, 9, "the log ends before it, and line 14 is signed in the given checkpoint")
		})
	}
	// The log alone: its own checkpoints tell.
	half := old.clone()
	half[checkpointsName] = now[checkpointsName]
	half.put(t, cfg.Dir)
	wantProblem(t, verify(t, against(t, cfg.Dir)), seg1, 9, "the log ends before it")
	// A log that went on otherwise from there.
	old.put(t, cfg.Dir)
	l = open(t, cfg)
	l.SetSigner(testKey(1))
	add(t, l, 100, 110)
	l.Close()
	if r := verify(t, against(t, cfg.Dir)); r.Problem != nil {
		t.Errorf("%v", r.Problem)
	}
	ask.Checkpoint = []byte(newest)
	wantProblem(t, verify(t, ask), seg1, 14, "it is not the line that is signed in the given checkpoint: what follows line 8")
	ask.Checkpoint = []byte(all[0])
	if r := verify(t, ask); r.Problem != nil {
		t.Errorf("a checkpoint from before: %v", r.Problem)
	}
}

// Verifying takes no lock and is not led astray by a writer at work.
func TestVerifyWhileItIsWritten(t *testing.T) {
	cfg := config(t)
	cfg.SegmentSize, cfg.Tend = 20_000, true
	l := create(t, cfg)
	l.SetSigner(testKey(1))
	add(t, l, 1, 1)
	sign(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1500 {
			if _, err := l.Append(t.Context(), sample(i)); err != nil {
				t.Error(err)
				return
			}
			if i%50 == 0 {
				if err := l.Checkpoint(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	ask := against(t, cfg.Dir)
	for n := 0; ; n++ {
		if r := verify(t, ask); r.Problem != nil {
			t.Fatalf("after %d: %v", n, r.Problem)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerify also counts the processor's time: the machine may be shared.
func BenchmarkVerify(b *testing.B) {
	const lines = 400_000
	l := long(b, lines)
	l.SetSigner(testKey(1))
	sign(b, l)
	cfg := against(b, l.cfg.Dir)
	b.ReportAllocs()
	b.SetBytes(l.tail.offset)
	start := cpuTime()
	for b.Loop() {
		if r, err := Verify(cfg); err != nil || r.Problem != nil || r.Records != lines {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(lines*float64(b.N)/(cpuTime()-start).Seconds(), "records/cpu-s")
}

func ExampleVerify() {
	r, err := Verify(VerifyConfig{Dir: "testdata/none", VaultID: "vault-1"})
	fmt.Println(r.Records, errors.Is(err, os.ErrNotExist))
	// Output: 0 true
}
