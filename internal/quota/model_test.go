package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model says what a Book should do, in the plainest way: it keeps every start
// with its age, and tries each moment at which a call might be let through.
type model struct {
	clock   *testClock
	last    Now // of the last write
	ages    map[string][]time.Duration
	full    time.Duration // age of the moment at which the count was lost; -1: none
	elapsed time.Duration // since the last write
}

// look finds out how much time has passed since the last write.
func (m *model) look() {
	now := m.clock.now
	m.elapsed = now.SinceBoot - m.last.SinceBoot
	if now.BootID != m.last.BootID || m.elapsed < 0 {
		m.elapsed = max(0, now.Wall.Sub(m.last.Wall))
		m.write()
	}
}

func (m *model) write() {
	for _, ages := range m.ages {
		for i := range ages {
			ages[i] += m.elapsed
		}
	}
	if m.full >= 0 {
		m.full += m.elapsed
	}
	m.last, m.elapsed = m.clock.now, 0
}

func (m *model) lose() {
	m.ages, m.full, m.last, m.elapsed = map[string][]time.Duration{}, 0, m.clock.now, 0
}

// room says whether d has room so long from now on.
func (m *model) room(d Demand, after time.Duration) bool {
	if d.PerMinute == 0 {
		return true
	}
	after += m.elapsed
	if m.full >= 0 && m.full+after < Window {
		return false
	}
	n := 0
	for _, age := range m.ages[d.Key] {
		if age+after < Window {
			n++
		}
	}
	return n < d.PerMinute
}

func (m *model) admits(all, any []Demand, after time.Duration) bool {
	for _, d := range all {
		if !m.room(d, after) {
			return false
		}
	}
	for _, d := range any {
		if m.room(d, after) {
			return true
		}
	}
	return len(any) == 0
}

// wait is the earliest moment at which the call would be let through.
func (m *model) wait(all, any []Demand) time.Duration {
	if m.admits(all, any, 0) {
		return 0
	}
	best := time.Duration(-1)
	try := func(after time.Duration) {
		if after > 0 && (best < 0 || after < best) && m.admits(all, any, after) {
			best = after
		}
	}
	for _, ages := range m.ages {
		for _, age := range ages {
			try(Window - age - m.elapsed)
		}
	}
	try(Window - m.full - m.elapsed)
	return best
}

func (m *model) count(all, any []Demand) {
	m.write()
	keep := map[string]int{}
	for _, d := range slices.Concat(all, any) {
		keep[d.Key] = max(keep[d.Key], d.PerMinute)
	}
	for key, n := range keep {
		if n == 0 {
			continue
		}
		ages := append(m.ages[key], 0)
		m.ages[key] = ages[max(0, len(ages)-n):]
	}
}

func demands(t *rapid.T, name string, least int) []Demand {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Demand {
		return Demand{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), rapid.IntRange(least, 4).Draw(t, "n")}
	}), 0, 3).Draw(t, name)
}

var durations = rapid.OneOf(
	rapid.SampledFrom([]time.Duration{0, 1, time.Second, 20 * time.Second, Window - 1, Window, Window + 1, time.Hour}),
	rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, int64(30*time.Second)).Draw(t, "ns"))
	}))

// Several Books on one file do what the model does, whatever happens between
// two calls.
func TestModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(t *rapid.T) {
		files++
		path := filepath.Join(dir, fmt.Sprint(files))
		clock := newClock()
		books := make([]*Book, 3)
		for i := range books {
			books[i] = New(Config{Path: path, Clock: clock.read})
			defer books[i].Close()
		}
		m := &model{clock: clock, ages: map[string][]time.Duration{}, full: -1, last: clock.now}
		if err := books[0].Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		boots := 0
		book := func() int { return rapid.IntRange(0, len(books)-1).Draw(t, "book") }
		ask := func(take bool) {
			b, all, any := books[book()], demands(t, "all", 1), demands(t, "any", 0)
			call := b.Check
			if take {
				call = b.Take
			}
			err := call(t.Context(), all, any)
			if !slices.ContainsFunc(slices.Concat(all, any), func(d Demand) bool { return d.PerMinute > 0 }) {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			m.look()
			want := m.wait(all, any)
			var over *Exceeded
			switch {
			case err == nil && want == 0:
				if take {
					m.count(all, any)
				}
			case errors.As(err, &over) && over.Wait == want && want > 0:
			default:
				t.Fatalf("%v of %v, any of %v: %v, want to wait %s", take, all, any, err, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"take":      func(*rapid.T) { ask(true) },
			"take more": func(*rapid.T) { ask(true) },
			"check":     func(*rapid.T) { ask(false) },
			"pass":      func(*rapid.T) { clock.pass(durations.Draw(t, "by")) },
			"set wall": func(*rapid.T) {
				clock.setWall(durations.Draw(t, "by") * time.Duration(rapid.IntRange(-1, 1).Draw(t, "sign")))
			},
			"reboot": func(*rapid.T) {
				boots++
				clock.reboot(fmt.Sprint("another-", boots), durations.Draw(t, "by")*time.Duration(rapid.IntRange(-1, 1).Draw(t, "sign")))
			},
			"restart": func(*rapid.T) {
				i := book()
				if err := books[i].Close(); err != nil {
					t.Fatal(err)
				}
				books[i] = New(Config{Path: path, Clock: clock.read})
			},
			"lose": func(*rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "one in ten") != 0 {
					return
				}
				var err error
				if rapid.Bool().Draw(t, "missing") {
					err = os.Remove(path)
				} else {
					err = os.Truncate(path, int64(rapid.IntRange(0, 20).Draw(t, "size")))
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := books[book()].Check(t.Context(), per(1, "a"), nil); !errors.As(err, new(*Exceeded)) {
					t.Fatalf("a lost count has room: %v", err)
				}
				m.lose()
			},
		})
	})
}

// Whatever happens to Books, boots and files: at no instant have more than N
// calls started within a window, as long as the wall clock is not ahead of the
// time that passed.
func TestNeverMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(t *rapid.T) {
		files++
		path := filepath.Join(dir, fmt.Sprint(files))
		clock := newClock()
		b := New(Config{Path: path, Clock: clock.read})
		defer func() { _ = b.Close() }()
		if err := b.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := rapid.IntRange(1, 4).Draw(t, "n")
		var truly time.Duration // time that passed
		var starts []time.Duration
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			d := durations.Draw(t, "by")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				clock.reboot(fmt.Sprint("boot-", i), d-time.Duration(rapid.IntRange(0, 1).Draw(t, "back"))*durations.Draw(t, "by"))
				truly += d
			case 1:
				clock.setWall(-d)
			case 2:
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = New(Config{Path: path, Clock: clock.read})
			case 3:
				if rapid.IntRange(0, 5).Draw(t, "one in six") == 0 {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				fallthrough // so that the file is looked at before the clock is moved
			default:
				err := b.Take(t.Context(), per(n, "k"), nil)
				if err == nil {
					starts = append(starts, truly)
				} else if !errors.As(err, new(*Exceeded)) {
					t.Fatal(err)
				}
				clock.pass(d)
				truly += d
			}
		}
		for i := n; i < len(starts); i++ {
			if starts[i]-starts[i-n] < Window {
				t.Fatalf("%d starts within %s: %v", n+1, starts[i]-starts[i-n], starts)
			}
		}
	})
}
