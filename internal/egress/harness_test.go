package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

func TestMain(m *testing.M) {
	// net/http lingers for half a second on a connection that it closed early,
	// longer than goleak waits, and then ends by itself.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const testHost = "api.example.com"

// upstream is a stand-in with the destination that leads to it.
type upstream struct {
	*standin.API
	to Destination
}

func startAPI(t testing.TB, handler http.Handler) upstream {
	t.Helper()
	a, err := standin.Start(handler, testHost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return upstream{a, destination(a.Addr(), a.CAPEM())}
}

func destination(addr netip.AddrPort, roots []byte) Destination {
	port := int(addr.Port())
	return Destination{
		Host: testHost + ":" + strconv.Itoa(port), AllowPrivate: true, AllowPorts: []int{port}, Roots: roots,
	}
}

// loopback resolves every name to this machine.
func loopback(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// newClient makes a Client that finds every host on loopback, unless cfg
// says otherwise.
func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	if cfg.Resolve == nil {
		cfg.Resolve = loopback
	}
	c := New(cfg)
	t.Cleanup(c.CloseIdle)
	return c
}

func request(t testing.TB, method, target string, headers ...api.Header) *policy.Request {
	t.Helper()
	r, err := policy.Canonicalise(method, target, headers, policy.Rules{})
	if err != nil {
		t.Fatalf("canonicalise %s %s: %v", method, target, err)
	}
	return r
}

func bearer(value string) Additions {
	return Additions{Headers: []Field{{Name: "Authorization", Value: secret.FromString("Bearer " + value)}}}
}

func send(t testing.TB, c *Client, to Destination, method, target string, add Additions, body Body) (*Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return c.Send(ctx, to, request(t, method, target), add, body)
}

// get sends a GET that must succeed and returns its whole answer.
func get(t testing.TB, c *Client, to Destination, target string) (*Response, string) {
	t.Helper()
	resp, err := send(t, c, to, "GET", target, Additions{}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func wantCode(t testing.TB, err error, code api.Code, text string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is no api error; want %s", err, code)
	}
	if e.Code != code || !strings.Contains(e.Message, text) {
		t.Fatalf("error %s %q; want %s ...%s...", e.Code, e.Message, code, text)
	}
}

// rawServer speaks TLS and then whatever serve does with the connection. It
// takes its certificate from a stand-in that nobody calls.
func rawServer(t testing.TB, serve func(net.Conn)) (Destination, *rawListener) {
	t.Helper()
	key, roots := certificate(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	raw := &rawListener{accepted: make(chan struct{}, 1000), done: make(chan struct{})}
	go func() {
		defer close(raw.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			raw.accepted <- struct{}{}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-raw.done })
	return destination(l.Addr().(*net.TCPAddr).AddrPort(), roots), raw
}

type rawListener struct {
	accepted chan struct{}
	done     chan struct{}
}

// readHead reads an HTTP/1.1 request's head as bytes.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

// answering serves fixed bytes to every request of a connection.
func answering(answer func(head string) string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			if _, err := io.WriteString(conn, answer(head)); err != nil {
				return
			}
		}
	}
}
