// Package client speaks the daemon's API: over its unix socket, or to the
// same handler inside this process.
//
// What may hold a secret (operator requests, values, passphrases) goes only to
// a listener that the kernel says runs as this user, as root, or as the user
// that root wrote into /etc/aivault/shared.json. That is checked on every
// connection, before a byte is written.
package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
)

// Config says whom to talk to.
type Config struct {
	Env    daemon.Env
	Build  daemon.Build
	Socket string // --socket; "" for what Env and discovery say
	// Unlock asks the person at the terminal for the vault's passphrase
	// (in-process mode only); nil: vault_locked instead.
	Unlock func(ctx context.Context) (api.Unlock, error)
	// Notice takes lines for people (stderr), e.g. that a daemon was started.
	Notice func(line string)

	sharedFile string                 // tests: instead of /etc/aivault/shared.json
	daemonFile string                 // tests: instead of the aivaultd beside this program
	argon2id   keysource.Argon2Params // tests: cheaper than the product's

	readPatience, stopPatience time.Duration // tests: less than the product's
}

func (c *Config) notice(line string) {
	if c.Notice != nil {
		c.Notice(line)
	}
}

// Client is a connection to one daemon, or to the broker in this process.
type Client struct {
	cfg      Config
	path     string // of the daemon's socket
	own      bool   // the daemon is this user's own
	calls    *http.Transport
	operator *http.Transport // connects to trusted listeners only; may be calls

	mu    sync.Mutex
	first net.Conn // made by discovery, for the first request

	inside *inside // in-process; else nil
}

// Connect finds the daemon and starts the user's own where that is allowed:
// see docs/design.md. daemon_unreachable (exit 7) when there is none.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Env.Disable {
		return newInside(cfg)
	}
	own := cfg.Env.OwnSocket
	if p := explicit(cfg); p != "" && p != own {
		return connectTo(ctx, cfg, p)
	}
	c, err := findOwn(ctx, cfg)
	if c != nil || err != nil {
		return c, err
	}
	if c := findShared(ctx, cfg); c != nil {
		return c, nil
	}
	if !cfg.Env.Autostart {
		return nil, unreachable(own).WithHint("aivault daemon start, or unset AIVAULTD_AUTOSTART")
	}
	if err := start(ctx, cfg, daemon.AutostartFlag); err != nil {
		return nil, err
	}
	c, err = findOwn(ctx, cfg)
	if c == nil && err == nil {
		err = unreachable(own)
	}
	if err != nil {
		return nil, err
	}
	return c, c.sendEnvKey(ctx)
}

// ConnectAsIs is Connect for who only looks: it starts no daemon and asks for
// no passphrase. Where no daemon runs, and none was named, this process opens
// the vault itself.
func ConnectAsIs(ctx context.Context, cfg Config) (*Client, error) {
	cfg.Unlock, cfg.Notice = nil, nil
	cfg.Env.Autostart = false
	c, err := Connect(ctx, cfg)
	if api.CodeOf(err) == api.DaemonUnreachable && explicit(cfg) == "" {
		cfg.Env.Disable = true
		return Connect(ctx, cfg)
	}
	return c, err
}

// explicit is the socket that the person named.
func explicit(cfg Config) string {
	if cfg.Socket != "" {
		if p, err := filepath.Abs(cfg.Socket); err == nil {
			return p
		}
		return cfg.Socket
	}
	if cfg.Env.SocketSet {
		return cfg.Env.Socket
	}
	return ""
}

func unreachable(path string) *api.Error {
	return api.Errorf(api.DaemonUnreachable, "no daemon answers at %q", path)
}

// connectTo uses a socket that the person named: calls, which carry no secret,
// go to whoever listens there.
func connectTo(ctx context.Context, cfg Config, path string) (*Client, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if conn == nil {
		named := "unset AIVAULTD_SOCKET"
		if cfg.Socket != "" {
			named = "leave --socket out"
		}
		return nil, unreachable(path).WithHint("start the daemon that owns this socket, or %s", named)
	}
	c := newClient(cfg, path, conn)
	c.operator = c.transport(true)
	c.calls = c.transport(false)
	return c, nil
}

