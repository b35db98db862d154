package broker_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/vault"
)

// Providers whose tokens are had: for a login, in a tenant's own place, by an
// exchange, and one whose API shares its host with ident's token endpoint.
const tokenProvider = `{
	"schemaVersion": 1, "provider": "%[1]s", "title": "%[1]s", "category": "tests", "docs": "https://%[1]s.test/docs",
	"getKey": {"text": "Ask.", "url": "https://%[1]s.test/key"}, "secrets": %[2]s, %[3]s,
	"logins": [{"id": "only", %[4]s}],
	"capabilities": [{"id": "%[1]s/all", "description": "All.", "access": "mixed", "methods": ["GET", "POST"], "paths": ["/"]}]
}`

const oauth2Login = `"auth": {"type": "oauth2"}, "oauth2": {"fields": ["oauth"], "grantType": "refresh_token", "tokenEndpoint": "%s",
	"authorizationEndpoint": "https://id.ident.test/authorize", "clientAuth": "body", "bodyFormat": "form", "headers": [{"name": "Authorization", "valueTemplate": "Bearer {{access_token}}"}]}`

func tokenRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	var all []*registry.Provider
	for _, file := range []string{
		fmt.Sprintf(tokenProvider, "ident", `[{"name": "IDENT_OAUTH", "field": "oauth"}]`, `"hosts": ["api.ident.test"]`, fmt.Sprintf(oauth2Login, "https://id.ident.test/token")),
		fmt.Sprintf(tokenProvider, "shop", `[{"name": "SHOP_ID", "field": "client_id", "public": true}, {"name": "SHOP_SECRET", "field": "client_secret"}]`,
			`"hosts": ["{shop}.shop.test"], "hostParams": [{"name": "shop", "kind": "tenant", "pattern": "^[a-z]+$"}], "hostPatterns": ["*.shop.test"]`,
			`"auth": {"type": "oauth2"}, "oauth2": {"fields": ["client_id", "client_secret"], "grantType": "client_credentials", "tokenEndpoint": "https://{shop}.shop.test/token", "clientAuth": "basic", "bodyFormat": "json",
			 "tokenParams": {"audience": "https://{shop}.shop.test/api"}, "headers": [{"name": "X-Shop-Token", "valueTemplate": "{{access_token}}"}, {"name": "Client-Id", "valueTemplate": "{{client_id}}"}]}`),
		fmt.Sprintf(tokenProvider, "hub", `[{"name": "HUB_USER", "field": "user", "public": true}, {"name": "HUB_KEY", "field": "key"}]`, `"hosts": ["api.hub.test"]`,
			`"auth": {"type": "token-exchange"}, "tokenExchange": {"tokenEndpoint": "https://api.hub.test/token", "bodyFormat": "json", "body": {"identifier": "{{user}}", "secret": "{{key}}"}, "tokenField": "token",
			 "headers": [{"name": "Authorization", "valueTemplate": "Bearer {{access_token}}"}]}`),
		fmt.Sprintf(tokenProvider, "near", `[{"name": "NEAR_KEY", "field": "secret"}]`, `"hosts": ["id.ident.test"]`,
			`"auth": {"type": "header", "headerName": "X-Near", "valueTemplate": "{{secret}}"}`),
	} {
		p, err := registry.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	r, err := registry.New(all...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An identity is an aivault with the providers above and one stand-in for all
// of them.
type identity struct {
	*aivaulttest.Aivault
	idp *standin.IDP
	mu  sync.Mutex
	now time.Time
}

func startIdentity(t testing.TB, o standin.IDPOptions) *identity {
	t.Helper()
	v := &identity{idp: standin.NewIDP(o), now: time.UnixMilli(1_780_000_000_000)}
	// /repeat tells everyone everything, on every host.
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/repeat" {
			_, _ = io.WriteString(w, strings.Join(append(v.idp.Tokens(), standin.IDPSecret), "\n"))
			return
		}
		v.idp.ServeHTTP(w, r)
	})
	v.Aivault = start(t, aivaulttest.Options{
		Registry: tokenRegistry(t), Handler: handler, Clock: v.clock, Hosts: []string{"id.ident.test", "acme.shop.test", "id.custom.test"},
	})
	return v
}

