package daemon

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"time"
)

const (
	drainFor = 30 * time.Second // for what runs, when the daemon leaves
	cutFor   = 5 * time.Second  // for what is cut off then: its outcome is still to be recorded
)

// requests counts those that are served.
type requests struct {
	next http.Handler
	n    atomic.Int64
}

// ServeHTTP implements http.Handler.
func (r *requests) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.n.Add(1)
	defer r.n.Add(-1)
	r.next.ServeHTTP(w, req)
}

// settle waits until none is served any more. That takes no time: their
// connections are closed.
func (r *requests) settle(most time.Duration) {
	for until := time.Now().Add(most); r.n.Load() > 0 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
}

// leave stops srv: what comes is refused, and what runs may end, until the
// time is over or hurry ends. Then it is cut off, and may still write down how
// it ended.
func leave(srv *http.Server, running *requests, after time.Duration, hurry context.Context) error {
	drain, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	if hurry != nil {
		defer context.AfterFunc(hurry, cancel)()
	}
	if srv.Shutdown(drain) == nil {
		return nil
	}
	err := srv.Close()
	running.settle(cutFor)
	return err
}

// untilSignal returns two contexts: one ends with the first of these signals,
// the other with the second, from somebody who will not wait. stop gives the
// signals back.
func untilSignal(signals ...os.Signal) (ctx, hurry context.Context, stop func()) {
	ctx, first := context.WithCancel(context.Background())
	hurry, second := context.WithCancel(context.Background())
	came, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(came, signals...)
	go func() {
		for _, end := range []context.CancelFunc{first, second} {
			select {
			case <-came:
				end()
			case <-done:
				return
			}
		}
	}()
	return ctx, hurry, func() {
		signal.Stop(came)
		close(done)
		first()
		second()
	}
}
