package broker_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/vault"
)

func ptr[T any](v T) *T { return &v }

func setPolicy(t testing.TB, v *aivaulttest.Aivault, c api.PolicyChange) {
	t.Helper()
	if _, err := v.Admin.SetPolicy(background, aivaulttest.Operator(), c); err != nil {
		t.Fatalf("set the policy of %s: %v", c.Capability, err)
	}
}

// do makes a call and reads its answer to the end.
func do(p *aivaulttest.Process, who grant.Caller, call api.Call, body egress.Body) (*api.Planned, []byte, error) {
	answer, err := p.Broker.Do(context.Background(), who, call, body)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return &answer.Planned, text, err
}

// chunked hides what strings.Reader tells of itself.
func chunked(text string) egress.Body {
	return egress.Body{Reader: io.MultiReader(strings.NewReader(text)), Length: -1}
}

func known(text string) egress.Body {
	return egress.Body{Reader: io.MultiReader(strings.NewReader(text)), Length: int64(len(text))}
}

func TestARequestsBodyIsBoundedToTheByte(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", MaxRequestBodyBytes: ptr(int64(10))})
	call := api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}
	text := func(s string) api.Call { c := call; c.Request.Body = &s; return c }
	for name, c := range map[string]struct {
		call api.Call
		body egress.Body
		fits bool
		sent int64 // bytes that the API may have seen
	}{
		"text that fits":              {text("0123456789"), egress.Body{}, true, 10},
		"text of one byte more":       {text("0123456789a"), egress.Body{}, false, -1},
		"a stream that fits":          {call, known("0123456789"), true, 10},
		"a stream of one byte more":   {call, known("0123456789a"), false, -1},
		"an open stream that fits":    {call, chunked("0123456789"), true, 10},
		"an open stream of one more":  {call, chunked("0123456789a"), false, 10},
		"an open stream of many more": {call, chunked(strings.Repeat("x", 100_000)), false, 10},
		"no body":                     {call, egress.Body{}, true, 0},
	} {
		c.call.Request.Path += "?" + strings.ReplaceAll(name, " ", "_")
		_, _, err := do(&v.Process, aivaulttest.Agent(), c.call, c.body)
		if c.fits && err != nil || !c.fits && api.CodeOf(err) != api.RequestTooLarge {
			t.Errorf("%s: %v", name, err)
		}
		// What broke off may reach the API when the call is long over.
		for _, seen := range v.API.Seen() {
			if !strings.HasSuffix(seen.Target, c.call.Request.Path) {
				continue
			}
			if c.sent < 0 {
				t.Errorf("%s: something was sent", name)
			}
			if seen.BodyLength > c.sent || c.fits && seen.BodyLength != c.sent {
				t.Errorf("%s: the API saw %d bytes", name, seen.BodyLength)
			}
		}
	}
}

