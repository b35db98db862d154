package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// site is the API on a socket, where every connection has one given caller.
type site struct {
	*http.Client
	socket string
	log    *bytes.Buffer
}

func serveTo(t *testing.T, cfg server.Config, who *grant.Caller) site {
	t.Helper()
	return serveEach(t, cfg, func() *grant.Caller { return who })
}

// serveEach asks caller who makes each connection.
func serveEach(t *testing.T, cfg server.Config, caller func() *grant.Caller) site {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := site{socket: filepath.Join(dir, "s"), log: new(bytes.Buffer)}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(s.log, nil))
	}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: server.New(cfg), ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		if who := caller(); who != nil {
			return server.WithCaller(ctx, *who)
		}
		return ctx
	}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}}
	s.Client = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close(); <-done })
	return s
}

func start(t *testing.T, o aivaulttest.Options, who grant.Caller) (*aivaulttest.Aivault, site) {
	t.Helper()
	v := aivaulttest.Start(t, o)
	return v, serveTo(t, server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Daemon: &api.DaemonStatus{Socket: "/s", PID: 1, Version: "v"}}, &who)
}

// send makes one request from a method, a path, a body and header lines.
func (s site) send(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://aivault"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
		if name == "Content-Type" {
			req.Header.Set(name, value)
		}
	}
	resp, err := s.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.Header.Get(api.HeaderAPI) != fmt.Sprint(api.Version) {
		t.Errorf("%s %s: %s is %q", method, path, api.HeaderAPI, resp.Header.Get(api.HeaderAPI))
	}
	return resp, string(b)
}

// refused checks an error answer.
func refused(t *testing.T, what string, resp *http.Response, body string, status int, code api.Code) {
	t.Helper()
	var e api.Error
	if err := strictjson.Unmarshal([]byte(body), &e); err != nil {
		t.Errorf("%s: %d %q: %v", what, resp.StatusCode, body, err)
		return
	}
	if resp.StatusCode != status || e.Code != code || e.Message == "" || resp.Header.Get(api.HeaderAnswer) != "" {
		t.Errorf("%s: %d %+v, want %d %s", what, resp.StatusCode, e, status, code)
	}
}

// path fills a pattern.
func path(pattern string) string {
	before, _, has := strings.Cut(pattern, "{")
	if !has {
		return pattern
	}
	_, after, _ := strings.Cut(pattern, "}")
	return before + "some%2Fid" + after
}

func TestOperatorRoutesTellOthersNothing(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Agent())
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	var first string
	routes := 0
	for _, rt := range server.Routes() {
		if !rt.Operator {
			continue
		}
		routes++
		for _, body := range []string{"", "{}", "not JSON", `{"name":"X","value":"y"}`} {
			if body != "" && rt.Method == "GET" {
				continue
			}
			resp, got := s.send(t, rt.Method, path(rt.Pattern), body)
			refused(t, rt.Method+" "+rt.Pattern, resp, got, 403, api.OperatorRequired)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("%s %s answers %q, others %q", rt.Method, rt.Pattern, got, first)
			}
		}
	}
	if routes < 32 {
		t.Errorf("only %d operator routes were tried", routes)
	}
	if n := len(aivaulttest.Events(v.Records(t), "operator.refused")); n < routes {
		t.Errorf("%d refusals are in the audit log, for %d routes", n, routes)
	}
	list, err := v.Admin.Secrets(t.Context(), aivaulttest.Operator())
	if err != nil || len(list.Secrets) != 1 {
		t.Errorf("the vault changed: %+v %v", list, err)
	}
}

