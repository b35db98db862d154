package daemon

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemoryIsGivenBackOnceRequestsEnd also counts how often it is: an idle
// daemon wakes for nothing.
func TestMemoryIsGivenBackOnceRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int64
		m := newTrimmer(func() { freed.Add(1) })
		defer m.stop()
		expect := func(want int64, when string) {
			t.Helper()
			synctest.Wait()
			if got := freed.Load(); got != want {
				t.Fatalf("%s: given back %d times, want %d", when, got, want)
			}
		}
		time.Sleep(2 * quietFor)
		expect(1, "after the start")
		time.Sleep(time.Hour)
		expect(1, "before the first request")
		for range 100 {
			m.served()
			m.served()
			time.Sleep(time.Second)
		}
		expect(1, "while requests come")
		time.Sleep(2 * quietFor)
		expect(2, "after them")
		time.Sleep(24 * time.Hour)
		expect(2, "a day later")
		m.served()
		time.Sleep(2 * quietFor)
		expect(3, "after another request")
		m.stop()
		m.served()
		time.Sleep(time.Hour)
		expect(3, "after the end")
	})
}
