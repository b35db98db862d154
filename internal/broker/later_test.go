package broker_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// An upstream that learns of a new value by one call may repeat it in another,
// which began before there was that value.
func TestAStreamIsScrubbedOfWhatComesLater(t *testing.T) {
	t.Parallel()
	const first, last = "sk-first-0123456789", "sk-last-9876543210"
	began, says := make(chan struct{}), make(chan string)
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		w.Header().Set("Content-Type", r.Header.Get("X-Kind"))
		_ = ctl.Flush()
		began <- struct{}{}
		for text := range says {
			fmt.Fprint(w, text)
			_ = ctl.Flush()
		}
	})})
	s := v.Create(t, "OPENAI_API_KEY", first)
	for _, kind := range []string{"text/event-stream", "text/plain"} {
		call := post("openai/chat-completions", "", `{}`)
		call.Request.Headers = api.Headers{{Name: "X-Kind", Value: kind}}
		says = make(chan string)
		var answer interface {
			io.Reader
			io.Closer
		}
		got := make(chan error, 1)
		go func() {
			a, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{})
			if err == nil {
				answer = a.Body
			}
			got <- err
		}()
		<-began
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		buf := make([]byte, 4096)
		hear := func(n int) {
			t.Helper()
			for all.Len() < n {
				m, err := answer.Read(buf)
				all.Write(buf[:m])
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		says <- "data: begun " + first + "\n\n"
		hear(len("data: begun [redacted]\n\n"))
		values := []string{first}
		for i := range 4 {
			next := fmt.Sprintf("%s-%d-%s", last, i, kind[5:])
			if _, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), s.ID, api.SecretRotate{Value: secret.FromString(next)}); err != nil {
				t.Fatal(err)
			}
			v.Broker.Observe(background)
			values = append(values, next)
			// In two parts, the first of which is read before the second is there.
			before := all.Len()
			says <- "data: more " + next[:10]
			says <- next[10:] + "\n\n"
			for _, old := range values {
				says <- "data: " + old + "\n\n"
			}
			hear(before + len("data: more [redacted]\n\n") + len(values)*len("data: [redacted]\n\n"))
			// A change that brings no other value.
			v.Create(t, fmt.Sprintf("OTHER_%d_%s", i, strings.ToUpper(kind[5:6])), "other-value-0123456789")
		}
		close(says)
		rest, err := io.ReadAll(answer)
		if err != nil {
			t.Error(err)
		}
		answer.Close()
		text := all.String() + string(rest)
		for _, value := range values {
			if strings.Contains(text, value) || strings.Contains(text, value[:12]) {
				t.Errorf("%s: %q is in the answer:\n%s", kind, value, text)
			}
		}
		if n := strings.Count(text, "[redacted]"); n != 1+4+2+3+4+5 {
			t.Errorf("%s: %d values were found:\n%s", kind, n, text)
		}
		if _, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), s.ID, api.SecretRotate{Value: secret.FromString(first)}); err != nil {
			t.Fatal(err)
		}
		v.Broker.Observe(background)
	}
}
