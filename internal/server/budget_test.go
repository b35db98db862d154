package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/server"
	"moldable.sh/aivault/internal/strictjson"
)

// One user's long bodies in memory are bounded, and nobody else notices.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", key)
	var uid atomic.Uint32
	uid.Store(2000)
	s := serveEach(t, server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault}, func() *grant.Caller {
		who := aivaulttest.Agent()
		who.UID = uid.Load()
		return &who
	})
	// begin announces a body of 20 MiB, and sends it only in as far as it says
	// that one is coming. The server answers 100 once it reads.
	begin := func() (net.Conn, int, string) {
		c, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: aivault\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", api.RouteProxy, 20<<20)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusContinue {
			return c, resp.StatusCode, ""
		}
		b, _ := io.ReadAll(resp.Body)
		return c, resp.StatusCode, string(b)
	}
	var last net.Conn
	for i := range 3 {
		c, status, body := begin()
		if status != http.StatusContinue {
			t.Fatalf("body %d: %d %s", i, status, body)
		}
		last = c
	}
	over := func(what string, status int, body string) {
		t.Helper()
		var e api.Error
		if err := strictjson.Unmarshal([]byte(body), &e); err != nil || status != 429 || e.Code != api.RateLimited || e.RetryAfterMs <= 0 {
			t.Errorf("%s: %d %s %v", what, status, body, err)
		}
	}
	_, status, body := begin()
	over("a fourth body", status, body)
	req, err := http.NewRequest("POST", "http://aivault"+api.RouteProxy, io.MultiReader(strings.NewReader(`{"capability":"`), io.LimitReader(endless{}, 5<<20)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	over("a body of no declared length", resp.StatusCode, string(b))
	v.Vault.Desk().Close() // the second is counted with the first, and told of when the process stops
	if n := len(aivaulttest.Events(v.Records(t), "call.refused")); n != 2 {
		t.Errorf("%d refused calls are in the log, want 2", n)
	}

	if resp, body := s.send(t, "POST", api.RouteProxy, chat); resp.StatusCode != 200 {
		t.Errorf("a short body of the same user: %d %s", resp.StatusCode, body)
	}
	uid.Store(2001)
	if _, status, body := begin(); status != http.StatusContinue {
		t.Errorf("another user: %d %s", status, body)
	}
	uid.Store(2000)
	last.Close()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, status, body := begin()
		if status == http.StatusContinue {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("a request ended and its memory is not given back: %d %s", status, body)
		}
	}
}
