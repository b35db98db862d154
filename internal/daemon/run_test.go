package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

func envFor(t *testing.T, more ...string) Env {
	t.Helper()
	e, err := ParseEnv(append([]string{"HOME=" + short(t)}, more...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// runDaemon runs a daemon in this process until the test ends, or stop.
func runDaemon(t *testing.T, cfg Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	cfg.Ready = func() { close(ready) }
	cfg.Build.Version = "test"
	go func() { done <- Run(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("the daemon did not start: %v", err)
	}
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

// httpOver speaks to a socket with nothing of the client package's.
func httpOver(t *testing.T, socket string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func statusOver(t *testing.T, socket string) api.Status {
	t.Helper()
	resp, err := httpOver(t, socket).Get("http://x" + api.RouteStatus)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st api.Status
	if err := strictjson.Read(resp.Body, 1<<20, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestRunServesAndLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")) // ends by itself, after half a second
	e := envFor(t)
	given := filepath.Join(short(t), "run", "given.sock")
	stop := runDaemon(t, Config{Env: e, Sockets: []string{given}, AgentSocket: filepath.Join(filepath.Dir(given), "agent.sock")})
	agent := filepath.Join(filepath.Dir(given), "agent.sock")
	for socket, operator := range map[string]bool{given: true, e.OwnSocket: true, agent: false} {
		st := statusOver(t, socket)
		if st.Caller.Operator != operator {
			t.Errorf("%s: operator is %v", socket, st.Caller.Operator)
		}
		if st.Vault.State != "none" || st.Daemon == nil || st.Daemon.Version != "test" {
			t.Errorf("%s: %+v", socket, st)
		}
		if !operator && (st.Vault.Dir != "" || st.Key != nil || st.Daemon.PID != 0 || st.Daemon.Socket != "" || st.Strength != "") {
			t.Errorf("a caller sees %+v", st)
		}
		if operator && (st.Daemon.Socket != given || st.Daemon.PID != os.Getpid()) {
			t.Errorf("an operator sees %+v", st.Daemon)
		}
	}
	if r, ok := ReadRunning(e.Dir); !ok || len(r.Sockets) != 3 {
		t.Errorf("the lock names %+v", r)
	}
	if err := Run(t.Context(), Config{Env: e}); api.CodeOf(err) != api.AlreadyExists || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second daemon: %v", err)
	}
	if _, err := os.Stat(filepath.Join(e.Dir, "vault.aiv")); err == nil {
		t.Error("a starting daemon made a vault")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{given, agent, e.OwnSocket} {
		if _, err := os.Lstat(socket); err == nil {
			t.Errorf("%s was left behind", socket)
		}
	}
	log, err := os.ReadFile(LogPath(e))
	if err != nil || !bytes.Contains(log, []byte("msg=started")) || !bytes.Contains(log, []byte("msg=left")) {
		t.Errorf("the log is %q (%v)", log, err)
	}
	if info, err := os.Stat(LogPath(e)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode: %v %v", info.Mode(), err)
	}
}

func TestRunReplacesWhatAKilledDaemonLeft(t *testing.T) {
	e := envFor(t)
	s, err := listen(at(e.OwnSocket))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	runDaemon(t, Config{Env: e})
	statusOver(t, e.OwnSocket)
}

// What runs may end; what comes finds no socket.
func TestDrain(t *testing.T) {
	e := envFor(t)
	stop := runDaemon(t, Config{Env: e})
	c, err := net.Dial("unix", e.OwnSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	body := `{"name":"N","value":"v"}`
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", api.RouteSecrets, len(body))
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(io.LimitReader(c, int64(len(goOn)))); err != nil || string(b) != goOn {
		t.Fatalf("%q %v", b, err)
	}
	if _, err := io.WriteString(c, body[:5]); err != nil { // and the handler waits for the rest
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- stop() }()
	for range 1000 {
		if !answers(e.OwnSocket) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if answers(e.OwnSocket) {
		t.Error("a leaving daemon takes new connections")
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the request: %v", err)
	default:
	}
	if _, err := io.WriteString(c, body[5:]); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK")) {
		t.Errorf("the request that ran got %q (%v)", answer, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnIdleDaemonLeaves(t *testing.T) {
	e := envFor(t)
	lock, err := acquireVault(t.Context(), e.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	inst, err := New(Options{Env: e})
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	sockets, err := openAll(socketsOf(Config{Env: e}))
	if err != nil {
		t.Fatal(err)
	}
	log, _ := openLog(Env{}, nil)
	quiet := newIdle(20*time.Millisecond, func() bool { return false })
	defer quiet.stop()
	if err := serve(t.Context(), Config{Env: e}, inst, sockets, lock, quiet, log); err != nil {
		t.Error(err)
	}
}

func TestConnectionsOfOneUserAreBounded(t *testing.T) {
	d := &door{most: maxConns, owner: 500, of: map[uint32]int{}}
	for range maxConnsPerUser {
		if !d.enter(1000) {
			t.Fatal("refused too early")
		}
	}
	if d.enter(1000) {
		t.Error("one more than allowed came in")
	}
	if !d.enter(1001) {
		t.Error("one user kept another out")
	}
	d.leave(1000)
	if !d.enter(1000) {
		t.Error("a free place was not given")
	}
	for uid := uint32(2000); d.enter(uid); uid++ {
	}
	if d.total != maxConns {
		t.Errorf("%d connections at once", d.total)
	}
	// Whatever the others do, there is room for who can end it.
	for _, uid := range []uint32{0, 500} {
		for range maxConnsPerUser {
			if !d.enter(uid) {
				t.Fatalf("the operator %d is kept out", uid)
			}
		}
		if d.enter(uid) {
			t.Errorf("the operator %d has no bound", uid)
		}
		d.leave(uid)
	}
	if d.total != maxConns {
		t.Errorf("the operator's connections count: %d", d.total)
	}
}

// Users who each take all that they get leave room for the next one.
func TestSomeUsersLeaveRoomForTheNext(t *testing.T) {
	d := &door{most: maxConns, owner: 500, of: map[uint32]int{}}
	for uid := uint32(1000); uid < 1030; uid++ {
		if !d.enter(uid) {
			t.Fatalf("there is nothing left for user %d", uid)
		}
		for d.enter(uid) {
		}
	}
	for uid := uint32(1000); uid < 1030; uid++ {
		for d.of[uid] > 0 {
			d.leave(uid)
		}
	}
	if d.total != 0 || len(d.of) != 0 {
		t.Errorf("something is left: %d, %v", d.total, d.of)
	}
}

func TestConnectionsFor(t *testing.T) {
	for files, want := range map[uint64]int{0: 16, 160: 16, 256: 64, 1024: 448, 4096: 1984, 8319: 4095, 8320: 4096, 1 << 20: 4096, 1<<64 - 1: 4096} {
		if got := connsFor(files); got != want {
			t.Errorf("with %d files: %d connections, want %d", files, got, want)
		}
	}
}

func TestManyConnectionsDoNotKeepADaemonFromAnswering(t *testing.T) {
	e := envFor(t)
	runDaemon(t, Config{Env: e})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxConnsPerUser + 50 {
		c, err := net.Dial("unix", e.OwnSocket)
		if err != nil {
			break
		}
		open = append(open, c)
	}
	for _, c := range open[:100] {
		c.Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		resp, err := httpOver(t, e.OwnSocket).Get("http://x" + api.RouteStatus)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestSocketsOf(t *testing.T) {
	e := Env{OwnSocket: "/own", Socket: "/own", SharedSocket: "/shared", SocketMode: 0o600, SocketDirMode: 0o700}
	given := e
	given.Socket, given.SocketSet, given.SocketMode, given.SocketDirMode = "/env", true, 0o660, 0o750
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"alone", Config{Env: e}, "/own 600 700"},
		{"variable", Config{Env: given}, "/env 660 750; /own 600 700"},
		{"flag before variable", Config{Env: given, Sockets: []string{"/flag"}}, "/flag 660 750; /own 600 700"},
		{"variable names the own one", Config{Env: Env{OwnSocket: "/own", Socket: "/own", SocketSet: true, SocketMode: 0o660, SocketDirMode: 0o750}}, "/own 660 750"},
		{"shared", Config{Env: e, Shared: true}, "/shared 660 700; /own 600 700"},
		{"agent", Config{Env: e, AgentSocket: "/a"}, "/a 660 700 agent; /own 600 700"},
		{"agent wins", Config{Env: e, AgentSocket: "/a", Sockets: []string{"/a"}}, "/a 660 700 agent; /own 600 700"},
	} {
		var got []string
		for _, s := range socketsOf(c.cfg) {
			line := fmt.Sprintf("%s %o %o", s.Path, s.Mode, s.DirMode)
			if s.Agent {
				line += " agent"
			}
			got = append(got, line)
		}
		if all := strings.Join(got, "; "); all != c.want {
			t.Errorf("%s: %s", c.name, all)
		}
	}
}

// A build that does not know the development variables makes no calls where
// one is set, and says why.
func TestDevelopmentVariablesStopCalls(t *testing.T) {
	e := envFor(t, "AIVAULT_DEV_RESOLVE=api.openai.com=127.0.0.1:1")
	runDaemon(t, Config{Env: e})
	resp, err := httpOver(t, e.OwnSocket).Post("http://x"+api.RouteProxy, "application/json", strings.NewReader(`{"capability":"openai/chat-completions","request":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 403 || !bytes.Contains(b, []byte("AIVAULT_DEV_RESOLVE")) {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

func TestUnlockFromEnv(t *testing.T) {
	e := envFor(t, "AIVAULT_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	post := func(socket, route, body string) (int, string) {
		resp, err := httpOver(t, socket).Post("http://x"+route, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	stop := runDaemon(t, Config{Env: e})
	if code, b := post(e.OwnSocket, api.RouteInit, `{"provider":"env","key":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}`); code != 200 {
		t.Fatalf("init: %d %s", code, b)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = runDaemon(t, Config{Env: e})
	if st := statusOver(t, e.OwnSocket); st.Vault.State != "unlocked" {
		t.Errorf("with the key in its environment the vault is %s", st.Vault.State)
	}
	if code, b := post(e.OwnSocket, api.RouteLock, ""); code != 200 {
		t.Fatalf("lock: %d %s", code, b)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = runDaemon(t, Config{Env: e})
	if st := statusOver(t, e.OwnSocket); st.Vault.State != "locked" {
		t.Errorf("a locked vault is %s after a restart", st.Vault.State)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	without := e
	without.Keys = map[string]secret.Value{}
	runDaemon(t, Config{Env: without})
	if st := statusOver(t, e.OwnSocket); st.Vault.State != "locked" {
		t.Errorf("without a key the vault is %s", st.Vault.State)
	}
}
