package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
)

// streaming is a daemon whose one upstream is a stand-in, and a stream of its
// events that has begun.
type streaming struct {
	env    Env
	up     *standin.API
	cancel context.CancelFunc // asks the daemon to leave
	hurry  context.CancelFunc
	left   chan error
	resp   *http.Response
	events *bufio.Reader
}

func newStreaming(t *testing.T) *streaming {
	t.Helper()
	up, err := standin.Start(nil, "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	up.StepChat(true)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(up.CAPEM())
	s := &streaming{env: envFor(t), up: up, left: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	hurry, now := context.WithCancel(context.Background())
	s.cancel, s.hurry = cancel, now
	ready := make(chan struct{})
	go func() {
		s.left <- Run(ctx, Config{
			Env: s.env, Hurry: hurry, Ready: func() { close(ready) },
			Build: Build{Version: "test", Dev: &Dev{Resolve: map[string]netip.AddrPort{"api.openai.com": up.Addr()}, Roots: roots}},
		})
	}()
	t.Cleanup(func() { cancel(); now() })
	select {
	case <-ready:
	case err := <-s.left:
		t.Fatal(err)
	}
	s.post(t, api.RouteSecrets, `{"name":"OPENAI_API_KEY","value":"sk-test-0123456789"}`).Body.Close()
	s.resp = s.post(t, api.RouteProxy, `{"capability":"openai/chat-completions","request":{"body":"{\"stream\":true}"}}`)
	t.Cleanup(func() { s.resp.Body.Close() })
	s.events = bufio.NewReader(s.resp.Body)
	up.Step()
	if line, err := s.events.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Fatalf("%q %v", line, err)
	}
	return s
}

func (s *streaming) post(t *testing.T, route, body string) *http.Response {
	t.Helper()
	resp, err := httpOver(t, s.env.OwnSocket).Post("http://x"+route, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %d %s", route, resp.StatusCode, b)
	}
	return resp
}

// finished are the outcomes in the log.
func (s *streaming) finished(t *testing.T) []string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(s.env.Dir, "audit", "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(`"event":"call.finished"`)) {
			all = append(all, string(line))
		}
	}
	return all
}

func (s *streaming) returns(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.left:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon does not leave")
	}
}

// A stream that runs when the daemon is asked to leave runs to its end, and
// the daemon goes with it.
func TestAStreamMayEnd(t *testing.T) {
	s := newStreaming(t)
	s.cancel()
	for until := time.Now().Add(10 * time.Second); answers(s.env.OwnSocket); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("a leaving daemon takes new connections")
		}
	}
	select {
	case err := <-s.left:
		t.Fatalf("it did not wait for the stream: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	for range 4 {
		s.up.Step()
	}
	rest, err := io.ReadAll(s.events)
	if err != nil || !bytes.Contains(rest, []byte("[DONE]")) || s.resp.Trailer.Get(api.HeaderError) != "" {
		t.Errorf("the rest of the stream: %q %v %v", rest, err, s.resp.Trailer)
	}
	s.returns(t)
	if all := s.finished(t); len(all) != 1 || strings.Contains(all[0], `"code"`) {
		t.Errorf("the outcome: %q", all)
	}
}

// Who will not wait cuts it off, and its outcome is in the log all the same.
func TestAStreamThatIsCutOff(t *testing.T) {
	s := newStreaming(t)
	s.cancel()
	select {
	case err := <-s.left:
		t.Fatalf("it did not wait for the stream: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.hurry()
	s.returns(t)
	if rest, err := io.ReadAll(s.events); err == nil {
		t.Errorf("the stream ended in good order: %q", rest)
	}
	if all := s.finished(t); len(all) != 1 || !strings.Contains(all[0], `"reason":"closed before its end"`) && !strings.Contains(all[0], `cancelled`) {
		t.Errorf("the outcome: %q", all)
	}
}

// Whoever is served is waited for after the connections are closed, but not
// for ever.
func TestSettle(t *testing.T) {
	release := make(chan struct{})
	r := &requests{next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })}
	go r.ServeHTTP(nil, nil)
	for r.n.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	if r.settle(50 * time.Millisecond); time.Since(began) < 50*time.Millisecond || r.n.Load() != 1 {
		t.Errorf("it waited %s", time.Since(began))
	}
	var settled atomic.Bool
	done := make(chan struct{})
	go func() { r.settle(time.Minute); settled.Store(true); close(done) }()
	time.Sleep(20 * time.Millisecond)
	if settled.Load() {
		t.Error("it did not wait")
	}
	close(release)
	<-done
}

func TestUntilSignal(t *testing.T) {
	ctx, hurry, stop := untilSignal(syscall.SIGUSR1)
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if hurry.Err() != nil {
		t.Error("the first signal hurries")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-hurry.Done()
	_, _, again := untilSignal(syscall.SIGUSR2)
	again() // without a signal
}
