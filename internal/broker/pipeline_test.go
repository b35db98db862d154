package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// The record of an allowed call is there before the upstream hears of it, and
// its outcome before the caller sees the end.
func TestTheLogIsAheadOfTheCall(t *testing.T) {
	var v *aivaulttest.Aivault
	var before []aivaulttest.Record
	v = start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before = v.Records(t)
		_, _ = io.WriteString(w, "an answer")
	})})
	acme(t, v, "acme-token-0123456789", bearer())
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), get("acme/all", "/a/b?c=d"), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	allowed := aivaulttest.Events(before, "call.allowed")
	if len(allowed) != 1 {
		t.Fatalf("when the API was called the log said %v", allowed)
	}
	r := allowed[0]
	for field, want := range map[string]any{
		"capability": "acme/all", "credential": "acme", "scope": "global", "host": aivaulttest.CustomHost,
		"method": "GET", "path": "/", "provider": "acme",
	} {
		if r[field] != want {
			t.Errorf("%s is %v, want %v", field, r[field], want)
		}
	}
	who, _ := r["caller"].(map[string]any)
	if fmt.Sprint(who["uid"]) != "2000" || who["operator"] != nil {
		t.Errorf("the caller is %v", who)
	}
	if n := len(aivaulttest.Events(v.Records(t), "call.finished")); n != 0 {
		t.Fatal("the call is in the log as finished before its end")
	}
	buf := make([]byte, 64)
	for {
		_, err := answer.Body.Read(buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if len(finished) != 1 || fmt.Sprint(finished[0]["status"]) != "200" || fmt.Sprint(finished[0]["bytes"]) != "9" {
		t.Fatalf("at the end the log says %v", finished)
	}
	if finished[0]["requestId"] != r["requestId"] {
		t.Error("the two records do not name the same call")
	}
}

func TestALogThatCannotBeWrittenRefusesTheCall(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	mustInvoke(t, v, get("acme/all", "/x"))
	log, err := v.Vault.Audit(background)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Invoke(get("acme/all", "/x")); err == nil {
		t.Fatal("a call went out without a record")
	}
	if n := len(v.API.Seen()); n != 1 {
		t.Fatalf("the API saw %d requests", n)
	}
}

func TestStreamsPassAtOnce(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	v.API.StepChat(true)
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), post("openai/chat-completions", "", `{"stream":true}`), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got := answer.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("content type %q", got)
	}
	buf := make([]byte, 4096)
	for i := range 3 {
		v.API.Step()
		n, err := answer.Body.Read(buf)
		if err != nil || !bytes.HasPrefix(buf[:n], []byte("data: ")) {
			t.Fatalf("event %d: %q, %v", i, buf[:n], err)
		}
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := answer.Body.Read(buf); err == nil {
		t.Error("a closed answer can be read")
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if len(finished) != 1 || finished[0]["reason"] == nil {
		t.Errorf("the log says %v", finished)
	}
}

func TestALargeBodyStreamsThrough(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	const size = 20 << 20
	call := api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{Reader: io.LimitReader(zeros{}, size), Length: size})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	if seen := v.API.Seen(); seen[0].BodyLength != size {
		t.Errorf("the API received %d bytes", seen[0].BodyLength)
	}
	if finished := aivaulttest.Events(v.Records(t), "call.finished"); fmt.Sprint(finished[0]["sentBytes"]) != fmt.Sprint(size) && finished[0]["sentBytes"] != float64(size) {
		t.Errorf("the log says %v", finished[0]["sentBytes"])
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestACallsOwnTimeLimit(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	late := get("acme/all", "/slow?ms=5000")
	late.TimeoutMs = 50
	mustRefuse(t, v, late, api.UpstreamTimeout)

	endless := get("acme/all", "/sse")
	endless.TimeoutMs = 300
	_, _, err := v.Invoke(endless)
	if api.CodeOf(err) != api.UpstreamTimeout {
		t.Errorf("an endless stream ended with %v", err)
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if len(finished) != 2 || finished[0]["code"] != "upstream_timeout" || finished[1]["code"] != "upstream_timeout" {
		t.Errorf("the log says %v", finished)
	}
}

func TestACallerWhoLeavesEndsTheCall(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	ctx, leave := context.WithCancel(background)
	answer, err := v.Broker.Do(ctx, aivaulttest.Agent(), get("acme/all", "/sse"), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { _, err := io.ReadAll(answer.Body); read <- err }()
	time.AfterFunc(20*time.Millisecond, leave)
	err = <-read
	var known *api.Error
	if !errors.As(err, &known) {
		t.Errorf("the body ended with %v", err)
	}
	_ = answer.Body.Close()
	if finished := aivaulttest.Events(v.Records(t), "call.finished"); len(finished) != 1 {
		t.Errorf("the log says %v", finished)
	}
}

// Close may come from another goroutine than the one that waits in Read.
func TestCloseEndsAWaitingRead(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), get("acme/all", "/sse"), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { _, err := io.ReadAll(answer.Body); read <- err }()
	time.Sleep(20 * time.Millisecond)
	_ = answer.Body.Close()
	select {
	case err := <-read:
		if err == nil {
			t.Error("a broken stream ended as if it were complete")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Read went on after Close")
	}
}

// What takes the secret away ends the call that uses it.
func TestARevokedSecretEndsItsStream(t *testing.T) {
	for name, c := range map[string]struct {
		revoke func(v *aivaulttest.Aivault) error
		code   api.Code
	}{
		"delete the secret": {func(v *aivaulttest.Aivault) error {
			_, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "ACME_TOKEN")
			return err
		}, api.PolicyViolation},
		"delete the credential": {func(v *aivaulttest.Aivault) error {
			_, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "acme")
			return err
		}, api.PolicyViolation},
		"pin the secret": {func(v *aivaulttest.Aivault) error {
			_, err := v.Admin.UpdateSecret(background, aivaulttest.Operator(), "ACME_TOKEN", api.SecretUpdate{NewName: "OPENAI_API_KEY"})
			return err
		}, api.PolicyViolation},
		"lock": {func(v *aivaulttest.Aivault) error {
			_, err := v.Admin.Lock(background, aivaulttest.Operator())
			return err
		}, api.VaultLocked},
		"rotate, which does not": {func(v *aivaulttest.Aivault) error {
			_, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), "ACME_TOKEN", api.SecretRotate{Value: secret.FromString("acme-other-0123456789")})
			v.API.Step()
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := start(t, aivaulttest.Options{})
			acme(t, v, "acme-token-0123456789", bearer())
			answer, err := v.Broker.Do(background, aivaulttest.Agent(), get("acme/all", "/sse?events=1"), egress.Body{})
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if err := c.revoke(v); err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			late := time.AfterFunc(2*time.Second, func() { _ = answer.Body.Close() })
			defer late.Stop()
			_, err = io.ReadAll(answer.Body)
			if api.CodeOf(err) != c.code || time.Since(started) > time.Second {
				t.Errorf("the stream ended with %v after %s", err, time.Since(started))
			}
		})
	}
}

