package broker_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// What was added while a call waited for its header, or while a packed answer
// was on its way, is not in what follows: not in a header, not in the body, not
// in what the body unpacks to.
func TestAnAnswerIsCleanOfWhatCameBeforeIt(t *testing.T) {
	t.Parallel()
	const first = "sk-first-0123456789"
	began, goOn := make(chan struct{}), make(chan string)
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		if r.Header.Get("X-Kind") == "header" {
			began <- struct{}{}
			value := <-goOn
			w.Header().Set("X-Request-Id", "id "+value)
			_, _ = io.WriteString(w, "body "+value)
			return
		}
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "begun")
		_ = z.Flush()
		_ = ctl.Flush()
		began <- struct{}{}
		value := <-goOn
		if r.Header.Get("X-Kind") == "next part" {
			_ = z.Close()
			z.Reset(w)
		}
		_, _ = io.WriteString(z, "more "+value+" text")
		_ = z.Close()
	})})
	s := v.Create(t, "OPENAI_API_KEY", first)
	for kind, next := range map[string]string{"header": "sk-second-9876543210", "same part": "sk-third-1029384756", "next part": "sk-fourth-5647382910"} {
		call := post("openai/chat-completions", "", `{}`)
		call.Request.Headers = api.Headers{{Name: "X-Kind", Value: kind}}
		type result struct {
			head string
			body []byte
			err  error
		}
		got := make(chan result, 1)
		go func() {
			a, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{})
			if err != nil {
				got <- result{err: err}
				return
			}
			body, err := io.ReadAll(a.Body)
			_ = a.Body.Close()
			got <- result{a.Header.Get("X-Request-Id"), body, err}
		}()
		<-began
		if _, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), s.ID, api.SecretRotate{Value: secret.FromString(next)}); err != nil {
			t.Fatal(err)
		}
		v.Broker.Observe(background)
		goOn <- next
		r := <-got
		if kind == "header" {
			if r.err != nil || r.head != "id [redacted]" || string(r.body) != "body [redacted]" {
				t.Errorf("%s: header %q, body %q, %v", kind, r.head, r.body, r.err)
			}
			continue
		}
		if api.CodeOf(r.err) != api.PolicyViolation {
			t.Errorf("%s: %v", kind, r.err)
		}
		if z, err := gzip.NewReader(bytes.NewReader(r.body)); err == nil {
			if text, _ := io.ReadAll(z); string(text) != "begun" {
				t.Errorf("%s: %q can be unpacked from the answer", kind, text)
			}
		}
	}
}
