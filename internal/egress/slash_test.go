package egress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"moldable.sh/aivault/internal/policy"
)

// rawHTTP2 is a server that hands each :path to seen as its bytes came.
func rawHTTP2(t testing.TB, seen chan<- string) Destination {
	t.Helper()
	return rawFields(t, func(f *http2.MetaHeadersFrame) { seen <- f.PseudoValue("path") })
}

// rawFields is a server that hands each request's header to seen.
func rawFields(t testing.TB, seen func(*http2.MetaHeadersFrame)) Destination {
	t.Helper()
	key, roots := certificate(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{key}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	open := make(chan net.Conn, 1)
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		open <- conn
		if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				seen(f)
				var block bytes.Buffer
				_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		select {
		case conn := <-open:
			conn.Close()
		default:
		}
		<-done
	})
	return destination(l.Addr().(*net.TCPAddr).AddrPort(), roots)
}

// An escaped '/' that a rule declares reaches the upstream as it was judged,
// byte for byte and segment for segment.
func TestEscapedSlashByteForByte(t *testing.T) {
	seen := make(chan string, 1)
	raw, _ := rawServer(t, answering(func(head string) string {
		line, _, _ := strings.Cut(head, "\r\n")
		seen <- strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1")
		return "HTTP/1.1 204 No Content\r\n\r\n"
	}))
	first := newClient(t, Config{})
	for _, version := range []struct {
		name string
		c    *Client
		to   Destination
	}{
		{"HTTP/1.1", h1Only(t, first, raw), raw},
		{"HTTP/2.0", newClient(t, Config{}), rawHTTP2(t, seen)},
	} {
		for _, target := range []string{
			"/api/v4/projects/group%2Fsub%2fproject/issues", "/a%2Fb", "/a%2Fb/", "/x/%40scope%2Fname?q=%2F/", "/%C3%A9%2F%20x", "/a%2F.b%2F..c/d",
		} {
			r, err := policy.Canonicalise("GET", target, nil, policy.Rules{Slashes: true})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := version.c.Send(t.Context(), version.to, r, Additions{}, Body{})
			if err != nil {
				t.Fatalf("%s %s: %v", version.name, target, err)
			}
			resp.Body.Close()
			got := <-seen
			if got != r.Target() {
				t.Errorf("%s: judged %q, sent %q", version.name, r.Target(), got)
			}
			path, _, _ := strings.Cut(got, "?")
			if n := strings.Count(path, "/"); n != len(r.Segments()) || !strings.Contains(path, "%2F") {
				t.Errorf("%s: %q has %d segments, judged were %q", version.name, got, n, r.Segments())
			}
		}
	}
}

// FuzzTarget: what policy judged is what a server receives, segment for
// segment, with an escaped '/' and without.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/a%2Fb/c?d=%2F", "/a%2f.b%2F..c", "/v1/models/", "/caf%c3%a9%2f%20x", "/a%2F%2e%2e", "/a:b;c%2F", "/%2F"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, slashes bool) {
		r, err := policy.Canonicalise("GET", text, nil, policy.Rules{Slashes: slashes})
		if err != nil {
			return
		}
		target, err := wireTarget(Destination{}, r, Additions{})
		if err != nil {
			t.Fatalf("%q passed and cannot be sent: %v", r.Target(), err)
		}
		var wire strings.Builder
		req := &http.Request{Method: "GET", URL: target.url("https", "h"), Host: "h", Header: http.Header{}}
		if err := req.Write(&wire); err != nil {
			t.Fatalf("%q passed and cannot be sent: %v", r.Target(), err)
		}
		read, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire.String())))
		if err != nil || read.RequestURI != r.Target() {
			t.Fatalf("judged %q, sent %q: %v", r.Target(), wire.String(), err)
		}
		path, _, _ := strings.Cut(read.RequestURI, "?")
		segs := strings.Split(path, "/")[1:]
		for i := range segs {
			if segs[i], err = url.PathUnescape(segs[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(segs, r.Segments()) {
			t.Fatalf("judged %q, received %q", r.Segments(), segs)
		}
	})
}
