package admin_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/vault"
)

// A provider with every endpoint of a login.
const oauthFile = `{
	"schemaVersion": 1, "provider": "%[1]s", "title": "Files", "category": "tests", "docs": "https://files.test/docs",
	"getKey": {"text": "Register an app.", "url": "https://files.test/apps"},
	"secrets": [{"name": "%[2]s_OAUTH", "field": "oauth"}%[3]s],
	"hosts": ["%[5]s"], %[6]s
	"logins": [{"id": "oauth", "auth": {"type": "oauth2"}, "oauth2": {
		"fields": [%[4]s"oauth"], "yields": ["access_token"], "grantType": "refresh_token",
		"tokenEndpoint": "https://id.files.test/refresh", "codeEndpoint": "https://id.files.test/exchange",
		"authorizationEndpoint": "https://id.files.test/authorize", "deviceEndpoint": "https://id.files.test/device",
		"revocationEndpoint": "https://id.files.test/revoke", "authorizationParams": {"access_type": "offline"},
		"scopes": ["files.read", "files.write"], "clientAuth": "body", "bodyFormat": "form",
		"headers": [{"name": "Authorization", "valueTemplate": "Bearer {{access_token}}"}%[7]s]}}],
	"capabilities": [{"id": "%[1]s/list", "description": "List.", "access": "read", "methods": ["GET"], "paths": ["/list"]}]
}`

var (
	files = fmt.Sprintf(oauthFile, "files", "FILES", "", "", "api.files.test", "", "")
	// whose API wants the client's id too
	twin = fmt.Sprintf(oauthFile, "twin", "TWIN", `, {"name": "TWIN_CLIENT_ID", "field": "client_id", "public": true}`, `"client_id", `, "api.twin.test", "",
		`, {"name": "Client-Id", "valueTemplate": "{{client_id}}"}`)
	// with a host for each account
	domain = fmt.Sprintf(oauthFile, "domain", "DOMAIN", "", "", "{org}.domain.test",
		`"hostParams": [{"name": "org", "kind": "tenant", "pattern": "^[a-z]+$"}], "hostPatterns": ["*.domain.test"],`, "")
)

// A bureau is an aivault at whose provider people log in.
type bureau struct {
	*aivaulttest.Aivault
	idp *standin.IDP

	mu  sync.Mutex
	now time.Time
}

