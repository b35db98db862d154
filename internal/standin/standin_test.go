package standin

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// net/http lingers for half a second on a connection that it closed early,
	// longer than goleak waits, and then ends by itself.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func start(t *testing.T, handler http.Handler, hosts ...string) *API {
	t.Helper()
	a, err := Start(handler, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// client trusts the API's own CA, and takes every name for a.
func client(t *testing.T, a *API, h2 bool) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CAPEM()) {
		t.Fatal("CAPEM holds no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func url(a *API, path string) string { return "https://" + a.Addr().String() + path }

func get(t *testing.T, c *http.Client, u string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(u)
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

func TestEchoAndSeen(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			a := start(t, nil)
			req, _ := http.NewRequest("POST", url(a, "/echo?a=%2B&b"), strings.NewReader("hello"))
			req.Header.Set("Authorization", "Bearer sk-test")
			resp, err := client(t, a, h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got struct {
				Target, Host, Proto, Body string
				Headers                   http.Header
				BodyLength                int64
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			wantProto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
			if got.Target != "/echo?a=%2B&b" || got.Headers.Get("Authorization") != "Bearer sk-test" || got.Body != "hello" ||
				got.BodyLength != 5 || got.Proto != wantProto || got.Host != a.Addr().String() {
				t.Errorf("echo = %+v", got)
			}
			seen := a.Seen()
			if len(seen) != 1 {
				t.Fatalf("seen %d requests", len(seen))
			}
			s := seen[0]
			sum := sha256.Sum256([]byte("hello"))
			if s.Method != "POST" || s.Target != "/echo?a=%2B&b" || s.Host != a.Addr().String() || s.ContentLength != 5 ||
				string(s.Body) != "hello" || s.BodyLength != 5 || s.BodySHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("seen %+v", s)
			}
			a.Record(false)
			get(t, client(t, a, h2), url(a, "/"))
			if n := len(a.Seen()); n != 0 {
				t.Errorf("%d requests kept with recording off", n)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	a := start(t, nil)
	c := client(t, a, true)
	for _, tt := range []struct {
		path   string
		status int
		body   string // part of it
	}{
		{"/", 200, `"ok":true`},
		{"/x//y/../z", 200, `"ok":true`},
		{"/status/404", 404, `"status":404`},
		{"/status/204", 204, ""},
		{"/status/99", 400, "no such status"},
		{"/status/600", 400, "no such status"},
		{"/bytes/x", 400, "no such length"},
		{"/bytes/-1", 400, "no such length"},
		{"/redirect?to=https%3A%2F%2Fevil.example%2F", 302, "evil.example"},
		{"/slow?ms=1", 200, "waitedMs"},
		{"/slow?ms=-1", 400, "not a number"},
		{"/v1/chat/completions", 200, "Hello from the stand-in."},
		{"/sse?events=x", 400, "not a number"},
	} {
		resp, body := get(t, c, url(a, tt.path))
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d %q", tt.path, resp.StatusCode, body)
		}
	}
	resp, body := get(t, c, url(a, "/bytes/100000"))
	if resp.ContentLength != 100000 || len(body) != 100000 {
		t.Errorf("/bytes/100000: Content-Length %d, %d bytes", resp.ContentLength, len(body))
	}
	resp, _ = get(t, c, url(a, "/redirect?to=https%3A%2F%2Fevil.example%2F"))
	if resp.Header.Get("Location") != "https://evil.example/" {
		t.Errorf("Location %q", resp.Header.Get("Location"))
	}
}

func TestEventsWaitForStep(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		chat             bool
		want             []string
	}{
		{"sse", "/sse?events=2", "", false, []string{`{"event":1}`, `{"event":2}`}},
		{"chat", "/v1/chat/completions", `{"stream":true}`, true, []string{"Hello", " from", " the", " stand-in.", "[DONE]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, nil)
			a.StepChat(tt.chat)
			a.Step() // before the stream: does not count
			resp, err := client(t, a, true).Post(url(a, tt.path), "application/json", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := make(chan string)
			go func() {
				defer close(lines)
				s := bufio.NewScanner(resp.Body)
				for s.Scan() {
					if s.Text() != "" {
						lines <- s.Text()
					}
				}
			}()
			for _, want := range tt.want {
				select {
				case l := <-lines:
					t.Fatalf("%q came before its Step", l)
				case <-time.After(20 * time.Millisecond):
				}
				a.Step()
				if l := <-lines; !strings.HasPrefix(l, "data: ") || !strings.Contains(l, want) {
					t.Fatalf("got %q, want %q", l, want)
				}
			}
			if l, ok := <-lines; ok {
				t.Errorf("%q after the last event", l)
			}
		})
	}
}

func TestCloseEndsStreams(t *testing.T) {
	a := start(t, nil)
	resp, err := client(t, a, true).Get(url(a, "/sse"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a.Close()
	a.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended as if complete")
	}
}

func TestHostsAndHandler(t *testing.T) {
	a := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 3)
		_, _ = io.WriteString(w, "mine")
	}), "api.example.com", "203.0.113.9")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CAPEM())
	for name, ok := range map[string]bool{
		"api.example.com": true, "203.0.113.9": true, "localhost": true, "127.0.0.1": true, "other.example.com": false,
	} {
		conn, err := tls.Dial("tcp", a.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != ok {
			t.Errorf("certificate for %s: %v", name, err)
		}
	}
	resp, err := client(t, a, true).Post(url(a, "/any"), "", strings.NewReader("abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "mine" {
		t.Errorf("answer %q", b)
	}
	if seen := a.Seen(); len(seen) != 1 || string(seen[0].Body) != "abc" {
		t.Errorf("seen %+v: a body is recorded as far as the handler reads it", seen)
	}
}

// zeros is n bytes that are never in memory at once; it notes how large the
// heap grew while they were read.
type zeros struct {
	n, peak, next int64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	if z.n -= n; z.n <= z.next {
		z.next = z.n - 8<<20
		z.peak = max(z.peak, heap())
	}
	return int(n), nil
}

func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLargeBodyInFlatMemory(t *testing.T) {
	a := start(t, nil)
	const size = 96 << 20
	runtime.GC()
	before := heap()
	body := &zeros{n: size, next: size}
	resp, err := client(t, a, true).Post(url(a, "/upload"), "application/octet-stream", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if grown := body.peak - before; grown > size/4 {
		t.Errorf("the heap grew by %d bytes for a body of %d", grown, size)
	}
	s := a.Seen()[0]
	if s.BodyLength != size || len(s.Body) != MaxBody || s.ContentLength != -1 {
		t.Errorf("BodyLength %d, kept %d, declared %d", s.BodyLength, len(s.Body), s.ContentLength)
	}
}

// A stand-in that wants a client certificate takes one of its CA's and no
// other, and tells whose it was.
func TestClientCertificate(t *testing.T) {
	good, other := newClientCA(t), newClientCA(t)
	a, err := StartWith(Options{ClientCAs: good.Pool(), MaxTLS: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	get := func(ca *ClientCA, end time.Time) error {
		c := client(t, a, true)
		if ca != nil {
			certPEM, keyPEM, err := ca.Issue("someone", end)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(certPEM, keyPEM)
			if err != nil {
				t.Fatal(err)
			}
			c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		resp, err := c.Get(url(a, "/x"))
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	later := time.Now().Add(time.Hour)
	if err := get(good, later); err != nil {
		t.Errorf("its own: %v", err)
	}
	for name, err := range map[string]error{"none": get(nil, later), "another CA's": get(other, later), "an expired one": get(good, time.Now().Add(-time.Hour))} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	seen := a.Seen()
	if len(seen) != 1 || seen[0].Client == nil || seen[0].Client.Subject.CommonName != "someone" || seen[0].Connection == "" {
		t.Errorf("seen %+v", seen)
	}
}

func newClientCA(t *testing.T) *ClientCA {
	t.Helper()
	ca, err := NewClientCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