func TestAnAnswersBodyIsBoundedToTheByte(t *testing.T) {
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := strings.Repeat("x", len(r.URL.RawQuery))
		switch {
		case strings.HasPrefix(r.URL.Path, "/chunked"):
			for i := range len(text) {
				_, _ = io.WriteString(w, text[i:i+1])
				_ = http.NewResponseController(w).Flush()
			}
		case strings.HasPrefix(r.URL.Path, "/gzip"):
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, text)
			_ = z.Close()
		case strings.HasPrefix(r.URL.Path, "/echo"):
			_, _ = io.WriteString(w, r.Header.Get("Authorization"))
		default:
			_, _ = io.WriteString(w, text)
		}
	})})
	acme(t, v, "acme-token-0123456789", bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", MaxResponseBodyBytes: ptr(int64(20))})
	for _, path := range []string{"/plain", "/chunked", "/gzip"} {
		for n := range 45 {
			_, text, err := do(&v.Process, aivaulttest.Agent(), get("acme/all", path+"?"+strings.Repeat("a", n)), egress.Body{})
			switch {
			case len(text) != min(n, 20) || strings.Trim(string(text), "x") != "":
				t.Errorf("%s of %d: the caller got %d bytes", path, n, len(text))
			case n <= 20 && err != nil:
				t.Errorf("%s of %d: %v", path, n, err)
			case n > 20 && api.CodeOf(err) != api.ResponseTooLarge:
				t.Errorf("%s of %d: %v", path, n, err)
			}
		}
	}
	for _, r := range aivaulttest.Events(v.Records(t), "call.finished") {
		if n := fmt.Sprint(r["bytes"]); n == "20" && r["code"] != nil && r["code"] != "response_too_large" {
			t.Errorf("the log says %v", r)
		}
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if last := finished[len(finished)-1]; last["code"] != "response_too_large" || fmt.Sprint(last["bytes"]) != "20" {
		t.Errorf("the log says %v", last)
	}
	// What counts is what the caller gets: "Bearer [redacted]" are 17 bytes.
	if _, text, err := do(&v.Process, aivaulttest.Agent(), get("acme/all", "/echo"), egress.Body{}); err != nil || string(text) != "Bearer [redacted]" && string(text) != "[redacted]" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestBlockedFieldsLeaveNoAnswer(t *testing.T) {
	const secretValue = "acme-token-0123456789"
	answers := map[string]struct{ kind, text, want string }{
		"plain":      {"application/json", `{"a":1,"internal":{"x":[1,2]},"b":2}`, `{"a":1,"b":2}`},
		"nested":     {"application/json; charset=utf-8", `{"list":[{"internal":1,"k":2},[{"internal":"x"}]]}`, `{"list":[{"k":2},[{}]]}`},
		"escaped":    {"application/vnd.api+json", `{"\u0069nternal":1,"INTERNAL":2,"k":3}`, `{"k":3}`},
		"duplicated": {"application/json", `{"internal":1,"k":1,"internal":2}`, `{"k":1}`},
		"no object":  {"application/json", `[1,"internal"]`, `[1,"internal"]`},
		"an echo":    {"application/json", `{"internal":"` + secretValue + `","k":"` + secretValue + `"}`, `{"k":"[redacted]"}`},
		"empty":      {"text/html", ``, ``},
		"text":       {"text/plain", `internal: 1`, ""},
		"no type":    {"", `{"internal":1}`, ""},
		"no JSON":    {"application/json", `<html>internal</html>`, ""},
		"lines":      {"application/x-ndjson", "{\"internal\":1}\n{\"internal\":2}\n", ""},
		"cut short":  {"application/json", `{"k":1,"internal":`, ""},
		"two texts":  {"application/json", `{"k":1}{"internal":2}`, ""},
		"UTF-16":     {"application/json; charset=utf-16", "{\x00}\x00", ""},
	}
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		how, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		a := answers[strings.ReplaceAll(name, "_", " ")]
		w.Header()["Content-Type"] = nil
		if a.kind != "" {
			w.Header().Set("Content-Type", a.kind)
		}
		if r.URL.RawQuery == "twice" {
			w.Header()["Content-Type"] = []string{"application/json", "text/plain"}
		}
		var to io.Writer = w
		if how == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			to = z
		}
		step := len(a.text)
		if how == "chunked" {
			step = 1
		}
		for rest := a.text; rest != ""; rest = rest[step:] {
			_, _ = io.WriteString(to, rest[:step])
			if how == "chunked" {
				_ = http.NewResponseController(w).Flush()
			}
		}
	})})
	acme(t, v, secretValue, bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", ResponseBlock: []string{"internal"}})
	for name, a := range answers {
		for _, how := range []string{"plain", "gzip", "chunked"} {
			path := "/" + how + "/" + strings.ReplaceAll(name, " ", "_")
			_, text, err := do(&v.Process, aivaulttest.Agent(), get("acme/all", path), egress.Body{})
			switch {
			case a.want == "" && a.text != "" && api.CodeOf(err) != api.PolicyViolation:
				t.Errorf("%s, %s: %q, %v", name, how, text, err)
			case (a.want != "" || a.text == "") && (err != nil || strings.Join(strings.Fields(string(text)), "") != a.want):
				t.Errorf("%s, %s: %q, %v; want %q", name, how, text, err, a.want)
			case bytes.Contains(text, []byte("internal\":")):
				t.Errorf("%s, %s: the caller got %q", name, how, text)
			}
		}
	}
	// Before the first byte, where the type tells it.
	for _, path := range []string{"/plain/text", "/plain/no_type", "/chunked/lines", "/plain/plain?twice"} {
		if _, err := v.Broker.Do(background, aivaulttest.Agent(), get("acme/all", path), egress.Body{}); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v", path, err)
		}
	}
	if r := aivaulttest.Events(v.Records(t), "call.finished"); r[len(r)-1]["code"] != "policy_violation" {
		t.Errorf("the log says %v", r[len(r)-1])
	}
	call := get("acme/all", "/plain/text")
	call.Request.Method = "HEAD"
	capability(t, v, api.CapabilityCreate{ID: "acme/head", Methods: []string{"HEAD"}, Paths: []string{"/"}})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/head", ResponseBlock: []string{"internal"}})
	call.Capability = "acme/head"
	if _, text, err := do(&v.Process, aivaulttest.Agent(), call, egress.Body{}); err != nil || len(text) > 0 {
		t.Errorf("HEAD: %q, %v", text, err)
	}
}

