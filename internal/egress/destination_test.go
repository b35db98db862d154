package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
)

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// resolving answers the first time with the first list, and so on; the last
// is repeated.
func resolving(answers ...[]netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
	var n atomic.Int32
	return func(context.Context, string) ([]netip.Addr, error) {
		return answers[min(int(n.Add(1)), len(answers))-1], nil
	}
}

func TestResolvedAddressesAreVetted(t *testing.T) {
	up := startAPI(t, nil)
	plain := up.to
	plain.AllowPrivate = false
	for _, tt := range []struct {
		name    string
		resolve func(context.Context, string) ([]netip.Addr, error)
		to      Destination
		text    string // "" is success
	}{
		{"private, allowed", resolving(addrs("127.0.0.1")), up.to, ""},
		{"mapped private, allowed", resolving(addrs("::ffff:127.0.0.1")), up.to, ""},
		{"private", resolving(addrs("127.0.0.1")), plain, "loopback"},
		{"good and bad", resolving(addrs("203.0.114.1", "10.0.0.1")), plain, "private"},
		{"bad and good", resolving(addrs("169.254.169.254", "127.0.0.1")), up.to, "link-local"},
		{"good and bad, allowed", resolving(addrs("127.0.0.1", "169.254.169.254")), up.to, "link-local"},
		{"metadata, allowed", resolving(addrs("fd00:ec2::254")), up.to, "metadata"},
		{"zone, allowed", resolving(addrs("::1%lo")), up.to, "zone"},
		{"unspecified, allowed", resolving(addrs("0.0.0.0")), up.to, "unspecified"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, Config{Resolve: tt.resolve})
			before := len(up.Seen())
			resp, err := send(t, c, tt.to, "GET", "/", Additions{}, Body{})
			if err == nil {
				resp.Body.Close()
			}
			if tt.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, api.PolicyViolation, tt.text)
			for _, leak := range []string{"127.0.0.1", "10.0.0.1", "169.254", "ec2"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("%q tells the caller an address", err)
				}
			}
			if len(up.Seen()) != before {
				t.Error("the upstream was called")
			}
		})
	}
}

// A name that was good once is vetted again for every connection.
func TestRebinding(t *testing.T) {
	up := startAPI(t, nil)
	c := newClient(t, Config{Resolve: resolving(addrs("127.0.0.1"), addrs("169.254.169.254"))})
	h1Only(t, c, up.to) // whose connection is idle as soon as its answer is read
	get(t, c, up.to, "/")
	c.CloseIdle()
	_, err := send(t, c, up.to, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.PolicyViolation, "link-local")
}

