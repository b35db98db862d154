package server_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/server"
)

// What the log's routes cannot read, or have no use for, is refused and never
// ignored.
func TestQueriesOfTheLog(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	for _, c := range []struct {
		query  string
		follow bool // a good one of the others, none of follow's
	}{
		{"limit=0", false}, {"limit=10001", false}, {"limit=-1", false}, {"limit=+1", false}, {"limit=01", false}, {"limit=1.0", false}, {"limit=", false},
		{"limit=99999999999999999999", false}, {"limit=1&limit=2", false}, {"limit=1&limit=1", false}, {"Limit=1", false}, {"sinceMs=x", false}, {"sinceMs=-1", false},
		{"untilMs=0", true}, {"sinceMs=2&untilMs=1", true}, {"beforeMs=0", true}, {"capability=", false}, {"capability=a//b", false}, {"capability=%0a", false},
		{"caller=", false}, {"caller=" + strings.Repeat("a", 257), false}, {"denied=false", false}, {"denied=1", false}, {"denied", false},
		{"follow=true", false}, {"limit=1;denied=true", false}, {"%zz", false}, {"untilMs=5", true}, {"beforeMs=5", true},
	} {
		routes := []string{api.RouteAudit, api.RouteAuditExport, api.RouteAuditFollow}
		if strings.HasPrefix(c.query, "untilMs=5") || strings.HasPrefix(c.query, "beforeMs=5") {
			routes = routes[2:]
		}
		if c.query == "limit=10001" {
			routes = []string{api.RouteAudit, api.RouteAuditFollow}
		}
		for _, route := range routes {
			resp, body := s.send(t, "GET", route+"?"+c.query, "")
			refused(t, route+"?"+c.query, resp, body, 400, api.InvalidRequest)
		}
	}
	for _, query := range []string{"", "?limit=1", "?sinceMs=0&untilMs=9999999999999&beforeMs=9999999999999&capability=a%2F%2A&caller=1000&denied=true&limit=10000"} {
		for _, route := range []string{api.RouteAudit, api.RouteAuditExport} {
			if resp, body := s.send(t, "GET", route+query, ""); resp.StatusCode != 200 {
				t.Errorf("%s%s: %d %s", route, query, resp.StatusCode, body)
			}
		}
	}
}

func TestExport(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	if resp, body := s.send(t, "GET", api.RouteAuditExport, ""); resp.StatusCode != 200 || body != "" {
		t.Errorf("without a vault: %d %q", resp.StatusCode, body)
	}
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	path := filepath.Join(v.Dir, "audit", "00000001.jsonl")
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := s.send(t, "GET", api.RouteAuditExport, "")
	if resp.Header.Get("Content-Type") != "application/x-ndjson" || body != string(log) || resp.Trailer.Get(api.HeaderError) != "" {
		t.Errorf("%v %v\n%s", resp.Header, resp.Trailer, body)
	}
	// A line that does not follow: what was read until then, and why no more.
	if err := os.WriteFile(path, bytes.Replace(log, []byte("OPENAI"), []byte("OPENBI"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, body = s.send(t, "GET", api.RouteAuditExport, "")
	if resp.StatusCode != 200 || strings.Count(body, "\n") != 3 || resp.Trailer.Get(api.HeaderError) != string(api.VaultUnavailable) {
		t.Errorf("%d lines, then %v", strings.Count(body, "\n"), resp.Trailer)
	}
	// Nothing good at all: an error, and no empty file.
	if err := os.WriteFile(path, append([]byte("x"), log...), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, body = s.send(t, "GET", api.RouteAuditExport, "")
	refused(t, "a log that does not begin as one", resp, body, 503, api.VaultUnavailable)
}

// Records come as they are written; who follows is told when the daemon
// leaves, and leaves when the client does.
func TestFollow(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	busy := make(chan int, 100)
	op := aivaulttest.Operator()
	s := serveTo(t, server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Leaving: leaving, Busy: func(n int) { busy <- n }}, &op)
	resp, body := s.send(t, "GET", api.RouteAuditFollow, "")
	refused(t, "without a vault", resp, body, 503, api.VaultUnavailable)
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	follow := func() (*http.Response, *bufio.Reader) {
		t.Helper()
		resp, err := s.Get("http://aivault" + api.RouteAuditFollow + "?limit=1")
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		lines := bufio.NewReader(resp.Body)
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"vault.committed"`) {
			t.Fatalf("%q, %v", line, err)
		}
		return resp, lines
	}
	one, lines := follow()
	v.Create(t, "ANOTHER", "another-value-1234")
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"name":"ANOTHER"`) {
		t.Fatalf("%q, %v", line, err)
	}
	two, _ := follow()
	_ = two.Body.Close()
	// The first question is over, one still follows, and the other has left.
	deadline := time.After(20 * time.Second)
	for sum, seen := 0, 0; seen < 5; seen++ {
		select {
		case n := <-busy:
			if sum += n; seen == 4 && sum != 1 {
				t.Errorf("%d requests are served", sum)
			}
		case <-deadline:
			t.Fatal("who has left is served still")
		}
	}
	leave()
	if _, err := io.ReadAll(lines); err != nil {
		t.Error(err)
	}
	if got := one.Trailer.Get(api.HeaderError); got != string(api.DaemonUnreachable) {
		t.Errorf("it ends with %q", got)
	}
	_ = one.Body.Close()
}
