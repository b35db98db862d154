package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/server"
	"moldable.sh/aivault/internal/strictjson"
)

// requests are all that a Client can ask a daemon for, with the request that
// each is to become.
var requests = []struct {
	want string // method, path and body
	ask  func(context.Context, *Client) error
}{
	{"POST /aivault/proxy {\"capability\":\"a/b\",\"request\":{}}", func(ctx context.Context, c *Client) error {
		_, err := c.Proxy(ctx, api.Call{Capability: "a/b"}, Body{})
		return err
	}},
	{"POST /aivault/explain {\"capability\":\"a/b\",\"request\":{}}", func(ctx context.Context, c *Client) error {
		return only(c.Explain(ctx, api.Call{Capability: "a/b"}, Body{}))
	}},
	{"GET /aivault/status", func(ctx context.Context, c *Client) error { return only(c.Status(ctx)) }},
	{"GET /aivault/capabilities", func(ctx context.Context, c *Client) error { return only(c.Capabilities(ctx)) }},
	{"GET /aivault/capabilities", func(ctx context.Context, c *Client) error { return only(c.CapabilitiesBy(ctx, api.CapabilityQuery{})) }},
	{"GET /aivault/capabilities?provider=a%26b&show=usable", func(ctx context.Context, c *Client) error {
		return only(c.CapabilitiesBy(ctx, api.CapabilityQuery{Provider: "a&b", Usable: true}))
	}},
	{"GET /aivault/capabilities/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.Capability(ctx, "a/b")) }},
	{`POST /aivault/capabilities {"id":"a/b","methods":["GET"],"paths":["/"]}`, func(ctx context.Context, c *Client) error {
		return only(c.CreateCapability(ctx, api.CapabilityCreate{ID: "a/b", Methods: []string{"GET"}, Paths: []string{"/"}}))
	}},
	{"DELETE /aivault/capabilities/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.DeleteCapability(ctx, "a/b")) }},
	{`POST /aivault/capabilities/enable {"patterns":["a/*"]}`, func(ctx context.Context, c *Client) error {
		return only(c.EnableCapabilities(ctx, api.SwitchRequest{Patterns: []string{"a/*"}}))
	}},
	{`POST /aivault/capabilities/disable {"patterns":["a/*"]}`, func(ctx context.Context, c *Client) error {
		return only(c.DisableCapabilities(ctx, api.SwitchRequest{Patterns: []string{"a/*"}}))
	}},
	{`POST /aivault/init {"provider":"file"}`, func(ctx context.Context, c *Client) error {
		return only(c.Init(ctx, api.KeyOptions{Provider: "file"}))
	}},
	{`POST /aivault/unlock {"forMs":1}`, func(ctx context.Context, c *Client) error { return only(c.Unlock(ctx, api.Unlock{ForMs: 1})) }},
	{"POST /aivault/lock", func(ctx context.Context, c *Client) error { return only(c.Lock(ctx)) }},
	{`POST /aivault/rotate-master {"provider":"file"}`, func(ctx context.Context, c *Client) error {
		return only(c.RotateMaster(ctx, api.KeyOptions{Provider: "file"}))
	}},
	{`POST /aivault/backup {"passphrase":"p\"1"}`, func(ctx context.Context, c *Client) error {
		return only(c.Backup(ctx, api.BackupRequest{Passphrase: secret.FromString(`p"1`)}))
	}},
	{`POST /aivault/restore {"accept":3}`, func(ctx context.Context, c *Client) error {
		return only(c.Restore(ctx, api.RestoreRequest{Accept: 3}, Body{}))
	}},
	{"GET /aivault/secrets", func(ctx context.Context, c *Client) error { return only(c.Secrets(ctx)) }},
	{`POST /aivault/secrets {"name":"A","value":"v\"1"}`, func(ctx context.Context, c *Client) error {
		return only(c.CreateSecret(ctx, api.SecretCreate{Name: "A", Value: secret.FromString(`v"1`)}))
	}},
	{`PATCH /aivault/secrets/a%2Fb {"newName":"B"}`, func(ctx context.Context, c *Client) error {
		return only(c.UpdateSecret(ctx, "a/b", api.SecretUpdate{NewName: "B"}))
	}},
	{`POST /aivault/secrets/a%2Fb/rotate {"value":"v2"}`, func(ctx context.Context, c *Client) error {
		return only(c.RotateSecret(ctx, "a/b", api.SecretRotate{Value: secret.FromString("v2")}))
	}},
	{"DELETE /aivault/secrets/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.DeleteSecret(ctx, "a/b")) }},
	{`POST /aivault/secrets/a%2Fb/groups {"workspaceId":"w","groupId":"g"}`, func(ctx context.Context, c *Client) error {
		return only(c.AttachSecret(ctx, "a/b", api.SecretAttach{WorkspaceID: "w", GroupID: "g"}))
	}},
	{`DELETE /aivault/secrets/a%2Fb/groups {"workspaceId":"w","groupId":"g"}`, func(ctx context.Context, c *Client) error {
		return only(c.DetachSecret(ctx, "a/b", api.SecretAttach{WorkspaceID: "w", GroupID: "g"}))
	}},
	{`POST /aivault/secrets/import {"entries":[{"name":"A","value":"v\\1"},{"name":"B","value":""}],"dryRun":true}`, func(ctx context.Context, c *Client) error {
		return only(c.ImportSecrets(ctx, api.SecretImport{DryRun: true, Entries: []api.SecretEntry{{Name: "A", Value: secret.FromString(`v\1`)}, {Name: "B"}}}))
	}},
	{"GET /aivault/credentials", func(ctx context.Context, c *Client) error { return only(c.Credentials(ctx)) }},
	{`POST /aivault/credentials {"id":"a","provider":"p","secretRefs":{"secret":"S"}}`, func(ctx context.Context, c *Client) error {
		return only(c.CreateCredential(ctx, api.CredentialCreate{ID: "a", Provider: "p", SecretRefs: map[string]string{"secret": "S"}}))
	}},
	{"DELETE /aivault/credentials/%2E%2E", func(ctx context.Context, c *Client) error { return only(c.DeleteCredential(ctx, "..")) }},
	{"GET /aivault/policies", func(ctx context.Context, c *Client) error { return only(c.Policies(ctx)) }},
	{"GET /aivault/policies/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.Policy(ctx, "a/b")) }},
	{`POST /aivault/policies {"capability":"a/b","rateLimitPerMinute":0}`, func(ctx context.Context, c *Client) error {
		return only(c.SetPolicy(ctx, api.PolicyChange{Capability: "a/b", RatePerMinute: new(int)}))
	}},
	{"DELETE /aivault/policies/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.ClearPolicy(ctx, "a/b")) }},
	{"GET /aivault/bindings", func(ctx context.Context, c *Client) error { return only(c.Bindings(ctx)) }},
	{`POST /aivault/bindings {"capability":"a/*","credential":"c","consumer":{"uid":0}}`, func(ctx context.Context, c *Client) error {
		return only(c.Bind(ctx, api.BindingCreate{Capability: "a/*", Credential: "c", Consumer: &api.ConsumerRef{UID: new(uint32)}}))
	}},
	{`DELETE /aivault/bindings {"bindingId":"b1"}`, func(ctx context.Context, c *Client) error {
		return only(c.Unbind(ctx, api.BindingDelete{ID: "b1"}))
	}},
	{"GET /aivault/grants", func(ctx context.Context, c *Client) error { return only(c.Grants(ctx)) }},
	{`POST /aivault/grants {"consumer":{"user":"agent"}}`, func(ctx context.Context, c *Client) error {
		return only(c.AddGrant(ctx, api.GrantAdd{Consumer: api.ConsumerRef{User: "agent"}}))
	}},
	{"DELETE /aivault/grants/g1", func(ctx context.Context, c *Client) error { return only(c.RemoveGrant(ctx, "g1")) }},
	{`POST /aivault/grants/reset {"groupName":"agents"}`, func(ctx context.Context, c *Client) error {
		return only(c.ResetGrants(ctx, api.ConsumerRef{GroupName: "agents"}))
	}},
	{`POST /aivault/grants/default {"default":"deny"}`, func(ctx context.Context, c *Client) error {
		return only(c.SetGrantDefault(ctx, api.GrantDefault{Default: "deny"}))
	}},
	{"GET /aivault/registry", func(ctx context.Context, c *Client) error { return only(c.Registry(ctx)) }},
	{"GET /aivault/registry/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.RegistryFile(ctx, "a/b")) }},
	{"GET /aivault/oauth", func(ctx context.Context, c *Client) error { return only(c.OAuth(ctx)) }},
	{`POST /aivault/oauth/setup {"provider":"p","clientId":"c","redirectUri":"https://r"}`, func(ctx context.Context, c *Client) error {
		return only(c.OAuthSetup(ctx, api.OAuthSetup{Provider: "p", ClientID: "c", RedirectURI: "https://r"}))
	}},
	{`POST /aivault/oauth/logins {"provider":"p","flow":"code","clientId":"c","clientSecret":"s\"1"}`, func(ctx context.Context, c *Client) error {
		return only(c.StartLogin(ctx, api.OAuthStart{Provider: "p", Flow: "code", ClientID: "c", ClientSecret: secret.FromString(`s"1`)}))
	}},
	{`POST /aivault/oauth/logins/ID {"code":"c1","state":"s1","redirectUri":"http://127.0.0.1:1/callback"}`, func(ctx context.Context, c *Client) error {
		return only(c.FinishLogin(ctx, "ID", api.OAuthAnswer{Code: secret.FromString("c1"), State: secret.FromString("s1"), RedirectURI: "http://127.0.0.1:1/callback"}))
	}},
	{"POST /aivault/oauth/logins/ID {}", func(ctx context.Context, c *Client) error { return only(c.FinishLogin(ctx, "ID", api.OAuthAnswer{})) }},
	{"DELETE /aivault/oauth/a%2Fb", func(ctx context.Context, c *Client) error { return only(c.Logout(ctx, "a/b")) }},
	{"GET /aivault/audit?limit=7", func(ctx context.Context, c *Client) error { return only(c.Audit(ctx, audit.Query{Limit: 7})) }},
	{"GET /aivault/audit?beforeMs=4&caller=a%26b&capability=a%2F%2A&denied=true&limit=1&sinceMs=2&untilMs=3", func(ctx context.Context, c *Client) error {
		return only(c.Audit(ctx, audit.Query{Limit: 1, SinceMs: 2, UntilMs: 3, BeforeMs: 4, Capability: "a/*", Caller: "a&b", Denied: true}))
	}},
	{"GET /aivault/audit/export", func(ctx context.Context, c *Client) error { return c.ExportAudit(ctx, audit.Query{}, nil) }},
	{"GET /aivault/audit/follow?limit=2", func(ctx context.Context, c *Client) error { return c.FollowAudit(ctx, audit.Query{Limit: 2}, nil) }},
}

func only[T any](_ T, err error) error { return err }

// scripted is a daemon that answers whatever it is asked with one answer.
type scripted struct {
	mu            sync.Mutex
	version, body string
	status        int
	seen          []string
}

func (s *scripted) answer(version string, status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.status, s.body, s.seen = version, status, body, nil
}

func (s *scripted) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		return ""
	}
	return s.seen[len(s.seen)-1]
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+string(b)))
	w.Header().Set(api.HeaderAPI, s.version)
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
}

// play lets a scripted daemon listen where the client looks.
func play(t *testing.T) (*scripted, *Client) {
	t.Helper()
	cfg := config(t)
	path := filepath.Join(short(t), "s")
	l := listenAt(t, path)
	s := &scripted{version: strconv.Itoa(api.Version), status: 500, body: "{}"}
	srv := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	cfg.Socket = path
	return s, connect(t, cfg)
}

// Every route of the API has a method, which asks for just that. What is the
// operator's leaves by the transport that asks who listens, and by no other.
func TestEveryRouteHasItsMethod(t *testing.T) {
	s, c := play(t)
	routes := map[string]bool{}     // of the server, and whether it is the operator's
	patterns := map[string]string{} // how their paths are recognised
	for _, rt := range server.Routes() {
		path := regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(rt.Pattern), "[^/?]+")
		routes[rt.Method+" "+rt.Pattern] = rt.Operator
		patterns[rt.Method+" "+rt.Pattern] = "^" + rt.Method + " " + path + `(\?.*)?$`
	}
	reached := map[string]bool{}
	distrust := api.Errorf(api.DaemonUnreachable, "nobody vouches for the listener")
	trusted := c.operator
	t.Cleanup(func() { c.operator = trusted })
	for _, r := range requests {
		s.answer(strconv.Itoa(api.Version), 500, `{"error":"internal","message":"scripted"}`)
		c.operator = trusted
		err := r.ask(t.Context(), c)
		if got := s.last(); got != r.want || api.CodeOf(err) != api.Internal {
			t.Errorf("asked for %s, want %s (%v)", got, r.want, err)
		}
		method, rest, _ := strings.Cut(r.want, " ")
		path, _, _ := strings.Cut(rest, " ")
		var row string
		for name, pattern := range patterns {
			if regexp.MustCompile(pattern).MatchString(method+" "+path) && (row == "" || strings.Contains(row, "{")) {
				row = name
			}
		}
		reached[row] = true

		s.answer(strconv.Itoa(api.Version), 500, `{"error":"internal","message":"scripted"}`)
		c.operator = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, distrust }}
		err = r.ask(t.Context(), c)
		if routes[row] != errors.Is(err, distrust) || routes[row] != (s.last() == "") {
			t.Errorf("%s (operator's: %v) with a listener that is not trusted: %v, and it heard %q", row, routes[row], err, s.last())
		}
	}
	for row := range routes {
		if !reached[row] {
			t.Errorf("no method asks for %s", row)
		}
	}
}

