package egress

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// plainServer answers without TLS with what it saw, and would speak HTTP/2
// to whoever begins with it.
func plainServer(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join([]string{r.Proto, r.Host, r.RequestURI, r.RemoteAddr, r.Header.Get("Authorization")}, " "))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func plainTo(addr netip.AddrPort) Destination {
	to := destination(addr, nil)
	to.AllowPrivate, to.AllowHTTP = false, true
	return to
}

func TestPlainHTTP(t *testing.T) {
	addr := plainServer(t, "127.0.0.1:0")
	c := newClient(t, Config{})
	to := plainTo(addr)
	resp, err := send(t, c, to, "GET", "/a%20b?x=1&y", bearer("sk-1"), Body{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(b))
	if got[0] != "HTTP/1.1" || got[1] != to.Host || got[2] != "/a%20b?x=1&y" || strings.Join(got[4:], " ") != "Bearer sk-1" {
		t.Errorf("the upstream saw %q", b)
	}
	if _, again := get(t, c, to, "/"); strings.Fields(again)[3] != got[3] {
		t.Error("an equal destination got a connection of its own")
	}
	// The twin without the exception speaks TLS or nothing.
	secure := to
	secure.AllowHTTP, secure.AllowPrivate = false, true
	_, err = send(t, c, secure, "GET", "/", bearer("sk-1"), Body{})
	wantCode(t, err, api.UpstreamUnreachable, "does not speak TLS")
}

// A plain connection is for plain calls and a secure one for secure calls,
// also where both ends are the same.
func TestPlainAndSecureConnectionsAreKeptApart(t *testing.T) {
	up := startAPI(t, nil)
	secure, plain := up.to, up.to
	plain.AllowHTTP = true
	c := newClient(t, Config{})
	get(t, c, secure, "/")
	resp, err := send(t, c, plain, "GET", "/", Additions{}, Body{})
	if err == nil { // net/http's server answers 400 to plain http on its TLS port
		resp.Body.Close()
		if resp.Status != http.StatusBadRequest {
			t.Errorf("a plain call was answered with %d: over the connection that has TLS", resp.Status)
		}
	}
	get(t, c, secure, "/")
	for _, p := range c.pools.all() {
		for _, want := range []Destination{secure, plain} {
			if p.fits(&want, nil) != (p.to.AllowHTTP == want.AllowHTTP) {
				t.Errorf("a %s pool fits a call with AllowHTTP %v", p.scheme, want.AllowHTTP)
			}
		}
		for scheme, dial := range map[string]func(context.Context, string, string) (net.Conn, error){"http": p.transport.DialContext, "https": p.transport.DialTLSContext} {
			if scheme == p.scheme {
				continue
			}
			if conn, err := dial(t.Context(), "tcp", p.authority); err == nil {
				conn.Close()
				t.Errorf("a %s pool makes connections for %s", p.scheme, scheme)
			}
		}
	}
}

func TestPlainHTTPPorts(t *testing.T) {
	for _, tt := range []struct {
		host      string
		http      bool
		allow     []int
		authority string // "": refused
	}{
		{testHost, true, nil, testHost},
		{testHost + ":80", true, nil, testHost},
		{testHost + ":443", true, nil, testHost + ":443"},
		{testHost + ":8080", true, nil, ""},
		{testHost + ":8080", true, []int{8080}, testHost + ":8080"},
		{testHost + ":8080", true, []int{8081}, ""},
		{"[::1]", true, nil, "[::1]"},
		{testHost, false, nil, testHost},
		{testHost + ":443", false, nil, testHost},
		{testHost + ":80", false, nil, ""},
		{testHost + ":80", false, []int{80}, testHost + ":80"},
	} {
		c := newClient(t, Config{})
		p, err := c.newPool(Destination{Host: tt.host, AllowHTTP: tt.http, AllowPorts: tt.allow}, nil)
		if tt.authority == "" {
			wantCode(t, err, api.PolicyViolation, "port")
			continue
		}
		if err != nil || p.authority != tt.authority {
			t.Errorf("%s, http %v: %+v, %v; want the authority %s", tt.host, tt.http, p, err, tt.authority)
			continue
		}
		want := uint16(443)
		if tt.http && !strings.HasSuffix(tt.host, ":443") {
			want = 80
		}
		if len(tt.allow) > 0 {
			want = uint16(tt.allow[0])
		}
		if p.route.port != want {
			t.Errorf("%s, http %v: port %d, want %d", tt.host, tt.http, p.route.port, want)
		}
	}
}

// Whatever the name resolves to is looked at before it is dialled, and again
// by the kernel's side of the dialler.
func TestPlainHTTPAddresses(t *testing.T) {
	const (
		local  = "" // may be called
		public = "public address"
	)
	for _, tt := range []struct{ addr, want string }{
		{"127.0.0.1", local}, {"127.9.9.9", local}, {"::1", local}, {"::ffff:127.0.0.1", local},
		{"10.1.2.3", local}, {"172.16.0.1", local}, {"192.168.1.1", local}, {"100.64.0.1", local}, {"fd12::1", local}, {"::ffff:10.1.2.3", local},
		{"8.8.8.8", public}, {"::ffff:8.8.8.8", public}, {"2606:4700:4700::1111", public}, {"64:ff9b::808:808", public}, {"172.32.0.1", public},
		{"169.254.1.1", "link-local"}, {"169.254.169.254", "link-local"}, {"::ffff:169.254.169.254", "link-local"}, {"64:ff9b::a9fe:a9fe", "link-local"},
		{"fe80::1", "link-local"}, {"fe80::1%lo", "zone"}, {"::1%lo", "zone"},
		{"fd00:ec2::254", "metadata"}, {"fd20:ce::254", "metadata"}, {"100.100.100.200", "metadata"}, {"168.63.129.16", "metadata"}, {"192.0.0.192", "metadata"},
		{"224.0.0.1", "multicast"}, {"ff02::1", "multicast"}, {"::ffff:224.0.0.1", "multicast"},
		{"0.0.0.0", "unspecified"}, {"::", "unspecified"}, {"::ffff:0.0.0.0", "unspecified"}, {"0.1.2.3", "unspecified"}, {"64:ff9b::", "unspecified"},
		{"255.255.255.255", "broadcast"}, {"64:ff9b::ffff:ffff", "broadcast"},
		{"64:ff9b::7f00:1", "loopback"}, {"64:ff9b::a00:1", "private"}, {"64:ff9b:1::a00:1", "wraps another"}, {"2002:7f00:1::", "wraps another"},
		{"198.18.0.1", "special-purpose"}, {"240.0.0.1", "special-purpose"}, {"2001:db8::1", "special-purpose"},
	} {
		a := netip.MustParseAddr(tt.addr)
		if never := tt.want != local && tt.want != public; (CheckAddr(a, true) != nil) != never {
			t.Errorf("%s is never dialled: %v", tt.addr, !never)
		}
		for _, allowPrivate := range []bool{false, true} {
			c := newClient(t, Config{Resolve: resolving(addrs(tt.addr))})
			p, err := c.newPool(Destination{Host: testHost, AllowHTTP: true, AllowPrivate: allowPrivate}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.route.resolve(t.Context())
			if tt.want == local {
				if err != nil {
					t.Errorf("%s: %v", tt.addr, err)
				}
			} else {
				wantCode(t, err, api.PolicyViolation, tt.want)
			}
			network := "tcp6"
			if a.Is4() {
				network = "tcp4"
			}
			if err := p.route.control(network, netip.AddrPortFrom(a, 80).String(), nil); (err == nil) != (tt.want == local) {
				t.Errorf("control(%s) = %v", tt.addr, err)
			}
		}
	}
	if CheckAddr(netip.Addr{}, true) == nil {
		t.Error("the zero Addr may be allowed")
	}
}

// A name that was private once is vetted again for every connection, and one
// good address does not vouch for a bad one.
func TestPlainHTTPRebinding(t *testing.T) {
	addr := plainServer(t, "127.0.0.1:0")
	for _, bad := range []string{"203.0.114.1", "169.254.169.254", "0.0.0.0"} {
		c := newClient(t, Config{Resolve: resolving(addrs("127.0.0.1"), addrs(bad), addrs("127.0.0.1", bad))})
		get(t, c, plainTo(addr), "/")
		for range 2 {
			c.CloseIdle()
			_, err := send(t, c, plainTo(addr), "GET", "/", bearer("sk-1"), Body{})
			wantCode(t, err, api.PolicyViolation, "leads elsewhere")
		}
	}
	// A development target is no exception to it.
	var dialled atomic.Int32
	c := newClient(t, Config{
		Dial:         map[string]netip.AddrPort{testHost: netip.MustParseAddrPort("203.0.114.1:80")},
		OwnListeners: func() []netip.AddrPort { dialled.Add(1); return nil },
	})
	_, err := send(t, c, Destination{Host: testHost, AllowHTTP: true}, "GET", "/", bearer("sk-1"), Body{})
	wantCode(t, err, api.PolicyViolation, "public address")
	if dialled.Load() != 1 {
		t.Errorf("the address was vetted %d times", dialled.Load())
	}
}

func TestPlainHTTPNeverReachesOwnListeners(t *testing.T) {
	addr := plainServer(t, "127.0.0.1:0")
	for _, own := range []string{addr.String(), "0.0.0.0:" + portOf(addr), "[::]:" + portOf(addr), "[::ffff:127.0.0.1]:" + portOf(addr)} {
		c := newClient(t, Config{OwnListeners: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(own)} }})
		for _, host := range []string{testHost, "127.0.0.1", "[::ffff:127.0.0.1]"} {
			to := plainTo(addr)
			to.Host, to.AllowPrivate = host+":"+strconv.Itoa(int(addr.Port())), true
			_, err := send(t, c, to, "GET", "/", Additions{}, Body{})
			if code := api.CodeOf(err); code != api.PolicyViolation && code != api.InvalidRequest {
				t.Errorf("%s as %s: %v", own, host, err)
			}
		}
	}
}

func TestPlainHTTPShowsNoCertificate(t *testing.T) {
	mine, _ := certificate(t)
	addr := plainServer(t, "127.0.0.1:0")
	_, err := send(t, newClient(t, Config{}), plainTo(addr), "GET", "/", Additions{Certificate: &tls.Certificate{Certificate: mine.Certificate}}, Body{})
	wantCode(t, err, api.AuthFailed, "client certificate")
}
