package client

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/peer"
	"moldable.sh/aivault/internal/server"
)

// inside serves the daemon's own handler within this process: the same code,
// reached through memory.
type inside struct {
	inst  *daemon.Instance
	srv   *http.Server
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	ended sync.WaitGroup
}

// newInside builds the broker in this process. Its caller is the operator:
// whoever can run this program on the vault's files is.
func newInside(cfg Config) (*Client, error) {
	inst, err := daemon.New(daemon.Options{Env: cfg.Env, Build: cfg.Build, Argon2id: cfg.argon2id})
	if err != nil {
		return nil, err
	}
	in := &inside{inst: inst, conns: make(chan net.Conn), done: make(chan struct{})}
	who := peer.Self()
	in.srv = &http.Server{
		Handler:           inst.Handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // the terminal is not for it
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { return server.WithCaller(ctx, who) },
	}
	in.srv.RegisterOnShutdown(inst.Leave)
	in.ended.Go(func() { _ = in.srv.Serve(in) }) // ends with close
	c := newClient(cfg, "this process", nil)
	c.inside = in
	c.own = true
	c.operator = c.transport(false)
	c.calls = c.operator
	return c, nil
}

// dial makes a connection in memory.
func (in *inside) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case in.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-in.done:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (in *inside) Accept() (net.Conn, error) {
	select {
	case c := <-in.conns:
		return c, nil
	case <-in.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (in *inside) Close() error {
	in.once.Do(func() { close(in.done) })
	return nil
}

type memory struct{}

func (memory) Network() string { return "memory" }
func (memory) String() string  { return "memory" }

// Addr implements net.Listener.
func (in *inside) Addr() net.Addr { return memory{} }

const insideDrain = 5 * time.Second

func (in *inside) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), insideDrain)
	defer cancel()
	if in.srv.Shutdown(ctx) != nil {
		_ = in.srv.Close()
	}
	in.ended.Wait()
	return in.inst.Close()
}

// tellPatience bounds what a daemon that hangs can cost an in-process change.
const tellPatience = time.Second

// tellDaemon makes a daemon that runs for the same vault look at it, so that
// it ends at once what a change in this process took the ground from: an open
// stream under a key that was deleted, or of a vault that was locked. Asking
// for its status is enough. Where that fails, the daemon looks when it is next
// asked for something.
func (c *Client) tellDaemon(ctx context.Context, method, path string) {
	if c.inside == nil || method == get || path == api.RouteUnlock || path == api.RouteExplain { // these take nothing away
		return
	}
	r, ok := daemon.ReadRunning(c.cfg.Env.Dir)
	if !ok {
		return
	}
	// A change that was made is told also when whoever asked for it is gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellPatience)
	defer cancel()
	for _, path := range r.Sockets {
		conn, err := dial(ctx, path)
		if conn == nil || err != nil {
			continue
		}
		d := newClient(c.cfg, path, conn)
		d.operator = d.transport(true)
		d.calls = d.operator
		_, err = d.Status(ctx)
		_ = d.Close()
		if err == nil {
			return
		}
	}
}