func TestABodySaysWhatItMust(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small", "7"}}}})
	send := func(text, kind string) api.Call {
		c := post("acme/all", "/echo", text)
		if kind != "" {
			c = with(c, "Content-Type: "+kind)
		}
		return c
	}
	for name, c := range map[string]struct {
		call api.Call
		body egress.Body
		code api.Code
	}{
		"the value":                {send(`{"model":"small", "x":[1,{}]}`, ""), egress.Body{}, ""},
		"a number":                 {send(`{"model":7}`, ""), egress.Body{}, ""},
		"another value":            {send(`{"model":"large"}`, ""), egress.Body{}, api.PolicyViolation},
		"none":                     {send(`{}`, ""), egress.Body{}, api.PolicyViolation},
		"twice":                    {send(`{"model":"small","model":"large"}`, ""), egress.Body{}, api.PolicyViolation},
		"in another case":          {send(`{"model":"small","Model":"large"}`, ""), egress.Body{}, api.PolicyViolation},
		"escaped twice":            {send(`{"model":"small","\u006dodel":"large"}`, ""), egress.Body{}, api.PolicyViolation},
		"as text":                  {send(`{"model":"small"}`, "text/plain"), egress.Body{}, api.PolicyViolation},
		"of two types":             {with(send(`{"model":"small"}`, "application/json"), "Content-Type: text/plain"), egress.Body{}, ""},
		"no JSON":                  {send(`model=small`, ""), egress.Body{}, api.PolicyViolation},
		"no JSON that says so":     {send(`model=small`, "application/json"), egress.Body{}, api.PolicyViolation},
		"two texts":                {send(`{"model":"small"}{"model":"large"}`, "application/json"), egress.Body{}, api.PolicyViolation},
		"no body":                  {api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, egress.Body{}, api.PolicyViolation},
		"a stream":                 {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), known(` { "model" : "small" } `), ""},
		"an open stream":           {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), chunked(` { "model" : "small" } `), ""},
		"another stream":           {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), chunked(`{"model":"large"}`), api.PolicyViolation},
		"a stream without type":    {api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, known(`{"model":"small"}`), api.PolicyViolation},
		"a stream that ends early": {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), egress.Body{Reader: strings.NewReader(`{"model":"small"}`), Length: 40}, api.InvalidRequest},
		"a stream that goes on":    {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), egress.Body{Reader: strings.NewReader(`{"model":"small"}`), Length: 4}, api.InvalidRequest},
		"a stream that breaks":     {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), egress.Body{Reader: io.MultiReader(strings.NewReader(`{"model":"small"}`), broken{}), Length: -1}, api.InvalidRequest},
		"a stream of a megabyte":   {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), chunked(`{"model":"small","x":"` + strings.Repeat("y", 1<<20) + `"}`), ""},
		"a stream that never ends": {with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json"), egress.Body{Reader: zeros{}, Length: -1}, api.RequestTooLarge},
		"text beyond the bound":    {send(strings.Repeat(" ", policy.MaxInspected)+`{"model":"small"}`, ""), egress.Body{}, api.RequestTooLarge},
	} {
		before := len(v.API.Seen())
		_, _, err := do(&v.Process, aivaulttest.Agent(), c.call, c.body)
		seen := v.API.Seen()[before:]
		if name == "of two types" {
			// Canonicalising may refuse it first; it must not go out.
			if err == nil {
				t.Error("a body of two types went out")
			}
			continue
		}
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if c.code != "" {
			if len(seen) > 0 {
				t.Errorf("%s: something was sent", name)
			}
			continue
		}
		want := ""
		if c.call.Request.Body != nil {
			want = *c.call.Request.Body
		} else if c.body.Length > 0 || name == "an open stream" {
			want = ` { "model" : "small" } `
		}
		if len(seen) != 1 || want != "" && string(seen[0].Body) != want {
			t.Errorf("%s: the API saw %d requests", name, len(seen))
		}
	}
	// A limit of its own counts before the bound of what is read.
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", MaxRequestBodyBytes: ptr(int64(30))})
	call := with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json")
	exactly := `{"model":"small"}` + strings.Repeat(" ", 13)
	if _, _, err := do(&v.Process, aivaulttest.Agent(), call, chunked(exactly)); err != nil {
		t.Error(err)
	}
	for _, body := range []egress.Body{chunked(exactly + " "), known(exactly + " ")} {
		before := len(v.API.Seen())
		if _, _, err := do(&v.Process, aivaulttest.Agent(), call, body); api.CodeOf(err) != api.RequestTooLarge || len(v.API.Seen()) != before {
			t.Error(err)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// One user's bodies that a policy reads may take up so much memory, and leave
// the others theirs.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}})
	call := with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json")
	const calls = 6
	var reached, failed = make(chan struct{}, calls), make(chan error, calls)
	open := make(chan struct{})
	for range calls {
		body := io.MultiReader(io.LimitReader(spaces{}, 8<<20), gate{reached, open}, strings.NewReader(`{"model":"small"}`))
		go func() {
			_, _, err := do(&v.Process, aivaulttest.Agent(), call, egress.Body{Reader: body, Length: -1})
			failed <- err
		}()
	}
	refused := 0
	for waiting := 0; waiting+refused < calls; {
		select {
		case <-reached:
			waiting++
		case err := <-failed:
			if refused++; api.CodeOf(err) != api.RateLimited || api.AsError(err).RetryAfterMs == 0 {
				t.Errorf("refused with %v", err)
			}
		}
	}
	if refused != 2 { // 16 MiB each, of 64
		t.Errorf("%d of %d calls were refused", refused, calls)
	}
	other := aivaulttest.Agent()
	other.UID++
	if _, _, err := do(&v.Process, other, call, chunked(`{"model":"small"}`)); err != nil {
		t.Errorf("another user: %v", err)
	}
	close(open)
	for range calls - refused {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if _, _, err := do(&v.Process, aivaulttest.Agent(), call, chunked(`{"model":"small"}`)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A gate says when it is reached, and ends once it is open.
type gate struct{ reached, open chan struct{} }

func (g gate) Read([]byte) (int, error) {
	g.reached <- struct{}{}
	<-g.open
	return 0, io.EOF
}

// What is decided of a call whose body takes its time is decided again under
// the vault as it stands when the body is there.
func TestABodyThatTakesItsTimeIsJudgedByTheVaultOfItsEnd(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, v *aivaulttest.Aivault) api.Code{
		"another value is wanted": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"large"}}}})
			return api.PolicyViolation
		},
		"the credential is gone": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "acme"); err != nil {
				t.Fatal(err)
			}
			return api.CredentialNotFound
		},
		"the vault is locked": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			if _, err := v.Admin.Lock(background, aivaulttest.Operator()); err != nil {
				t.Fatal(err)
			}
			return api.VaultLocked
		},
		"nothing that matters": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			v.Create(t, "ANOTHER", "value-0123456789")
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, aivaulttest.Options{})
			acme(t, v, "acme-token-0123456789", bearer())
			setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}})
			call := with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json")
			g := gate{make(chan struct{}), make(chan struct{})}
			done := make(chan error)
			go func() {
				_, _, err := do(&v.Process, aivaulttest.Agent(), call, egress.Body{Reader: io.MultiReader(strings.NewReader(`{"model":`), g, strings.NewReader(`"small"}`)), Length: -1})
				done <- err
			}()
			<-g.reached
			want := change(t, v)
			close(g.open)
			if err := <-done; api.CodeOf(err) != want {
				t.Errorf("%v, want %q", err, want)
			}
			if seen := v.API.Seen(); want == "" && (len(seen) != 1 || string(seen[0].Body) != `{"model":"small"}`) || want != "" && len(seen) != 0 {
				t.Errorf("the API saw %d requests", len(seen))
			}
		})
	}
}

