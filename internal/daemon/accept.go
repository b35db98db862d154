package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/peer"
	"moldable.sh/aivault/internal/server"
)

const (
	maxConns        = 4096 // at once, of all users
	maxConnsPerUser = 512
	leaveFree       = 4   // no user has more than this part of those that are left
	keptFiles       = 128 // descriptors that no connection takes: sockets, vault, log, libraries
)

// connsFor is how many connections a process may have that may open so many
// files: a call needs a second one, to the upstream. An accept that fails for
// want of a descriptor would keep out the operator as well.
func connsFor(files uint64) int {
	if files >= 2*maxConns+keptFiles {
		return maxConns
	}
	return max(16, (int(files)-keptFiles)/2)
}

// openFiles is how many files this process may open.
func openFiles() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return limit.Cur
}

// conn is an accepted connection with the caller that the kernel named.
type conn struct {
	*net.UnixConn
	who     grant.Caller
	release func()
	once    sync.Once
}

func (c *conn) Close() error {
	c.once.Do(c.release)
	return c.UnixConn.Close()
}

// withCaller hands a connection's caller to the server.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return server.WithCaller(ctx, c.who)
	}
	return ctx // refused by the server
}

// door lets connections in: so many of each user and no more, so that one who
// opens thousands keeps nobody else out. Nobody gets more than a part of those
// that are left, so that many users, or one who has the numbers of many, leave
// room for the next; and the operator's do not count among all, so that there is always
// room for who can do something about it.
type door struct {
	lookup peer.Lookup
	most   int    // of all users but the operator
	owner  uint32 // beside root, the operator

	mu    sync.Mutex
	total int // but the operator's
	of    map[uint32]int
}

func newDoor() *door {
	return &door{most: connsFor(openFiles()), owner: uint32(os.Geteuid()), of: map[uint32]int{}}
}

func (d *door) operator(uid uint32) bool { return uid == 0 || uid == d.owner }

func (d *door) enter(uid uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch have := d.of[uid]; {
	case have >= min(maxConnsPerUser, d.most):
		return false
	case d.operator(uid):
	case d.total >= d.most || have > (d.most-d.total)/leaveFree:
		return false
	default:
		d.total++
	}
	d.of[uid]++
	return true
}

func (d *door) leave(uid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.operator(uid) {
		d.total--
	}
	if d.of[uid]--; d.of[uid] == 0 {
		delete(d.of, uid)
	}
}

// gate is a net.Listener whose connections come with their callers. Peers are
// looked up beside the accept loop: a slow user database holds up nobody else.
type gate struct {
	s     *socket
	door  *door
	ready chan *conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func newGate(s *socket, d *door) *gate {
	g := &gate{s: s, door: d, ready: make(chan *conn), done: make(chan struct{})}
	g.wg.Go(g.run)
	return g
}

func (g *gate) run() {
	for {
		c, err := g.s.AcceptUnix()
		if err != nil {
			select {
			case <-g.done:
				return
			case <-time.After(acceptPause): // e.g. too many open files
			}
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
				return
			}
			continue
		}
		uid, err := peer.UID(c)
		if err != nil || !g.door.enter(uid) {
			_ = c.Close()
			continue
		}
		g.wg.Go(func() { g.admit(c, uid) })
	}
}

func (g *gate) admit(c *net.UnixConn, uid uint32) {
	who, err := g.door.lookup.Of(c)
	if err != nil {
		g.door.leave(uid)
		_ = c.Close()
		return
	}
	if g.s.Agent {
		who.Operator = false
	}
	in := &conn{UnixConn: c, who: who, release: func() { g.door.leave(uid) }}
	select {
	case g.ready <- in:
	case <-g.done:
		_ = in.Close()
	}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The socket's file goes first: who comes now
// finds none, rather than one that answers no more.
func (g *gate) Close() error {
	var err error
	g.once.Do(func() {
		g.s.remove()
		close(g.done)
		err = g.s.Close()
		g.wg.Wait()
	})
	return err
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return &net.UnixAddr{Name: g.s.Path, Net: "unix"} }