func TestWithoutACallerNothingIsServed(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	s := serveTo(t, server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault}, nil)
	for _, rt := range server.Routes() {
		resp, body := s.send(t, rt.Method, path(rt.Pattern), "")
		refused(t, rt.Pattern, resp, body, 403, api.PolicyViolation)
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	_, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	for _, p := range []string{"/", "/aivault", "/aivault/", "/aivault/status/", "/aivault//status", "/aivault/./status", "/aivault/stat%75s", "/Aivault/status",
		"/aivault/secrets/", "/aivault/secrets/a/b", "/aivault/secrets/import/", "/aivault/grants/", "/aivault/policies/", "/aivault/bindings/b", "/aivault/grants/a/b", "/aivault/secrets/a/rotate/x", "/aivault/capabilities/", "/aivault/credentials/a/b", "/debug/pprof/", "/v/openai"} {
		resp, body := s.send(t, "GET", p, "")
		if resp.StatusCode == 405 {
			continue // a path that another method knows
		}
		refused(t, p, resp, body, 404, api.InvalidRequest)
	}
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", api.RouteProxy, "POST"}, {"GET", api.RouteProxy, "POST"}, {"POST", api.RouteStatus, "GET"}, {"HEAD", api.RouteStatus, "GET"},
		{"GET", api.RouteSecrets + "/import", "PATCH, DELETE, POST"}, {"PUT", api.RouteBindings, "GET, POST, DELETE"}, {"GET", api.RouteGrants + "/default", "DELETE, POST"},
		{"OPTIONS", api.RouteSecrets, "GET, POST"}, {"PATCH", api.RouteCapabilities + "/a/b", "GET, DELETE"}, {"TRACE", api.RouteLock, "POST"},
	} {
		resp, body := s.send(t, c.method, c.path, "")
		if c.method != "HEAD" {
			refused(t, c.method+" "+c.path, resp, body, 405, api.InvalidRequest)
		}
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	_, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	for _, h := range []string{"Origin: null", "Origin: https://evil.example", "origin: x", "Sec-Fetch-Site: same-origin", "sec-fetch-mode: cors", "Sec-Fetch-Dest: empty", "Origin: "} {
		for _, rt := range server.Routes() {
			resp, body := s.send(t, rt.Method, path(rt.Pattern), "", h)
			refused(t, h+" "+rt.Pattern, resp, body, 403, api.PolicyViolation)
		}
	}
	if resp, _ := s.send(t, "GET", api.RouteStatus, "", "Sec-Fetching: x", "X-Origin: y"); resp.StatusCode != 200 {
		t.Errorf("headers that only look like a browser's: %d", resp.StatusCode)
	}
}