func TestAGrantThatEndsBeforeTheBodyDoes(t *testing.T) {
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	v := start(t, aivaulttest.Options{Clock: clock})
	acme(t, v, "acme-token-0123456789", bearer())
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}})
	call := with(api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/echo"}}, "Content-Type: application/json")
	for _, c := range []struct {
		timeout time.Duration
		lasting bool // another grant goes on
		code    api.Code
	}{
		{0, false, api.CapabilityNotFound}, {0, true, ""}, {time.Hour, true, api.UpstreamTimeout}, {3 * time.Hour, true, ""},
	} {
		tamper(t, v, func(tx *vault.Tx) error {
			g := api.Grant{ID: "hour", Consumer: api.Consumer{UID: ptr(aivaulttest.Agent().UID)}, Capabilities: []string{"*"}, ExpiresAtMs: clock().Add(time.Hour).UnixMilli()}
			if tx.State.Grants = []api.Grant{g}; c.lasting {
				g.ID, g.ExpiresAtMs = "lasting", 0
				tx.State.Grants = append(tx.State.Grants, g)
			}
			return nil
		})
		call.TimeoutMs = c.timeout.Milliseconds()
		g := gate{make(chan struct{}), make(chan struct{})}
		done := make(chan error)
		go func() {
			_, _, err := do(&v.Process, aivaulttest.Agent(), call, egress.Body{Reader: io.MultiReader(strings.NewReader(`{"model":`), g, strings.NewReader(`"small"}`)), Length: -1})
			done <- err
		}()
		<-g.reached
		ahead.Add(int64(2 * time.Hour))
		close(g.open)
		if err := <-done; api.CodeOf(err) != c.code {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestQueriesAreLimited(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/other", Methods: []string{"GET"}, Paths: []string{"/"}})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", AllowQuery: []string{"limit", "page"}, DenyQuery: []string{"page"}})
	mustInvoke(t, v, get("acme/all", "/status/200?limit=1"))
	for _, q := range []string{"?page=1", "?limit=1&other=2", "?LIMIT=1", "?limit=1&%6fther"} {
		mustRefuse(t, v, get("acme/all", "/status/200"+q), api.PolicyViolation)
		mustInvoke(t, v, get("acme/other", "/status/200"+q))
	}
}

// A policy that came into the state by no command breaks the calls of its
// capability, says so, and harms nobody else.
func TestABrokenPolicyBreaksItsOwnCallsOnly(t *testing.T) {
	for name, policies := range map[string][]api.Policy{
		"a limit of 0":       {{Capability: "acme/all"}},
		"a negative rate":    {{Capability: "acme/all", RatePerMinute: -5}},
		"a negative size":    {{Capability: "acme/all", MaxResponseBodyBytes: -1}},
		"a bad pointer":      {{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "model", Values: []string{"x"}}}}},
		"nothing to be":      {{Capability: "acme/all", RequireJSON: []api.RequireJSON{{Pointer: "/model"}}}},
		"an empty name":      {{Capability: "acme/all", DenyQuery: []string{""}}},
		"a field of no name": {{Capability: "acme/all", ResponseBlock: []string{""}}},
	} {
		v := start(t, aivaulttest.Options{})
		acme(t, v, "acme-token-0123456789", bearer())
		capability(t, v, api.CapabilityCreate{ID: "acme/other", Methods: []string{"GET"}, Paths: []string{"/"}})
		tamper(t, v, func(tx *vault.Tx) error {
			tx.State.Policies = append(policies, api.Policy{Capability: "acme/other", MaxResponseBodyBytes: 1 << 20})
			return nil
		})
		err := mustRefuse(t, v, get("acme/all", "/x"), api.PolicyViolation)
		if !strings.Contains(err.Message, "policy") || !strings.Contains(err.Message, "broken") {
			t.Errorf("%s: %q", name, err.Message)
		}
		mustInvoke(t, v, get("acme/other", "/x"))
		_, problems := v.Broker.Providers(background, aivaulttest.Operator())
		if len(problems) != 1 || !strings.Contains(problems[0].What+problems[0].Why, "acme/all") {
			t.Errorf("%s: status says %+v", name, problems)
		}
	}
}

func TestPlainHTTPIsPlannedAsSuch(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "LOCAL_TOKEN", "local-token-0123456789")
	credential(t, v, api.CredentialCreate{
		ID: "local", Provider: "local", SecretRefs: map[string]string{"secret": "LOCAL_TOKEN"},
		Auth: ptr(bearer()), Hosts: []string{"127.0.0.1:8123"}, AllowHTTP: true, AllowPorts: []int{8123},
	})
	capability(t, v, api.CapabilityCreate{ID: "local/all", Methods: []string{"GET"}, Paths: []string{"/"}})
	e, err := v.Broker.Explain(background, aivaulttest.Operator(), get("local/all", "/x?y=z"), egress.Body{})
	if err != nil || !e.Allowed || e.Planned.URL != "http://127.0.0.1:8123/x?y=z" {
		t.Errorf("%+v, %v", e, err)
	}
}
