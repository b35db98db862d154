package egress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"moldable.sh/aivault/internal/api"
)

// forever writes a text again and again until the other side is gone.
func forever(conn net.Conn, text string) {
	long := strings.Repeat(text, 1+8192/len(text))
	for {
		if _, err := io.WriteString(conn, long); err != nil {
			return
		}
	}
}

// An upstream that never comes to the end of its header, or to its answer, is
// cut off by how much it sends, however it goes about it.
func TestEndlessHeaders(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"one line":  func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); forever(c, "x") },
		"lines":     func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"); forever(c, "X-A: b\r\n") },
		"status":    func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 "); forever(c, "x") },
		"no status": func(c net.Conn) { forever(c, "x") },
		"100":       func(c net.Conn) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") },
		"103":       func(c net.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			to, _ := rawServer(t, func(conn net.Conn) {
				if _, err := readHead(bufio.NewReader(conn)); err == nil {
					serve(conn)
				}
			})
			_, err := send(t, newClient(t, Config{}), to, "GET", "/", Additions{}, Body{})
			wantCode(t, err, api.UpstreamUnreachable, testHost)
		})
	}
}

// A header that comes a byte at a time has no more time than an answer that
// does not come.
func TestADrippingHeader(t *testing.T) {
	to, _ := rawServer(t, func(conn net.Conn) {
		if _, err := readHead(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
		for {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	_, err := send(t, newClient(t, Config{IdleTimeout: 200 * time.Millisecond}), to, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.UpstreamTimeout, "no byte moved")
}

// Trailers are bounded as headers are.
func TestEndlessTrailers(t *testing.T) {
	to, _ := rawServer(t, func(conn net.Conn) {
		if _, err := readHead(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\nx\r\n0\r\n")
			forever(conn, "X-A: b\r\n")
		}
	})
	resp, err := send(t, newClient(t, Config{}), to, "GET", "/", Additions{}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	wantCode(t, err, api.UpstreamUnreachable, testHost)
}

// hostileHTTP2 answers the first request by what serve writes.
func hostileHTTP2(t *testing.T, serve func(framer *http2.Framer, stream uint32) error) Destination {
	t.Helper()
	key, roots := certificate(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if f, ok := frame.(*http2.HeadersFrame); ok {
				go func() { _, _ = io.Copy(io.Discard, conn) }() // what the client has to say must not hold it up
				for serve(framer, f.StreamID) == nil {
				}
				return
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return destination(l.Addr().(*net.TCPAddr).AddrPort(), roots)
}

func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // not indexed
	}
	return b.Bytes()
}

// The same in HTTP/2, and what only HTTP/2 has.
func TestHostileHTTP2(t *testing.T) {
	long := strings.Repeat("x", 8<<10)
	for name, serve := range map[string]func() func(*http2.Framer, uint32) error{
		"continuations": func() func(*http2.Framer, uint32) error {
			first := true
			return func(f *http2.Framer, id uint32) error {
				if first {
					first = false
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200")})
				}
				return f.WriteContinuation(id, false, block("x-a", long))
			}
		},
		"empty continuations": func() func(*http2.Framer, uint32) error {
			first := true
			return func(f *http2.Framer, id uint32) error {
				if first {
					first = false
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200")})
				}
				return f.WriteContinuation(id, false, block("x-a", "b"))
			}
		},
		"103": func() func(*http2.Framer, uint32) error {
			return func(f *http2.Framer, id uint32) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block(":status", "103", "link", long)})
			}
		},
		"a pushed stream": func() func(*http2.Framer, uint32) error {
			return func(f *http2.Framer, id uint32) error {
				return f.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: block(":method", "GET", ":path", "/", ":scheme", "https", ":authority", "x")})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			to := hostileHTTP2(t, serve())
			_, err := send(t, newClient(t, Config{}), to, "GET", "/", Additions{}, Body{})
			wantCode(t, err, api.UpstreamUnreachable, testHost)
		})
	}
}

