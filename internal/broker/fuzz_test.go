package broker_test

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// Whatever a caller writes into an envelope, a call that goes out goes to its
// capability's host, carries our auth alone, and an answer or error gives
// nothing of it back.
func FuzzCallsStayWhereTheyBelong(f *testing.F) {
	const value = "sk-fuzz-0123456789abcdef"
	v := start(f, aivaulttest.Options{Hosts: []string{"evil.test"}})
	v.Create(f, "OPENAI_API_KEY", value)
	capability(f, v, api.CapabilityCreate{ID: "openai/echo", Methods: []string{"GET", "POST"}, Paths: []string{"/echo", "=/echo/*%2F*"}, Host: "api.openai.com"})
	f.Add("openai/echo", "", "GET", "/echo", "accept", "text/plain", "{}")
	f.Add("openai/echo", "openai", "POST", "/echo?a=b", "Authorization", "x", "body")
	f.Add("openai/echo", "", "GET", "//evil.test/echo", "Host", "evil.test", "")
	f.Add("openai/echo", "", "GET", "/echo/../v1/files", "X-Forwarded-Host", "evil.test", "")
	f.Add("openai/models", "acme", "get", "https://evil.test/", "Cookie", "a\r\nb", "")
	f.Add("openai/echo\x00", "", "GET", "/echo/%2e%2e", "a", "\x1b", "")
	f.Add("openai/echo", "", "GET", "/echo/a%2fb%2Fc?q=%2F", "", "", "")
	f.Add("openai/echo", "", "GET", "/echo/a%2F%2e%2e%2fv1", "a", "b", "")
	f.Fuzz(func(t *testing.T, id, named, method, path, name, header, body string) {
		before := len(v.API.Seen())
		call := api.Call{Capability: id, Credential: named, Request: api.Request{
			Method: method, Path: path, Body: &body, Headers: []api.Header{{Name: name, Value: header}},
		}}
		_, answer, err := v.Invoke(call)
		if strings.Contains(answer, value) {
			t.Fatalf("the answer holds the secret: %q", answer)
		}
		if err != nil {
			text := err.Error() + api.AsError(err).Hint
			if strings.Contains(text, value) || strings.ContainsAny(text, "\x00\r\n\x1b\x7f") {
				t.Fatalf("the error is %q", text)
			}
		}
		for _, seen := range v.API.Seen()[before:] {
			if seen.Host != "api.openai.com" {
				t.Fatalf("sent to %q", seen.Host)
			}
			if got := seen.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+value {
				t.Fatalf("sent with %q", got)
			}
			if id != "openai/echo" {
				continue
			}
			// An escaped '/' is in the one segment that declares it.
			path, _, _ := strings.Cut(seen.Target, "?")
			segs := strings.Split(path, "/")[1:]
			if segs[0] != "echo" || strings.Contains(path, "%2F") && (len(segs) != 2 || !strings.Contains(segs[1], "%2F")) || strings.Contains(path, "%2f") {
				t.Fatalf("sent to %q", seen.Target)
			}
			for _, part := range strings.Split(strings.ReplaceAll(strings.TrimSuffix(path, "/"), "%2F", "/"), "/")[1:] {
				if strings.Trim(strings.ReplaceAll(part, "%20", " "), ". ") == "" {
					t.Fatalf("sent to %q", seen.Target)
				}
			}
		}
	})
}
