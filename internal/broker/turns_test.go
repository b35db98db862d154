package broker

import (
	"sync"
	"testing"
	"time"
)

// However many calls of one user wait, another's is the next but one.
func TestTurnsGoRound(t *testing.T) {
	turns := newTurns(1)
	turns.take(1)
	var mu sync.Mutex
	var order []uint32
	var wg sync.WaitGroup
	wait := func(uid uint32, waiting int) {
		wg.Go(func() {
			turns.take(uid)
			mu.Lock()
			order = append(order, uid)
			mu.Unlock()
			turns.done()
		})
		for {
			turns.mu.Lock()
			n := 0
			for _, w := range turns.waiting {
				n += len(w)
			}
			turns.mu.Unlock()
			if n == waiting {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	for i := range 50 {
		wait(1, i+1)
	}
	wait(2, 51)
	wait(3, 52)
	wait(2, 53)
	turns.done()
	wg.Wait()
	for i, uid := range []uint32{1, 2, 3, 1, 2, 1, 1} {
		if order[i] != uid {
			t.Fatalf("the order is %v", order)
		}
	}
	if turns.free != 1 || len(turns.waiting) != 0 || len(turns.order) != 0 {
		t.Errorf("left: %+v", turns)
	}
}

func TestTurnsAreBounded(t *testing.T) {
	turns := newTurns(3)
	var mu sync.Mutex
	running, most := 0, 0
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			turns.take(uint32(i % 5))
			defer turns.done()
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(100 * time.Microsecond)
			mu.Lock()
			running--
			mu.Unlock()
		})
	}
	wg.Wait()
	if most > 3 {
		t.Errorf("%d at a time", most)
	}
}
