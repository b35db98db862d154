package egress

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/api"
)

// errClosed is the cause of a call's end that nobody complains of.
var errClosed = errors.New("closed")

// A call is one request from Send to the end of its answer. Its context is
// cancelled by whatever ends it, with an *api.Error as the cause where there
// is something to say.
type call struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	client *Client
	pool   *pool

	start time.Time
	last  atomic.Int64 // when the last byte moved, in ns since start

	mu    sync.Mutex
	idle  *time.Timer
	ended bool

	// Made with the call: what it comes to.
	body     answerBody
	response Response
}

func newCall(ctx context.Context, c *Client, p *pool) *call {
	k := &call{client: c, pool: p, start: time.Now()}
	k.ctx, k.cancel = context.WithCancelCause(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = time.AfterFunc(c.cfg.IdleTimeout, k.watch)
	return k
}

// touch notes that a byte moved.
func (c *call) touch() { c.last.Store(int64(time.Since(c.start))) }

// watch breaks the call off when no byte has moved for too long, and else
// looks again when that could first be so. The timer is not reset by every
// byte: that would cost more than the byte.
func (c *call) watch() {
	limit := c.client.cfg.IdleTimeout
	quiet := time.Since(c.start) - time.Duration(c.last.Load())
	if quiet >= limit {
		c.cancel(api.Errorf(api.UpstreamTimeout, "%s: no byte moved for %v", c.pool.name, limit))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.idle.Reset(limit - quiet)
	}
}

// end gives back what the call holds, once nothing more can come of it. It
// does not cancel: the connection may still have to notice the same end.
func (c *call) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.idle.Stop()
	c.client.pools.release(c.pool)
}

// close ends the call and whatever of it still runs.
func (c *call) close() {
	c.end()
	c.cancel(errClosed)
}

// fault says why the call failed: by what ended it, if something did, or else
// by the error that the transport reports.
func (c *call) fault(err error) error {
	cause := context.Cause(c.ctx)
	var known *api.Error
	switch {
	case cause == nil:
		return describe(c.pool.name, err)
	case errors.As(cause, &known):
		return known
	case errors.Is(cause, context.DeadlineExceeded):
		return api.Errorf(api.UpstreamTimeout, "%s did not answer within the call's time", c.pool.name)
	}
	return api.Errorf(api.UpstreamUnreachable, "%s was not called to the end: the call was cancelled", c.pool.name)
}
