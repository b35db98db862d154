package quota

import (
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{5, 100, 1000, 10_000, MaxPerMinute} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			book := New(Config{Path: filepath.Join(b.TempDir(), "limits")})
			defer book.Close()
			all := []Demand{{"capability:openai/chat-completions", n}, {"caller:1000:openai/chat-completions", n}}
			// The clock goes on so that each call finds n-1 before it.
			now, err := systemClock()()
			must(b, err)
			step := Window / time.Duration(n)
			var starts []int64
			for i := range n {
				starts = append(starts, int64(now.SinceBoot+time.Duration(i)*step))
			}
			now.SinceBoot += Window - step
			book.clock = func() (Now, error) {
				now.SinceBoot += step
				return now, nil
			}
			at, err := instantOf(now)
			must(b, err)
			must(b, book.file.replace(&ledger{at: at, counts: []count{{key: all[1].Key, starts: starts}, {key: all[0].Key, starts: slices.Clone(starts)}}}))
			for b.Loop() {
				must(b, book.Take(b.Context(), all, nil))
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