func (v *identity) clock() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

func (v *identity) pass(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = v.now.Add(d)
}

// login stores what a person's login left.
func (v *identity) login(t testing.TB) {
	t.Helper()
	v.Create(t, "IDENT_OAUTH", v.material())
}

func (v *identity) material() string {
	return fmt.Sprintf(`{"client_id":%q,"client_secret":%q,"refresh_token":%q}`, standin.IDPClient, standin.IDPSecret, v.idp.Login())
}

func (v *identity) counts(t testing.TB, want standin.IDPCounts) {
	t.Helper()
	if got := v.idp.Counts(); got != want {
		t.Errorf("counts = %+v, want %+v", got, want)
	}
}

// noTokens fails when a token, or the client's secret, is in a text.
func (v *identity) noTokens(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, token := range append(v.idp.Tokens(), standin.IDPSecret) {
			if strings.Contains(text, token) {
				t.Errorf("a token is in %q", text)
			}
		}
	}
}

// A call is made with a token that is got for it, stored before it is used,
// used again, and found nowhere.
func TestACallWithAToken(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{})
	v.login(t)
	for range 3 {
		_, body, err := v.Invoke(get("ident/all", "/things"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(body, "Bearer [redacted]") {
			t.Errorf("body %q", body)
		}
		v.noTokens(t, body)
	}
	v.counts(t, standin.IDPCounts{Asked: 1, Given: 1})
	records := v.Records(t)
	var events []string
	for _, r := range records {
		events = append(events, fmt.Sprint(r["event"]))
		v.noTokens(t, fmt.Sprint(r))
	}
	if got := strings.Join(events, " "); !strings.HasSuffix(got, "call.allowed token.refreshed vault.committed echo_redacted call.finished call.allowed echo_redacted call.finished call.allowed echo_redacted call.finished") {
		t.Errorf("log = %s", got)
	}
	noneOnDisk(t, v.Aivault, append(v.idp.Tokens(), standin.IDPSecret)...)
	// An hour later, in another process.
	v.pass(time.Hour)
	other := v.Open(t)
	if _, body, err := other.Invoke(get("ident/all", "/things")); err != nil || !strings.Contains(body, "[redacted]") {
		t.Errorf("%q, %v", body, err)
	}
	v.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
}

// Two hundred calls of two processes find that the token has ended.
func TestOneRefreshForAllCalls(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	mustInvoke(t, v.Aivault, get("ident/all", "/things"))
	v.pass(time.Hour)
	other := v.Open(t)
	var wg sync.WaitGroup
	for i := range 200 {
		p := &v.Process
		if i%2 == 1 {
			p = &other
		}
		wg.Go(func() {
			_, body, err := p.Invoke(get("ident/all", "/things"))
			if err != nil {
				t.Error(err)
			}
			v.noTokens(t, body)
		})
	}
	wg.Wait()
	v.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
}

// A token that the API refuses is renewed once, and the call sent once more,
// byte for byte, where its body is still there.
func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	text, file := `{"a":1}`, strings.Repeat("body ", 10_000)
	for name, c := range map[string]struct {
		call     api.Call
		body     egress.Body
		prepare  func(t *testing.T, v *identity)
		replayed bool
		sent     string
	}{
		"no body":       {call: get("ident/all", "/things"), replayed: true},
		"text":          {call: post("ident/all", "/things", text), replayed: true, sent: text},
		"a long text":   {call: post("ident/all", "/things", file), replayed: true, sent: file},
		"an empty text": {call: post("ident/all", "/things", ""), replayed: true},
		"a file":        {call: post("ident/all", "/things", ""), body: egress.Body{Reader: strings.NewReader(file), Length: int64(len(file))}, sent: file},
		"a pipe":        {call: post("ident/all", "/things", ""), body: egress.Body{Reader: io.MultiReader(strings.NewReader(file)), Length: -1}, sent: file},
		"one in memory": {call: post("ident/all", "/things", ""), body: egress.Body{Reader: strings.NewReader(file), Length: int64(len(file)), Whole: []byte(file)}, replayed: true, sent: file},
		"one that a policy has read": {call: with(post("ident/all", "/things", ""), "content-type: application/json"), body: egress.Body{Reader: strings.NewReader(text), Length: -1},
			prepare: func(t *testing.T, v *identity) {
				tamper(t, v.Aivault, func(tx *vault.Tx) error {
					tx.State.Policies = []api.Policy{{Capability: "ident/all", RequireJSON: []api.RequireJSON{{Pointer: "/a", Values: []string{"1"}}}}}
					return nil
				})
			}, replayed: true, sent: text},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startIdentity(t, standin.IDPOptions{Rotate: true})
			v.login(t)
			mustInvoke(t, v.Aivault, get("ident/all", "/first"))
			if c.prepare != nil {
				c.prepare(t, v)
			}
			v.idp.Expire()
			v.API.Record(true)
			if c.body.Reader != nil {
				c.call.Request.Body = nil
			}
			answer, err := v.Broker.Do(background, aivaulttest.Agent(), c.call, c.body)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.Body.Close() != nil {
				t.Fatal(err)
			}
			v.noTokens(t, string(body))
			var calls []standin.Seen
			for _, s := range v.API.Seen() {
				if s.Target != "/token" {
					calls = append(calls, s)
				}
			}
			want, n, note := 401, 1, "status 401: the token was renewed, and the body could not be sent again"
			if c.replayed {
				want, n, note = 200, 2, "sent again with a new token after status 401"
			}
			if answer.Status != want || len(calls) != n {
				t.Errorf("status %d after %d requests", answer.Status, len(calls))
			}
			for _, s := range calls {
				if s.BodyLength != int64(len(c.sent)) || !bytes.HasPrefix([]byte(c.sent), s.Body[:min(len(s.Body), len(c.sent))]) || s.BodySHA256 != calls[0].BodySHA256 {
					t.Errorf("sent %d bytes, want %d", s.BodyLength, len(c.sent))
				}
			}
			if n == 2 && (calls[0].Target != calls[1].Target || calls[0].Header.Get("Authorization") == calls[1].Header.Get("Authorization")) {
				t.Error("the second request is another, or has the same token")
			}
			v.counts(t, standin.IDPCounts{Asked: 2, Given: 2, Refused: 1})
			finished := aivaulttest.Events(v.Records(t), "call.finished")
			if last := finished[len(finished)-1]; last["reason"] != note || fmt.Sprint(last["status"]) != fmt.Sprint(want) || len(finished) != 2 {
				t.Errorf("the log says %v", finished)
			}
			// What was renewed serves the next call.
			if c.prepare == nil {
				mustInvoke(t, v.Aivault, get("ident/all", "/next"))
				v.counts(t, standin.IDPCounts{Asked: 2, Given: 2, Refused: 1})
			}
		})
	}
}

