package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"moldable.sh/aivault/internal/api"
)

func TestBody(t *testing.T) {
	failing := api.Errorf(api.RequestTooLarge, "too much")
	for _, tt := range []struct {
		name string
		body func() Body
		want string
		code api.Code // "" is success
		text string
		te   bool // chunked in HTTP/1.1
	}{
		{"none", func() Body { return Body{} }, "", "", "", false},
		{"known", func() Body { return Body{Reader: strings.NewReader("hello"), Length: 5} }, "hello", "", "", false},
		{"known, byte by byte", func() Body { return Body{Reader: iotest.OneByteReader(strings.NewReader("hello")), Length: 5} }, "hello", "", "", false},
		{"known, end with the data", func() Body { return Body{Reader: iotest.DataErrReader(strings.NewReader("hello")), Length: 5} }, "hello", "", "", false},
		{"unknown", func() Body { return Body{Reader: strings.NewReader("hello"), Length: -1} }, "hello", "", "", true},
		{"empty", func() Body { return Body{Reader: strings.NewReader(""), Length: 0} }, "", "", "", false},
		{"short", func() Body { return Body{Reader: strings.NewReader("hell"), Length: 5} }, "", api.InvalidRequest, "1 bytes short of the 5", false},
		{"long", func() Body { return Body{Reader: strings.NewReader("hello!"), Length: 5} }, "", api.InvalidRequest, "longer than the 5", false},
		{"more than none", func() Body { return Body{Reader: strings.NewReader("x"), Length: 0} }, "", api.InvalidRequest, "longer than the 0", false},
		{"missing", func() Body { return Body{Reader: nil, Length: 5} }, "", api.InvalidRequest, "missing", false},
		{"breaks", func() Body { return Body{Reader: iotest.ErrReader(errors.New("path /secret")), Length: 5} }, "", api.InvalidRequest, "broke off", false},
		{"breaks, unknown", func() Body { return Body{Reader: iotest.ErrReader(io.ErrUnexpectedEOF), Length: -1} }, "", api.InvalidRequest, "broke off", false},
		{"refuses", func() Body { return Body{Reader: iotest.ErrReader(failing), Length: -1} }, "", api.RequestTooLarge, "too much", false},
		{"too large", func() Body { return Body{Reader: iotest.ErrReader(&http.MaxBytesError{Limit: 7}), Length: -1} }, "", api.RequestTooLarge, "7 bytes", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			versions(t, func(t *testing.T, c *Client, up upstream) {
				resp, err := send(t, c, up.to, "POST", "/upload", Additions{}, tt.body())
				if tt.code != "" {
					wantCode(t, err, tt.code, tt.text)
					for _, s := range up.Seen() {
						if s.BodyLength >= 5 {
							t.Errorf("the upstream got the whole of a wrong body: %q", s.Body)
						}
					}
					up.Record(true)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				s := up.Seen()[0]
				if string(s.Body) != tt.want || resp.SentBytes() != int64(len(tt.want)) {
					t.Errorf("received %q, SentBytes %d", s.Body, resp.SentBytes())
				}
				if want := map[bool]int64{false: int64(len(tt.want)), true: -1}[tt.te]; s.ContentLength != want {
					t.Errorf("declared %d, want %d", s.ContentLength, want)
				}
			})
		})
	}
}

// An answer that comes before the request's body has failed is no answer.
// A short body in memory travels in one record with its header, and the
// caller's reader stays as it was.
func TestShortBodyIsSentWithItsHeader(t *testing.T) {
	first := make(chan string, 1)
	to, _ := rawServer(t, func(conn net.Conn) {
		buf := make([]byte, 16<<10)
		n, err := conn.Read(buf) // of one record
		if err != nil {
			return
		}
		first <- string(buf[:n])
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	text := `{"model":"m-1"}`
	reader := strings.NewReader(text)
	resp, err := send(t, newClient(t, Config{}), to, "POST", "/v1", Additions{}, Body{Reader: reader, Length: int64(len(text))})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := <-first; !strings.HasSuffix(got, "\r\n\r\n"+text) {
		t.Errorf("the first record was %q; it lacks the body", got)
	}
	if n := resp.SentBytes(); n != int64(len(text)) {
		t.Errorf("%d bytes are said to be sent, not %d", n, len(text))
	}
	if reader.Len() != len(text) {
		t.Errorf("%d bytes are left in the caller's reader", reader.Len())
	}
}

func TestBodyFailsAfterTheAnswerBegan(t *testing.T) {
	for _, h1 := range []bool{false, true} {
		broken := make(chan bool, 1)
		up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_ = http.NewResponseController(w).Flush()
			_, err := io.Copy(io.Discard, r.Body)
			broken <- err != nil
		}))
		c := newClient(t, Config{})
		if h1 {
			h1Only(t, c, up.to)
		}
		pr, pw := io.Pipe()
		go func() { _, _ = pw.Write([]byte("x")) }()
		resp, err := send(t, c, up.to, "POST", "/", Additions{}, Body{Reader: pr, Length: 5})
		if err != nil {
			t.Fatal(err)
		}
		pw.Close()
		_, err = io.ReadAll(resp.Body)
		wantCode(t, err, api.InvalidRequest, "short")
		resp.Body.Close()
		if !<-broken {
			t.Error("the upstream got what looked like a whole body")
		}
	}
}

