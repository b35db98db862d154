package client

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// The test binary plays aivaultd: its own TestMain hands over when it is
// started as the client starts a daemon.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == daemon.AutostartFlag || os.Args[1] == daemon.BackgroundFlag) {
		tellStart()
		os.Exit(daemon.Main(os.Args, "test", func([]string) (*daemon.Dev, error) { return nil, nil }, os.Stdout, os.Stderr))
	}
	// net/http lingers for half a second on a connection that it closed early,
	// longer than goleak waits, and then ends by itself.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// started is what a process finds itself with, before the daemon in it closes
// itself to others of its user.
type started struct {
	PID           int
	Cwd           string
	Descriptors   map[string]string
	Environ, Stat string
	Args          []string
}

// tellStart writes it into the file that a test made for it.
func tellStart() {
	f, err := os.OpenFile(filepath.Join(os.Getenv("HOME"), "started"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	s := started{PID: os.Getpid(), Descriptors: map[string]string{}, Args: os.Args}
	s.Cwd, _ = os.Readlink("/proc/self/cwd")
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		s.Descriptors[fd.Name()], _ = os.Readlink("/proc/self/fd/" + fd.Name())
	}
	environ, _ := os.ReadFile("/proc/self/environ")
	stat, _ := os.ReadFile("/proc/self/stat")
	s.Environ, s.Stat = string(environ), string(stat)
	_ = json.NewEncoder(f).Encode(s)
}

// short is a directory whose path leaves room for a socket's name.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// config is that of a new user with an empty home. Its daemon, if one is
// started, is stopped with the test.
func config(t *testing.T, more ...string) Config {
	t.Helper()
	env, err := daemon.ParseEnv(append([]string{"HOME=" + short(t), "AIVAULTD_AUTOSTART=0"}, more...))
	if err != nil {
		t.Fatal(err)
	}
	env.SharedSocket = filepath.Join(env.Home, "shared", "s") // never this machine's
	cfg := Config{Env: env, daemonFile: os.Args[0], sharedFile: filepath.Join(env.Home, "shared.json"), Notice: func(l string) { t.Log(l) },
		argon2id: keysource.Argon2Params{MemoryKiB: 8 << 10, Time: 1, Parallelism: 1}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := StopDaemon(ctx, cfg); err != nil && api.CodeOf(err) != api.DaemonUnreachable {
			t.Error(err)
		}
	})
	return cfg
}

// runDaemon runs cfg's daemon within this process.
func runDaemon(t *testing.T, cfg daemon.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	cfg.Ready = func() { close(ready) }
	cfg.Build.Version = "test"
	go func() { done <- daemon.Run(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("the daemon did not start: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func connect(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// both runs a test through a daemon and in-process.
func both(t *testing.T, f func(t *testing.T, c *Client)) {
	t.Run("daemon", func(t *testing.T) {
		cfg := config(t)
		runDaemon(t, daemon.Config{Env: cfg.Env})
		f(t, connect(t, cfg))
	})
	t.Run("in-process", func(t *testing.T) { f(t, connect(t, config(t, "AIVAULTD_DISABLE=1"))) })
}

const key = "sk-very-secret-\"value\"-\\7c1d\u00e4"

// acme starts an API, and makes a credential and a capability for it.
func acme(t *testing.T, c *Client, handler *standin.API) *standin.API {
	t.Helper()
	if handler == nil {
		a, err := standin.Start(nil)
		if err != nil {
			t.Fatal(err)
		}
		handler = a
	}
	t.Cleanup(handler.Close)
	ctx := t.Context()
	// What a header cannot carry is escaped away; what JSON escapes is not.
	s, err := c.CreateSecret(ctx, api.SecretCreate{Name: "ACME_KEY", Value: secret.FromString(strings.ReplaceAll(key, "\u00e4", "a"))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateCredential(ctx, api.CredentialCreate{
		ID: "acme", Provider: "acme", SecretRefs: map[string]string{"secret": s.ID}, Auth: &api.AuthSpec{Type: "header"},
		Hosts: []string{handler.Addr().String()}, CAPEM: string(handler.CAPEM()), AllowPrivateNetwork: true, AllowPorts: []int{int(handler.Addr().Port())},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateCapability(ctx, api.CapabilityCreate{ID: "acme/all", Methods: []string{"GET", "POST"}, Paths: []string{"/"}})
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// listenAt plays some other program at a socket.
func listenAt(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
