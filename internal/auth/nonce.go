package auth

import (
	"sync"
	"time"
)

// Nonces gives numbers that rise: microseconds of the wall clock, and never
// one that is not above the last. A process has one, so that a clock that is
// set back takes nothing back. Those of several processes rise together as
// far as their clock does; two that ask in the same microsecond can be given
// the same, which an upstream that counts then refuses to one of them. The
// zero Nonces is ready. Its methods may be called concurrently.
type Nonces struct {
	mu   sync.Mutex
	last int64
}

// Next is a number above all that were given, now or a little later.
func (n *Nonces) Next(now time.Time) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(now.UnixMicro(), n.last+1)
	return n.last
}