// What an older daemon has no word for is said to be that, whichever way it
// refuses it.
func TestAnOlderDaemonIsNamed(t *testing.T) {
	s, c := play(t)
	refusals := []struct {
		status  int
		message string
	}{
		{404, "the daemon has no such route"},
		{405, "this route takes PATCH, DELETE"}, // POST /aivault/secrets/import looks like a secret
		{400, "the request cannot be read: /scope is not known"},
	}
	for _, f := range refusals {
		body, err := strictjson.Marshal(&api.Error{Code: api.InvalidRequest, Message: f.message})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			s.answer("1", f.status, string(body))
			err := r.ask(t.Context(), c)
			if e := api.AsError(err); e.Code != api.InvalidRequest || e.Hint != "aivault daemon restart" || !strings.Contains(e.Message, "older") {
				t.Errorf("%s, refused with %d: %v", r.want, f.status, err)
			}
			s.answer(strconv.Itoa(api.Version), f.status, string(body))
			if err := r.ask(t.Context(), c); api.AsError(err).Message != f.message {
				t.Errorf("%s, refused with %d by a daemon of this version: %v", r.want, f.status, err)
			}
		}
	}
	// What an older daemon refuses for another reason is its own to say.
	s.answer("1", 400, `{"error":"invalid_request","message":"a secret's name has 1 to 200 characters"}`)
	if _, err := c.CreateSecret(t.Context(), api.SecretCreate{}); strings.Contains(err.Error(), "older") {
		t.Error(err)
	}
	s.answer("1", 404, `{"error":"secret_not_found","message":"there is no such secret"}`)
	if _, err := c.DeleteSecret(t.Context(), "x"); api.CodeOf(err) != api.SecretNotFound {
		t.Error(err)
	}
}