// An API that refuses every token is asked twice, and a rate counts once.
func TestARefusalIsHandedOn(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Header: "X-Other"})
	v.login(t)
	if _, err := v.Admin.SetPolicy(background, aivaulttest.Operator(), api.PolicyChange{Capability: "ident/all", RatePerMinute: new(2)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		answer, body, err := v.Invoke(get("ident/all", "/things"))
		if err != nil || answer.Status != 401 {
			t.Fatalf("%v, %v", answer, err)
		}
		v.noTokens(t, body)
	}
	v.counts(t, standin.IDPCounts{Asked: 3, Given: 3, Refused: 4})
	mustRefuse(t, v.Aivault, get("ident/all", "/things"), api.RateLimited)
	// Where there is no other token for now, the refusal stands too; where
	// only a person can get one, the call says so.
	v = startIdentity(t, standin.IDPOptions{})
	v.login(t)
	mustInvoke(t, v.Aivault, get("ident/all", "/things"))
	v.idp.Expire()
	v.idp.Fail(1, 400, "application/json", `{"error":"temporarily_unavailable"}`)
	answer, _, err := v.Invoke(get("ident/all", "/things"))
	if err != nil || answer.Status != 401 {
		t.Fatalf("%v, %v", answer, err)
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if last := fmt.Sprint(finished[len(finished)-1]["reason"]); last != "status 401, and no other token: id.ident.test gave no token: temporarily_unavailable (status 400)" {
		t.Errorf("the log says %q", last)
	}
	v.idp.Fail(1, 400, "application/json", `{"error":"invalid_grant"}`)
	if e := mustRefuse(t, v.Aivault, get("ident/all", "/things"), api.OAuthRefreshFailed); e.Hint != "aivault oauth login ident" {
		t.Errorf("%v, hint %q", e, e.Hint)
	}
	finished = aivaulttest.Events(v.Records(t), "call.finished")
	if last := fmt.Sprint(finished[len(finished)-1]["reason"]); !strings.HasSuffix(last, "; status 401") {
		t.Errorf("the log says %q", last)
	}
}

// What keeps a token from being got fails the call, by the code of it, and
// nothing is sent to the API.
func TestACallWithoutItsToken(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{})
	v.login(t)
	v.idp.Fail(1, 400, "application/json", `{"error":"invalid_grant","error_description":"secret words"}`)
	e := mustRefuse(t, v.Aivault, get("ident/all", "/things"), api.OAuthRefreshFailed)
	if e.Hint != "aivault oauth login ident" || strings.Contains(e.Message, "secret words") {
		t.Errorf("%v, hint %q", e, e.Hint)
	}
	finished := aivaulttest.Events(v.Records(t), "call.finished")
	if len(finished) != 1 || finished[0]["code"] != "oauth_refresh_failed" {
		t.Errorf("the log says %v", finished)
	}
	for _, s := range v.API.Seen() {
		if s.Target != "/token" {
			t.Errorf("sent %s", s.Target)
		}
	}
}