func TestContentTypeOfAJSONBody(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	for _, c := range []struct {
		body, given, want string
	}{
		{`{"a":1}`, "", "application/json"},
		{`[1]`, "application/vnd.acme+json", "application/vnd.acme+json"},
		{`a=1&b=2`, "", ""},
		{`{"a":1`, "", ""},
	} {
		call := post("acme/all", "/x", c.body)
		if c.given != "" {
			call = with(call, "content-type: "+c.given)
		}
		mustInvoke(t, v, call)
		seen := v.API.Seen()
		last := seen[len(seen)-1]
		if got := last.Header.Get("Content-Type"); got != c.want {
			t.Errorf("%s: content type %q, want %q", c.body, got, c.want)
		}
		if string(last.Body) != c.body {
			t.Errorf("sent %q, want %q", last.Body, c.body)
		}
	}
}

func TestQueryForTheDefaultPath(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/one", Methods: []string{"GET"}, Paths: []string{"=/one"}})
	mustInvoke(t, v, api.Call{Capability: "acme/one"})
	mustInvoke(t, v, api.Call{Capability: "acme/one", Request: api.Request{Path: "?a=b"}})
	seen := v.API.Seen()
	if seen[0].Target != "/one" || seen[1].Target != "/one?a=b" {
		t.Errorf("sent %s and %s", seen[0].Target, seen[1].Target)
	}
}