// findOwn looks for the user's own daemon: at its own socket, and at those
// that the vault's lock names. nil, nil where none answers.
func findOwn(ctx context.Context, cfg Config) (*Client, error) {
	paths := []string{cfg.Env.OwnSocket}
	for i := 0; i < len(paths); i++ {
		conn, err := dial(ctx, paths[i])
		if err != nil {
			return nil, err
		}
		if conn != nil {
			if err := vouch(conn, paths[i], cfg.sharedFile); err != nil {
				_ = conn.Close()
				return nil, err
			}
			c := newClient(cfg, paths[i], conn)
			c.own = true
			c.operator = c.transport(true)
			c.calls = c.operator
			return c, nil
		}
		if i == 0 {
			if r, ok := daemon.ReadRunning(cfg.Env.Dir); ok {
				paths = append(paths, r.Sockets...)
			}
		}
	}
	return nil, nil
}

// findShared looks for this system's shared daemon on behalf of a user who
// has no vault of their own. Anyone may have put a socket at that path first:
// one that nothing vouches for gets nothing, calls included.
func findShared(ctx context.Context, cfg Config) *Client {
	e := cfg.Env
	if e.DirSet || hasVault(e.Dir) {
		return nil
	}
	conn, err := dial(ctx, e.SharedSocket)
	if conn == nil || err != nil {
		return nil
	}
	if err := vouch(conn, e.SharedSocket, cfg.sharedFile); err != nil {
		_ = conn.Close()
		cfg.notice("the shared socket is not used: " + api.AsError(err).Message)
		return nil
	}
	c := newClient(cfg, e.SharedSocket, conn)
	c.operator = c.transport(true)
	c.calls = c.operator
	return c
}

func hasVault(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "vault.aiv"))
	return !errors.Is(err, os.ErrNotExist)
}

func newClient(cfg Config, path string, first net.Conn) *Client {
	return &Client{cfg: cfg, path: path, first: first}
}

// InProcess says whether the broker runs in this process.
func (c *Client) InProcess() bool { return c.inside != nil }

// Close closes connections; in-process it closes the vault.
func (c *Client) Close() error {
	if conn := c.takeFirst(); conn != nil {
		_ = conn.Close()
	}
	c.calls.CloseIdleConnections()
	c.operator.CloseIdleConnections()
	if c.inside != nil {
		return c.inside.close()
	}
	return nil
}

func (c *Client) takeFirst() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.first
	c.first = nil
	return conn
}

// transport speaks HTTP/1.1 over the daemon's socket and knows no proxy.
func (c *Client) transport(trusted bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.open(ctx, trusted) },
		Protocols:           protocols,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}
}

// open makes one connection and, where it matters, checks who listens there.
func (c *Client) open(ctx context.Context, trusted bool) (net.Conn, error) {
	if c.inside != nil {
		return c.inside.dial(ctx)
	}
	conn := c.takeFirst()
	if conn == nil {
		dialled, err := dial(ctx, c.path)
		if err != nil {
			return nil, err
		}
		if dialled == nil {
			return nil, unreachable(c.path)
		}
		conn = dialled
	}
	if trusted {
		if err := vouch(conn.(*net.UnixConn), c.path, c.cfg.sharedFile); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

const (
	dialPatience = 10 * time.Second
	dialPause    = 5 * time.Millisecond
)

// dial connects to a socket; nil, nil where nobody listens.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return conn.(*net.UnixConn), nil
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
			return nil, nil
		case errors.Is(err, syscall.EACCES):
			return nil, api.Errorf(api.DaemonUnreachable, "this user may not use the socket %q", path).
				WithHint("ask the operator to add this user to the socket's group")
		case errors.Is(err, syscall.EINVAL) && len(path) >= len(syscall.RawSockaddrUnix{}.Path):
			return nil, api.Errorf(api.DaemonUnreachable, "the socket's path %q is too long for this system", path).
				WithHint("choose a shorter one, or set AIVAULTD_DISABLE=1 to work without a daemon")
		case !errors.Is(err, syscall.EAGAIN): // EAGAIN: its queue is full just now
			if e := context.Cause(ctx); errors.Is(e, context.Canceled) {
				return nil, e
			}
			return nil, api.Errorf(api.DaemonUnreachable, "the socket %q cannot be used: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, api.Errorf(api.DaemonUnreachable, "the daemon at %q takes no more connections", path)
		case <-time.After(dialPause):
		}
	}
}