// A real daemon of this version refuses an unknown field with the text by
// which an older one's refusal is told.
func TestUnknownFieldsAreToldByTheirText(t *testing.T) {
	cfg := config(t, "AIVAULTD_DISABLE=1")
	c := connect(t, cfg)
	for _, path := range []string{api.RouteSecrets, api.RouteSecrets + "/import", api.RouteGrants} {
		resp, err := c.send(t.Context(), c.operator, post, path, struct {
			News string `json:"news"`
		}{"x"})
		if err != nil {
			t.Fatal(err)
		}
		err = readAnswer(resp, nil)
		resp.Body.Close()
		if e := api.AsError(err); !unknownThere(resp.StatusCode, e.Message) {
			t.Errorf("%s: %d %v", path, resp.StatusCode, err)
		}
	}
}

// An answer of an older daemon lacks what was added since.
func TestAnOlderDaemonsAnswers(t *testing.T) {
	s, c := play(t)
	s.answer("1", 200, `{"capabilities":[],"available":[]}`)
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Error(err)
	}
	s.answer("1", 200, `{"secrets":[{"secretId":"i","name":"A","aliases":[],"scope":"global","pinnedProvider":"","version":1,"createdAtMs":1}]}`)
	if list, err := c.Secrets(t.Context()); err != nil || len(list.Secrets) != 1 {
		t.Errorf("%+v %v", list, err)
	}
}