// Nothing that was ever given comes back: not the token of this very call, not
// the ones before, not a refresh token, not the client's secret; neither from
// the API nor from what else runs where the tokens are had.
func TestTokensAreScrubbed(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	for i := range 5 {
		_, body, err := v.Invoke(get("ident/all", "/repeat"))
		if err != nil {
			t.Fatal(err)
		}
		v.noTokens(t, body)
		// The first tokens, one login's and each call's two, and the secret.
		if n := strings.Count(body, "[redacted]"); n != 2*(i+1)+2 {
			t.Errorf("call %d: %d redactions in %q", i, n, body)
		}
		v.pass(time.Hour)
	}
	// What runs where the tokens are had may know them too.
	v.Create(t, "NEAR_KEY", "near-key-0123456789")
	v.noTokens(t, mustInvoke(t, v.Aivault, get("near/all", "/repeat")))
	// Another process knows the last ones from the vault.
	other := v.Open(t)
	_, body, err := other.Invoke(get("ident/all", "/repeat"))
	if err != nil {
		t.Fatal(err)
	}
	tokens := v.idp.Tokens()
	for _, token := range append(tokens[len(tokens)-4:], standin.IDPSecret) {
		if strings.Contains(body, token) {
			t.Errorf("another process hands on %q", token)
		}
	}
}