// Redirects are answers, whatever their number and wherever they lead.
func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := startAPI(t, nil)
	for status := 300; status <= 308; status++ {
		for _, location := range []string{"/elsewhere", "https://" + elsewhere.Addr().String() + "/", "//" + elsewhere.Addr().String() + "/", "http://169.254.169.254/", "https://evil.test/?k=sk-test", ""} {
			up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", location)
				w.Header().Set("Refresh", "0; url="+location)
				w.WriteHeader(status)
			}))
			c := newClient(t, Config{})
			for _, method := range []string{"GET", "POST"} {
				body := Body{}
				if method == "POST" {
					body = Body{Reader: strings.NewReader("x"), Length: 1}
				}
				resp, err := send(t, c, up.to, method, "/", bearer("sk-test"), body)
				if err != nil {
					t.Fatalf("%d %q: %v", status, location, err)
				}
				resp.Body.Close()
				if resp.Status != status {
					t.Errorf("%d %q: answered %d", status, location, resp.Status)
				}
			}
			if n := len(up.Seen()); n != 2 {
				t.Errorf("%d %q: %d requests", status, location, n)
			}
			c.CloseIdle()
			up.Close()
		}
	}
	if len(elsewhere.Seen()) > 0 {
		t.Error("a redirect was followed")
	}
}

// A certificate has to be good for the host's name, now, and signed by someone
// that is trusted; with TLS 1.2 at least.
func TestWhoIsBelieved(t *testing.T) {
	good, roots := certificate(t)
	self, _ := certificate(t)
	self.Certificate = self.Certificate[:1]
	for _, tt := range []struct {
		name   string
		config func() *tls.Config
		roots  []byte
		text   string // "" is success
	}{
		{"good", func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{good}} }, roots, ""},
		{"TLS 1.2", func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}
		}, roots, ""},
		{"TLS 1.1", func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		}, roots, "handshake"},
		{"TLS 1.0", func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
		}, roots, "handshake"},
		{"signed by itself", func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{self}} }, roots, "not trusted"},
		{"signed by someone else", func() *tls.Config {
			other, _ := certificate(t)
			return &tls.Config{Certificates: []tls.Certificate{other}}
		}, roots, "not trusted"},
		{"for another host", nil, nil, "another host"},
		{"for a host below", nil, nil, "another host"},
		{"for the address it is dialled at", nil, nil, "another host"},
		{"ended", nil, nil, "expired or is not valid yet"},
		{"not begun", nil, nil, "expired or is not valid yet"},
		{"for clients", nil, nil, "not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config == nil {
				key, own := certificate(t, func(c *x509.Certificate) {
					switch tt.name {
					case "for another host":
						c.DNSNames = []string{"api.example.com.evil.test", "evil-api.example.com", "example.com"}
					case "for a host below":
						c.DNSNames = []string{"*.api.example.com"}
					case "for the address it is dialled at":
						c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)}
					case "ended":
						c.NotAfter = time.Now().Add(-time.Minute)
					case "not begun":
						c.NotBefore = time.Now().Add(time.Hour)
					case "for clients":
						c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
					}
				})
				tt.roots = own
				tt.config = func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{key}} }
			}
			l, err := tls.Listen("tcp4", "127.0.0.1:0", tt.config())
			if err != nil {
				t.Fatal(err)
			}
			heads := make(chan string, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if head, _ := readHead(bufio.NewReader(conn)); head != "" {
					heads <- head
					_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}()
			t.Cleanup(func() { l.Close(); <-done })
			resp, err := send(t, newClient(t, Config{Roots: x509.NewCertPool()}), destination(l.Addr().(*net.TCPAddr).AddrPort(), tt.roots), "GET", "/", bearer("sk-test"), Body{})
			if err == nil {
				resp.Body.Close()
			}
			if tt.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, api.UpstreamUnreachable, tt.text)
			l.Close()
			<-done
			if len(heads) > 0 {
				t.Errorf("it was sent a request: %q", <-heads)
			}
		})
	}
}

// A name that is good and bad by turns gets through when it is good and never
// else, and one bad address among many refuses all.
func TestAddressesByTurns(t *testing.T) {
	up := startAPI(t, nil)
	for _, bad := range []string{"169.254.169.254", "fd00:ec2::254", "0.0.0.0", "::", "224.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::ffff:169.254.169.254", "198.18.0.1", "240.0.0.1", "fe80::1"} {
		c := newClient(t, Config{Resolve: resolving(addrs("127.0.0.1"), addrs(bad), addrs("127.0.0.1", bad), addrs(bad, "127.0.0.1"), addrs("127.0.0.1"))})
		to := up.to
		to.Alone = true
		for turn, good := range []bool{true, false, false, false, true} {
			resp, err := send(t, c, to, "GET", fmt.Sprint("/", turn), bearer("sk-test"), Body{})
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if (err == nil) != good {
				t.Errorf("%s, turn %d: %v", bad, turn, err)
			}
			if !good {
				wantCode(t, err, api.PolicyViolation, "leads elsewhere")
			}
		}
	}
}