func TestEncodeManySecrets(t *testing.T) {
	values := []string{"plain", "", "a\"b\\c\x00\x1f\n\u00e4\u2028</script>\U0001f511", strings.Repeat("\x01\"x", 20000)}
	r := api.SecretImport{Scope: "workspace:w"}
	for _, v := range values {
		r.Entries = append(r.Entries, api.SecretEntry{Name: "N\"\n", Value: secret.FromString(v)})
	}
	b, err := encode(r)
	if err != nil {
		t.Fatal(err)
	}
	var back api.SecretImport
	if err := decodeInto(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Scope != r.Scope || len(back.Entries) != len(values) {
		t.Fatalf("%d entries in %q", len(back.Entries), back.Scope)
	}
	for i, v := range values {
		if back.Entries[i].Name != "N\"\n" || string(back.Entries[i].Value.Expose()) != v {
			t.Errorf("entry %d became %q", i, back.Entries[i].Name)
		}
	}
	r.Entries[1].Value = secret.FromString("\xff")
	if _, err := encode(r); api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("bytes that are no text: %v", err)
	}
	if b, err := encode(api.SecretImport{}); err != nil || string(b) != `{"entries":[]}` {
		t.Errorf("%s %v", b, err)
	}
}

// Where the buffer has to grow, what it leaves behind is cleared.
func TestGrowingLeavesNothingBehind(t *testing.T) {
	old := append(make([]byte, 0, 16), "sk-secret"...)
	grown := grow(old, 100)
	if string(grown) != "sk-secret" || strings.Contains(string(old[:cap(old)]), "secret") {
		t.Errorf("%q, left behind %q", grown, old[:cap(old)])
	}
}