// control sees the address that is dialled, whatever resolve returned.
func TestControlHasTheLastWord(t *testing.T) {
	r := route{cfg: &Config{}, name: "x"}
	for address, ok := range map[string]bool{
		"203.0.114.1:443": true, "127.0.0.1:443": false, "[fe80::1]:443": false, "[::ffff:10.0.0.1]:443": false, "host:443": false,
	} {
		if err := r.control("tcp4", address, nil); (err == nil) != ok {
			t.Errorf("control(%s) = %v", address, err)
		}
	}
	if r.control("udp4", "203.0.114.1:443", nil) == nil {
		t.Error("control let UDP through")
	}
	_, err := r.dial(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")})
	wantCode(t, err, api.PolicyViolation, "loopback")
}

func TestHostLiterals(t *testing.T) {
	c := newClient(t, Config{AnyPort: true, Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		t.Errorf("%s was resolved", host)
		return nil, errors.New("no")
	}})
	for _, host := range []string{
		"127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::1]:443", "::1", "[fd00:ec2::254]", "0.0.0.0", "[::]", "192.0.0.192",
		"127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]",
		"[fe80::1%eth0]", "[2002:7f00:1::]",
	} {
		_, err := send(t, c, Destination{Host: host}, "GET", "/", Additions{}, Body{})
		if code := api.CodeOf(err); code != api.PolicyViolation && code != api.InvalidRequest {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestPorts(t *testing.T) {
	up := startAPI(t, nil)
	for _, tt := range []struct {
		name string
		cfg  Config
		to   func(*Destination)
		ok   bool
	}{
		{"allowed", Config{}, func(*Destination) {}, true},
		{"not allowed", Config{}, func(d *Destination) { d.AllowPorts = nil }, false},
		{"another allowed", Config{}, func(d *Destination) { d.AllowPorts = []int{444} }, false},
		{"any, in dev builds", Config{AnyPort: true}, func(d *Destination) { d.AllowPorts = nil }, true},
	} {
		to := up.to
		tt.to(&to)
		resp, err := send(t, newClient(t, tt.cfg), to, "GET", "/", Additions{}, Body{})
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !tt.ok {
			wantCode(t, err, api.PolicyViolation, "port")
		}
	}
}

// The default port is 443, and is no part of the Host header.
func TestDialOverride(t *testing.T) {
	up := startAPI(t, nil)
	for key, host := range map[string]string{
		testHost: testHost, testHost + ":443": testHost, testHost + ":8443": testHost + ":8443",
	} {
		c := newClient(t, Config{
			Dial:    map[string]netip.AddrPort{key: up.Addr()},
			AnyPort: true,
			Resolve: resolving(addrs("127.0.0.1")),
		})
		get(t, c, Destination{Host: host, Roots: up.CAPEM()}, "/")
		seen := up.Seen()
		if got := seen[len(seen)-1].Host; got != host {
			t.Errorf("Dial[%s]: Host %q, want %q", key, got, host)
		}
		// The exemption is that host's alone.
		_, err := send(t, c, Destination{Host: "other.example.com", Roots: up.CAPEM()}, "GET", "/", Additions{}, Body{})
		wantCode(t, err, api.PolicyViolation, "loopback")
	}
}

func TestOwnListenersAreNeverDialled(t *testing.T) {
	up := startAPI(t, nil)
	for _, own := range []netip.AddrPort{
		up.Addr(),
		netip.AddrPortFrom(netip.IPv4Unspecified(), up.Addr().Port()),
		netip.AddrPortFrom(netip.IPv6Unspecified(), up.Addr().Port()),
		netip.MustParseAddrPort("[::ffff:" + up.Addr().Addr().String() + "]:" + portOf(up.Addr())),
	} {
		for _, dial := range []map[string]netip.AddrPort{nil, {testHost: up.Addr()}} {
			c := newClient(t, Config{Dial: dial, OwnListeners: func() []netip.AddrPort { return []netip.AddrPort{own} }})
			_, err := send(t, c, up.to, "GET", "/", Additions{}, Body{})
			wantCode(t, err, api.PolicyViolation, "aivault itself")
		}
	}
	other := netip.AddrPortFrom(up.Addr().Addr(), up.Addr().Port()-1)
	c := newClient(t, Config{OwnListeners: func() []netip.AddrPort { return []netip.AddrPort{other} }})
	get(t, c, up.to, "/")
	if listens([]netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}, netip.MustParseAddrPort("203.0.114.1:443")) {
		t.Error("an address elsewhere was taken for a listener of our own")
	}
}

func portOf(a netip.AddrPort) string { _, p, _ := net.SplitHostPort(a.String()); return p }

func TestRedirectIsAnAnswer(t *testing.T) {
	up := startAPI(t, nil)
	resp, _ := get(t, newClient(t, Config{}), up.to, "/redirect?to=/elsewhere")
	if resp.Status != http.StatusFound || resp.Header.Get("Location") != "/elsewhere" || len(up.Seen()) != 1 {
		t.Errorf("status %d, Location %q, %d requests", resp.Status, resp.Header.Get("Location"), len(up.Seen()))
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	up := startAPI(t, nil)
	c := newClient(t, Config{})
	get(t, c, up.to, "/")
	if len(up.Seen()) != 1 {
		t.Error("the upstream was not called")
	}
	// net/http reads the environment once a process, so that a test that ran
	// before could have made this one blind.
	if c.pools.all()[0].transport.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

// connections answers with the client's port, which tells connections apart.
var connections = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, port, _ := net.SplitHostPort(r.RemoteAddr)
	_, _ = io.WriteString(w, port)
})

// A connection is shared under an equal key and under no other.
func TestConnectionSharing(t *testing.T) {
	up := startAPI(t, connections)
	_, strange := certificate(t)
	mine, _ := certificate(t)
	forged := tls.Certificate{Certificate: mine.Certificate, PrivateKey: func() any { c, _ := certificate(t); return c.PrivateKey }()}
	c := newClient(t, Config{Roots: certPool(up.CAPEM())})
	base := up.to
	port := func(to Destination, add Additions) string {
		t.Helper()
		resp, err := send(t, c, to, "GET", "/", add, Body{})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := port(base, Additions{})
	same := base
	same.Roots, same.AllowPorts = bytes.Clone(base.Roots), slices.Clone(base.AllowPorts)
	same.PathPrefix = "/login"
	if port(same, Additions{}) != first {
		t.Error("an equal destination got a connection of its own")
	}
	used := map[string]string{first: "base"}
	for name, change := range map[string]func(*Destination, *Additions){
		"ports":              func(d *Destination, _ *Additions) { d.AllowPorts = append(slices.Clone(d.AllowPorts), 9) },
		"other roots":        func(d *Destination, _ *Additions) { d.Roots = strange },
		"no roots":           func(d *Destination, _ *Additions) { d.Roots = nil },
		"client certificate": func(_ *Destination, a *Additions) { a.Certificate = &mine },
		"another key":        func(_ *Destination, a *Additions) { a.Certificate = &forged },
	} {
		to, add := base, Additions{}
		change(&to, &add)
		got := port(to, add)
		if other, shared := used[got]; shared {
			t.Errorf("%s shares the connection of %s", name, other)
		}
		used[got] = name
		copied := mine
		if add.Certificate == &mine {
			if port(to, Additions{Certificate: &copied}) != got {
				t.Error("an equal certificate got a connection of its own")
			}
		}
	}
	// Without the exception not even the open connection may be used.
	to := base
	to.AllowPrivate = false
	_, err := send(t, c, to, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.PolicyViolation, "loopback")
}

func TestClientCertificateIsSent(t *testing.T) {
	mine, _ := certificate(t)
	key, roots := certificate(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.TLS.PeerCertificates[0].Raw })}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	to := destination(l.Addr().(*net.TCPAddr).AddrPort(), roots)
	c := newClient(t, Config{})
	resp, err := send(t, c, to, "GET", "/", Additions{Certificate: &mine}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !bytes.Equal(<-got, mine.Certificate[0]) {
		t.Error("another certificate was sent")
	}
	_, err = send(t, c, to, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.UpstreamUnreachable, "")
}

func TestCertificates(t *testing.T) {
	serve := func(key tls.Certificate) netip.AddrPort {
		l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}
		}()
		t.Cleanup(func() { l.Close(); <-done })
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	_, strange := certificate(t)
	for _, tt := range []struct {
		name   string
		change func(*x509.Certificate)
		roots  []byte
		code   api.Code
		text   string
	}{
		{"unknown authority", func(*x509.Certificate) {}, strange, api.UpstreamUnreachable, "not trusted"},
		{"no authority given", func(*x509.Certificate) {}, []byte{}, api.UpstreamUnreachable, "not trusted"},
		{"another name", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} }, nil, api.UpstreamUnreachable, "another host"},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, nil, api.UpstreamUnreachable, "expired"},
		{"bad PEM", func(*x509.Certificate) {}, []byte("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"), api.PolicyViolation, "PEM"},
		{"no PEM", func(*x509.Certificate) {}, []byte("hello"), api.PolicyViolation, "PEM"},
		{"a key beside", func(*x509.Certificate) {}, append(bytes.Clone(strange), "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"...), api.PolicyViolation, "PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, own := certificate(t, tt.change)
			roots := tt.roots
			if roots == nil {
				roots = own
			}
			_, err := send(t, newClient(t, Config{Roots: x509.NewCertPool()}), destination(serve(key), roots), "GET", "/", Additions{}, Body{})
			wantCode(t, err, tt.code, tt.text)
		})
	}
	// One destination's bad roots are no other's harm.
	up := startAPI(t, nil)
	c := newClient(t, Config{})
	bad := up.to
	bad.Roots = []byte("hello")
	_, err := send(t, c, bad, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.PolicyViolation, "PEM")
	get(t, c, up.to, "/")
}

