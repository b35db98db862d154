package daemon

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// What a call leaves behind is short-lived and small, and so is what the
	// daemon keeps: with Go's default of 100 it would spend a tenth of its time
	// looking for a few megabytes that are still in use.
	gcPercent = 400

	// How often it is looked whether requests still come.
	quietFor = 25 * time.Second
)

// trimmer gives memory back to the system when the requests that needed it
// have ended. While requests come it wakes once in a while, and then not at
// all.
type trimmer struct {
	free func()
	last atomic.Int64 // requests that ended

	armed atomic.Bool
	mu    sync.Mutex
	timer *time.Timer // nil before the first use
	seen  int64       // last, when the timer was set
	ended bool
}

// newTrimmer calls free when requests came and, for a while, no more did. The
// daemon's start counts as one: opening a vault checks its log.
func newTrimmer(free func()) *trimmer {
	t := &trimmer{free: free}
	t.served()
	return t
}

// freeMemory collects what is garbage and keeps no page that holds nothing.
func freeMemory() { debug.FreeOSMemory() }

// served notes that a request ended.
func (t *trimmer) served() {
	t.last.Add(1)
	if !t.armed.Load() && t.armed.CompareAndSwap(false, true) {
		t.arm()
	}
}

func (t *trimmer) arm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.seen = t.last.Load()
	if t.timer == nil {
		t.timer = time.AfterFunc(quietFor, t.fire)
	} else {
		t.timer.Reset(quietFor)
	}
}

func (t *trimmer) fire() {
	t.mu.Lock()
	busy := t.last.Load() != t.seen
	t.mu.Unlock()
	if busy {
		t.arm()
		return
	}
	t.armed.Store(false) // before freeing: a request that ends now is not missed
	t.free()
}

func (t *trimmer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
