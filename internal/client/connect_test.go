package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

func decodeInto(b []byte, v any) error { return strictjson.Unmarshal(b, v) }

func marshal(v any) (string, error) { b, err := strictjson.Marshal(v); return string(b), err }

func TestWithoutADaemonAndWithoutAutostart(t *testing.T) {
	cfg := config(t)
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(cfg.Env.Home, ".aivault")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	cfg.Env.Autostart, cfg.Socket = true, filepath.Join(cfg.Env.Home, "elsewhere")
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("--socket: %v", err)
	}
	cfg.Socket, cfg.Env.Socket, cfg.Env.SocketSet = "", filepath.Join(cfg.Env.Home, "elsewhere"), true
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("AIVAULTD_SOCKET: %v", err)
	}
	if _, err := RunningDaemon(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("a daemon was started for a socket that is not this user's own: %v", err)
	}
}

func TestASocketWhosePathIsTooLongIsSaidToBe(t *testing.T) {
	cfg := config(t)
	cfg.Socket = filepath.Join(cfg.Env.Home, strings.Repeat("x", 110))
	e := api.AsError(errOf(Connect(t.Context(), cfg)))
	if e == nil || e.Code != api.DaemonUnreachable || !strings.Contains(e.Message, "too long") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
}

func TestASocketWhereNobodyListensIsNamedTheWayItWasGiven(t *testing.T) {
	cfg := config(t)
	cfg.Socket = filepath.Join(cfg.Env.Home, "none")
	if e := api.AsError(errOf(Connect(t.Context(), cfg))); e == nil || !strings.Contains(e.Hint, "--socket") {
		t.Errorf("by flag: %+v", e)
	}
	cfg.Socket, cfg.Env.Socket, cfg.Env.SocketSet = "", cfg.Socket, true
	if e := api.AsError(errOf(Connect(t.Context(), cfg))); e == nil || !strings.Contains(e.Hint, "AIVAULTD_SOCKET") {
		t.Errorf("by variable: %+v", e)
	}
}

// A daemon that ends in the middle, and what is none, are told in our words.
func TestARequestThatBreaksOff(t *testing.T) {
	for name, answer := range map[string]string{"nothing": "", "half a header": "HTTP/1.1 200 OK\r\nAivault-", "no HTTP": "SSH-2.0-x\r\n\r\n"} {
		cfg := config(t)
		cfg.Socket = filepath.Join(cfg.Env.Home, "it")
		ln, err := net.Listen("unix", cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 64<<10))
				_, _ = io.WriteString(conn, answer)
				conn.Close()
			}
		}()
		c, err := Connect(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Secrets(t.Context())
		e := api.AsError(err)
		if e == nil || e.Code != api.DaemonUnreachable || e.Hint == "" || e.Message != fmt.Sprintf("the request to the daemon at %q broke off: it has ended, or what it sent is no answer", cfg.Socket) {
			t.Errorf("%s: %+v", name, e)
		}
		c.Close()
	}
}

func errOf(_ *Client, err error) error { return err }

func TestNoAivaultdBeside(t *testing.T) {
	cfg := config(t)
	cfg.Env.Autostart, cfg.daemonFile = true, ""
	t.Setenv("PATH", filepath.Dir(os.Args[0])) // it has no say
	_, err := Connect(t.Context(), cfg)
	e := api.AsError(err)
	if e == nil || e.Code != api.DaemonUnreachable || !strings.Contains(e.Hint, "AIVAULTD_DISABLE=1") {
		t.Errorf("got %v (%+v)", err, e)
	}
}