func (b *bureau) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bureau) later(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func startBureau(t testing.TB, o standin.IDPOptions) *bureau {
	t.Helper()
	var all []*registry.Provider
	for _, file := range []string{files, twin, domain} {
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
	if o.Paths == nil {
		o.Paths = map[string]string{"/refresh": "/token", "/exchange": "/token"}
	}
	b := &bureau{idp: standin.NewIDP(o), now: time.Now()}
	b.Aivault = aivaulttest.Start(t, aivaulttest.Options{
		Registry: r, Handler: b.idp, Clock: b.clock, Hosts: []string{"id.files.test", "main.domain.test"},
	})
	return b
}

const backTo = "http://127.0.0.1:4711/callback"

func (b *bureau) start(t testing.TB, change ...func(*api.OAuthStart)) api.OAuthLogin {
	t.Helper()
	l, err := b.tryStart(change...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (b *bureau) tryStart(change ...func(*api.OAuthStart)) (api.OAuthLogin, error) {
	r := api.OAuthStart{
		Provider: "files", Flow: api.FlowCode, ClientID: standin.IDPClient, ClientSecret: secret.FromString(standin.IDPSecret), RedirectURI: backTo,
	}
	for _, fn := range change {
		fn(&r)
	}
	return b.Admin.StartLogin(background, op, r)
}

// browse is a browser on the page of consent: what it brings back.
func (b *bureau) browse(t testing.TB, page string, yes bool) api.OAuthAnswer {
	t.Helper()
	to, err := b.idp.Decide(page, yes)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	u.RawQuery = ""
	return api.OAuthAnswer{Code: secret.FromString(q.Get("code")), State: secret.FromString(q.Get("state")), Error: q.Get("error"), RedirectURI: u.String()}
}

func (b *bureau) login(t testing.TB, change ...func(*api.OAuthStart)) api.OAuthLogin {
	t.Helper()
	l := b.start(t, change...)
	done, err := b.Admin.FinishLogin(background, op, l.ID, b.browse(t, l.AuthorizationURL, true))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (b *bureau) invoke(capability string) (string, error) {
	answer, body, err := b.Invoke(api.Call{Capability: capability})
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("status %d", answer.Status)
	}
	return body, err
}

func (b *bureau) statusOf(t testing.TB) []api.OAuthToken {
	t.Helper()
	list, err := b.Admin.OAuth(background, op)
	if err != nil {
		t.Fatal(err)
	}
	return list.Tokens
}

func (b *bureau) state(t testing.TB) *vault.State {
	t.Helper()
	snap, err := b.Vault.Snapshot(background)
	if err != nil {
		t.Fatal(err)
	}
	return snap.State()
}

// silent wants no token in the log, and none in what was answered.
func (b *bureau) silent(t testing.TB, said ...any) {
	t.Helper()
	text := fmt.Sprintf("%+v %+v", said, b.Records(t))
	for _, token := range append(b.idp.Tokens(), standin.IDPSecret) {
		if strings.Contains(text, token) {
			t.Errorf("%s… can be read", token[:8])
		}
	}
}

// A login leaves a secret, its token and a credential, and calls work at once,
// without asking for another token.
func TestLogin(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{Account: "alice@files.test"})
	l := b.start(t)
	page, err := url.Parse(l.AuthorizationURL)
	if err != nil {
		t.Fatal(err)
	}
	q := page.Query()
	if page.Scheme+"://"+page.Host+page.Path != "https://id.files.test/authorize" || q.Get("response_type") != "code" || q.Get("client_id") != standin.IDPClient ||
		q.Get("redirect_uri") != backTo || q.Get("scope") != "files.read files.write" || q.Get("access_type") != "offline" ||
		q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 26 || strings.Contains(page.RawQuery, "+") {
		t.Errorf("the page of consent is %s", l.AuthorizationURL)
	}
	if l.ExpiresAtMs != b.clock().Add(5*time.Minute).UnixMilli() || l.Done || !b.Admin.LoginPending() {
		t.Errorf("%+v", l)
	}
	done, err := b.Admin.FinishLogin(background, op, l.ID, b.browse(t, l.AuthorizationURL, true))
	if err != nil {
		t.Fatal(err)
	}
	if !done.Done || done.Account != "alice@files.test" || done.Secret.Name != "FILES_OAUTH" || done.Secret.PinnedProvider != "files" ||
		*done.Secret.Credential != "files" || !slices.Equal(done.Secret.Capabilities, []string{"files/list"}) || done.Rotated || b.Admin.LoginPending() {
		t.Errorf("%+v", done)
	}
	if _, err := b.invoke("files/list"); err != nil || b.idp.Counts().Asked != 1 {
		t.Errorf("%v after %d requests for a token", err, b.idp.Counts().Asked)
	}
	b.idp.Expire() // and the refresh token works, too
	if _, err := b.invoke("files/list"); err != nil || b.idp.Counts().Asked != 2 {
		t.Errorf("%v after %d requests for a token", err, b.idp.Counts().Asked)
	}
	tokens := b.statusOf(t)
	if len(tokens) != 1 || tokens[0].Account != "alice@files.test" || tokens[0].State != "good" || !slices.Equal(tokens[0].Credentials, []string{"files"}) ||
		tokens[0].GrantType != "refresh_token" || tokens[0].ExpiresAtMs == 0 || tokens[0].FirstAtMs == 0 {
		t.Errorf("%+v", tokens)
	}
	b.later(2 * time.Hour)
	if got := b.statusOf(t)[0].State; got != "expired" {
		t.Errorf("after two hours the token is %s", got)
	}
	records := b.Records(t)
	if got := aivaulttest.Events(records, "login.started", "login.finished"); len(got) != 2 || got[0]["provider"] != "files" || got[0]["object"] != "code" ||
		got[1]["credential"] != "files" || got[1]["name"] != "FILES_OAUTH" || got[1]["caller"] == nil {
		t.Errorf("%v", got)
	}
	b.silent(t, l.ID, done, tokens)
}

// Whatever does not fit the login that was begun ends it.
func TestLoginsThatAreRefused(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	other := b.start(t) // in another tab
	for _, c := range []struct {
		what string
		fn   func(*api.OAuthAnswer)
		code api.Code
		text string
	}{
		{"a forged state", func(r *api.OAuthAnswer) { r.State = secret.FromString("forged") }, api.PolicyViolation, "state is another"},
		{"no state", func(r *api.OAuthAnswer) { r.State = secret.Value{} }, api.PolicyViolation, "state is another"},
		{"what another tab brought", func(r *api.OAuthAnswer) { *r = b.browse(t, other.AuthorizationURL, true) }, api.PolicyViolation, "state is another"},
		{"another port", func(r *api.OAuthAnswer) { r.RedirectURI = "http://127.0.0.1:4712/callback" }, api.PolicyViolation, "another address"},
		{"another path", func(r *api.OAuthAnswer) { r.RedirectURI += "/x" }, api.PolicyViolation, "another address"},
		{"another host", func(r *api.OAuthAnswer) { r.RedirectURI = "http://localhost:4711/callback" }, api.PolicyViolation, "another address"},
		{"no code", func(r *api.OAuthAnswer) { r.Code = secret.Value{} }, api.PolicyViolation, "no code"},
		{"a code of one's own", func(r *api.OAuthAnswer) { r.Code = secret.FromString("code-mine") }, api.AuthFailed, "invalid_grant (status 400)"},
		{"an error", func(r *api.OAuthAnswer) { r.Code, r.Error = secret.Value{}, "access_denied" }, api.AuthFailed, "let nobody log in: access_denied"},
		{"an error with words", func(r *api.OAuthAnswer) { r.Error = "<b>call 555</b>" }, api.AuthFailed, "let nobody log in: an unknown error"},
		{"nothing", func(r *api.OAuthAnswer) { *r = api.OAuthAnswer{} }, api.PolicyViolation, "state is another"},
		{"giving up", func(r *api.OAuthAnswer) { *r = api.OAuthAnswer{Error: "access_denied"} }, api.AuthFailed, "given up"},
	} {
		l := b.start(t)
		answer := b.browse(t, l.AuthorizationURL, true)
		good := api.OAuthAnswer{Code: answer.Code.Clone(), State: answer.State.Clone(), RedirectURI: answer.RedirectURI}
		c.fn(&answer)
		_, err := b.Admin.FinishLogin(background, op, l.ID, answer)
		wants(t, c.what, err, c.code, c.text)
		if last := aivaulttest.Events(b.Records(t), "login.refused"); len(last) == 0 || last[len(last)-1]["provider"] != "files" || last[len(last)-1]["code"] != string(c.code) {
			t.Errorf("%s: the log's last refusal is %v", c.what, last)
		}
		// It was its one answer: the right one comes too late.
		_, err = b.Admin.FinishLogin(background, op, l.ID, good)
		wants(t, c.what+", then the right answer", err, api.PolicyViolation, "no such login is pending")
	}
	if n := len(b.state(t).Secrets); n != 0 || b.idp.Counts().Given != 0 {
		t.Errorf("%d secrets, %d tokens given", n, b.idp.Counts().Given)
	}
	b.silent(t)
}

// A code buys tokens once, and only for who has the verifier.
func TestCodesAreUsedOnce(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	l := b.start(t)
	answer := b.browse(t, l.AuthorizationURL, true)
	code := answer.Code.Clone()
	if _, err := b.Admin.FinishLogin(background, op, l.ID, answer); err != nil {
		t.Fatal(err)
	}
	_, err := b.Admin.FinishLogin(background, op, l.ID, api.OAuthAnswer{Code: code, RedirectURI: backTo})
	wants(t, "a second time", err, api.PolicyViolation, "no such login")
	second := b.start(t, func(r *api.OAuthStart) { r.Replace = true })
	answer = b.browse(t, second.AuthorizationURL, true)
	answer.Code = code
	_, err = b.Admin.FinishLogin(background, op, second.ID, answer)
	wants(t, "the code of another login", err, api.AuthFailed, "invalid_grant")
	third := b.start(t, func(r *api.OAuthStart) { r.Replace = true })
	stolen := b.browse(t, b.start(t, func(r *api.OAuthStart) { r.Replace = true }).AuthorizationURL, true)
	answer = b.browse(t, third.AuthorizationURL, true)
	answer.Code = stolen.Code // which another verifier belongs to
	_, err = b.Admin.FinishLogin(background, op, third.ID, answer)
	wants(t, "a code without its verifier", err, api.AuthFailed, "invalid_grant")
	b.silent(t, err)
}

// A login that is left open ends after five minutes, and nobody else can
// answer one.
func TestLoginsEnd(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	l := b.start(t)
	answer := b.browse(t, l.AuthorizationURL, true)
	root := op
	root.UID = 0
	_, err := b.Admin.FinishLogin(background, root, l.ID, api.OAuthAnswer{})
	wants(t, "another operator", err, api.PolicyViolation, "no such login")
	b.later(5*time.Minute - time.Second)
	if !b.Admin.LoginPending() {
		t.Error("gone too early")
	}
	b.later(time.Second)
	if b.Admin.LoginPending() {
		t.Error("still there after five minutes")
	}
	_, err = b.Admin.FinishLogin(background, op, l.ID, answer)
	wants(t, "after five minutes", err, api.PolicyViolation, "no such login")
	if _, err := b.tryStart(); err != nil || b.idp.Counts().Asked != 0 {
		t.Errorf("%v; the token endpoint was asked %d times", err, b.idp.Counts().Asked)
	}
	for range 15 {
		b.start(t)
	}
	_, err = b.tryStart()
	wants(t, "one too many", err, api.RateLimited, "16 logins")
	b.later(time.Hour)
	b.start(t)
}

// What cannot come to anything is refused before anyone logs in.
func TestLoginsThatCannotBe(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	for _, c := range []struct {
		what string
		fn   func(*api.OAuthStart)
		code api.Code
		text string
	}{
		{"a provider that there is not", func(r *api.OAuthStart) { r.Provider = "nobody" }, api.InvalidRequest, "no provider"},
		{"a flow that there is not", func(r *api.OAuthStart) { r.Flow = "implicit" }, api.InvalidRequest, "flow"},
		{"no client", func(r *api.OAuthStart) { r.ClientID = "" }, api.InvalidRequest, "client id is missing"},
		{"a client with a line end", func(r *api.OAuthStart) { r.ClientID = "a\nb" }, api.InvalidRequest, "client id"},
		{"a scope with a blank", func(r *api.OAuthStart) { r.OAuthScopes = []string{"a b"} }, api.InvalidRequest, "OAuth scope"},
		{"a scope of the vault that is none", func(r *api.OAuthStart) { r.Scope = "everyone" }, api.InvalidRequest, "scope"},
		{"a redirect elsewhere", func(r *api.OAuthStart) { r.RedirectURI = "http://evil.test:4711/callback" }, api.InvalidRequest, "redirect URI"},
		{"a redirect to another path", func(r *api.OAuthStart) { r.RedirectURI = "http://127.0.0.1:4711/other" }, api.InvalidRequest, "redirect URI"},
		{"a redirect with a query", func(r *api.OAuthStart) { r.RedirectURI = backTo + "?a=b" }, api.InvalidRequest, "redirect URI"},
		{"a redirect to port 0", func(r *api.OAuthStart) { r.RedirectURI = "http://127.0.0.1:0/callback" }, api.InvalidRequest, "redirect URI"},
		{"a redirect to a port that is none", func(r *api.OAuthStart) { r.RedirectURI = "http://127.0.0.1:04711/callback" }, api.InvalidRequest, "redirect URI"},
		{"a redirect to localhost", func(r *api.OAuthStart) { r.RedirectURI = "http://localhost:4711/callback" }, api.InvalidRequest, "redirect URI"},
		{"a redirect with a user", func(r *api.OAuthStart) { r.RedirectURI = "http://127.0.0.1:4711@evil.test/callback" }, api.InvalidRequest, "redirect URI"},
		{"a device with a redirect", func(r *api.OAuthStart) { r.Flow = api.FlowDevice }, api.InvalidRequest, "no redirect URI"},
		{"a host where there is one for all", func(r *api.OAuthStart) { r.Host = "api.files.test" }, api.InvalidRequest, "same host for everyone"},
		{"a host of another", func(r *api.OAuthStart) { r.Provider, r.Host = "domain", "evil.test" }, api.PolicyViolation, "none"},
	} {
		_, err := b.tryStart(c.fn)
		wants(t, c.what, err, c.code, c.text)
	}
	if b.Vault.Status(background).State != vault.None {
		t.Error("a login that was refused made a vault")
	}
	b.start(t)
	agent := aivaulttest.Agent()
	_, err := b.Admin.StartLogin(background, agent, api.OAuthStart{})
	wants(t, "an agent's login", err, api.OperatorRequired, "operator")
	_, err = b.Admin.FinishLogin(background, agent, "x", api.OAuthAnswer{})
	wants(t, "an agent's answer", err, api.OperatorRequired, "operator")
	_, err = b.Admin.OAuthSetup(background, agent, api.OAuthSetup{})
	wants(t, "an agent's setup", err, api.OperatorRequired, "operator")
	_, err = b.Admin.OAuth(background, agent)
	wants(t, "an agent's list", err, api.OperatorRequired, "operator")
	_, err = b.Admin.Logout(background, agent, "files")
	wants(t, "an agent's logout", err, api.OperatorRequired, "operator")
}

// A login that is there is replaced only when that was asked for; then the
// old token is of no use any more, and the client may be the same as before.
func TestLoggingInAgain(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{Account: "alice@files.test"})
	first := b.login(t)
	_, err := b.tryStart()
	wants(t, "a second login", err, api.AlreadyExists, "FILES_OAUTH exists already")
	if hintOf(err) != "aivault oauth login files --force" {
		t.Error(hintOf(err))
	}
	again := b.login(t, func(r *api.OAuthStart) { r.Replace, r.ClientID, r.ClientSecret = true, "", secret.Value{} })
	if !again.Rotated || again.Secret.Version != 2 || again.Secret.ID != first.Secret.ID || *again.Secret.Credential != "files" {
		t.Errorf("%+v", again)
	}
	st := b.state(t)
	if len(st.Tokens) != 1 || st.Tokens[0].Version != 2 || st.Tokens[0].Sources[first.Secret.ID] != 2 || len(st.Credentials) != 1 {
		t.Errorf("%+v", st.Tokens)
	}
	if _, err := b.invoke("files/list"); err != nil || b.idp.Counts().Asked != 2 {
		t.Errorf("%v after %d requests", err, b.idp.Counts().Asked)
	}
	// Somebody stores the secret while the person is still at the page.
	l := b.start(t, func(r *api.OAuthStart) { r.Scope = "workspace:acme" })
	if _, err := b.Admin.CreateSecret(background, op, api.SecretCreate{Name: "FILES_OAUTH", Scope: "workspace:acme", Value: secret.FromString(`{"client_id":"a","refresh_token":"b"}`)}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Admin.FinishLogin(background, op, l.ID, b.browse(t, l.AuthorizationURL, true))
	wants(t, "a secret that came meanwhile", err, api.AlreadyExists, "FILES_OAUTH")
	if got := b.idp.Revoked(); len(got) != 2 || !strings.HasPrefix(got[0], "refresh_token ") {
		t.Errorf("what nobody keeps was not given back: %d revocations", len(got))
	}
	b.silent(t, again, err)
}

// A login by device asks no more often than it may, and ends as the person
// decides.
func TestDeviceLogin(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{Account: "bob@files.test"})
	device := func(r *api.OAuthStart) { r.Flow, r.RedirectURI = api.FlowDevice, "" }
	l := b.start(t, device)
	if l.UserCode != "STAND-0001" || l.VerificationURI != "https://id.files.test/activate" || l.PollAfterMs != 5000 || l.AuthorizationURL != "" {
		t.Fatalf("%+v", l)
	}
	poll := func() (api.OAuthLogin, error) { return b.Admin.FinishLogin(background, op, l.ID, api.OAuthAnswer{}) }
	expect := func(what string, after time.Duration, asked int) {
		t.Helper()
		got, err := poll()
		if err != nil || got.Done || got.PollAfterMs != after.Milliseconds() || b.idp.Polled() != asked {
			t.Errorf("%s: %+v, %v, after %d questions", what, got, err, b.idp.Polled())
		}
	}
	expect("at once", 5*time.Second, 0)
	b.later(4 * time.Second)
	expect("too early", time.Second, 0)
	b.later(time.Second)
	expect("in time", 5*time.Second, 1)
	b.idp.SlowDown(1)
	b.later(5 * time.Second)
	expect("told to slow down", 10*time.Second, 2)
	b.later(5 * time.Second)
	expect("and slow", 5*time.Second, 2)
	_, err := b.Admin.FinishLogin(background, op, l.ID, api.OAuthAnswer{Code: secret.FromString("x")})
	wants(t, "a code", err, api.InvalidRequest, "takes no code")
	b.later(5 * time.Second)
	expect("later", 10*time.Second, 3)
	if err := b.idp.Activate(l.UserCode, true); err != nil || !b.Admin.LoginPending() {
		t.Fatal(err)
	}
	b.later(10 * time.Second)
	done, err := poll()
	if err != nil || !done.Done || done.Account != "bob@files.test" || *done.Secret.Credential != "files" || b.Admin.LoginPending() {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := b.invoke("files/list"); err != nil {
		t.Error(err)
	}
	_, err = poll()
	wants(t, "once more", err, api.PolicyViolation, "no such login")

	l = b.start(t, device, func(r *api.OAuthStart) { r.Replace = true })
	if err := b.idp.Activate(l.UserCode, false); err != nil {
		t.Fatal(err)
	}
	b.later(5 * time.Second)
	_, err = poll()
	wants(t, "a no", err, api.AuthFailed, "access_denied")

	l = b.start(t, device, func(r *api.OAuthStart) { r.Replace = true })
	b.later(15 * time.Minute)
	_, err = poll()
	wants(t, "nobody", err, api.PolicyViolation, "no such login")

	l = b.start(t, device, func(r *api.OAuthStart) { r.Replace = true })
	_, err = b.Admin.FinishLogin(background, op, l.ID, api.OAuthAnswer{Error: "access_denied"})
	wants(t, "giving up", err, api.AuthFailed, "given up")
	if b.Admin.LoginPending() {
		t.Error("what was given up is pending")
	}
	b.silent(t, done)
}

// Logging out takes the tokens back, where the provider does, and removes
// everything in any case.
func TestLogout(t *testing.T) {
	for _, status := range []int{200, 503} {
		b := startBureau(t, standin.IDPOptions{RevokeStatus: status})
		b.login(t)
		b.idp.Expire()
		if _, err := b.invoke("files/list"); err != nil { // with another access token now
			t.Fatal(err)
		}
		_, err := b.Admin.Logout(background, op, "nobody")
		wants(t, "somebody else", err, api.SecretNotFound, "nobody is logged in")
		out, err := b.Admin.Logout(background, op, "files")
		if err != nil || out.Secret.Name != "FILES_OAUTH" || !slices.Equal(out.Credentials, []string{"files"}) || out.Revoked != (status == 200) {
			t.Errorf("%d: %+v, %v", status, out, err)
		}
		if st := b.state(t); len(st.Secrets)+len(st.Credentials)+len(st.Tokens) != 0 {
			t.Errorf("%d: left are %d secrets, %d credentials, %d tokens", status, len(st.Secrets), len(st.Credentials), len(st.Tokens))
		}
		got := b.idp.Revoked()
		if status == 200 && (len(got) != 2 || !strings.HasPrefix(got[0], "refresh_token rt-") || !strings.HasPrefix(got[1], "access_token at-")) {
			t.Errorf("%d revocations", len(got))
		}
		if status != 200 && out.Why != "id.files.test did not take the token back: temporarily_unavailable (status 503)" {
			t.Errorf("%q", out.Why)
		}
		if _, err := b.invoke("files/list"); api.CodeOf(err) != api.CredentialNotFound {
			t.Errorf("a call after logging out: %v", err)
		}
		if got := aivaulttest.Events(b.Records(t), "login.ended"); len(got) != 1 || got[0]["provider"] != "files" {
			t.Errorf("%v", got)
		}
		b.silent(t, out)
	}
}

// A login's secret is found by credential, by name and by id; more than one
// has to be told apart.
func TestLogoutReferences(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	global := b.login(t)
	acme := b.login(t, func(r *api.OAuthStart) { r.Scope = "workspace:acme" })
	_, err := b.Admin.Logout(background, op, "FILES_OAUTH")
	wants(t, "a name of two", err, api.InvalidRequest, "several logins")
	if out, err := b.Admin.Logout(background, op, *acme.Secret.Credential); err != nil || out.Secret.ID != acme.Secret.ID {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := b.Admin.Logout(background, op, "vault:secret:"+global.Secret.ID); err != nil || out.Secret.ID != global.Secret.ID {
		t.Errorf("%+v, %v", out, err)
	}
}

// An API that wants the client's id beside the token gets it from a secret of
// its own, which a login makes and never contradicts.
func TestLoginWithASecondField(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	twin := func(r *api.OAuthStart) { r.Provider = "twin" }
	if l := b.login(t, twin); *l.Secret.Credential != "twin" || len(l.Secret.Capabilities) != 1 || len(l.Secret.Waiting) != 0 {
		t.Errorf("%+v", l.Secret)
	}
	if body, err := b.invoke("twin/list"); err != nil || !strings.Contains(body, standin.IDPClient) || b.idp.Counts().Asked != 1 {
		t.Errorf("%s, %v after %d requests", body, err, b.idp.Counts().Asked)
	}
	if _, err := b.Admin.RotateSecret(background, op, "TWIN_CLIENT_ID", api.SecretRotate{Value: secret.FromString("another-app")}); err != nil {
		t.Fatal(err)
	}
	l := b.start(t, twin, func(r *api.OAuthStart) { r.Replace = true })
	_, err := b.Admin.FinishLogin(background, op, l.ID, b.browse(t, l.AuthorizationURL, true))
	wants(t, "another app", err, api.InvalidRequest, "another app")
	if len(b.idp.Revoked()) != 2 {
		t.Error("what nobody keeps was not given back")
	}
}

// A login may name the host of its account, which is sealed with the value.
func TestLoginForATenant(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	at := func(host string) func(*api.OAuthStart) {
		return func(r *api.OAuthStart) { r.Provider, r.Host = "domain", host }
	}
	l := b.login(t, at("main.domain.test"))
	if l.Secret.PinnedTenant != "org=main" || *l.Secret.Credential != "domain" || len(l.Secret.Capabilities) != 1 {
		t.Errorf("%+v", l.Secret)
	}
	if _, err := b.invoke("domain/list"); err != nil || b.idp.Counts().Asked != 1 {
		t.Errorf("%v after %d requests", err, b.idp.Counts().Asked)
	}
	_, err := b.tryStart(at("other.domain.test"), func(r *api.OAuthStart) { r.Replace = true })
	wants(t, "another tenant", err, api.PolicyViolation, "org=main")
	if again := b.login(t, at("main.domain.test"), func(r *api.OAuthStart) { r.Replace = true }); *again.Secret.Credential != "domain" || len(b.state(t).Credentials) != 1 {
		t.Errorf("%+v", again.Secret)
	}
	// Without a host it waits for one, as any secret of the provider does.
	if l := b.login(t, at(""), func(r *api.OAuthStart) { r.Scope = "workspace:acme" }); *l.Secret.Credential != "" || !slices.Equal(l.Secret.Waiting, []string{"--host {org}.domain.test"}) {
		t.Errorf("%+v", l.Secret)
	}
}

// The page of consent for those who exchange the code themselves has a state
// and no challenge, whose verifier would have to be handed out.
func TestOAuthSetup(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	r := api.OAuthSetup{Provider: "files", ClientID: "my-app", RedirectURI: "https://mine.test/back", OAuthScopes: []string{"files.read"}}
	c, err := b.Admin.OAuthSetup(background, op, r)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("state") != c.State || len(c.State) < 26 || q.Has("code_challenge") || q.Get("redirect_uri") != r.RedirectURI || q.Get("scope") != "files.read" ||
		c.TokenEndpoint != "https://id.files.test/exchange" || c.Secret != "FILES_OAUTH" {
		t.Errorf("%+v", c)
	}
	for _, uri := range []string{"", "http://evil.test/back", "https://user@mine.test/", "https://mine.test/#x", "javascript:alert(1)", "https://mine.test/\n"} {
		r.RedirectURI = uri
		_, err := b.Admin.OAuthSetup(background, op, r)
		wants(t, uri, err, api.InvalidRequest, "redirect URI")
	}
	if b.Vault.Status(background).State != vault.None {
		t.Error("setup made a vault")
	}
}

// A token that is being renewed while somebody logs out is given back as it is
// afterwards: what the renewal brought is not left at the provider.
func TestLogoutWaitsForARefresh(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{Rotate: true})
	b.login(t)
	b.idp.Expire()
	release := b.idp.Hold()
	defer release()
	called := make(chan error, 1)
	go func() {
		_, err := b.invoke("files/list") // it is refused, and renews its token
		called <- err
	}()
	b.idp.Await(2)
	out := make(chan error, 1)
	go func() {
		_, err := b.Admin.Logout(background, op, "files")
		out <- err
	}()
	select {
	case err := <-out:
		t.Fatalf("logged out while a token was being asked for: %v", err)
	case <-time.After(100 * time.Millisecond): // there is nothing to be seen of one who waits
	}
	release()
	if err := <-out; err != nil {
		t.Fatal(err)
	}
	<-called // it may have come too late
	given, back := b.idp.Tokens(), b.idp.Revoked()
	newest := ""
	for _, token := range given {
		if strings.HasPrefix(token, "rt-") {
			newest = token
		}
	}
	if !slices.Contains(back, "refresh_token "+newest) {
		t.Error("the newest refresh token was not given back")
	}
}

// Two who ask how one device login stands, at once: one asks the provider, and
// the other is told to wait.
func TestDeviceLoginAskedAtOnce(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{})
	l := b.start(t, func(r *api.OAuthStart) { r.Flow, r.RedirectURI = api.FlowDevice, "" })
	for range 20 {
		b.later(10 * time.Second)
		release, stop := b.idp.Hold(), make(chan struct{})
		asked := b.idp.Counts().Asked
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					if got, err := b.Admin.FinishLogin(background, op, l.ID, api.OAuthAnswer{}); err != nil || got.Done {
						t.Errorf("%+v, %v", got, err)
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		b.idp.Await(asked + 1)
		release()
		time.Sleep(time.Millisecond)
		close(stop)
		wg.Wait()
	}
}

// A token that is good and cannot be renewed is told as that.
func TestStatusOfALostAnswer(t *testing.T) {
	b := startBureau(t, standin.IDPOptions{Rotate: true})
	b.login(t)
	if got := b.statusOf(t)[0]; got.State != "good" || got.Why != "" {
		t.Errorf("%+v", got)
	}
	token := b.state(t).Tokens[0]
	lock, err := b.Vault.LockToken(background, token.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Ask(token.Sources, token.Version); err != nil {
		t.Fatal(err)
	}
	lock.Release() // killed
	if got := b.statusOf(t)[0]; got.State != "good" || !strings.Contains(got.Why, "then somebody has to log in: an answer of the token endpoint was lost") {
		t.Errorf("%+v", got)
	}
	lost := func() []api.Problem {
		_, problems := b.Broker.Providers(background, op)
		return slices.DeleteFunc(problems, func(p api.Problem) bool { return !strings.Contains(p.Why, "renewing its token") })
	}
	if got := lost(); len(got) != 1 || got[0].Hint != "aivault oauth login files" {
		t.Errorf("the status says %+v", got)
	}
	b.later(2 * time.Hour)
	if got := b.statusOf(t)[0]; got.State != "needs login" || !strings.HasPrefix(got.Why, "an answer of the token endpoint was lost") {
		t.Errorf("%+v", got)
	}
	b.login(t, func(r *api.OAuthStart) { r.Replace = true })
	if got := b.statusOf(t)[0]; got.State != "good" || got.Why != "" || len(lost()) > 0 {
		t.Errorf("%+v, %+v", got, lost())
	}
}
