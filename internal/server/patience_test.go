package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// small makes the kernel hold little of what nobody takes.
type small struct{ net.Listener }

func (l small) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		_ = c.(*net.UnixConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// Who takes no answer is not waited for, whatever answer it is and whoever
// still has to write of it, and what the request held is given back. Who takes
// it slowly gets it all.
func TestAnAnswerThatNobodyTakes(t *testing.T) {
	const key = "sk-patience-0123456789"
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
				return
			}
		}
	}
	long := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", copySize-1))
	}
	events := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", strings.Repeat("x", 100)); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	}
	chat := `{"capability":"openai/chat-completions","request":{"body":"{}"}}`
	get := func(route string) string { return "GET " + route + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	post := "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " + fmt.Sprint(len(chat)) + "\r\n\r\n" + chat
	for _, c := range []struct {
		name     string
		requests string
		times    int
		upstream http.HandlerFunc
		endless  bool
	}{
		{"a long answer of the daemon's own", get(api.RouteRegistry + "/github"), 1, nil, false},
		{"many short ones", get(api.RouteStatus), 400, nil, false},
		{"many errors", get("/none"), 400, nil, false},
		{"records", get(api.RouteAuditExport), 400, nil, false},
		{"an endless answer", post, 1, endless, true},
		{"endless events", post, 1, events, true},
		{"answers that are there whole", post, 20, long, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := aivaulttest.Options{}
			if c.upstream != nil {
				o.Handler = c.upstream
			}
			v := aivaulttest.Start(t, o)
			v.Create(t, "OPENAI_API_KEY", key)
			var busy atomic.Int64
			h := New(Config{
				Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Leaving: context.Background(),
				Busy: func(delta int) { busy.Add(int64(delta)) },
			}).(*handler)
			h.taking = 150 * time.Millisecond
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{
				Handler:     h,
				ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return WithCaller(ctx, aivaulttest.Operator()) },
				ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, 0),
			}
			closed := make(chan net.Conn, 1)
			srv.ConnState = func(c net.Conn, s http.ConnState) {
				if s == http.StateClosed {
					closed <- c
				}
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = srv.Serve(small{l}) }()
			defer func() { srv.Close(); <-done }()

			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() {
				for range c.times {
					if _, err := io.WriteString(conn, c.requests); err != nil {
						return
					}
				}
			}()
			select {
			case <-closed:
			case <-time.After(20 * time.Second):
				t.Fatal("the daemon waits for who takes nothing")
			}
			for until := time.Now().Add(10 * time.Second); busy.Load() != 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(until) {
					t.Fatalf("%d requests are still served", busy.Load())
				}
			}
			if !c.endless {
				return
			}
			finished := aivaulttest.Events(v.Records(t), "call.finished")
			if len(finished) != 1 || finished[0]["reason"] != "broken off: the reader took nothing for 150ms" {
				t.Errorf("the log says %v", finished)
			}
		})
	}
}

// The twin: who takes an answer slowly, but takes it, gets all of it.
func TestAnAnswerThatIsTakenSlowly(t *testing.T) {
	const size = 200 << 10
	v := aivaulttest.Start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", size))
	})})
	v.Create(t, "OPENAI_API_KEY", "sk-patience-0123456789")
	h := New(Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Leaving: context.Background()}).(*handler)
	h.taking = 10 * time.Second
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return WithCaller(ctx, aivaulttest.Operator()) }}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(small{l}) }()
	defer func() { srv.Close(); <-done }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Post("http://x"+api.RouteProxy, typeJSON, strings.NewReader(`{"capability":"openai/chat-completions","request":{"body":"{}"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf, n := make([]byte, 4<<10), 0
	for err == nil {
		var m int
		m, err = resp.Body.Read(buf)
		n += m
		time.Sleep(2 * time.Millisecond)
	}
	if !errors.Is(err, io.EOF) || n != size || resp.Trailer.Get(api.HeaderError) != "" {
		t.Errorf("%d bytes of %d: %v, %v", n, size, err, resp.Trailer)
	}
}