func TestAutostart(t *testing.T) {
	cfg := config(t)
	cfg.Env.Autostart = true
	start := time.Now()
	const many = 8
	pids := make(chan int, many)
	var wg sync.WaitGroup
	for range many { // all at once: one daemon, and all succeed
		wg.Go(func() {
			c, err := Connect(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			st, err := c.Status(t.Context())
			if err != nil || st.Daemon == nil {
				t.Errorf("%+v %v", st, err)
				return
			}
			pids <- st.Daemon.PID
		})
	}
	wg.Wait()
	t.Logf("%d cold starts at once took %v", many, time.Since(start))
	close(pids)
	var pid int
	for p := range pids {
		if pid == 0 {
			pid = p
		}
		if p != pid {
			t.Errorf("two daemons: %d and %d", pid, p)
		}
	}
	d, err := RunningDaemon(t.Context(), cfg)
	if err != nil || d.PID != pid || !slices.Equal(d.Sockets, []string{cfg.Env.OwnSocket}) || d.Version != "test" || time.Since(d.Started) > time.Minute {
		t.Errorf("%+v %v", d, err)
	}
	if again, started, err := StartDaemon(t.Context(), cfg); err != nil || started || again.PID != pid {
		t.Errorf("start beside a running one: %+v %v %v", again, started, err)
	}
	if stopped, err := StopDaemon(t.Context(), cfg); err != nil || stopped.PID != pid {
		t.Errorf("stop: %+v %v", stopped, err)
	}
	if _, err := RunningDaemon(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("after stop: %v", err)
	}
	if _, started, err := StartDaemon(t.Context(), cfg); err != nil || !started {
		t.Errorf("start: %v %v", started, err)
	}
}

// A started daemon inherits nothing of its starter but its standard paths.
func TestAStartedDaemonInheritsNothing(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Log("no /proc: nothing to look at")
		return
	}
	cfg := config(t, "AIVAULT_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	cfg.Env.Autostart = true
	t.Setenv("GODEBUG", "http2debug=2")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	leak, err := os.CreateTemp(t.TempDir(), "leak")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	inherited, err := syscall.Dup(int(leak.Fd())) // as a shell's 9>file does: not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	told := filepath.Join(cfg.Env.Home, "started")
	if err := os.WriteFile(told, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	connect(t, cfg)
	d, err := RunningDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var s started
	if b, err := os.ReadFile(told); err != nil || json.Unmarshal(b, &s) != nil || s.PID != d.PID {
		t.Fatalf("the daemon tells nothing of its start: %q, %v", b, err)
	}
	if s.Cwd != "/" {
		t.Errorf("cwd is %q", s.Cwd)
	}
	for _, fd := range []string{"0", "1", "2"} {
		if s.Descriptors[fd] != "/dev/null" {
			t.Errorf("descriptor %s is %q", fd, s.Descriptors[fd])
		}
	}
	for fd, to := range s.Descriptors {
		if to == leak.Name() {
			t.Errorf("descriptor %s is %s", fd, to)
		}
	}
	for kv := range strings.SplitSeq(strings.TrimRight(s.Environ, "\x00"), "\x00") {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.Contains([]string{"HOME", "AIVAULTD_SOCKET_MODE", "AIVAULTD_SOCKET_DIR_MODE"}, name) {
			t.Errorf("its environment has %q", kv)
		}
	}
	if fields := strings.Fields(s.Stat[strings.LastIndexByte(s.Stat, ')')+1:]); fields[3] != fmt.Sprint(d.PID) {
		t.Errorf("session %s of pid %d: not its own", fields[3], d.PID)
	}
	if len(s.Args) != 2 {
		t.Errorf("arguments %q", s.Args)
	}
	// By then it is closed to other processes of this user.
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", d.PID)); err == nil && os.Geteuid() != 0 {
		t.Error("its environment can be read")
	}
}

// The CLI shows why the daemon it started does not run.
func TestAStartThatFailsSaysWhy(t *testing.T) {
	cfg := config(t)
	cfg.Env.Autostart = true
	if err := os.MkdirAll(filepath.Dir(cfg.Env.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Env.Dir, nil, 0o600); err != nil { // a file where the vault should be
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.VaultUnavailable || !strings.Contains(err.Error(), "vault") {
		t.Errorf("got %v", err)
	}
	cfg.daemonFile = "/bin/false"
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Errorf("got %v", err)
	}
}

func TestTheDaemonIsFoundThroughTheVaultsLock(t *testing.T) {
	cfg := config(t)
	other := filepath.Join(short(t), "s")
	runDaemon(t, daemon.Config{Env: cfg.Env, Sockets: []string{other}})
	if err := os.Remove(cfg.Env.OwnSocket); err != nil {
		t.Fatal(err)
	}
	if c := connect(t, cfg); c.path != other {
		t.Errorf("connected to %q", c.path)
	}
}

// spy counts what is sent to a socket that somebody planted.
func spy(t *testing.T, path string) *atomic.Int64 {
	t.Helper()
	var got atomic.Int64
	l := listenAt(t, path)
	done := make(chan struct{})
	var wg sync.WaitGroup
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				n, _ := io.Copy(io.Discard, c)
				got.Add(n)
			})
		}
	}()
	t.Cleanup(func() { l.Close(); <-done; wg.Wait() })
	return &got
}

