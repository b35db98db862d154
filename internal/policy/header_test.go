package policy

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func headersOf(lines ...string) []api.Header {
	var out []api.Header
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		out = append(out, api.Header{Name: name, Value: value})
	}
	return out
}

func canonicalHeaders(rules Rules, lines ...string) ([]string, error) {
	r, err := Canonicalise("POST", "/", headersOf(lines...), rules)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range r.Headers() {
		out = append(out, h.Name+": "+h.Value)
	}
	return out, nil
}

func TestHeadersPass(t *testing.T) {
	rules := Rules{
		AuthHeader:    func(n string) bool { return n == "x-goog-user" },
		CallerHeaders: []string{"X-Session-Id", "X-Goog-User", "Old_Name"},
		Defaults:      headersOf("accept: application/json", "X-Version: 2", "odd_default: d"),
		Fixed:         headersOf("X-Kind: fixed"),
	}
	base := []string{"Accept: application/json", "X-Version: 2", "Odd_default: d", "X-Kind: fixed"}
	for _, c := range []struct{ in, out []string }{
		{nil, base},
		{[]string{"content-type: text/plain"}, append([]string{"Content-Type: text/plain"}, base...)},
		{[]string{"X-A: 1", "x-b: 2", "X-a: 3"}, append([]string{"X-A: 1", "X-B: 2", "X-A: 3"}, base...)},
		{[]string{"X-A:   \t 1 \t"}, append([]string{"X-A: 1"}, base...)},
		{[]string{"X-A: "}, append([]string{"X-A: "}, base...)},
		{[]string{"X-A: a\tb"}, append([]string{"X-A: a\tb"}, base...)},
		{[]string{"ACCEPT: */*"}, []string{"Accept: */*", "X-Version: 2", "Odd_default: d", "X-Kind: fixed"}},
		{[]string{"Accept: text/plain;charset=utf-8, text/html; charset=\"ISO-8859-1\", application/x-charset", "Accept-Charset: utf-8, us-ascii;q=0.5"},
			[]string{"Accept: text/plain;charset=utf-8, text/html; charset=\"ISO-8859-1\", application/x-charset", "Accept-Charset: utf-8, us-ascii;q=0.5", "X-Version: 2", "Odd_default: d", "X-Kind: fixed"}},
		{[]string{"x-version: 3"}, []string{"X-Version: 3", "Accept: application/json", "Odd_default: d", "X-Kind: fixed"}},
		{[]string{"x-kind: fixed"}, base},
		{[]string{"odd_default: e"}, []string{"Odd_default: e", "Accept: application/json", "X-Version: 2", "X-Kind: fixed"}},
		{[]string{"x-session-id: 7"}, append([]string{"X-Session-Id: 7"}, base...)},
		{[]string{"x-goog-user: 7"}, append([]string{"X-Goog-User: 7"}, base...)},
		{[]string{"old_name: 7"}, append([]string{"Old_name: 7"}, base...)},
		{[]string{"Idempotency-Key: k", "Content-Range: bytes 0-1/2", "If-None-Match: x", "Referer: https://x"},
			append([]string{"Idempotency-Key: k", "Content-Range: bytes 0-1/2", "If-None-Match: x", "Referer: https://x"}, base...)},
	} {
		got, err := canonicalHeaders(rules, c.in...)
		if err != nil || !slices.Equal(got, c.out) {
			t.Errorf("%q becomes %q, %v", c.in, got, err)
		}
	}
}

// spellings are the ways in which a caller writes one header name.
func spellings(name string) []string {
	return []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToLower(name), "-", "_")}
}