// pattern is n bytes that are not held in memory.
func pattern(n int64) io.Reader { return io.LimitReader(&cycle{}, n) }

type cycle struct{ at byte }

func (c *cycle) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.at
		c.at++
	}
	return len(p), nil
}

func TestLargeUpload(t *testing.T) {
	const size = 4 << 20
	hash := sha256.New()
	_, _ = io.Copy(hash, pattern(size))
	want := hex.EncodeToString(hash.Sum(nil))
	versions(t, func(t *testing.T, c *Client, up upstream) {
		for _, length := range []int64{size, -1} {
			resp, err := send(t, c, up.to, "POST", "/upload", Additions{}, Body{Reader: pattern(size), Length: length})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			seen := up.Seen()
			if s := seen[len(seen)-1]; s.BodySHA256 != want || s.ContentLength != length {
				t.Errorf("length %d: received %d bytes, declared %d", length, s.BodyLength, s.ContentLength)
			}
		}
	})
}

func TestFirstEventIsNotHeldBack(t *testing.T) {
	versions(t, func(t *testing.T, c *Client, up upstream) {
		resp, err := send(t, c, up.to, "GET", "/sse?events=3", Additions{}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for i := 1; i <= 3; i++ {
			up.Step()
			line, err := r.ReadString('\n') // would wait for ever if it were buffered
			if err != nil || line != fmt.Sprintf("data: {\"event\":%d}\n", i) {
				t.Fatalf("event %d: %q %v", i, line, err)
			}
			_, _ = r.ReadString('\n')
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

// gone is a route that waits until its caller is gone.
func gone(entered, left chan<- struct{}, header bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if header {
			_ = http.NewResponseController(w).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
}

func TestCallsEndAtOnce(t *testing.T) {
	const limit = 1200 * time.Millisecond // long enough for the header, on a busy machine
	revoked := api.Errorf(api.PolicyViolation, "the secret was revoked")
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		idle     time.Duration
		cancel   bool
		cause    error
		code     api.Code
		text     string
	}{
		{name: "deadline", deadline: limit, code: api.UpstreamTimeout, text: "call's time"},
		{name: "idle", idle: limit, code: api.UpstreamTimeout, text: "no byte"},
		{name: "cancel", cancel: true, code: api.UpstreamUnreachable, text: "cancelled"},
		{name: "revoked", cancel: true, cause: revoked, code: api.PolicyViolation, text: "revoked"},
	} {
		for _, header := range []bool{false, true} {
			for _, h1 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s header=%v h1=%v", tt.name, header, h1), func(t *testing.T) {
					t.Parallel()
					entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
					up := startAPI(t, gone(entered, left, header))
					c := newClient(t, Config{IdleTimeout: tt.idle})
					if h1 {
						h1Only(t, c, up.to)
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					if tt.deadline > 0 {
						var stop func()
						ctx, stop = context.WithTimeout(ctx, tt.deadline)
						defer stop()
					}
					if tt.cancel && !header {
						go func() {
							entered <- <-entered
							cancel(tt.cause)
						}()
					}
					resp, err := c.Send(ctx, up.to, request(t, "GET", "/"), Additions{}, Body{})
					if header {
						if err != nil {
							t.Fatal(err)
						}
						defer resp.Body.Close()
						if tt.cancel {
							cancel(tt.cause)
						}
						_, err = io.ReadAll(resp.Body)
						if _, again := resp.Body.Read(make([]byte, 1)); again != err {
							t.Errorf("the body ended with %v, then with %v", err, again)
						}
					}
					wantCode(t, err, tt.code, tt.text)
					<-left // the upstream notices
				})
			}
		}
	}
}

func TestCloseAbortsTheCall(t *testing.T) {
	left := make(chan struct{}, 1)
	up := startAPI(t, gone(make(chan struct{}, 1), left, true))
	resp, err := send(t, newClient(t, Config{}), up.to, "GET", "/", Additions{}, Body{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-left
}

// A slow stream lives as long as something moves, in either direction.
func TestIdleTimeoutCountsFromTheLastByte(t *testing.T) {
	t.Parallel()
	const pause, limit = 100 * time.Millisecond, 1200 * time.Millisecond
	up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for range 18 {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(pause)
		}
	}))
	c := newClient(t, Config{IdleTimeout: limit})
	pr, pw := io.Pipe()
	go func() {
		for range 18 {
			_, _ = pw.Write([]byte("x"))
			time.Sleep(pause)
		}
		pw.Close()
	}()
	resp, err := send(t, c, up.to, "POST", "/", Additions{}, Body{Reader: pr, Length: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 18 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// What an upstream breaks is told in our words: its bytes may hold the
// secret that it was sent.
func TestNoErrorRepeatsTheUpstream(t *testing.T) {
	const key = "sk-4f1e9d"
	auth := func(head string) string {
		for line := range strings.SplitSeq(head, "\r\n") {
			if v, ok := strings.CutPrefix(line, "Authorization: Bearer "); ok {
				return v
			}
		}
		return ""
	}
	var logged bytes.Buffer
	before := log.Writer()
	log.SetOutput(&logged)
	t.Cleanup(func() { log.SetOutput(before) })
	for name, answer := range map[string]func(secret string) string{
		"garbage status line": func(s string) string { return s + "\r\n\r\n" },
		"bad version":         func(s string) string { return "HTTP/" + s + " 200 OK\r\n\r\n" },
		"bad status":          func(s string) string { return "HTTP/1.1 " + s + "\r\n\r\n" },
		"bad header":          func(s string) string { return "HTTP/1.1 200 OK\r\n" + s + "\r\n\r\n" },
		"bad length":          func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + s + "\r\n\r\n" },
		"two lengths": func(s string) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: " + s + "\r\n\r\n"
		},
		"bad transfer": func(s string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + s + "\r\n\r\n" },
		"bad chunk":    func(s string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + s + "\r\n" },
		"bad trailer": func(s string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n" + s + "\r\n\r\n"
		},
		"encoding": func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Encoding: " + s + "\r\n\r\nx" },
		"not gzip": func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + s },
		"short":    func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + s },
		"endless head": func(s string) string {
			return "HTTP/1.1 200 OK\r\nX: " + strings.Repeat(s, 100_000) + "\r\nContent-Length: 0\r\n\r\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			to, _ := rawServer(t, func(conn net.Conn) {
				head, err := readHead(bufio.NewReader(conn))
				if err == nil {
					_, _ = io.WriteString(conn, answer(auth(head)))
				}
			})
			resp, err := send(t, newClient(t, Config{}), to, "GET", "/some/path?q=1", bearer(key), Body{})
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			wantCode(t, err, api.UpstreamUnreachable, testHost)
			for e := err; e != nil; e = errors.Unwrap(e) {
				for _, leak := range []string{key, "some/path", "q=1", "Bearer"} {
					if strings.Contains(e.Error(), leak) {
						t.Errorf("error %q repeats %q", e, leak)
					}
				}
			}
		})
	}
	if strings.Contains(logged.String(), key) {
		t.Errorf("the standard logger was told: %s", logged.String())
	}
}

func TestBrokenConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		text  string
	}{
		"closed before the answer": {func(conn net.Conn) { _, _ = readHead(bufio.NewReader(conn)) }, "closed the connection"},
		"closed in the header": {func(conn net.Conn) {
			_, _ = readHead(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX:")
		}, "closed the connection"},
		"closed in the body": {func(conn net.Conn) {
			_, _ = readHead(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
		}, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			to, _ := rawServer(t, tt.serve)
			resp, err := send(t, newClient(t, Config{}), to, "POST", "/", Additions{}, Body{Reader: strings.NewReader("x"), Length: 1})
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			wantCode(t, err, api.UpstreamUnreachable, tt.text)
		})
	}
}

// A request with a body goes out once, even when a kept connection proves
// dead: the upstream may have acted on it.
func TestBodyIsNotSentTwice(t *testing.T) {
	bodies := make(chan string, 10)
	to, server := rawServer(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for i := 0; ; i++ {
			head, err := readHead(r)
			if err != nil {
				return
			}
			if strings.Contains(head, "Content-Length: 1\r\n") {
				b, err := r.ReadByte()
				if err != nil {
					return
				}
				bodies <- string(b)
			}
			if i == 1 {
				return // the second request on a connection gets no answer
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	c := newClient(t, Config{})
	get(t, c, to, "/")
	_, err := send(t, c, to, "POST", "/", Additions{}, Body{Reader: strings.NewReader("x"), Length: 1})
	wantCode(t, err, api.UpstreamUnreachable, "")
	if len(bodies) != 1 || len(server.accepted) != 1 {
		t.Errorf("%d bodies over %d connections", len(bodies), len(server.accepted))
	}
}

func TestTrailers(t *testing.T) {
	up := startAPI(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	}))
	resp, body := get(t, newClient(t, Config{}), up.to, "/")
	if body != "body" || resp.Trailer().Get("X-Sum") != "42" {
		t.Errorf("%q, trailer %v", body, resp.Trailer())
	}
}