// A hundred calls and twenty changes at once, through two processes: nothing
// is lost, nothing doubled, the log is one chain.
func TestCallsAndChangesAtOnce(t *testing.T) {
	others := goleak.IgnoreCurrent()
	// Registered first, so that it runs when everything is closed.
	t.Cleanup(func() { goleak.VerifyNone(t, others) })
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	other := v.Open(t)
	var wg sync.WaitGroup
	fail := make(chan error, 200)
	for i := range 100 {
		wg.Go(func() {
			p := &v.Process
			if i%2 == 1 {
				p = &other
			}
			_, body, err := p.Invoke(get("acme/all", fmt.Sprintf("/echo?i=%d", i)))
			if err != nil || !strings.Contains(body, fmt.Sprintf("i=%d", i)) || strings.Contains(body, "acme-token") {
				fail <- fmt.Errorf("call %d: %q, %v", i, body, err)
			}
		})
	}
	for i := range 20 {
		wg.Go(func() {
			p := &v.Process
			if i%2 == 1 {
				p = &other
			}
			r := api.SecretCreate{Name: fmt.Sprintf("SECRET_%d", i), Value: secret.FromString(fmt.Sprintf("value-%d-0123456789", i))}
			if _, err := p.Admin.CreateSecret(background, aivaulttest.Operator(), r); err != nil {
				fail <- fmt.Errorf("secret %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
	list, err := other.Admin.Secrets(background, aivaulttest.Operator())
	if err != nil || len(list.Secrets) != 21 {
		t.Errorf("%d secrets, %v", len(list.Secrets), err)
	}
	records := v.Records(t)
	ids := map[any]int{}
	for _, r := range aivaulttest.Events(records, "call.allowed", "call.finished") {
		ids[r["requestId"]]++
	}
	if len(ids) != 100 {
		t.Errorf("%d calls in the log", len(ids))
	}
	for id, n := range ids {
		if n != 2 {
			t.Errorf("call %v has %d records", id, n)
		}
	}
	if n := len(v.API.Seen()); n != 100 {
		t.Errorf("the API saw %d requests", n)
	}
	noneOnDisk(t, v, "acme-token-0123456789", "-0123456789")
}

// Who gives a call up while it is decided hears so in words of ours, the log
// has the refusal, and nothing is sent. So it is wherever the call waited.
func TestACallThatIsGivenUpWhileItIsDecided(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	mustInvoke(t, v, get("acme/all", "/x"))
	ctx, cancel := context.WithCancel(background)
	cancel()
	for _, c := range []struct{ what, path string }{{"at the log", "/x"}, {"at the count", "/y"}} {
		if c.what == "at the count" {
			setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(100)})
		}
		_, err := v.Broker.Do(ctx, aivaulttest.Agent(), get("acme/all", c.path), egress.Body{})
		e := api.AsError(err)
		if e == nil || e.Code != api.InvalidRequest || strings.Contains(e.Message, "context") || !strings.Contains(e.Message, "given up") {
			t.Fatalf("%s: %+v", c.what, e)
		}
		if refused := aivaulttest.Events(v.Records(t), "call.refused"); len(refused) != 1 || refused[0]["reason"] != e.Message {
			t.Errorf("%s: the log says %v", c.what, refused)
		}
	}
	if n := len(aivaulttest.Events(v.Records(t), "call.allowed")); n != 1 {
		t.Errorf("%d calls are recorded as let through", n)
	}
	if n := len(v.API.Seen()); n != 1 {
		t.Errorf("the API saw %d requests", n)
	}
}