// A stream that runs goes on when the token that it began with is renewed, and
// ends when the secret goes.
func TestARefreshEndsNoStream(t *testing.T) {
	t.Parallel()
	more := make(chan string)
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case line := <-more:
				_, _ = io.WriteString(w, line)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	v := startIdentity(t, standin.IDPOptions{Rotate: true, API: events})
	v.login(t)
	mustInvoke(t, v.Aivault, get("ident/all", "/first"))
	type begun struct {
		answer io.ReadCloser
		err    error
	}
	began := make(chan begun)
	go func() {
		answer, err := v.Broker.Do(background, aivaulttest.Agent(), get("ident/all", "/stream"), egress.Body{})
		if err != nil {
			began <- begun{nil, err}
			return
		}
		began <- begun{answer.Body, nil}
	}()
	more <- "data: 1\n\n"
	stream := <-began
	if stream.err != nil {
		t.Fatal(stream.err)
	}
	defer stream.answer.Close()
	buf := make([]byte, 64)
	for i := range 3 {
		if n, err := stream.answer.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "data: ") {
			t.Fatalf("event %d: %q, %v", i, buf[:n], err)
		}
		v.pass(time.Hour)
		mustInvoke(t, v.Aivault, get("ident/all", "/other"))
		more <- "data: more\n\n"
	}
	if _, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "IDENT_OAUTH"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stream.answer); api.CodeOf(err) != api.PolicyViolation {
		t.Errorf("the stream ended with %v", err)
	}
}

// To explain a call asks for no token, and changes nothing.
func TestExplainAsksForNoToken(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{})
	v.login(t)
	before := len(v.Records(t))
	e, err := v.Broker.Explain(background, aivaulttest.Operator(), get("ident/all", "/things"), egress.Body{})
	if err != nil || !e.Allowed {
		t.Errorf("%+v, %v", e, err)
	}
	v.counts(t, standin.IDPCounts{})
	if now := len(v.Records(t)); now != before {
		t.Errorf("%d records more", now-before)
	}
}

// The endpoint of a tenant is that of the tenant that the secret is pinned to,
// and what stands beside the token comes from the credential.
func TestATenantsTokens(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{ClientAuth: "basic", Body: "json", Params: map[string]string{"audience": "https://acme.shop.test/api"}, Header: "X-Shop-Token", Scheme: "-"})
	v.Create(t, "SHOP_ID", standin.IDPClient)
	v.Create(t, "SHOP_SECRET", standin.IDPSecret)
	credential(t, v.Aivault, api.CredentialCreate{ID: "acme-shop", Provider: "shop", SecretRefs: map[string]string{"client_id": "SHOP_ID", "client_secret": "SHOP_SECRET"}, Hosts: []string{"acme.shop.test"}})
	body := mustInvoke(t, v.Aivault, get("shop/all", "/things"))
	v.noTokens(t, body)
	if !strings.Contains(body, `"X-Shop-Token":["[redacted]"]`) || !strings.Contains(body, `"Client-Id":["`+standin.IDPClient+`"]`) {
		t.Errorf("body %q", body)
	}
	for _, s := range v.API.Seen() {
		if s.Host != "acme.shop.test" {
			t.Errorf("asked %s", s.Host)
		}
	}
}

func TestATokenThatIsExchanged(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Body: "json", TokenField: "token", Exchange: map[string]string{"identifier": "someone", "secret": "hub-key-0123456789"}})
	v.Create(t, "HUB_USER", "someone")
	v.Create(t, "HUB_KEY", "hub-key-0123456789")
	body := mustInvoke(t, v.Aivault, get("hub/all", "/things"))
	v.noTokens(t, body)
	if !strings.Contains(body, "Bearer [redacted]") {
		t.Errorf("body %q", body)
	}
}

