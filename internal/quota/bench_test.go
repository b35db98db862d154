package quota

import (
	"path/filepath"
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
			must(b, book.Begin(b.Context()))
			// The clock goes on so that each call finds n-1 before it.
			system, calls := systemClock(), 0
			book.clock = func() (Now, error) {
				now, err := system()
				calls++
				now.SinceBoot = time.Duration(calls) * (Window / time.Duration(n))
				return now, err
			}
			for range n {
				must(b, book.Take(b.Context(), all, nil))
			}
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
