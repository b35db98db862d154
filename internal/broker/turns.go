package broker

import "sync"

// turns lets so many at a time do something that takes a while, one user after
// the other: who has a hundred calls that wait holds up another's by one.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[uint32][]chan struct{} // by user, the first first
	order   []uint32                   // of users who wait, the next first
}

func newTurns(n int) *turns { return &turns{free: n, waiting: map[uint32][]chan struct{}{}} }

// take waits for a user's turn, which done ends.
func (t *turns) take(uid uint32) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if len(t.waiting[uid]) == 0 {
		t.order = append(t.order, uid)
	}
	t.waiting[uid] = append(t.waiting[uid], mine)
	t.mu.Unlock()
	<-mine
}

// done gives the place to the next user in turn.
func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	uid := t.order[0]
	t.order = t.order[1:]
	next := t.waiting[uid][0]
	if rest := t.waiting[uid][1:]; len(rest) > 0 {
		t.waiting[uid] = rest
		t.order = append(t.order, uid)
	} else {
		delete(t.waiting, uid)
	}
	close(next)
}
