package quota

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

const window = int64(Window)

// instant is a Now in nanoseconds: since boot, and since 1970.
type instant struct {
	bootID string
	boot   int64
	wall   int64
}

func instantOf(t Now) (instant, error) {
	if t.SinceBoot < 0 || !printable(t.BootID, 64) {
		return instant{}, errors.New("the system's boot cannot be told")
	}
	wall := t.Wall.UnixNano()
	if s := t.Wall.Unix(); s >= math.MaxInt64/int64(time.Second) {
		wall = math.MaxInt64
	} else if s <= math.MinInt64/int64(time.Second) {
		wall = math.MinInt64
	}
	return instant{t.BootID, int64(t.SinceBoot), wall}, nil
}

// printable says whether s is 1 to limit bytes of ASCII that JSON writes as
// they are.
func printable(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// ledger is the starts that were counted, on the boot clock.
type ledger struct {
	at       instant // when it was last written
	full     bool    // an unknown number of calls may have started
	fullFrom int64   // until then
	counts   []count // sorted by key
}

func (l *ledger) find(key string) (i int, found bool) {
	return slices.BinarySearchFunc(l.counts, key, func(c count, key string) int { return strings.Compare(c.key, key) })
}

// rebase moves the starts of an earlier boot onto the clock of this one, and
// says whether there was anything to move. How long they were apart is known
// from the boot clock that they share; how long ago the last write was, only
// from the wall clock, which counts as no time when it went back. A boot clock
// that went back is another clock (of another time namespace, say).
func (l *ledger) rebase(now instant) bool {
	if l.at.bootID == now.bootID && l.at.boot <= now.boot {
		return false
	}
	gap := int64(0)
	if now.wall > l.at.wall {
		gap = window // at most: nothing is older that counts
		if d := now.wall - l.at.wall; d > 0 && d < window {
			gap = d // a negative difference is one that overflowed
		}
	}
	shift := now.boot - gap - l.at.boot
	if l.fullFrom += shift; !l.full {
		l.fullFrom = 0
	}
	for i := range l.counts {
		l.counts[i].shift(shift)
	}
	l.at = now
	l.prune(now.boot)
	return true
}

// prune forgets what no window has in it any more.
func (l *ledger) prune(now int64) {
	if l.full && l.fullFrom <= now-window {
		l.full, l.fullFrom = false, 0
	}
	for i := range l.counts {
		l.counts[i].keep(len(l.counts[i].live(now)))
	}
	l.counts = slices.DeleteFunc(l.counts, func(c count) bool { return len(c.starts) == 0 })
}

// wait is how long it takes until d has room.
func (l *ledger) wait(now int64, d Demand) time.Duration {
	if d.PerMinute == 0 {
		return 0
	}
	until := now
	if l.full {
		until = max(until, l.fullFrom+window)
	}
	if i, found := l.find(d.Key); found {
		// The Nth of the newest has to leave the window.
		if starts := l.counts[i].live(now); len(starts) >= d.PerMinute {
			until = max(until, starts[len(starts)-d.PerMinute]+window)
		}
	}
	return time.Duration(until - now)
}

// exceeded says what a call would exceed, nil when it may start. Once a key
// has room it keeps it until a call is counted, so the longest wait of all and
// the shortest of any tell when the call would be let through.
func (l *ledger) exceeded(now instant, all, any []Demand) *Exceeded {
	var over Exceeded
	for _, d := range all {
		if w := l.wait(now.boot, d); w > over.Wait {
			over = Exceeded{d.Key, w}
		}
	}
	var first *Exceeded
	for _, d := range any {
		if w := l.wait(now.boot, d); first == nil || w < first.Wait {
			first = &Exceeded{d.Key, w}
		}
	}
	if first != nil && first.Wait > over.Wait {
		over = *first
	}
	if over.Wait == 0 {
		return nil
	}
	return &over
}

// count adds a start to each key, once, whatever names it how often. Of each
// key the newest starts are kept, as many as its limit: no more are needed to
// tell when it has room.
func (l *ledger) count(now instant, all, any []Demand) {
	l.at = now
	l.prune(now.boot)
	keep := make(map[string]int, len(all)+len(any))
	for _, list := range [2][]Demand{all, any} {
		for _, d := range list {
			if d.PerMinute > 0 {
				keep[d.Key] = max(keep[d.Key], d.PerMinute)
			}
		}
	}
	for key, n := range keep {
		i, found := l.find(key)
		if !found {
			l.counts = slices.Insert(l.counts, i, count{key: key})
		}
		l.counts[i].add(now.boot)
		l.counts[i].keep(n)
	}
}