func TestHeadersRefused(t *testing.T) {
	rules := Rules{
		AuthHeader:    func(n string) bool { return n == "x-goog-user" || n == "dd-app" },
		CallerHeaders: []string{"X-Session-Id"},
		Fixed:         headersOf("X-Kind: fixed"),
		Defaults:      headersOf("X-Version: 2"),
	}
	for _, name := range []string{
		// the connection, the framing, the route
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Anything", "Proxy", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"Content-Length", "Expect", "Host", "HTTP2-Settings", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded", "X-Real-IP",
		"Via", "X-Original-URL", "X-Original-Host", "X-Rewrite-URL", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "Accept-Encoding",
		"Aivault-Api", "Aivault-Answer", "Sec-WebSocket-Protocol", "True-Client-IP", "X-Host", "Max-Forwards",
		"X-HTTP-Path-Override", "X-HTTP-DestinationURL", "X-Override-URL", "X-Envoy-Original-Path", "X-Proxy-URL", "X-ProxyUser-IP",
		"Client-IP", "CF-Connecting-IP", "Remote-User", "X-Remote-User", "CDN-Loop",
		// what authenticates, by name
		"Authorization", "X-Authorization", "X-Auth", "X-Auth-Key", "X-Api-Key", "Api-Key", "ApiKey", "X-ApiKey", "X-Goog-Api-Key", "X-Amz-Security-Token",
		"X-Token", "Private-Token", "X-Secret", "X-Session", "Session-Id", "X-Signature", "X-Hub-Signature", "X-Credential", "Cookie", "Cookie2", "Set-Cookie",
		"X-CSRF-Token", "WWW-Authenticate",
		// a part of an answer
		"Range", "If-Range", "Request-Range", "X-MS-Range", "A-IM",
		// what authenticates somewhere
		"X-Goog-User", "DD-App",
	} {
		for _, n := range spellings(name) {
			if got, err := canonicalHeaders(rules, n+": x"); api.CodeOf(err) != api.PolicyViolation {
				t.Errorf("%s: %v %v", n, got, err)
			}
		}
	}
	for _, line := range []string{
		"Accept-Charset: utf-16", "Accept-Charset: utf-8, utf-16le;q=0.1", "Accept-Charset: *", "Accept-Charset: ibm037", "Accept-Charset: ",
		"Accept: application/json;charset=UTF-16", "Accept: text/plain, text/html; Charset = \"utf-32\"", "Accept: text/plain; charset=utf-8; charset=ucs-2", "Accept: text/x; charset*=utf-16", "Accept: a/b;charset=x-unheard-of", "Accept: a/b;charset=;charset=utf-16",
		"X-Kind: other", "x_kind: fixed", "X_Kind: other", // fixed
		"X_Custom: 1", "x_version: 1", "X_Session_Id: 1", "X-Session_Id: 1", // '_' for '-'
	} {
		if got, err := canonicalHeaders(rules, line); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v %v", line, got, err)
		}
	}
	for _, h := range []api.Header{
		{Name: ""}, {Name: " X-A"}, {Name: "X-A "}, {Name: "X-A:"}, {Name: "X A"}, {Name: "X-A\r\n"}, {Name: "X-A\x00"}, {Name: "Ｘ-A"}, {Name: "X-Ä"}, {Name: ":authority"},
		{Name: "Author\u0131zation"}, {Name: "(x)"}, {Name: strings.Repeat("a", MaxHeaderName+1)},
		{Name: "X-A", Value: "a\r\nHost: evil.test"}, {Name: "X-A", Value: "a\nb"}, {Name: "X-A", Value: "a\x00"}, {Name: "X-A", Value: "a\x7f"}, {Name: "X-A", Value: "é"},
		{Name: "X-A", Value: "\xff"}, {Name: "X-A", Value: "a\x1b[31m"}, {Name: "X-A", Value: strings.Repeat("a", MaxHeaderValue+1)},
		{Name: "Authorization\r\n", Value: "x"},
	} {
		if _, err := Canonicalise("GET", "/", []api.Header{h}, rules); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%.40q: %v", h, err)
		} else if strings.ContainsAny(err.Error(), "\x00\r\n\x1b") || len(err.Error()) > 400 {
			t.Errorf("the error repeats it raw or at length: %q", err)
		}
	}
	for _, lines := range [][]string{
		{"Content-Type: a/b", "content-type: a/b"}, {"Content-Type: a/b", "X-A: 1", "CONTENT-TYPE: c/d"},
	} {
		if _, err := canonicalHeaders(rules, lines...); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%q: %v", lines, err)
		}
	}
	if _, err := canonicalHeaders(Rules{CallerHeaders: []string{"X_A"}}, "X-A: 1", "X_A: 2"); api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("two spellings of one header: %v", err)
	}
	many := make([]api.Header, MaxHeaders+1)
	for i := range many {
		many[i] = api.Header{Name: "X-A", Value: "1"}
	}
	if _, err := Canonicalise("GET", "/", many, rules); api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("%d headers: %v", len(many), err)
	}
	if _, err := Canonicalise("GET", "/", many[1:], rules); err != nil {
		t.Errorf("%d headers: %v", len(many)-1, err)
	}
}

// What an entry lists as the caller's lifts the rules about auth, never those
// about the connection.
func TestCallerHeadersKeepFraming(t *testing.T) {
	rules := Rules{CallerHeaders: []string{"Host", "Transfer-Encoding", "X-Forwarded-For"}}
	for _, name := range rules.CallerHeaders {
		if _, err := canonicalHeaders(rules, name+": x"); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v", name, err)
		}
	}
}
