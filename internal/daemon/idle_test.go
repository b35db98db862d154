package daemon

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func left(i *idle) bool {
	synctest.Wait()
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var typed atomic.Bool
		i := newIdle(time.Minute, typed.Load)
		defer i.stop()
		time.Sleep(59 * time.Second)
		i.busy(+1)
		time.Sleep(time.Hour) // a long call
		if left(i) {
			t.Fatal("left during a call")
		}
		i.busy(+1)
		i.busy(-1)
		time.Sleep(time.Hour)
		if left(i) {
			t.Fatal("left while one of two calls ran")
		}
		i.busy(-1)
		time.Sleep(59 * time.Second)
		if left(i) {
			t.Fatal("left too early")
		}
		typed.Store(true)
		time.Sleep(time.Hour)
		if left(i) {
			t.Fatal("left with a key that a person typed")
		}
		typed.Store(false)
		time.Sleep(time.Minute + time.Second)
		if !left(i) {
			t.Fatal("did not leave")
		}
		i.busy(+1) // a late one does no harm
		i.busy(-1)
	})
}

func TestIdleNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIdle(0, func() bool { return false })
		i.busy(+1)
		i.busy(-1)
		time.Sleep(1000 * time.Hour)
		if left(i) {
			t.Error("a daemon that stays left")
		}
		i.stop()
	})
}

func TestIdleAfter(t *testing.T) {
	for _, c := range []struct {
		auto, dir bool
		want      time.Duration
	}{{false, false, 0}, {false, true, 0}, {true, false, 15 * time.Minute}, {true, true, 30 * time.Second}} {
		if got := idleAfter(Config{Autostarted: c.auto, Env: Env{DirSet: c.dir}}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
