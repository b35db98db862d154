package redact

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/secret"
)

// oracle finds the matches of values in text the slow way: it tries every
// pattern at every position, byte for byte, reading escapes as the units of
// escape.go do. It shares the patterns and the reading of one escape with the
// scrubber, and nothing of filter, trie, walks, splits and hold-back.
func oracle(text string, events bool, values ...string) (string, int) {
	b := []byte(text)
	ends := make([]int, len(b)) // of the longest match from each start
	var p patternMaker
	for _, v := range values {
		if len(v) < MinLength {
			continue
		}
		p.each([]byte(v), func(pattern []byte, l last) {
			for start := range b {
				for _, end := range matchEnds(b, start, pattern, events) {
					ends[start] = max(ends[start], lastEnd(b, end, l, events))
				}
			}
		})
	}
	var out strings.Builder
	count, covered := 0, 0
	for i, c := range b {
		if ends[i] > 0 {
			if i >= covered {
				out.WriteString(secret.Redacted)
				count++
			}
			covered = max(covered, ends[i])
		}
		if i >= covered {
			out.WriteByte(c)
		}
	}
	return out.String(), count
}

// matchEnds are all ends of pattern in b from start.
func matchEnds(b []byte, start int, pattern []byte, events bool) []int {
	at := []int{start} // after the first k bytes of pattern
	later := map[int][]int{0: at}
	for k := range pattern {
		positions := later[k]
		slices.Sort(positions)
		for _, pos := range slices.Compact(positions) {
			for _, u := range readings(b, pos, events, start) {
				n := min(u.n, len(pattern)-k)
				if bytes.Equal(u.b[:n], pattern[k:k+n]) {
					later[k+n] = append(later[k+n], u.next)
				}
			}
		}
	}
	return later[len(pattern)]
}

func readings(b []byte, pos int, events bool, start int) []unit {
	us := units{events: events}
	switch {
	case pos == len(b):
	case special(b[pos], events):
		us.at(b, pos, true)
		if pos == start && endsLine(b[pos]) {
			us.n = min(us.n, 2) // as it stands, and as the one that joins two lines
		}
	default:
		us.add(b[pos], pos+1)
	}
	return us.u[:us.n]
}

// lastEnd is the end of the match whose pattern ends at end, 0 for none.
func lastEnd(b []byte, end int, l last, events bool) int {
	if l == 0 {
		return end
	}
	best := 0
	for _, u := range readings(b, end, events, 0) {
		if l.accepts(u.b[0]) {
			e, _ := paddingEnd(b, u.next, true)
			best = max(best, e)
		}
	}
	return best
}

// FuzzStream compares a stream, split at random, with the oracle.
func FuzzStream(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 9))
	for i, v := range shapes() {
		for j, e := range encodings() {
			if (i+j)%7 == 0 {
				f.Add([]byte("x\\"+e.encode(rng, v)+"%"+v[:3]), v, "ABCDEFGH", j%2 == 0, uint64(i*100+j))
			}
		}
	}
	f.Add([]byte(honest), "sk-test1", "sk-test3", false, uint64(1))
	f.Add([]byte("data: {\"a\":\"sk-te\\u0073t1\"}\n\n"), "sk-test1", "t1\"}\n\n[redacted]", false, uint64(2))
	f.Add([]byte(`aaaa\\\\\u005c\\aaaaaaaa`), `\\\\\\\\`, "aaaaaaaa", false, uint64(3))
	f.Add([]byte("data: {\"a\":\"sk-t\ndata: est1\"}\r\ndata:\r\n"), "sk-test1", "}\ndata\"aa", true, uint64(4))
	f.Add([]byte("data:sk\ndata:\ndata: -test1\r\ndata:  a\\u00\ndata: 61aa\rdata: aaaaa"), "sk\n-test1", "\naaaaaaaa", true, uint64(5))
	f.Fuzz(func(t *testing.T, text []byte, v, w string, events bool, seed uint64) {
		if len(text) > 2000 || len(v)+len(w) > 300 {
			return
		}
		set := newSet(v, w)
		want, count := oracle(string(text), events, v, w)
		if got, n := set.String(string(text)); !events && (got != want || n != count) {
			t.Fatalf("%q, %q in %q:\n got %q (%d)\nwant %q (%d)", v, w, text, got, n, want, count)
		}
		if !strings.Contains(v+w, "|") {
			after := farOff[:maxUnit]
			ended, n := oracle(string(text)+after, events, v, w)
			if far, k := scrubbedFarOff(t, set, events, string(text)); far+after != ended || k != n {
				t.Fatalf("%q, %q in %q, far from the end:\n got %q (%d)\nwant %q (%d)", v, w, text, far+after, k, ended, n)
			}
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 4 {
			var parts [][]byte
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN(1+rng.IntN(40)))
				parts = append(parts, rest[:n])
				rest = rest[n:]
			}
			r := set.Reader(&pieces{p: parts})
			if events {
				r = set.Events(&pieces{p: parts})
			}
			var got []byte
			for {
				buf := make([]byte, 1+rng.IntN(700))
				n, err := r.Read(buf)
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if string(got) != want || r.Redactions() != count {
				t.Fatalf("%q, %q in %q split as %q:\n got %q (%d)\nwant %q (%d)", v, w, text, parts, got, r.Redactions(), want, count)
			}
		}
	})
}
