package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tampered makes a log of ten lines, changes them, and walks it.
func tampered(t *testing.T, from uint64, change func(lines [][]byte) [][]byte) (Head, error) {
	t.Helper()
	cfg := config(t)
	l := create(t, cfg)
	var start Head
	for i := 1; i <= 10; i++ {
		if h := add(t, l, i, i); h.Seq == from {
			start = h
		}
	}
	lines := bytes.SplitAfter(read(t, current(cfg)), []byte("\n"))
	if err := os.WriteFile(current(cfg), bytes.Join(change(lines[:10]), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return l.Walk(start, nil)
}

func TestWalkNamesTheFirstBadLine(t *testing.T) {
	flip := func(line, at int) func([][]byte) [][]byte {
		return func(l [][]byte) [][]byte { l[line-1][at] ^= 1; return l }
	}
	for _, c := range []struct {
		name   string
		from   uint64
		change func(l [][]byte) [][]byte
		line   uint64
		why    string
	}{
		{"flip in the body", 0, flip(4, 120), 5, "does not follow from line 4"},
		{"flip in the body, from a position", 2, flip(4, 120), 5, "does not follow from line 4"},
		// A digit of the hash becomes another one: a flipped bit of it may be no digit at all, which is another finding.
		{"another digit in prev", 0, func(l [][]byte) [][]byte {
			if l[3][30] == '0' {
				l[3][30] = '1'
			} else {
				l[3][30] = '0'
			}
			return l
		}, 4, "does not follow from line 3"},
		{"flip in seq", 0, flip(4, 7), 4, "line 5 stands in its place"},
		{"flip in the opening", 0, flip(4, 2), 4, "does not begin as a line"},
		{"flip in line 1's prev", 0, flip(1, 30), 1, "does not begin this vault's log"},
		{"flip to a newline", 0, func(l [][]byte) [][]byte { l[3][120] = '\n'; return l }, 5, "does not begin as a line"},
		{"drop", 0, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }, 4, "line 5 stands in its place"},
		{"drop the first", 0, func(l [][]byte) [][]byte { return l[1:] }, 1, "line 2 stands in its place"},
		{"insert a copy", 0, func(l [][]byte) [][]byte { return slices.Insert(l, 4, l[3]) }, 5, "line 4 stands in its place"},
		{"insert a forged line", 0, func(l [][]byte) [][]byte {
			return slices.Insert(l, 4, []byte(strings.Replace(string(l[3]), `"seq":4`, `"seq":5`, 1)))
		}, 5, "does not follow from line 4"},
		{"insert an empty line", 0, func(l [][]byte) [][]byte { return slices.Insert(l, 4, []byte("\n")) }, 5, "does not begin as a line"},
		{"reorder", 0, func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l }, 4, "line 5 stands in its place"},
		{"blank before", 0, func(l [][]byte) [][]byte { l[5] = append([]byte(" "), l[5]...); return l }, 6, "does not begin as a line"},
		{"a line too long", 0, func(l [][]byte) [][]byte {
			l[5] = append(bytes.Repeat([]byte("x"), 300_000), '\n')
			return l
		}, 6, "longer than a line"},
		{"a line too long that follows", 0, func(l [][]byte) [][]byte {
			return append(l[:4], append(bytes.Repeat(l[4][:len(l[4])-1], 30), '\n'))
		}, 5, "longer than a line"},
		{"truncated below a known position", 7, func(l [][]byte) [][]byte { return l[:6] }, 7, "the log ends before it"},
		{"truncated to nothing", 7, func(l [][]byte) [][]byte { return nil }, 7, "the log ends before it"},
		{"truncated inside the known line", 7, func(l [][]byte) [][]byte {
			l[6] = l[6][:len(l[6])-1]
			return l[:7]
		}, 7, "the log ends before it"},
		{"rewritten up to a known position", 7, func(l [][]byte) [][]byte { return slices.Concat(l[1:7], l[:1], l[7:]) }, 7, "another line stands"},
		{"another line at a known position", 7, flip(7, 120), 7, "another line stands"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := tampered(t, c.from, c.change)
			var chain *ChainError
			if !errors.As(err, &chain) {
				t.Fatalf("not found: %+v, %v", at, err)
			}
			if chain.Line != c.line || !strings.Contains(chain.Why, c.why) || chain.File != "00000001.jsonl" {
				t.Errorf("%v", err)
			}
			if c.from == 0 && at.Seq != c.line-1 {
				t.Errorf("stopped after line %d", at.Seq)
			}
		})
	}
	if at, err := tampered(t, 3, func(l [][]byte) [][]byte { return l }); err != nil || at.Seq != 10 {
		t.Errorf("an untouched log: %+v, %v", at, err)
	}
}