func TestRequestsAreReadStrictly(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	const decoy = "sk-decoy-that-no-error-repeats"
	good := `{"name":"N1","value":"` + decoy + `"}`
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     api.Code
	}{
		{"duplicate key", "POST", api.RouteSecrets, `{"name":"A","name":"B","value":"` + decoy + `"}`, nil, 400, api.InvalidRequest},
		{"unknown field", "POST", api.RouteSecrets, `{"name":"A","value":"` + decoy + `","url":"https://evil"}`, nil, 400, api.InvalidRequest},
		{"other case", "POST", api.RouteSecrets, `{"Name":"A","value":"` + decoy + `"}`, nil, 400, api.InvalidRequest},
		{"trailing bytes", "POST", api.RouteSecrets, good + "{}", nil, 400, api.InvalidRequest},
		{"byte order mark", "POST", api.RouteSecrets, "\ufeff" + good, nil, 400, api.InvalidRequest},
		{"invalid UTF-8", "POST", api.RouteSecrets, "{\"name\":\"\xff\",\"value\":\"" + decoy + "\"}", nil, 400, api.InvalidRequest},
		{"value is no string", "POST", api.RouteSecrets, `{"name":"A","value":["` + decoy + `"]}`, nil, 400, api.InvalidRequest},
		{"array", "POST", api.RouteSecrets, `["` + decoy + `"]`, nil, 400, api.InvalidRequest},
		{"null", "POST", api.RouteSecrets, `null`, nil, 400, api.InvalidRequest},
		{"deep", "POST", api.RouteSecrets, strings.Repeat("[", 100000), nil, 400, api.InvalidRequest},
		{"form type", "POST", api.RouteSecrets, good, []string{"Content-Type: application/x-www-form-urlencoded"}, 400, api.InvalidRequest},
		{"text type", "POST", api.RouteSecrets, good, []string{"Content-Type: text/plain"}, 400, api.InvalidRequest},
		{"broken type", "POST", api.RouteSecrets, good, []string{"Content-Type: application/json;;"}, 400, api.InvalidRequest},
		{"parts elsewhere", "POST", api.RouteSecrets, good, []string{"Content-Type: multipart/form-data; boundary=x"}, 400, api.InvalidRequest},
		{"encoded", "POST", api.RouteSecrets, good, []string{"Content-Encoding: gzip"}, 400, api.InvalidRequest},
		{"no body", "POST", api.RouteSecrets, "", nil, 400, api.InvalidRequest},
		{"query", "POST", api.RouteSecrets + "?value=" + decoy, good, nil, 400, api.InvalidRequest},
		{"body of a GET", "GET", api.RouteSecrets, "{}", nil, 400, api.InvalidRequest},
		{"body of a DELETE", "DELETE", api.RouteSecrets + "/x", "{}", nil, 400, api.InvalidRequest},
		{"body of a named grant's DELETE", "DELETE", api.RouteGrants + "/x", "{}", nil, 400, api.InvalidRequest},
		{"body of a named policy's DELETE", "DELETE", api.RoutePolicies + "/openai/models", "{}", nil, 400, api.InvalidRequest},
		{"no body of a binding's DELETE", "DELETE", api.RouteBindings, "", nil, 400, api.InvalidRequest},
		{"a binding's DELETE as text", "DELETE", api.RouteBindings, "{}", []string{"Content-Type: text/plain"}, 400, api.InvalidRequest},
		{"a binding's DELETE, encoded", "DELETE", api.RouteBindings, "{}", []string{"Content-Encoding: gzip"}, 400, api.InvalidRequest},
		{"a binding's DELETE with a query", "DELETE", api.RouteBindings + "?bindingId=b", "{}", nil, 400, api.InvalidRequest},
		{"unknown field of a binding's DELETE", "DELETE", api.RouteBindings, `{"id":"b"}`, nil, 400, api.InvalidRequest},
		{"no body of a detachment", "DELETE", api.RouteSecrets + "/x/groups", "", nil, 400, api.InvalidRequest},
		{"unknown field of an attachment", "POST", api.RouteSecrets + "/OPENAI_API_KEY/groups", `{"workspaceId":"w","groupId":"g","scope":"global"}`, nil, 400, api.InvalidRequest},
		{"unknown field of an entry", "POST", api.RouteSecrets + "/import", `{"entries":[{"name":"A","value":"` + decoy + `","scope":"global"}]}`, nil, 400, api.InvalidRequest},
		{"an entry's value is no string", "POST", api.RouteSecrets + "/import", `{"entries":[{"name":"A","value":["` + decoy + `"]}]}`, nil, 400, api.InvalidRequest},
		{"an import that is too large", "POST", api.RouteSecrets + "/import", `{"entries":[{"name":"` + strings.Repeat("x", 17<<20) + `"}]}`, nil, 413, api.RequestTooLarge},
		{"a grant with a claimed consumer", "POST", api.RouteGrants, `{"consumer":{"uid":1,"root":true}}`, nil, 400, api.InvalidRequest},
		{"a uid that is negative", "POST", api.RouteGrants, `{"consumer":{"uid":-1}}`, nil, 400, api.InvalidRequest},
		{"a uid that is too large", "POST", api.RouteGrants, `{"consumer":{"uid":4294967296}}`, nil, 400, api.InvalidRequest},
		{"a uid with a fraction", "POST", api.RouteGrants, `{"consumer":{"uid":1.5}}`, nil, 400, api.InvalidRequest},
		{"a limit that is text", "POST", api.RoutePolicies, `{"capability":"openai/models","rateLimitPerMinute":"5"}`, nil, 400, api.InvalidRequest},
		{"a limit with a fraction", "POST", api.RoutePolicies, `{"capability":"openai/models","rateLimitPerMinute":0.5}`, nil, 400, api.InvalidRequest},
		{"an unknown limit", "POST", api.RoutePolicies, `{"capability":"openai/models","ratelimitPerMinute":5}`, nil, 400, api.InvalidRequest},
		{"lock with fields", "POST", api.RouteLock, `{"forMs":1}`, nil, 400, api.InvalidRequest},
		{"too large", "POST", api.RouteSecrets, `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, api.RequestTooLarge},
		{"call too large", "POST", api.RouteProxy, `{"capability":"` + strings.Repeat("x", 21<<20) + `"}`, nil, 413, api.RequestTooLarge},
		{"a url in a call", "POST", api.RouteProxy, `{"capability":"openai/models","request":{"url":"https://evil"}}`, nil, 400, api.InvalidRequest},
		{"an unknown field of a header", "POST", api.RouteProxy, `{"capability":"openai/models","request":{"headers":[{"name":"a","value":"b","host":"evil"}]}}`, nil, 400, api.InvalidRequest},
		{"a header that is none", "POST", api.RouteProxy, `{"capability":"openai/models","request":{"headers":[1]}}`, nil, 400, api.InvalidRequest},
		{"headers that are no list", "POST", api.RouteProxy, `{"capability":"openai/models","request":{"headers":{"` + decoy + `":""}}}`, nil, 400, api.InvalidRequest},
		{"headers that do not end", "POST", api.RouteProxy, `{"capability":"openai/models","request":{"headers":[{"name":"a","value":"` + decoy + `"}`, nil, 400, api.InvalidRequest},
		{"a host in a call", "POST", api.RouteProxy, `{"capability":"openai/models","host":"evil","request":{}}`, nil, 400, api.InvalidRequest},
		{"show other", "GET", api.RouteCapabilities + "?show=all", "", nil, 400, api.InvalidRequest},
		{"show twice", "GET", api.RouteCapabilities + "?show=usable&show=usable", "", nil, 400, api.InvalidRequest},
		{"no provider", "GET", api.RouteCapabilities + "?provider=", "", nil, 400, api.InvalidRequest},
		{"another query of a list", "GET", api.RouteCapabilities + "?all=1", "", nil, 400, api.InvalidRequest},
		{"query of one capability", "GET", api.RouteCapabilities + "/openai/models?show=usable", "", nil, 400, api.InvalidRequest},
		{"limit 0", "GET", api.RouteAudit + "?limit=0", "", nil, 400, api.InvalidRequest},
		{"limit twice", "GET", api.RouteAudit + "?limit=1&limit=2", "", nil, 400, api.InvalidRequest},
		{"another query", "GET", api.RouteAudit + "?since=1", "", nil, 400, api.InvalidRequest},
		{"huge limit", "GET", api.RouteAudit + "?limit=99999999999999999999", "", nil, 400, api.InvalidRequest},
	} {
		resp, body := s.send(t, c.method, c.path, c.body, c.header...)
		refused(t, c.name, resp, body, c.status, c.code)
		if strings.Contains(body, decoy) {
			t.Errorf("%s: the error repeats the value: %s", c.name, body)
		}
	}
	// And the twins that are let through.
	if resp, body := s.send(t, "POST", api.RouteSecrets, good, "Content-Type: application/json; charset=utf-8"); resp.StatusCode != 200 || strings.Contains(body, decoy) {
		t.Errorf("a good request: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.send(t, "GET", api.RouteAudit+"?limit=2", ""); resp.StatusCode != 200 || !strings.Contains(body, "secret.created") {
		t.Errorf("audit: %d %s", resp.StatusCode, body)
	}
	if strings.Contains(s.log.String(), decoy) {
		t.Error("the log holds the value")
	}
}

// A call that cannot be read is a refused call, and in the log as one.
func TestACallThatCannotBeReadIsRecorded(t *testing.T) {
	// What is refused twice within a minute is one record.
	var minutes atomic.Int64
	from := time.Now()
	clock := func() time.Time { return from.Add(time.Duration(minutes.Load()) * time.Minute) }
	v, s := start(t, aivaulttest.Options{Clock: clock}, aivaulttest.Agent())
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	const call = `{"capability":"openai/models","request":{}}`
	for i, c := range []struct {
		name, body string
		code       api.Code
		header     []string
	}{
		{"unknown field", `{"capability":"openai/models","url":"https://evil.test","request":{}}`, api.InvalidRequest, nil},
		{"duplicate key", `{"capability":"openai/models","capability":"openai/files-read","request":{}}`, api.InvalidRequest, nil},
		{"no body", "", api.InvalidRequest, nil},
		{"another type", call, api.InvalidRequest, []string{"Content-Type: text/plain"}},
		{"a browser", call, api.PolicyViolation, []string{"Origin: https://evil.test"}},
		{"broken parts", "--x--", api.InvalidRequest, []string{"Content-Type: multipart/form-data; boundary=x"}},
	} {
		if resp, body := s.send(t, "POST", api.RouteProxy, c.body, c.header...); resp.StatusCode < 400 {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body)
		}
		minutes.Add(1)
		records := aivaulttest.Events(v.Records(t), "call.refused")
		if len(records) != i+1 {
			t.Fatalf("%s: the log has %d refused calls, want %d", c.name, len(records), i+1)
		}
		r := records[i]
		who, _ := r["caller"].(map[string]any)
		if r["code"] != string(c.code) || r["reason"] == "" || fmt.Sprint(who["uid"]) != "2000" || r["requestId"] == "" {
			t.Errorf("%s: %v", c.name, r)
		}
	}
}

// A body without a declared length meets the same bound.
func TestAnUndeclaredBodyIsBounded(t *testing.T) {
	_, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	req, err := http.NewRequest("POST", "http://aivault"+api.RouteSecrets, io.MultiReader(strings.NewReader(`{"name":"`), endless{}))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestReferencesKeepTheirSlashes(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Operator())
	v.Create(t, "OPENAI_API_KEY", "sk-very-secret-value")
	for _, p := range []string{"/openai/chat-completions", "/openai%2Fchat-completions"} {
		if resp, body := s.send(t, "GET", api.RouteCapabilities+p, ""); resp.StatusCode != 200 || !strings.Contains(body, "openai/chat-completions") {
			t.Errorf("%s: %d %s", p, resp.StatusCode, body)
		}
	}
	resp, body := s.send(t, "GET", api.RouteCapabilities+"/no/such", "")
	refused(t, "no such capability", resp, body, 404, api.CapabilityNotFound)
	if resp, body := s.send(t, "DELETE", api.RouteSecrets+"/OPENAI_API_KEY", ""); resp.StatusCode != 200 {
		t.Errorf("delete by name: %d %s", resp.StatusCode, body)
	}
}

func TestAPanicTellsNothing(t *testing.T) {
	who := aivaulttest.Operator()
	s := serveTo(t, server.Config{}, &who) // no broker: every route that needs one panics
	resp, body := s.send(t, "GET", api.RouteCapabilities, "")
	refused(t, "panic", resp, body, 500, api.Internal)
	if strings.Contains(body, "nil") || strings.Contains(body, "goroutine") {
		t.Errorf("the answer is %s", body)
	}
	if !strings.Contains(s.log.String(), "panic") {
		t.Error("the log does not say where")
	}
}

func TestBusyCountsEveryRequest(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	who := aivaulttest.Operator()
	sum, calls := 0, 0
	s := serveTo(t, server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Busy: func(d int) { sum += d; calls++ }}, &who)
	s.send(t, "GET", api.RouteStatus, "")
	s.send(t, "GET", "/nothing", "")
	s.CloseIdleConnections()
	if sum != 0 || calls != 4 {
		t.Errorf("busy was called %d times, in all %d", calls, sum)
	}
}

// A request that its caller gives up is answered all the same, to one who only
// ended their half of the connection: in words of ours, on every route.
func TestNoRouteRepeatsWhatALibrarySaysOfAnEndedContext(t *testing.T) {
	for _, ended := range []struct {
		name string
		ctx  func(context.Context) (context.Context, context.CancelFunc)
	}{
		{"cancelled", context.WithCancel},
		{"too late", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Unix(1, 0))
		}},
	} {
		v := aivaulttest.Start(t, aivaulttest.Options{})
		v.Create(t, "OPENAI_API_KEY", key)
		h := server.New(server.Config{Broker: v.Broker, Admin: v.Admin, Vault: v.Vault, Leaving: t.Context()})
		for _, r := range server.Routes() {
			if r.Pattern == api.RouteAuditFollow {
				continue // it is broken off, as whoever follows asked for
			}
			path, _, has := strings.Cut(r.Pattern, "{")
			if has {
				path += "openai"
			}
			body := `{}`
			if r.Pattern == api.RouteProxy {
				body = chat
			}
			ctx, cancel := ended.ctx(server.WithCaller(t.Context(), aivaulttest.Operator()))
			cancel()
			req := httptest.NewRequestWithContext(ctx, r.Method, path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if text := w.Body.String() + fmt.Sprint(w.Header()); strings.Contains(text, "context ") {
				t.Errorf("%s, %s %s: %d %s", ended.name, r.Method, path, w.Code, text)
			}
		}
	}
}
