package daemon

import (
	"sync"
	"time"
)

// How long a daemon that the CLI started stays without a request.
const (
	idleOwn   = 15 * time.Minute
	idleOther = 30 * time.Second // with AIVAULT_DIR set: tests, scripts, throw-away vaults
)

// idle closes done when no request has been served for a while, unless keep
// says otherwise just then. It runs no goroutine and wakes nobody while
// requests come.
type idle struct {
	after time.Duration
	keep  func() bool
	done  chan struct{}

	mu      sync.Mutex
	active  int
	timer   *time.Timer
	stopped bool
}

// newIdle starts to count at once. after 0: never.
func newIdle(after time.Duration, keep func() bool) *idle {
	i := &idle{after: after, keep: keep, done: make(chan struct{})}
	if after > 0 {
		i.timer = time.AfterFunc(after, i.fire)
	}
	return i
}

// busy counts requests: +1 when one starts, -1 when it is served.
func (i *idle) busy(delta int) {
	if i.after == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.active += delta
	if i.stopped {
		return
	}
	if i.active > 0 {
		i.timer.Stop()
	} else {
		i.timer.Reset(i.after)
	}
}

func (i *idle) fire() {
	keep := i.keep()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.stopped || i.active > 0:
	case keep:
		i.timer.Reset(i.after)
	default:
		i.stopped = true
		close(i.done)
	}
}

func (i *idle) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
	if i.timer != nil {
		i.timer.Stop()
	}
}