func TestOldTLSIsRefused(t *testing.T) {
	key, roots := certificate(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err != nil {
		t.Fatal(err)
	}
	shaken := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
		shaken <- err
	}()
	t.Cleanup(func() { l.Close() })
	_, err = send(t, newClient(t, Config{}), destination(l.Addr().(*net.TCPAddr).AddrPort(), roots), "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.UpstreamUnreachable, "")
	if <-shaken == nil {
		t.Error("TLS 1.1 was agreed on")
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	plain, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { plain.Close(); <-done })
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // accepts in the kernel and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	failing := func(err error) func(context.Context, string) ([]netip.Addr, error) {
		return func(context.Context, string) ([]netip.Addr, error) { return nil, err }
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		to   Destination
		code api.Code
		text string
	}{
		{"closed port", Config{}, destination(closed, nil), api.UpstreamUnreachable, "refused the connection"},
		{"no TLS", Config{}, destination(plain.Addr().(*net.TCPAddr).AddrPort(), nil), api.UpstreamUnreachable, "does not speak TLS"},
		{"no such host", Config{Resolve: failing(&net.DNSError{IsNotFound: true})}, Destination{Host: testHost}, api.UpstreamUnreachable, "no such host"},
		{"no address", Config{Resolve: failing(nil)}, Destination{Host: testHost}, api.UpstreamUnreachable, "no such host"},
		{"name server", Config{Resolve: failing(&net.DNSError{IsTemporary: true})}, Destination{Host: testHost}, api.UpstreamUnreachable, "name server"},
		{"silent", Config{ConnectTimeout: 50 * time.Millisecond}, destination(silent.Addr().(*net.TCPAddr).AddrPort(), nil), api.UpstreamTimeout, "in time"},
		{"slow name server", Config{ConnectTimeout: 50 * time.Millisecond, Resolve: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, errors.New("gave up")
		}}, Destination{Host: testHost}, api.UpstreamTimeout, "in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := send(t, newClient(t, tt.cfg), tt.to, "GET", "/secret-path", bearer("sk-1"), Body{})
			wantCode(t, err, tt.code, tt.text)
			if !strings.Contains(err.Error(), testHost) || strings.Contains(err.Error(), "secret-path") {
				t.Errorf("error %q: names the host, and nothing of the request", err)
			}
		})
	}
}

// The second address is tried when the first one fails.
func TestNextAddress(t *testing.T) {
	up := startAPI(t, nil)
	c := newClient(t, Config{Resolve: resolving(addrs("127.0.0.77", "127.0.0.1"))})
	get(t, c, up.to, "/")
}

func TestPoolsAreBounded(t *testing.T) {
	up := startAPI(t, connections)
	c := newClient(t, Config{})
	hold, err := send(t, c, up.to, "GET", "/", Additions{}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxPools + 20 {
		to := up.to
		to.AllowPorts = append(slices.Clone(to.AllowPorts), i+1)
		p, err := c.acquire(to, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.pools.release(p)
	}
	if n := len(c.pools.all()); n != maxPools || c.pools.count != n {
		t.Errorf("%d pools (count %d), want %d", n, c.pools.count, maxPools)
	}
	p := c.pools.take(&up.to, nil)
	if p == nil {
		t.Fatal("the pool in use was dropped")
	}
	c.pools.release(p)
	hold.Body.Close()
}