// A custom provider's tokens are had where its credential says.
func TestACustomProvidersTokens(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Scheme: "Token"})
	own := v.Create(t, "OWN_LOGIN", v.material())
	spec := api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{Fields: []string{"login"}, GrantType: "refresh_token", TokenEndpoint: "https://id.custom.test/token",
		Headers: []api.AuthField{{Name: "Authorization", ValueTemplate: "Token {{access_token}}"}}}}
	credential(t, v.Aivault, api.CredentialCreate{ID: "own", Provider: "own", SecretRefs: map[string]string{"login": "OWN_LOGIN"}, Auth: &spec, Hosts: []string{aivaulttest.CustomHost}})
	capability(t, v.Aivault, api.CapabilityCreate{ID: "own/all", Methods: []string{"GET"}, Paths: []string{"/"}})
	body := mustInvoke(t, v.Aivault, get("own/all", "/things"))
	v.noTokens(t, body)
	if !strings.Contains(body, "Token [redacted]") {
		t.Errorf("body %q", body)
	}
	// Another credential calls what runs where these tokens are had.
	v.Create(t, "WATCH_KEY", "watch-key-0123456789")
	header := bearer()
	credential(t, v.Aivault, api.CredentialCreate{ID: "watch", Provider: "watch", SecretRefs: map[string]string{"secret": "WATCH_KEY"}, Auth: &header, Hosts: []string{"id.custom.test"}})
	capability(t, v.Aivault, api.CapabilityCreate{ID: "watch/all", Methods: []string{"GET"}, Paths: []string{"/"}})
	v.noTokens(t, mustInvoke(t, v.Aivault, get("watch/all", "/repeat")))
	v.idp.Fail(2, 400, "application/json", `{"error":"invalid_grant"}`)
	v.pass(time.Hour)
	if e := mustRefuse(t, v.Aivault, get("own/all", "/things"), api.OAuthRefreshFailed); e.Hint != "aivault secrets rotate OWN_LOGIN" {
		t.Errorf("hint %q", e.Hint)
	}
	if _, err := v.Admin.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{Name: "own_login", Scope: "workspace:w", Value: secret.FromString(v.material())}); err != nil {
		t.Fatal(err)
	}
	if e := mustRefuse(t, v.Aivault, get("own/all", "/things"), api.OAuthRefreshFailed); e.Hint != "aivault secrets rotate "+own.ID {
		t.Errorf("beside another of the name: hint %q", e.Hint)
	}
	// The caller cannot set what the token is sent in.
	mustRefuse(t, v.Aivault, with(get("own/all", "/things"), "authorization: Token mine"), api.PolicyViolation)
	list, err := v.Admin.Credentials(background, aivaulttest.Operator())
	if err != nil || len(list.Credentials) != 2 || !list.Credentials[0].Ready || list.Credentials[0].Auth != "oauth2" {
		t.Errorf("%+v, %v", list, err)
	}
}

// Options that nothing would heed break the credential rather than be left
// out, and so does an endpoint that nobody filled.
func TestOptionsOfTokensThatThereAreNot(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{})
	v.Create(t, "NEAR_KEY", "near-key-0123456789")
	acme(t, v.Aivault, "acme-token-0123456789", bearer())
	tamper(t, v.Aivault, func(tx *vault.Tx) error {
		for i := range tx.State.Credentials {
			tx.State.Credentials[i].Token = &api.TokenOptions{Scopes: []string{"read"}}
		}
		return nil
	})
	for _, id := range []string{"near/all", "acme/all"} {
		if e := mustRefuse(t, v.Aivault, get(id, "/things"), api.PolicyViolation); !strings.Contains(e.Message, "options") {
			t.Errorf("%s: %v", id, e)
		}
	}
	tamper(t, v.Aivault, func(tx *vault.Tx) error {
		for i := range tx.State.Credentials {
			if c := &tx.State.Credentials[i]; c.ID == "acme" {
				c.Token, c.Auth = nil, &api.AuthSpec{Type: "oauth2", OAuth2: &api.OAuth2Spec{Fields: []string{"secret"}, GrantType: "refresh_token", TokenEndpoint: "https://{x}.custom.test/token"}}
			}
		}
		return nil
	})
	if e := mustRefuse(t, v.Aivault, get("acme/all", "/things"), api.PolicyViolation); !strings.Contains(e.Message, "braces") {
		t.Errorf("%v", e)
	}
}

// Readiness is told by the secrets: nothing is asked for.
func TestReadinessOfLoginsWithTokens(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{})
	ready := func() (bool, string) {
		d, err := v.Broker.Capability(background, aivaulttest.Operator(), "ident/all")
		if err != nil {
			t.Fatal(err)
		}
		return d.Ready, d.Reason + strings.Join(d.Setup.RequiredSecrets, " ")
	}
	v.Create(t, "NEAR_KEY", "near-key-0123456789")
	if ok, why := ready(); ok || !strings.Contains(why, "IDENT_OAUTH") {
		t.Errorf("ready %v: %q", ok, why)
	}
	v.login(t)
	if ok, why := ready(); !ok {
		t.Errorf("not ready: %q", why)
	}
	v.counts(t, standin.IDPCounts{})
}

