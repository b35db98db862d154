package egress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// h1Only makes a client that never offers HTTP/2.
func h1Only(t testing.TB, c *Client, to Destination) *Client {
	t.Helper()
	p, err := c.acquire(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.route.tls.NextProtos = []string{"http/1.1"}
	c.pools.release(p)
	return c
}

func versions(t *testing.T, test func(t *testing.T, c *Client, up upstream)) {
	t.Helper()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			up := startAPI(t, nil)
			c := newClient(t, Config{})
			if proto == "HTTP/1.1" {
				h1Only(t, c, up.to)
			}
			test(t, c, up)
			for _, s := range up.Seen() {
				if s.Proto != proto {
					t.Fatalf("spoke %s", s.Proto)
				}
			}
		})
	}
}

func TestTargetByteForByte(t *testing.T) {
	versions(t, func(t *testing.T, c *Client, up upstream) {
		for _, target := range []string{
			"/", "/v1/models", "/v1/models/", "/a%2Bb", "/a+b", "/a%20b", "/a:b@c", "/a!$&'()*+,=b", "/~x", "/%C3%A9",
			"/x?", "/x?a=%2B&b=+&c", "/x?a=b=c&d=/?:@", "/x?a=%20%25", "/x?q=%E2%82%AC", "/x/?y",
		} {
			r := request(t, "GET", target)
			resp, err := c.Send(t.Context(), up.to, r, Additions{}, Body{})
			if err != nil {
				t.Fatalf("%s: %v", target, err)
			}
			resp.Body.Close()
			seen := up.Seen()
			if got := seen[len(seen)-1].Target; got != r.Target() {
				t.Errorf("judged %q, sent %q", r.Target(), got)
			}
		}
	})
}

func TestTargetWithAdditions(t *testing.T) {
	field := func(name, value string) Field { return Field{Name: name, Value: secret.FromString(value)} }
	for _, tt := range []struct {
		target, prefix, login string
		query                 []Field
		want                  string // "" is a refusal
		code                  api.Code
	}{
		{target: "/getMe", prefix: "/bot123:AA-b_c", want: "/bot123:AA-b_c/getMe"},
		{target: "/x", prefix: "/k%2Fy", login: "/v2", want: "/k%2Fy/v2/x"},
		{target: "/x?a=1", login: "/v2", want: "/v2/x?a=1"},
		{target: "/x", query: []Field{field("key", "a+b&c=d %/?")}, want: "/x?key=a%2Bb%26c%3Dd+%25%2F%3F"},
		{target: "/x?a=%2B", query: []Field{field("key", "k"), field("token", "t")}, want: "/x?a=%2B&key=k&token=t"},
		{target: "/x?", query: []Field{field("key", "k")}, want: "/x?key=k"},
		{target: "/x?key=mine", query: []Field{field("key", "k")}, code: api.PolicyViolation},
		{target: "/x?a=1&KEY", query: []Field{field("key", "k")}, code: api.PolicyViolation},
		{target: "/x?%6Bey=1", query: []Field{field("key", "k")}, code: api.PolicyViolation},
		{target: "/x", query: []Field{field("key", "k"), field("Key", "l")}, code: api.PolicyViolation},
		{target: "/x", prefix: "bot", code: api.AuthFailed},
		{target: "/x", prefix: "/", code: api.AuthFailed},
		{target: "/x", prefix: "/bot/", code: api.AuthFailed},
		{target: "/x", prefix: "//evil.example", code: api.AuthFailed},
		{target: "/x", prefix: "/a/../b", code: api.AuthFailed},
		{target: "/x", prefix: "/a/%2e%2E", code: api.AuthFailed},
		{target: "/x", prefix: "/a?b", code: api.AuthFailed},
		{target: "/x", prefix: "/a#b", code: api.AuthFailed},
		{target: "/x", prefix: "/a b", code: api.AuthFailed},
		{target: "/x", prefix: "/a\r\nb", code: api.AuthFailed},
		{target: "/x", prefix: "/a%zz", code: api.AuthFailed},
		{target: "/x", prefix: "/\xff", code: api.AuthFailed},
		{target: "/x", login: "/a?b", code: api.PolicyViolation},
	} {
		name := fmt.Sprintf("%s %q %q %d", tt.target, tt.prefix, tt.login, len(tt.query))
		got, err := wireTarget(Destination{PathPrefix: tt.login}, request(t, "GET", tt.target),
			Additions{PathPrefix: secret.FromString(tt.prefix), Query: tt.query})
		if tt.want == "" {
			wantCode(t, err, tt.code, "")
			if tt.prefix != "" && len(tt.prefix) > 2 && strings.Contains(err.Error(), tt.prefix) {
				t.Errorf("%s: %q repeats the prefix", name, err)
			}
			continue
		}
		if err != nil || got.url("https", "h").RequestURI() != tt.want {
			t.Errorf("%s: %s, %v; want %s", name, got.url("https", "h").RequestURI(), err, tt.want)
		}
	}
	// A name split off by ';' counts, though a canonical query may have none.
	if !hasParam("a=1;key=2", "key") || hasParam("akey=1&b=key", "key") {
		t.Error("hasParam")
	}
}

