package broker_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

func hmacSpec(h api.HMACSpec) api.AuthSpec {
	h.Algorithm = "sha256"
	if h.Output.In == "" {
		h.Output = api.AuthPlace{In: "header", Name: "X-Signature", Template: "sha256={{signature}}"}
	}
	return api.AuthSpec{Type: "hmac", HMAC: &h}
}

func macOf(key string, parts ...[]byte) string {
	m := hmac.New(sha256.New, []byte(key))
	for _, p := range parts {
		m.Write(p)
	}
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// What is signed is the body that is sent, however it came.
func TestHMACSignsTheBodyThatIsSent(t *testing.T) {
	const key = "key-0123456789"
	bodies := map[string][]byte{
		"/empty": nil, "/text": []byte(`{"a": 1}`), "/binary": {0, 1, 2, 0xff, '\n'}, "/long": bytes.Repeat([]byte("0123456789abcdef"), 60<<10),
	}
	v := start(t, aivaulttest.Options{})
	acme(t, v, key, hmacSpec(api.HMACSpec{}))
	check := func(path string, body []byte, s standin.Seen) {
		t.Helper()
		if got, want := s.Header.Get("X-Signature"), macOf(key, body); got != want || s.BodyLength != int64(len(body)) {
			t.Errorf("%s: %s over %d bytes, want %s over %d", path, got, s.BodyLength, want, len(body))
		}
	}
	for path, body := range bodies {
		for _, length := range []int64{int64(len(body)), -1} {
			v.API.Record(true)
			call := get("acme/all", path)
			call.Request.Method = "POST"
			given := egress.Body{Reader: io.MultiReader(bytes.NewReader(body)), Length: length}
			if body == nil {
				given = egress.Body{}
			}
			answer, err := v.Broker.Do(background, aivaulttest.Agent(), call, given)
			if err != nil {
				t.Errorf("%s, length %d: %v", path, length, err)
				continue
			}
			answer.Body.Close()
			check(path, body, v.API.Seen()[0])
		}
	}
	v.API.Record(true)
	text := "a=ä&b"
	call := get("acme/all", "/text")
	call.Request.Method, call.Request.Body = "POST", &text
	mustInvoke(t, v, call)
	check("/text", []byte(text), v.API.Seen()[0])

	v.API.Record(true)
	call.Request.Body = nil
	_, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{Reader: io.LimitReader(endless{}, policy.MaxInspected+1), Length: -1})
	if api.CodeOf(err) != api.RequestTooLarge {
		t.Errorf("a body that is too long to be signed: %v", err)
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Nonces in forms rise strictly over concurrent calls of all credentials, and
// each form is signed with its own.
func TestHMACNonces(t *testing.T) {
	const key = "key-0123456789"
	now := time.Now()
	v := start(t, aivaulttest.Options{Clock: func() time.Time { return now }}) // a clock that stands still
	acme(t, v, key, hmacSpec(api.HMACSpec{Sign: "{nonce}{body}", Nonce: &api.AuthPlace{In: "body", Name: "nonce"}}))
	const calls = 40
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			call := get("acme/all", "/x")
			call.Request.Method = "POST"
			if i%2 == 0 {
				text := "i=" + strconv.Itoa(i)
				call.Request.Body = &text
				call.Request.Headers = []api.Header{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
			}
			if _, _, err := v.Invoke(call); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, s := range v.API.Seen() {
		form, err := url.ParseQuery(string(s.Body))
		if err != nil {
			t.Fatal(err)
		}
		nonce := form.Get("nonce")
		if seen[nonce] || !strings.HasSuffix(string(s.Body), "nonce="+nonce) {
			t.Errorf("nonce %q in %q, again or not behind the caller's", nonce, s.Body)
		}
		seen[nonce] = true
		if got, want := s.Header.Get("X-Signature"), macOf(key, []byte(nonce), s.Body); got != want {
			t.Errorf("%q is signed as %s, want %s", s.Body, got, want)
		}
	}
	if len(seen) != calls {
		t.Errorf("%d calls arrived", len(seen))
	}
}

// The caller sets nothing of a signature: not the header under any spelling,
// not the parameters.
func TestHMACIsNotTheCallers(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "key-0123456789", hmacSpec(api.HMACSpec{
		Sign: "{query}{nonce}", Timestamp: &api.AuthPlace{In: "query", Name: "ts"}, Nonce: &api.AuthPlace{In: "header", Name: "X-Acme-Count"},
	}))
	for _, c := range []api.Request{
		{Method: "GET", Path: "/x", Headers: []api.Header{{Name: "x_signature", Value: "a"}}},
		{Method: "GET", Path: "/x", Headers: []api.Header{{Name: "X-ACME-count", Value: "1"}}},
		{Method: "GET", Path: "/x?TS=1"},
		{Method: "GET", Path: "/x?%74s=1"},
	} {
		mustRefuse(t, v, api.Call{Capability: "acme/all", Request: c}, api.PolicyViolation)
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

// A signature that an upstream repeats is removed, wherever it repeats it: it
// would let the caller send the same request past us.
func TestSignatureIsScrubbed(t *testing.T) {
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		signature := r.Header.Get("X-Signature")
		w.Header().Set("X-Request-Id", signature)
		_, _ = io.WriteString(w, r.RequestURI+" "+signature+" "+strings.TrimPrefix(signature, "sha256="))
	})})
	acme(t, v, "key-0123456789", hmacSpec(api.HMACSpec{Sign: "{method}{target}"}))
	call := get("acme/all", "/x?a=1")
	answer, body, err := v.Invoke(call)
	if err != nil {
		t.Fatal(err)
	}
	want := macOf("key-0123456789", []byte("GET/x?a=1"))
	if sent := v.API.Seen()[0].Header.Get("X-Signature"); sent != want {
		t.Fatalf("signed as %s, want %s", sent, want)
	}
	for where, text := range map[string]string{"body": body, "header": answer.Header.Get("X-Request-Id")} {
		if strings.Contains(text, want[7:]) || !strings.Contains(text, secret.Redacted) {
			t.Errorf("the %s is %q", where, text)
		}
	}
	if outcome := aivaulttest.Events(v.Records(t), "call.finished"); len(outcome) == 1 && outcome[0]["redactions"] == nil {
		t.Errorf("the outcome counts nothing: %v", outcome[0])
	}
}

// Wherever a template has the signature, an answer that repeats it alone is
// clean of it.
func TestSignatureWithinATemplateIsScrubbed(t *testing.T) {
	const key = "key-0123456789"
	signature := strings.TrimPrefix(macOf(key), "sha256=")
	for _, template := range []string{`keyId="a",signature="{{signature}}"`, "v1/{{signature}}", "a{{signature}}b"} {
		v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "got "+signature+".")
		})})
		acme(t, v, key, hmacSpec(api.HMACSpec{Output: api.AuthPlace{In: "header", Name: "X-Signature", Template: template}}))
		if body := mustInvoke(t, v, get("acme/all", "/x")); body != "got "+secret.Redacted+"." {
			t.Errorf("%s: %q", template, body)
		}
		if sent := v.API.Seen()[0].Header.Get("X-Signature"); !strings.Contains(sent, signature) {
			t.Errorf("%s: sent %q", template, sent)
		}
	}
}
