package server

import (
	"sync"

	"moldable.sh/aivault/internal/api"
)

const (
	freeBody     = 64 << 10  // of each body, which costs nothing
	maxHeldOfOne = 64 << 20  // bodies of one user in memory, in bytes: three of the longest
	maxHeld      = 256 << 20 // of all users
	retryHeldMs  = 1000
)

// budget bounds the memory that the bodies of requests take up: so much of
// each user, so that one who sends many long ones is kept from sending more,
// and nobody else is. Bodies that stream through take none of it.
type budget struct {
	mu    sync.Mutex
	total int64
	of    map[uint32]int64
}

// take is false where the user or all users together would hold too much.
func (b *budget) take(uid uint32, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[uid]+n > maxHeldOfOne || b.total+n > maxHeld {
		return false
	}
	if b.of == nil {
		b.of = map[uint32]int64{}
	}
	b.of[uid] += n
	b.total += n
	return true
}

func (b *budget) giveBack(uid uint32, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= n
	if b.of[uid] -= n; b.of[uid] == 0 {
		delete(b.of, uid)
	}
}

// hold is asked before a buffer for the request's body is made: size bytes are
// to be in memory until the request ends. Nobody waits: a caller who did would
// hold a connection meanwhile.
func (x *exchange) hold(size int64) error {
	if size <= freeBody || size <= x.held {
		return nil
	}
	if !x.h.bodies.take(x.who.UID, size-x.held) {
		e := api.Errorf(api.RateLimited, "the requests of this user that run, or of all users, have too much in memory")
		e.RetryAfterMs = retryHeldMs
		return e.WithHint("wait for some of them to end, or send a long body as a part of its own")
	}
	x.held = size
	return nil
}

// letGo ends what hold began.
func (x *exchange) letGo() {
	if x.held > 0 {
		x.h.bodies.giveBack(x.who.UID, x.held)
		x.held = 0
	}
}