func TestVouch(t *testing.T) {
	dir := short(t)
	path := filepath.Join(dir, "s")
	l := listenAt(t, path)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := vouch(conn, path, ""); err != nil {
		t.Errorf("this user's own listener: %v", err)
	}
	l.Close()
}

func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "shared.json")
	for _, c := range []struct {
		uid, own uint32
		want     bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}, {65534, 0, false}} {
		if got := trusted(c.uid, c.own, "/s", file); got != c.want {
			t.Errorf("uid %d listens, uid %d asks: %v", c.uid, c.own, got)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(file, []byte(`{"daemonUid":1001,"socket":"/s"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0 // else the file is not root's, and counts for nothing
	if got := trusted(1001, 1000, "/s", file); got != root {
		t.Errorf("the user whom a file of uid %d names: %v", os.Geteuid(), got)
	}
	if trusted(1001, 1000, "/other", file) || trusted(1002, 1000, "/s", file) {
		t.Error("the file vouches for more than it names")
	}
}

// A real stranger: root's own tests can become somebody else.
func TestAListenerOfAnotherUserGetsNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("TestTrusted holds the rule; only root can play another user, and make test-system does")
		return
	}
	dir := short(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestStranger$")
	cmd.Env = []string{"STRANGER_AT=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("listening"))); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Socket = path
	c := connect(t, cfg)
	_, err = c.CreateSecret(t.Context(), api.SecretCreate{Name: "A", Value: secret.FromString("sk-x")})
	if api.CodeOf(err) != api.PolicyViolation || !strings.Contains(err.Error(), "65534") {
		t.Errorf("a secret for a stranger: %v", err)
	}
	cfg.Socket, cfg.Env.SharedSocket = "", path
	if c, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("a planted shared socket was used: %v %v", c, err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || !strings.Contains(string(rest), "got 0 bytes") {
		t.Errorf("the stranger: %s (%v)", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStranger is the process that listens as another user; without its
// variable it checks nothing.
func TestStranger(t *testing.T) {
	path := os.Getenv("STRANGER_AT")
	if path == "" {
		return
	}
	got := spy(t, path)
	fmt.Print("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
	time.Sleep(400 * time.Millisecond) // longer than the spy waits
	fmt.Printf("got %d bytes\n", got.Load())
}

func TestWhoeverIsNoOperatorHearsThatAtOnce(t *testing.T) {
	for own, want := range map[uint32]api.Code{2000: api.OperatorRequired, 0: api.PolicyViolation} {
		if err := stranger(1000, 1, own, "/s"); api.CodeOf(err) != want {
			t.Errorf("to uid %d: %v", own, err)
		}
	}
}

func TestParseShared(t *testing.T) {
	for _, c := range []struct {
		in  string
		uid uint32
		ok  bool
	}{
		{`{"daemonUid":123,"socket":"/s"}`, 123, true},
		{`{"daemonUid":123}`, 123, true},
		{`{"daemonUid":0,"socket":"/s"}`, 0, true},
		{`{"daemonUid":123,"socket":"/other"}`, 123, false},
		{`{"socket":"/s"}`, 0, false},
		{`{"daemonUid":null}`, 0, false},
		{`{"daemonUid":-1}`, 0, false},
		{`{"daemonUid":4294967296}`, 0, false},
		{`{"daemonUid":"123"}`, 0, false},
		{`{"daemonUid":1,"daemonUid":2}`, 0, false},
		{`{"daemonUid":1,"more":2}`, 0, false},
		{`{"daemonUid":1}x`, 0, false},
		{strings.Repeat(" ", 5000) + `{"daemonUid":1}`, 0, false},
		{``, 0, false},
	} {
		uid, ok := parseShared(strings.NewReader(c.in), "/s")
		if ok != c.ok || ok && uid != c.uid {
			t.Errorf("%.40q: %d %v", c.in, uid, ok)
		}
	}
}

func FuzzParseShared(f *testing.F) {
	f.Add(`{"daemonUid":123,"socket":"/s"}`)
	f.Add(`{"daemonUid":4294967295}`)
	f.Fuzz(func(t *testing.T, in string) {
		if _, ok := parseShared(strings.NewReader(in), "/s"); ok && !strings.Contains(in, "daemonUid") && !strings.Contains(in, "\\u") {
			t.Errorf("%q names a user", in)
		}
	})
}

func TestOnlyRootCanNameTheSharedDaemon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "shared.json")
	if err := os.WriteFile(file, []byte(`{"daemonUid":4242}`), 0o644); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, ok := sharedDaemon(file, "/s"); ok != root {
		t.Errorf("a file of uid %d: %v", os.Geteuid(), ok)
	}
	for name, spoil := range map[string]func() error{
		"file open to all":        func() error { return os.Chmod(file, 0o666) },
		"file open to its group":  func() error { return errors.Join(os.Chmod(file, 0o664)) },
		"directory open to all":   func() error { return errors.Join(os.Chmod(file, 0o644), os.Chmod(dir, 0o777)) },
		"directory open to group": func() error { return os.Chmod(dir, 0o775) },
		"a link": func() error {
			return errors.Join(os.Chmod(dir, 0o755), os.Rename(file, file+"2"), os.Symlink(file+"2", file))
		},
		"missing": func() error { return errors.Join(os.Chmod(dir, 0o755), os.Remove(file)) },
	} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(file, []byte(`{"daemonUid":4242}`), 0o644), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, ok := sharedDaemon(file, "/s"); ok {
			t.Errorf("%s: believed", name)
		}
	}
}

// An explicit socket gets calls, and nothing of the operator's unless the
// listener is trusted. Who listens can be played here by taking the trust away.
func TestAStrangerGetsNoSecret(t *testing.T) {
	cfg := config(t)
	path := filepath.Join(short(t), "s")
	got := spy(t, path)
	cfg.Socket = path
	c := connect(t, cfg)
	c.operator = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dial(ctx, path)
		if err != nil {
			return nil, err
		}
		conn.Close()
		return nil, api.Errorf(api.PolicyViolation, "uid 4242 listens there")
	}}
	secretOf := func() secret.Value { return secret.FromString("sk-x") }
	ctx := t.Context()
	for what, do := range map[string]func() error{
		"create": func() error {
			_, err := c.CreateSecret(ctx, api.SecretCreate{Name: "A", Value: secretOf()})
			return err
		},
		"rotate": func() error { _, err := c.RotateSecret(ctx, "A", api.SecretRotate{Value: secretOf()}); return err },
		"unlock": func() error { _, err := c.Unlock(ctx, api.Unlock{Passphrase: secretOf()}); return err },
		"init":   func() error { _, err := c.Init(ctx, api.KeyOptions{Passphrase: secretOf()}); return err },
		"master": func() error { _, err := c.RotateMaster(ctx, api.KeyOptions{Key: secretOf()}); return err },
		"lock":   func() error { _, err := c.Lock(ctx); return err },
		"update": func() error { _, err := c.UpdateSecret(ctx, "A", api.SecretUpdate{}); return err },
		"delete": func() error { _, err := c.DeleteSecret(ctx, "A"); return err },
		"list":   func() error { _, err := c.Secrets(ctx); return err },
		"audit":  func() error { _, err := c.Audit(ctx, audit.Query{Limit: 1}); return err },
		"cred": func() error {
			_, err := c.CreateCredential(ctx, api.CredentialCreate{ID: "a"})
			return err
		},
		"capability": func() error { _, err := c.CreateCapability(ctx, api.CapabilityCreate{ID: "a/b"}); return err },
	} {
		if err := do(); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := got.Load(); n != 0 {
		t.Errorf("the stranger got %d bytes", n)
	}
}

func TestTheSharedSocket(t *testing.T) {
	cfg := config(t)
	shared := cfg.Env.SharedSocket
	other := config(t)
	runDaemon(t, daemon.Config{Env: other.Env, Sockets: []string{shared}})
	c := connect(t, cfg) // this user has no vault, and the listener is this user
	if c.path != shared || c.own {
		t.Errorf("connected to %q", c.path)
	}
	if c.calls != c.operator {
		t.Error("calls at the shared path go to anyone")
	}
	if err := os.MkdirAll(cfg.Env.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Env.Dir, "vault.aiv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), cfg); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("a user with a vault of their own was sent to the shared daemon: %v", err)
	}
	set := config(t, "AIVAULT_DIR="+short(t))
	set.Env.SharedSocket = shared
	if _, err := Connect(t.Context(), set); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("AIVAULT_DIR names a vault: %v", err)
	}
}

func TestWhatIsNoDaemon(t *testing.T) {
	cfg := config(t)
	path := filepath.Join(short(t), "s")
	l := listenAt(t, path)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "{}") })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	cfg.Socket = path
	c := connect(t, cfg)
	if _, err := c.Status(t.Context()); api.CodeOf(err) != api.DaemonUnreachable {
		t.Errorf("got %v", err)
	}
}

// A daemon that hangs is said to: status is what a person asks then.
func TestADaemonThatIsSilent(t *testing.T) {
	cfg := config(t)
	cfg.Socket = filepath.Join(short(t), "s")
	listenAt(t, cfg.Socket) // the kernel takes the connection, and nobody reads
	cfg.readPatience = 50 * time.Millisecond
	c := connect(t, cfg)
	_, err := c.Status(t.Context())
	if e := api.AsError(err); api.CodeOf(err) != api.DaemonUnreachable || !strings.Contains(e.Message, "does not answer") || e.Hint != "aivault restart" {
		t.Errorf("got %v (%+v)", err, e)
	}
	// Whoever gives up first is told so and nothing else.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// The same holds for one that hangs in the middle of its answer.
func TestADaemonThatFallsSilent(t *testing.T) {
	cfg := config(t)
	cfg.Socket = filepath.Join(short(t), "s")
	l := listenAt(t, cfg.Socket)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderAPI, strconv.Itoa(api.Version))
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	cfg.readPatience = 300 * time.Millisecond
	c := connect(t, cfg)
	_, err := c.Status(t.Context())
	if e := api.AsError(err); api.CodeOf(err) != api.DaemonUnreachable || e.Hint != "aivault restart" {
		t.Errorf("got %v (%+v)", err, e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestADaemonThatDoesNotStop(t *testing.T) {
	cfg := config(t)
	d, _, err := StartDaemon(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(d.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// It leaves when it goes on: the signal that asks it to waits.
	defer syscall.Kill(d.PID, syscall.SIGCONT)
	hasty := cfg
	hasty.stopPatience = 50 * time.Millisecond
	_, err = StopDaemon(t.Context(), hasty)
	if e := api.AsError(err); api.CodeOf(err) != api.Internal || e.Hint != fmt.Sprintf("kill -KILL %d", d.PID) {
		t.Errorf("got %v (%+v)", err, e)
	}
}

func TestOtherVersionsOfTheDaemon(t *testing.T) {
	cfg := config(t)
	path := filepath.Join(short(t), "s")
	l := listenAt(t, path)
	version, status, body := "1", 200, "{}"
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderAPI, version)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	cfg.Socket = path
	c := connect(t, cfg)
	future := `{"vault":{"state":"none","colour":"blue"},"caller":{"uid":1,"operator":true},"providers":[],"problems":[],"news":1}`
	version, body = fmt.Sprint(api.Version+1), future
	if st, err := c.Status(t.Context()); err != nil || st.Caller.UID != 1 {
		t.Errorf("a newer daemon's fields: %v", err)
	}
	version = fmt.Sprint(api.Version)
	if _, err := c.Status(t.Context()); api.CodeOf(err) != api.Internal {
		t.Errorf("unknown fields of the same version: %v", err)
	}
	version, status, body = "0", 404, `{"error":"invalid_request","message":"the daemon has no such route"}`
	if _, err := c.Status(t.Context()); api.AsError(err) == nil || api.AsError(err).Hint != "aivault daemon restart" {
		t.Errorf("an older daemon: %v", err)
	}
	status, body = 500, "nonsense"
	if _, err := c.Status(t.Context()); api.CodeOf(err) != api.Internal {
		t.Errorf("nonsense: %v", err)
	}
	status, body = 302, ""
	if _, err := c.Status(t.Context()); api.CodeOf(err) != api.Internal {
		t.Errorf("a redirect: %v", err)
	}
}