func TestHeaders(t *testing.T) {
	versions(t, func(t *testing.T, c *Client, up upstream) {
		r := request(t, "POST", "/echo",
			api.Header{Name: "X-One", Value: "1"}, api.Header{Name: "x-two", Value: "a"}, api.Header{Name: "X-Two", Value: "b"},
			api.Header{Name: "Content-Type", Value: "application/json"})
		resp, err := c.Send(t.Context(), up.to, r, bearer("sk-test"), Body{Reader: strings.NewReader("{}"), Length: 2})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := http.Header{
			"X-One": {"1"}, "X-Two": {"a", "b"}, "Content-Type": {"application/json"}, "Authorization": {"Bearer sk-test"},
			"Accept-Encoding": {"identity"}, "Content-Length": {"2"},
		}
		got := up.Seen()[0].Header
		for name := range got {
			if !slices.Equal(got[name], want[name]) {
				t.Errorf("%s: %q, want %q", name, got[name], want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("header %v, want %v", got, want)
		}
	})
}

// The head of a request on the wire: nothing is there that was not judged or
// added here.
func TestHeadOnTheWire(t *testing.T) {
	heads := make(chan string, 1)
	to, _ := rawServer(t, answering(func(head string) string {
		heads <- head
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	}))
	c := newClient(t, Config{UserAgent: "aivault/1"})
	for _, tt := range []struct {
		headers []api.Header
		want    []string
	}{
		{nil, []string{"User-Agent: aivault/1", "Accept-Encoding: identity"}},
		{[]api.Header{{Name: "user-agent", Value: "mine"}}, []string{"User-Agent: mine", "Accept-Encoding: identity"}},
	} {
		resp, err := c.Send(t.Context(), to, request(t, "GET", "/a%2Bb?x=%2B", tt.headers...), Additions{}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		lines := strings.Split(strings.TrimSpace(<-heads), "\r\n")
		want := append([]string{"GET /a%2Bb?x=%2B HTTP/1.1", "Host: " + to.Host}, tt.want...)
		slices.Sort(lines)
		slices.Sort(want)
		if !slices.Equal(lines, want) {
			t.Errorf("head %q, want %q", lines, want)
		}
	}
}

func TestHeaderRefusals(t *testing.T) {
	rules := policy.Rules{CallerHeaders: []string{"X-Api-Key", "Authorization"}}
	for _, tt := range []struct {
		caller string
		add    []Field
		code   api.Code
	}{
		{"X-Api-Key", []Field{{Name: "x-api-key", Value: secret.FromString("k")}}, api.PolicyViolation},
		{"X-Api-Key", []Field{{Name: "X_Api_Key", Value: secret.FromString("k")}}, api.PolicyViolation},
		{"X-Other", []Field{{Name: "Authorization", Value: secret.FromString("k")}, {Name: "authorization", Value: secret.FromString("l")}}, api.PolicyViolation},
		{"X-Other", []Field{{Name: "Host", Value: secret.FromString("evil.example")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "transfer_encoding", Value: secret.FromString("chunked")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "Accept-Encoding", Value: secret.FromString("br")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "", Value: secret.FromString("k")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A:b", Value: secret.FromString("k")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString("sk-1\r\nX: y")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString("sk-1\n")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString("sk-1\x00")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString("sk-1\x7f")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString(" sk-1")}}, api.AuthFailed},
		{"X-Other", []Field{{Name: "A", Value: secret.FromString("sk-1\t")}}, api.AuthFailed},
	} {
		r, err := policy.Canonicalise("GET", "/", []api.Header{{Name: tt.caller, Value: "v"}}, rules)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(Config{}).Send(t.Context(), Destination{Host: testHost}, r, Additions{Headers: tt.add}, Body{})
		wantCode(t, err, tt.code, "")
		if strings.Contains(err.Error(), "sk-1") {
			t.Errorf("%q repeats the value", err)
		}
	}
}

// FuzzAdditions: whatever a secret holds, the wire carries one request line,
// the headers given and nothing else, or nothing is sent.
func FuzzAdditions(f *testing.F) {
	f.Add("X-Key", "sk-test", "/bot1:a", "key", "v")
	f.Add("Authorization", "Bearer a\r\nX: y", "/a/../b", "a b", "+&=")
	f.Fuzz(func(t *testing.T, name, value, prefix, param, paramValue string) {
		r := request(t, "GET", "/x?a=%2B")
		add := Additions{
			Headers:    []Field{{Name: name, Value: secret.FromString(value)}},
			Query:      []Field{{Name: param, Value: secret.FromString(paramValue)}},
			PathPrefix: secret.FromString(prefix),
		}
		target, err := wireTarget(Destination{}, r, add)
		if err != nil {
			return
		}
		header, err := wireHeader("", r, add)
		if err != nil {
			return
		}
		var wire strings.Builder
		req := &http.Request{Method: "GET", URL: target.url("https", "h"), Host: "h", Header: header}
		if err := req.Write(&wire); err != nil {
			t.Fatalf("passed and cannot be sent: %v", err)
		}
		read, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire.String())))
		if err != nil {
			t.Fatalf("%q: %v", wire.String(), err)
		}
		if read.RequestURI != prefix+"/x?"+target.query {
			t.Errorf("target %q", read.RequestURI)
		}
		values := read.URL.Query()
		if got := values[param]; param != "a" && (len(got) != 1 || got[0] != paramValue) {
			t.Errorf("parameter %q: %q, want %q", param, got, paramValue)
		}
		if got := read.Header[textproto.CanonicalMIMEHeaderKey(name)]; len(got) != 1 || got[0] != value {
			t.Errorf("header %q: %q, want %q", name, got, value)
		}
		if len(read.Header) > 2 {
			t.Errorf("header %v", read.Header)
		}
	})
}

// Nobody but egress chooses the protocol, and an answer may not either.
func TestUpgradeIsRefused(t *testing.T) {
	to, _ := rawServer(t, answering(func(string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
	}))
	_, err := send(t, newClient(t, Config{}), to, "GET", "/", Additions{}, Body{})
	wantCode(t, err, api.UpstreamUnreachable, "protocol")
}

func TestInformationalAnswersAreSkipped(t *testing.T) {
	to, _ := rawServer(t, answering(func(string) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}))
	resp, body := get(t, newClient(t, Config{}), to, "/")
	if resp.Status != 200 || body != "ok" || resp.Header.Get("Link") != "" {
		t.Errorf("%d %q %v", resp.Status, body, resp.Header)
	}
}

// The certificate's name and SNI are the host's, wherever it is dialled.
func TestServerName(t *testing.T) {
	key, roots := certificate(t)
	names := make(chan string, 1)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- h.ServerName
		return &key, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			_, _ = readHead(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	get(t, newClient(t, Config{}), destination(l.Addr().(*net.TCPAddr).AddrPort(), roots), "/")
	if name := <-names; name != testHost {
		t.Errorf("SNI %q", name)
	}
}
