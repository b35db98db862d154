package broker_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// An upstream that repeats its caller's secret, and that would send any part
// of that. Nobody gets the secret piece by piece, nor a blocked field without
// its name.
func TestNoAnswerComesInParts(t *testing.T) {
	const token = "tok-0123456789abcdef"
	unasked := false
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, name := range []string{"Request-Range", "X-Ms-Range"} {
			if value := r.Header.Get(name); value != "" {
				r.Header.Set("Range", value)
			}
		}
		if unasked {
			r.Header.Set("Range", "bytes=7-17")
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(`{"ssn":"SENSITIVE","echo":"`+r.Header.Get("Authorization")+`"}`))
	})})
	acme(t, v, token, bearer())
	if _, body, err := v.Invoke(get("acme/all", "/x")); err != nil || body != `{"ssn":"SENSITIVE","echo":"[redacted]"}` {
		t.Fatalf("%s, %v", body, err)
	}
	asking := func(name, value string) api.Call {
		c := get("acme/all", "/x")
		c.Request.Headers = []api.Header{{Name: name, Value: value}}
		return c
	}
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", ResponseBlock: []string{"ssn"}})
	for _, name := range []string{"Range", "range", "If-Range", "Request-Range", "X-MS-Range"} {
		mustRefuse(t, v, asking(name, "bytes=7-17"), api.PolicyViolation)
	}
	mustRefuse(t, v, asking("Accept", "application/json;charset=UTF-16"), api.PolicyViolation)
	mustRefuse(t, v, asking("Accept-Charset", "utf-16"), api.PolicyViolation)
	sent := len(v.API.Seen())
	unasked = true
	if _, body, err := v.Invoke(get("acme/all", "/x")); api.CodeOf(err) != api.PolicyViolation || body != "" {
		t.Errorf("a part that nobody asked for: %s, %v", body, err)
	}
	if n := len(v.API.Seen()); n != sent+1 {
		t.Errorf("%d calls went out instead of one", n-sent)
	}
}

// In a charset that writes ASCII in another way, a secret would pass unseen.
func TestAnAnswerCanBeRead(t *testing.T) {
	const token = "tok-0123456789abcdef"
	var types []string
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = types
		text := r.Header.Get("Authorization")
		if !policy.SameAsASCII(strings.Join(types, ",")) {
			text = strings.Join(strings.Split(text, ""), "\x00") + "\x00"
		}
		_, _ = io.WriteString(w, text)
	})})
	acme(t, v, token, bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/head", Methods: []string{"HEAD"}, Paths: []string{"/"}})
	for _, c := range []struct {
		types []string
		ok    bool
	}{
		{nil, true},
		{[]string{"text/plain"}, true},
		{[]string{"text/plain; charset=utf-8"}, true},
		{[]string{"text/html;Charset=\"ISO-8859-1\""}, true},
		{[]string{"text/html; charset=windows-1252"}, true},
		{[]string{"text/html; charset="}, true},
		{[]string{"application/x-charset; charset=GB18030"}, true},
		{[]string{"text/plain; charset=utf-16"}, false},
		{[]string{"application/json; charset = \"UTF-16LE\""}, false},
		{[]string{"text/plain; charset*=utf-32"}, false},
		{[]string{"text/plain; charset=utf-8; charset=utf-16"}, false},
		{[]string{"text/plain", "text/plain; charset=utf-32"}, false},
		{[]string{"text/plain; charset=ibm037"}, false},
		{[]string{"text/plain; charset=" + token}, false},
		{[]string{"text/plain; x=\"; charset=utf-16"}, false},
	} {
		types = c.types
		answer, body, err := v.Invoke(get("acme/all", "/x"))
		if c.ok && (err != nil || body != "[redacted]") {
			t.Errorf("%q: %q, %v", c.types, body, err)
		}
		if !c.ok && (api.CodeOf(err) != api.UpstreamUnreachable || answer != nil || strings.Contains(err.Error(), token)) {
			t.Errorf("%q: %q, %v", c.types, body, err)
		}
		call := get("acme/all", "/x")
		call.Request.Method = "HEAD"
		call.Capability = "acme/head"
		if _, _, err := v.Invoke(call); err != nil {
			t.Errorf("%q, without a body: %v", c.types, err)
		}
	}
}
