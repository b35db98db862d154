package oauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// rfcKey is the key of RFC 7515, appendix A.2.
func rfcKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	number := func(s string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(s)
		must(t, err)
		return new(big.Int).SetBytes(b)
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{E: 65537, N: number("ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ")},
		D:         number("Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"),
		Primes: []*big.Int{
			number("4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"),
			number("uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"),
		},
	}
	key.Precompute()
	must(t, key.Validate())
	return key
}

// otherKey is one that nobody knows.
var otherKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pkcs8(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func pkcs1(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// RFC 7515, appendix A.2: what is signed there has the signature that is there.
func TestRFC7515(t *testing.T) {
	t.Parallel()
	const signing = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	const want = signing + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
	got, err := signCompact(signing, rfcKey(t))
	if err != nil || string(got) != want {
		t.Errorf("%s %v", got, err)
	}
	// And ours, with the same claims, is what the description makes of them.
	token, err := signJWT(jwt.MapClaims{"iss": "joe", "exp": 1300819380, "http://example.com/is_root": true}, "16", rfcKey(t))
	must(t, err)
	parts := strings.Split(string(token), ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if len(parts) != 3 || string(header) != `{"alg":"RS256","kid":"16","typ":"JWT"}` || string(claims) != `{"exp":1300819380,"http://example.com/is_root":true,"iss":"joe"}` {
		t.Errorf("%s %s", header, claims)
	}
	if strings.ContainsAny(string(token), "+/=") {
		t.Error("not base64url without padding")
	}
}

// RFC 7523, section 4: the claims and the form of its example.
func TestRFC7523(t *testing.T) {
	t.Parallel()
	w := want(api.GrantJWTBearer, nil, func(o *api.OAuth2Spec) { o.TokenEndpoint = "https://jwt-rp.example.net" })
	w.Options.Subject = "mailto:mike@example.com"
	now := time.Unix(1300815780, 0)
	claims := assertionClaims(&w, "https://jwt-idp.example.com", now)
	for name, want := range map[string]any{
		"iss": "https://jwt-idp.example.com", "sub": "mailto:mike@example.com", "aud": "https://jwt-rp.example.net",
		"iat": now.Unix() - 60, "exp": now.Unix() - 60 + 3600,
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if len(claims) != 5 {
		t.Errorf("%v", claims)
	}
	w.Spec.OAuth2.Scopes, w.Options.Subject = []string{"https://a.test/x?a=1&b", "c"}, ""
	claims = assertionClaims(&w, "i", now)
	if claims["scope"] != "https://a.test/x?a=1&b c" || claims["sub"] != nil {
		t.Errorf("%v", claims)
	}
	a := &asking{want: &w, have: &material{values: map[string]secret.Value{"client_id": secret.FromString("1234")}}}
	r, err := a.tokenRequest(api.GrantJWTBearer, false, param{"assertion", []byte("eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.eyJpc3Mi.J9l-ZhwP")})
	must(t, err)
	const form = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.eyJpc3Mi.J9l-ZhwP"
	if string(r.body) != form || len(r.add.Headers) > 0 || r.method != "POST" {
		t.Errorf("%s", r.body)
	}
	// A client that has a secret proves who it is besides.
	a.have.values["client_secret"] = secret.FromString("s")
	if r, err = a.tokenRequest(api.GrantJWTBearer, false, param{"assertion", []byte("a")}); err != nil || !strings.HasSuffix(string(r.body), "&client_id=1234&client_secret=s") {
		t.Errorf("%s %v", r.body, err)
	}
}

// A jwtBench is a vault and the stand-ins of Google and GitHub.
type jwtBench struct {
	*bench
	key       *rsa.PrivateKey
	authority *standin.JWTAuthority
}

const (
	accountMail = "robot@project.iam.gserviceaccount.test"
	endpoint    = "https://" + idpHost + "/token"
)

func newJWTBench(t *testing.T) *jwtBench {
	t.Helper()
	key := rfcKey(t)
	b := &jwtBench{bench: &bench{dir: t.TempDir(), clock: newClock(), idp: standin.NewIDP(standin.IDPOptions{})}, key: key}
	b.authority = &standin.JWTAuthority{
		Endpoint: endpoint, Clock: b.clock.Now,
		Accounts: map[string]standin.ServiceAccount{accountMail: {
			Keys: map[string]*rsa.PublicKey{"key-1": &key.PublicKey}, Subjects: []string{"ann@acme.test"}, Scopes: []string{"https://scopes.test/mail", "https://scopes.test/drive"},
		}},
		Apps: map[string]standin.GitHubApp{"4711": {Keys: []*rsa.PublicKey{&key.PublicKey}, Installations: map[string]standin.Installation{
			"815": {Repositories: []string{"site", "api"}, Permissions: map[string]string{"contents": "write", "issues": "read"}},
		}}},
	}
	started, err := standin.Start(b.authority, idpHost)
	must(t, err)
	t.Cleanup(started.Close)
	b.api = started
	must(t, b.vault(t).Init(t.Context(), nil, keysource.Request{Provider: keysource.File}))
	return b
}

// account is a service account's file.
func account(t testing.TB, key any, edit map[string]any) string {
	t.Helper()
	file := map[string]any{
		"type": "service_account", "project_id": "project", "private_key_id": "key-1", "private_key": pkcs8(t, key), "client_email": accountMail, "client_id": "1012345",
		"auth_uri": "https://accounts.google.test/o/oauth2/auth", "token_uri": endpoint, "auth_provider_x509_cert_url": "https://x.test", "client_x509_cert_url": "https://y.test", "universe_domain": "googleapis.com",
	}
	for k, v := range edit {
		if file[k] = v; v == nil {
			delete(file, k)
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	must(t, err)
	return string(text)
}

func (b *jwtBench) google(t *testing.T, file string) Want {
	t.Helper()
	b.put(t, "account", file)
	return want(api.GrantJWTBearer, map[string]string{"service_account": "account"}, func(o *api.OAuth2Spec) {
		o.Scopes, o.ClientAuth = []string{"https://scopes.test/mail"}, "body"
	})
}

func (b *jwtBench) github(t *testing.T, key, app, installation string) Want {
	t.Helper()
	b.put(t, "key", key)
	b.put(t, "app", app)
	b.put(t, "installation", installation)
	return want(api.GrantGitHubApp, map[string]string{"private_key": "key", "app_id": "app", "installation_id": "installation"}, func(o *api.OAuth2Spec) {
		o.TokenEndpoint = "https://" + idpHost + "/app/installations"
	})
}

// clean wants that nothing of the keys, and no token, is on disk or in a text.
func (b *jwtBench) clean(t *testing.T, texts ...string) {
	t.Helper()
	seen := b.authority.Seen()
	for _, text := range texts {
		for _, line := range strings.Split(pkcs8(t, b.key), "\n") {
			if len(line) > 20 && !strings.HasPrefix(line, "---") && strings.Contains(text, line) {
				t.Errorf("%q holds a part of the key", text)
			}
		}
		for _, token := range seen.Tokens {
			if strings.Contains(text, token) {
				t.Errorf("%q holds a token", text)
			}
		}
	}
	b.nowhere(t, texts...)
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	w, s := b.google(t, account(t, b.key, nil)), b.source(t)
	got := mustToken(t, s, w)
	seen := b.authority.Seen()
	if access(got) != seen.Tokens[0] || got.Version != 1 || seen.Header["kid"] != "key-1" || seen.Claims["iss"] != accountMail || seen.Claims["scope"] != "https://scopes.test/mail" || seen.Claims["sub"] != nil || seen.Claims["aud"] != endpoint {
		t.Errorf("%d %v %v", got.Version, seen.Header, seen.Claims)
	}
	if ends := b.stored(t, w).ExpiresAtMs; ends != b.clock.Now().Add(time.Hour-time.Second).UnixMilli() {
		t.Error(ends)
	}
	// In camelCase, as PKCS#1, without what it could do without.
	b.put(t, "account", `{"clientEmail":"`+accountMail+`","privateKeyId":"key-1","privateKey":`+quoted(pkcs1(b.key))+`}`)
	mustToken(t, s, w)
	// On somebody's behalf, and with other scopes: a token of its own.
	own := w
	own.key = ""
	own.Options = api.TokenOptions{Subject: "ann@acme.test", Scopes: []string{"https://scopes.test/drive", "https://scopes.test/mail"}}
	mustToken(t, s, own)
	other := own
	other.key, other.Options.Subject = "", "bob@acme.test"
	if KeyOf(&other) == KeyOf(&own) {
		t.Error("two persons have the same key")
	}
	seen = b.authority.Seen()
	if seen.Claims["sub"] != "ann@acme.test" || seen.Claims["scope"] != "https://scopes.test/drive https://scopes.test/mail" || seen.Asked != 3 {
		t.Errorf("%d %v", seen.Asked, seen.Claims)
	}
	b.clean(t)
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// What Google refuses is told by its code and what people find behind it, and
// is asked for again.
func TestServiceAccountRefused(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	s := b.source(t)
	w := b.google(t, account(t, b.key, nil))
	for name, c := range map[string]struct {
		file  string
		edit  func(*Want)
		skew  time.Duration
		parts []string
		why   string
	}{
		"another key":      {file: account(t, otherKey(), nil), parts: []string{"invalid_grant", "the key was deleted"}, why: "Signature"},
		"another key's id": {file: account(t, b.key, map[string]any{"private_key_id": "key-2"}), parts: []string{"invalid_grant"}, why: "not its key"},
		"another account":  {file: account(t, b.key, map[string]any{"client_email": "x@y.test"}), parts: []string{"invalid_grant"}, why: "account not found"},
		"a subject":        {edit: func(w *Want) { w.Options.Subject = "eve@acme.test" }, parts: []string{"unauthorized_client", "may not act for the subject"}, why: "unauthorized"},
		"a scope":          {edit: func(w *Want) { w.Options.Scopes = []string{"https://scopes.test/all"} }, parts: []string{"invalid_scope", "may not have it"}, why: "scope"},
		"an early clock":   {skew: -2 * time.Minute, parts: []string{"invalid_grant", "clock is wrong"}, why: "timeframe"},
		"a late clock":     {skew: time.Hour, parts: []string{"invalid_grant", "clock is wrong"}, why: "timeframe"},
	} {
		text := c.file
		if text == "" {
			text = account(t, b.key, nil)
		}
		b.put(t, "account", text)
		one := w
		one.key = ""
		if c.edit != nil {
			c.edit(&one)
		}
		b.authority.Clock = func() time.Time { return b.clock.Now().Add(c.skew) }
		err := refuse(t, s, one, api.OAuthRefreshFailed, c.parts...)
		if seen := b.authority.Seen(); !strings.Contains(seen.Why, c.why) {
			t.Errorf("%s: refused for %q", name, seen.Why)
		}
		b.clean(t, err.Message, err.Hint)
	}
	// A clock that is a little wrong is borne.
	b.put(t, "account", account(t, b.key, nil))
	for _, skew := range []time.Duration{-59 * time.Second, 58 * time.Minute} {
		b.authority.Clock = func() time.Time { return b.clock.Now().Add(skew) }
		w.Refused = 0
		if stored := b.stored(t, w); stored != nil {
			w.Refused = stored.Version
		}
		mustToken(t, s, w)
	}
}

// What could not be asked for is not: nothing goes out.
func TestServiceAccountUnfit(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	s := b.source(t)
	key := pkcs8(t, b.key)
	for name, c := range map[string]struct{ file, part string }{
		"another endpoint": {account(t, b.key, map[string]any{"token_uri": "https://evil.test/token"}), "another token_uri than " + endpoint},
		"nearly the same":  {account(t, b.key, map[string]any{"token_uri": endpoint + "/"}), "another token_uri"},
		"another type":     {account(t, b.key, map[string]any{"type": "authorized_user"}), "another type than service_account"},
		"no key":           {account(t, b.key, map[string]any{"private_key": nil}), "hold no private_key"},
		"no account":       {account(t, b.key, map[string]any{"client_email": nil, "client_id": nil}), "hold no client_email"},
		"a broken key":     {account(t, b.key, map[string]any{"private_key": key[:len(key)/2]}), "cut off or cannot be read"},
		"a strange id":     {account(t, b.key, map[string]any{"private_key_id": "a\nb"}), "private_key_id that cannot be sent"},
	} {
		w := b.google(t, c.file)
		err := refuse(t, s, w, api.AuthFailed, c.part, "aivault oauth login acme")
		if strings.Contains(err.Message, "evil") {
			t.Errorf("%s: %v", name, err)
		}
		b.clean(t, err.Message, err.Hint)
	}
	if seen := b.authority.Seen(); seen.Asked > 0 {
		t.Errorf("asked %d times", seen.Asked)
	}
}

func TestGitHubApp(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	s := b.source(t)
	for name, key := range map[string]string{"PKCS#1": pkcs1(b.key), "PKCS#8": pkcs8(t, b.key), "with blanks": "\n" + strings.ReplaceAll(pkcs1(b.key), "\n", "\r\n") + "\n"} {
		w := b.github(t, key, "4711", "815")
		got, seen := mustToken(t, s, w), b.authority.Seen()
		now := b.clock.Now().Unix()
		if access(got) != seen.Tokens[len(seen.Tokens)-1] || seen.Claims["iss"] != "4711" || seen.Claims["iat"] != float64(now-60) || seen.Claims["exp"] != float64(now+540) || len(seen.Claims) != 3 || len(seen.Body) != 0 {
			t.Errorf("%s: %v %v", name, seen.Claims, seen.Body)
		}
		stored := b.stored(t, w)
		if stored.ExpiresAtMs != b.clock.Now().Add(time.Hour).Unix()*1000 || !slices.Equal(stored.Scopes, []string{"contents:write", "issues:read"}) {
			t.Errorf("%s: %+v", name, stored.Scopes)
		}
		narrow := w
		narrow.key = ""
		narrow.Options = api.TokenOptions{Repositories: []string{"site"}, Permissions: map[string]string{"contents": "read"}}
		mustToken(t, s, narrow)
		if seen := b.authority.Seen(); !slices.Equal(seen.Body["repositories"].([]any), []any{"site"}) || seen.Body["permissions"].(map[string]any)["contents"] != "read" || len(seen.Body) != 2 {
			t.Errorf("%s: %v", name, seen.Body)
		}
		if stored := b.stored(t, narrow); !slices.Equal(stored.Scopes, []string{"contents:read"}) {
			t.Errorf("%s: %v", name, stored.Scopes)
		}
		// The same in another order is the same token.
		swapped := narrow
		swapped.key, swapped.Options.Repositories = "", []string{"site", "api"}
		again := swapped
		again.key, again.Options.Repositories = "", []string{"api", "site"}
		less := narrow
		less.key, less.Options.Permissions = "", map[string]string{"issues": "read"}
		if KeyOf(&less) == KeyOf(&narrow) {
			t.Errorf("%s: other permissions have the same key", name)
		}
		if KeyOf(&swapped) != KeyOf(&again) || KeyOf(&swapped) == KeyOf(&narrow) || KeyOf(&narrow) == KeyOf(&w) {
			t.Errorf("%s: keys", name)
		}
	}
	// From one JSON object, too.
	b.put(t, "app", `{"appId":4711,"installationId":"815","privateKey":`+quoted(pkcs1(b.key))+`}`)
	w := want(api.GrantGitHubApp, map[string]string{"github_app": "app"}, func(o *api.OAuth2Spec) { o.TokenEndpoint = "https://" + idpHost + "/app/installations" })
	mustToken(t, s, w)
	b.clean(t)
}

func TestGitHubAppRefused(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	s := b.source(t)
	key := pkcs1(b.key)
	for name, c := range map[string]struct {
		key, app, installation string
		options                api.TokenOptions
		skew                   time.Duration
		code                   api.Code
		parts                  []string
		unasked                bool
	}{
		"another key":      {key: pkcs1(otherKey()), parts: []string{"(status 401): the private key is not one of the app's"}},
		"another app":      {app: "4712", parts: []string{"status 401"}},
		"no installation":  {installation: "816", parts: []string{"(status 404): the app has no such installation"}},
		"no repository":    {options: api.TokenOptions{Repositories: []string{"other"}}, parts: []string{"(status 422)", "these repositories or permissions"}},
		"a permission":     {options: api.TokenOptions{Permissions: map[string]string{"issues": "write"}}, parts: []string{"(status 422)"}},
		"an early clock":   {skew: -2 * time.Minute, parts: []string{"status 401", "clock is wrong"}},
		"a late clock":     {skew: 10 * time.Minute, parts: []string{"status 401", "clock is wrong"}},
		"a path":           {installation: "815/../../x", code: api.AuthFailed, parts: []string{"installation_id"}, unasked: true},
		"a query":          {installation: "815?x=1", code: api.AuthFailed, parts: []string{"installation_id"}, unasked: true},
		"letters":          {installation: "815x", code: api.AuthFailed, parts: []string{"installation_id"}, unasked: true},
		"dots":             {installation: "..", code: api.AuthFailed, parts: []string{"installation_id"}, unasked: true},
		"a name for an id": {app: "my app", code: api.AuthFailed, parts: []string{"app_id"}, unasked: true},
		"no key":           {key: "ghp_0123456789", code: api.AuthFailed, parts: []string{"is not PEM"}, unasked: true},
	} {
		if c.key == "" {
			c.key = key
		}
		if c.app == "" {
			c.app = "4711"
		}
		if c.installation == "" {
			c.installation = "815"
		}
		if c.code == "" {
			c.code = api.OAuthRefreshFailed
		}
		w := b.github(t, c.key, c.app, c.installation)
		w.Options = c.options
		b.authority.Clock = func() time.Time { return b.clock.Now().Add(c.skew) }
		before := b.authority.Seen().Asked
		err := refuse(t, s, w, c.code, c.parts...)
		if asked := b.authority.Seen().Asked - before; asked != 1 && !c.unasked || asked != 0 && c.unasked {
			t.Errorf("%s: asked %d times", name, asked)
		}
		b.clean(t, err.Message, err.Hint)
	}
	for _, skew := range []time.Duration{-59 * time.Second, 8 * time.Minute} {
		w := b.github(t, key, "4711", "815")
		b.authority.Clock = func() time.Time { return b.clock.Now().Add(skew) }
		mustToken(t, s, w)
	}
}

// Two hundred callers find no token: each account is asked once.
func TestOneJWTForAll(t *testing.T) {
	t.Parallel()
	b := newJWTBench(t)
	google, github := b.google(t, account(t, b.key, nil)), b.github(t, pkcs1(b.key), "4711", "815")
	sources := []*Source{b.source(t), b.source(t)}
	for round := range 2 {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				for _, w := range []Want{google, github} {
					if token, err := sources[i%len(sources)].Token(background, w); err != nil || token.Fields["access_token"].IsZero() {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if seen := b.authority.Seen(); seen.Asked != 2*(round+1) {
			t.Fatalf("asked %d times", seen.Asked)
		}
		b.clock.Add(time.Hour)
	}
	b.clean(t)
}

func TestReadInstallation(t *testing.T) {
	t.Parallel()
	w := want(api.GrantGitHubApp, nil, nil)
	at := time.Unix(1_780_000_000, 0)
	for body, c := range map[string]struct {
		ends time.Time
		bad  string
	}{
		`{"token":"ghs_x","expires_at":"2026-05-28T21:26:40Z"}`:      {ends: at.Add(time.Hour)},
		`{"token":"ghs_x","expires_at":"2026-05-28T23:26:40+02:00"}`: {ends: at.Add(time.Hour)},
		`{"token":"ghs_x"}`: {},
		`{"token":"ghs_x","expires_at":"2020-01-01T00:00:00Z"}`: {},
		`{"token":"ghs_x","expires_at":"9999-01-01T00:00:00Z"}`: {},
		`{"token":"ghs_x","expires_at":1780003600}`:             {},
		`{"token":"ghs_x","permissions":["a"]}`:                 {},
		`{"token":""}`:                                          {bad: "token that is missing"},
		`{"token":7}`:                                           {bad: "token that is missing"},
		`{"token":"a\u0000b"}`:                                  {bad: "printable"},
		`{"access_token":"x"}`:                                  {bad: "token that is missing"},
		`{"token":"x","token":"y"`:                              {bad: "no JSON object"},
		`[]`:                                                    {bad: "no JSON object"},
	} {
		got, err := readInstallation(&asking{want: &w}, &answer{host: "h", status: 201, body: []byte(body), kind: "application/json", askedAt: at})
		switch {
		case c.bad != "":
			if api.CodeOf(err) != api.OAuthRefreshFailed || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %v", body, err)
			}
		case err != nil || !got.endsAt.Equal(c.ends) || string(got.fields["access_token"].Expose()) != "ghs_x":
			t.Errorf("%s: %v %v", body, got, err)
		}
	}
	if got := installationBody(&api.TokenOptions{Repositories: []string{`a"b`, "c"}, Permissions: map[string]string{"b": "read", "a": "write"}}); string(got) != `{"repositories":["a\"b","c"],"permissions":{"a":"write","b":"read"}}` {
		t.Errorf("%s", got)
	}
}