// A new value for the secret starts over, and the old token stays scrubbed.
func TestARotatedSecretStartsOver(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	mustInvoke(t, v.Aivault, get("ident/all", "/things"))
	if _, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), "IDENT_OAUTH", api.SecretRotate{Value: secret.FromString(v.material())}); err != nil {
		t.Fatal(err)
	}
	v.noTokens(t, mustInvoke(t, v.Aivault, get("ident/all", "/things")))
	v.noTokens(t, mustInvoke(t, v.Aivault, get("ident/all", "/repeat")))
	v.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
	snap, err := v.Vault.Snapshot(background)
	if err != nil || len(snap.State().Tokens) != 1 || snap.State().Tokens[0].Version != 1 {
		t.Errorf("%+v, %v", snap.State().Tokens, err)
	}
}

// What each of several secrets gave has the same version, and all of it stays
// scrubbed.
func TestASecretRotatedAgainAndAgain(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	for range 3 {
		v.noTokens(t, mustInvoke(t, v.Aivault, get("ident/all", "/repeat")))
		if _, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), "IDENT_OAUTH", api.SecretRotate{Value: secret.FromString(v.material())}); err != nil {
			t.Fatal(err)
		}
	}
	v.noTokens(t, mustInvoke(t, v.Aivault, get("ident/all", "/repeat")))
	v.counts(t, standin.IDPCounts{Asked: 4, Given: 4})
}

// The tokens of a credential that was deleted stay scrubbed, though its secret
// is there and they are in the vault; and when that goes, too.
func TestTokensOfADeletedCredentialAreScrubbed(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	v.Create(t, "NEAR_KEY", "near-key-0123456789")
	mustInvoke(t, v.Aivault, get("ident/all", "/things"))
	if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "ident"); err != nil {
		t.Fatal(err)
	}
	v.noTokens(t, mustInvoke(t, v.Aivault, get("near/all", "/repeat")))
	if _, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "IDENT_OAUTH"); err != nil {
		t.Fatal(err)
	}
	v.noTokens(t, mustInvoke(t, v.Aivault, get("near/all", "/repeat")))
}

// A full disk keeps a token out of the vault, and not out of what is scrubbed.
func TestATokenInMemoryAloneIsScrubbed(t *testing.T) {
	t.Parallel()
	v := startIdentity(t, standin.IDPOptions{Rotate: true})
	v.login(t)
	mustInvoke(t, v.Aivault, get("ident/all", "/repeat"))
	dir := filepath.Dir(v.Dir)
	disk := &fullDisk{FileStore: vault.NewFileStore(filepath.Join(v.Dir, "vault.aiv"), filepath.Join(v.Dir, "store.lock"))}
	full := vault.New(vault.Config{Dir: v.Dir, DefaultKeyFile: filepath.Join(dir, "keys", "kek.key"), Clock: v.clock, Store: disk})
	defer full.Close()
	one := broker.New(broker.Config{Vault: full, Registry: v.Registry, Egress: v.Egress, Clock: v.clock})
	defer one.Close()
	v.pass(time.Hour)
	for range 2 {
		answer, err := one.Do(background, aivaulttest.Agent(), get("ident/all", "/repeat"), egress.Body{})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.Body.Close() != nil {
			t.Fatal(err)
		}
		tokens := v.idp.Tokens() // of the login, then of each answer: a refresh token and an access token
		if strings.Contains(string(body), tokens[len(tokens)-1]) {
			t.Errorf("the token of the call is in %q", body)
		}
	}
	v.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
}

// fullDisk writes no document.
type fullDisk struct{ *vault.FileStore }

func (*fullDisk) CompareAndSwap(vault.Generation, []byte) (vault.Generation, error) {
	return "", syscall.ENOSPC
}