// Every single bit of every line but the last is covered by the chain.
func TestWalkFindsEveryFlippedBit(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	var last Head
	for range 3 {
		h, err := l.Append(t.Context(), Record{Event: "e"})
		if err != nil {
			t.Fatal(err)
		}
		last = h
	}
	good := read(t, current(cfg))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(current(cfg), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		at, err := l.Walk(Head{}, nil)
		if err == nil && at == last {
			t.Fatalf("bit %d of byte %d: not found", i%8, i)
		}
	}
}

func TestWalkRefusesAForeignPosition(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	add(t, l, 1, 3)
	h := add(t, l, 4, 4)
	add(t, l, 5, 6)
	for name, change := range map[string]func(*Head){
		"seq":       func(h *Head) { h.Seq++ },
		"no seq":    func(h *Head) { h.Seq = 0 },
		"hash":      func(h *Head) { h.Hash = strings.Repeat("0", 64) },
		"no hash":   func(h *Head) { h.Hash = "" },
		"offset":    func(h *Head) { h.Offset-- },
		"no offset": func(h *Head) { h.Offset = 0 },
		"negative":  func(h *Head) { h.Offset = -5 },
		"beyond":    func(h *Head) { h.Offset = 1 << 40 },
		"no file":   func(h *Head) { h.File = "" },
		"file":      func(h *Head) { h.File = "00000002.jsonl" },
		"traversal": func(h *Head) { h.File = "../audit/00000001.jsonl" },
	} {
		bad := h
		change(&bad)
		var chain *ChainError
		if _, err := l.Walk(bad, nil); !errors.As(err, &chain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var got []uint64
	last, err := l.Walk(h, func(_ []byte, at Head) error { got = append(got, at.Seq); return nil })
	if err != nil || fmt.Sprint(got) != "[5 6]" || last.Seq != 6 {
		t.Errorf("%v, %+v, %v", got, last, err)
	}
	stop := errors.New("stop")
	if at, err := l.Walk(Head{}, func(_ []byte, at Head) error {
		if at.Seq == 2 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || at.Seq != 2 {
		t.Errorf("%+v, %v", at, err)
	}
}

// segmented makes a log of segments with so many samples each; all but the
// last are closed.
func segmented(t testing.TB, cfg Config, samples ...int) {
	t.Helper()
	create(t, cfg).Close()
	c := genesis(cfg.VaultID)
	for i, n := range samples {
		var text []byte
		next := func(r Record) {
			line := append(c.appendPrefix(nil), "1700000000000,"...)
			line, err := appendBody(line, &r)
			if err != nil {
				t.Fatal(err)
			}
			c.advance(line)
			text = append(append(text, line...), '\n')
		}
		for i := range n {
			r := sample(int(c.seq) + 1)
			if i%5 == 4 {
				r.Event = CallRefused
			}
			next(r)
		}
		if i < len(samples)-1 {
			next(Record{Event: LogRotated, RequestID: fmt.Sprint(c.seq + 1)})
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, segmentName(i+1)), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.enter(segmentName(i + 2))
	}
}

// pack compresses a closed segment.
func pack(t testing.TB, cfg Config, n int) {
	t.Helper()
	if err := packSegment(t.Context(), cfg.Dir, segmentName(n)); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralSegments(t *testing.T) {
	for _, samples := range [][]int{{4, 6}, {4, 2, 3}, {1, 1, 6, 1}, {10, 0}, {3, 0, 0}} {
		for packed := range samples { // that many, from the first on
			name := fmt.Sprint(samples, packed)
			cfg := config(t)
			segmented(t, cfg, samples...)
			for n := range packed {
				pack(t, cfg, n+1)
			}
			last := len(samples) - 1 // lines that close
			for _, n := range samples {
				last += n
			}
			l := open(t, cfg)
			h := add(t, l, last+1, last+1)
			if int(h.Seq) != last+1 || h.File != segmentName(len(samples)) {
				t.Errorf("%s: appended at %+v", name, h)
			}
			var all []Head
			if end, err := l.Walk(Head{}, func(_ []byte, at Head) error { all = append(all, at); return nil }); err != nil || end != h || len(all) != last+1 {
				t.Errorf("%s: %+v, %v", name, end, err)
			}
			for _, from := range all {
				if end, err := l.Walk(from, nil); err != nil || end != h {
					t.Errorf("%s from %+v: %+v, %v", name, from, end, err)
				}
			}
			if got, err := l.Find(Query{}); err != nil || len(got) != last+1 {
				t.Errorf("%s: Find: %d, %v", name, len(got), err)
			}
		}
	}
}

func TestSegmentsAreWatched(t *testing.T) {
	segment := func(c Config, n int) string { return filepath.Join(c.Dir, segmentName(n)) }
	for _, c := range []struct {
		name   string
		change func(cfg Config) error
		why    string
	}{
		{"removed", func(c Config) error { return os.Remove(segment(c, 2)) }, "this part of the log is missing"},
		{"the last removed", func(c Config) error { return os.Remove(segment(c, 3)) }, "this part of the log is missing"},
		{"a torn line for another", func(c Config) error { return os.WriteFile(segment(c, 1), []byte("{"), 0o600) }, "has no newline"},
		{"emptied", func(c Config) error { return os.Truncate(segment(c, 2), 0) }, "was not closed"},
		{"the closing line cut off", func(c Config) error { return cutLine(segment(c, 1)) }, "was not closed"},
		{"bytes after the closing line", func(c Config) error { return addTo(segment(c, 1), "x") }, "something follows the line that closes"},
		{"swapped", func(c Config) error {
			return errors.Join(os.Rename(segment(c, 1), segment(c, 9)), os.Rename(segment(c, 2), segment(c, 1)), os.Rename(segment(c, 9), segment(c, 2)))
		}, "stands in its place"},
	} {
		cfg := config(t)
		segmented(t, cfg, 3, 3, 3)
		l := open(t, cfg)
		if err := c.change(cfg); err != nil {
			t.Fatal(err)
		}
		var chain *ChainError
		if _, err := l.Walk(Head{}, nil); !errors.As(err, &chain) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	cfg := config(t)
	create(t, cfg).Close()
	if err := os.Rename(current(cfg), filepath.Join(cfg.Dir, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if _, err := Open(cfg); !errors.As(err, &chain) || chain.File != segmentName(1) {
		t.Errorf("first segment missing: %v", err)
	}
	if _, err := Create(cfg); err == nil {
		t.Error("created over the rest of a log")
	}
}

func cutLine(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1], 0o600)
}

func addTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestSegmentNames(t *testing.T) {
	for name, want := range map[string]int{
		"00000001.jsonl": 1, "12345678.jsonl": 12345678, "00000000.jsonl": 0, "1.jsonl": 0, "000000001.jsonl": 0, "+0000001.jsonl": 0,
		"00000001.jsonl.gz": 0, "0000000a.jsonl": 0, "lock": 0, ".jsonl": 0, "-0000001.jsonl": 0,
	} {
		if got := segmentNumber(name); got != want {
			t.Errorf("%q: %d", name, got)
		}
	}
}

// Whatever is in the file, reading ends, never panics, and calls nothing
// whole that does not follow.
func FuzzWalk(f *testing.F) {
	f.Add([]byte("{\"seq\":1,\"prev\":\""), 3)
	f.Add([]byte("\n\n"), 100)
	f.Add(bytes.Repeat([]byte{0}, MaxLine+5), -1)
	cfg := config(f)
	l := create(f, cfg)
	last := add(f, l, 1, 5)
	good := read(f, current(cfg))
	f.Fuzz(func(t *testing.T, junk []byte, at int) {
		at = max(0, min(at, len(good)))
		data := slices.Concat(good[:at], junk, good[at:])
		if err := os.WriteFile(current(cfg), data, 0o600); err != nil {
			t.Fatal(err)
		}
		head, err := l.Walk(Head{}, nil)
		if err == nil && head.Seq > last.Seq {
			t.Fatalf("more lines than were written: %+v", head)
		}
		if err == nil && at < len(good) && len(junk) > 0 && head == last && !bytes.Equal(data[:len(good)], good) {
			t.Fatalf("junk at %d was not noticed", at)
		}
		if _, err := l.Walk(last, nil); err == nil && !bytes.HasPrefix(data, good[len(good)-100:]) && !bytes.Equal(data[last.Offset-100:last.Offset], good[len(good)-100:]) {
			t.Fatal("another line passes for a known one")
		}
		_, _ = l.Find(Query{Limit: 3})
	})
}
