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

// split turns the one segment into several, after the lines that cuts name:
// the form in which a later version leaves a log.
func split(t *testing.T, cfg Config, cuts ...int) {
	t.Helper()
	lines := bytes.SplitAfter(read(t, current(cfg)), []byte("\n"))
	cuts = append(cuts, len(lines))
	for i, start := 0, 0; i < len(cuts); i++ {
		part := bytes.Join(lines[start:cuts[i]], nil)
		if err := os.WriteFile(filepath.Join(cfg.Dir, segmentName(i+1)), part, 0o600); err != nil {
			t.Fatal(err)
		}
		start = cuts[i]
	}
}

func TestSeveralSegments(t *testing.T) {
	for _, cuts := range [][]int{{4}, {4, 7}, {1, 2, 9}, {10}} {
		cfg := config(t)
		l := create(t, cfg)
		add(t, l, 1, 10)
		l.Close()
		split(t, cfg, cuts...)
		l = open(t, cfg)
		h := add(t, l, 11, 11)
		if h.Seq != 11 || h.File != segmentName(len(cuts)+1) {
			t.Errorf("%v: appended at %+v", cuts, h)
		}
		var all []Head
		if last, err := l.Walk(Head{}, func(_ []byte, at Head) error { all = append(all, at); return nil }); err != nil || last != h {
			t.Errorf("%v: %+v, %v", cuts, last, err)
		}
		for _, from := range all {
			if last, err := l.Walk(from, nil); err != nil || last != h {
				t.Errorf("%v from %+v: %+v, %v", cuts, from, last, err)
			}
		}
		for n := range 12 {
			tail, err := l.Tail(n)
			if err != nil || len(tail) != n {
				t.Fatalf("%v: Tail(%d): %d, %v", cuts, n, len(tail), err)
			}
			for i, line := range tail {
				if got, err := ParseLine(line); err != nil || int(got.Seq) != 11-n+1+i {
					t.Errorf("%v: Tail(%d)[%d] is line %d, %v", cuts, n, i, got.Seq, err)
				}
			}
		}
	}
}

func TestSegmentsAreWatched(t *testing.T) {
	for name, change := range map[string]func(cfg Config) error{
		"this part of the log is missing": func(c Config) error { return os.Remove(filepath.Join(c.Dir, segmentName(2))) },
		"has no newline":                  func(c Config) error { return os.WriteFile(filepath.Join(c.Dir, segmentName(1)), []byte("{"), 0o600) },
		"stands in its place":             func(c Config) error { return os.Truncate(filepath.Join(c.Dir, segmentName(2)), 0) },
	} {
		cfg := config(t)
		l := create(t, cfg)
		add(t, l, 1, 9)
		split(t, cfg, 3, 6)
		if err := change(cfg); err != nil {
			t.Fatal(err)
		}
		var chain *ChainError
		if _, err := l.Walk(Head{}, nil); !errors.As(err, &chain) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
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
	if _, err := Create(cfg); !errors.As(err, &chain) {
		t.Errorf("Create over the rest of a log: %v", err)
	}
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
		_, _ = l.Tail(3)
	})
}
