package oauth

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// The example of RFC 7636, appendix B.
func TestChallenge(t *testing.T) {
	if got := Challenge(secret.FromString("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
		t.Error(got)
	}
}

func TestAuthorizationURL(t *testing.T) {
	c := Client{Provider: "p", ID: "my app", Spec: api.OAuth2Spec{
		AuthorizationEndpoint: "https://id.test/authorize", Scopes: []string{"a", "b"}, ScopeSeparator: ",",
		AuthorizationParams: map[string]string{"prompt": "consent", "state": "the entry's", "redirect_uri": "https://evil.test/"},
	}}
	got, err := c.AuthorizationURL("http://127.0.0.1:1/callback", secret.FromString("the+state"), "the-challenge")
	want := "https://id.test/authorize?client_id=my%20app&code_challenge=the-challenge&code_challenge_method=S256&prompt=consent" +
		"&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback&response_type=code&scope=a%2Cb&state=the%2Bstate"
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	c.Scopes = []string{"mine"}
	if got, err = c.AuthorizationURL("http://127.0.0.1:1/callback", secret.FromString("s"), ""); err != nil || !strings.Contains(got, "scope=mine&") || strings.Contains(got, "challenge") {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "http://id.test/authorize", "https://user@id.test/", "https://id.test/?a=b", "https:///x", "https://id.test/#f", "://"} {
		c.Spec.AuthorizationEndpoint = bad
		if got, err := c.AuthorizationURL("x", secret.FromString("s"), ""); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func said(kind, body string) *answer {
	return &answer{host: "id.test", status: 200, kind: kind, body: []byte(body), askedAt: time.Unix(1e9, 0)}
}

// What a provider says of a login by device is shown only if it can be typed
// and gone to.
func TestDeviceAnswers(t *testing.T) {
	const good = `"device_code":"d","user_code":"AB-CD","verification_uri":"https://id.test/go"`
	for body, want := range map[string]string{
		`{` + good + `}`: "AB-CD https://id.test/go 5s 30m0s",
		`{` + good + `,"interval":2,"expires_in":600}`:                                                       "AB-CD https://id.test/go 2s 10m0s",
		`{` + good + `,"interval":3600,"expires_in":86400}`:                                                  "AB-CD https://id.test/go 1m0s 30m0s",
		`{` + good + `,"interval":-1,"expires_in":"never"}`:                                                  "AB-CD https://id.test/go 5s 30m0s",
		`{"device_code":"d","user_code":"X","verification_url":"https://g.test/device"}`:                     "X https://g.test/device 5s 30m0s",
		`{"device_code":"d","user_code":"X"}`:                                                                "no https address",
		`{"device_code":"d","user_code":"X","verification_uri":"http://id.test/"}`:                           "no https address",
		`{"device_code":"d","user_code":"X","verification_uri":"https://real.test@evil.test/"}`:              "no https address",
		`{"device_code":"d","user_code":"X","verification_uri":"https://id.test/\u001b[2J"}`:                 "no https address",
		`{"device_code":"d","user_code":"X","verification_uri":"javascript:alert(1)"}`:                       "no https address",
		`{"device_code":"d","user_code":"","verification_uri":"https://id.test/"}`:                           "no code",
		`{"device_code":"d","user_code":"a\u202eb","verification_uri":"https://id.test/"}`:                   "no code",
		`{"device_code":"d","user_code":"` + strings.Repeat("x", 65) + `","verification_uri":"https://i.t"}`: "no code",
		`{"device_code":"","user_code":"X","verification_uri":"https://id.test/"}`:                           "device code that is missing",
		`{"device_code":7,"user_code":"X","verification_uri":"https://id.test/"}`:                            "device code that is missing",
		`{` + good + `,"device_code":"e"}`:                                                                   "neither a JSON object",
		`<html>`:                                                                                             "neither a JSON object",
	} {
		d, err := said("application/json", body).device()
		if err != nil {
			if e := api.AsError(err); e.Code != api.AuthFailed || !strings.Contains(e.Message, want) {
				t.Errorf("%s: %v", body, err)
			}
			continue
		}
		if got := strings.Join([]string{d.UserCode, d.VerificationURI, d.Interval.String(), d.EndsAt.Sub(time.Unix(1e9, 0)).String()}, " "); got != want {
			t.Errorf("%s: %s", body, got)
		}
	}
	d, err := said("application/x-www-form-urlencoded", "device_code=d&user_code=X&verification_uri=https%3A%2F%2Fid.test%2F").device()
	if err != nil || d.UserCode != "X" {
		t.Errorf("a form: %+v, %v", d, err)
	}
}

func idTokenOf(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// Who logged in is told by the member that the entry names, else by the
// id_token, and only if it can be shown.
func TestAccounts(t *testing.T) {
	for _, c := range []struct{ member, body, want string }{
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","name":"Alice","email":"a@b.test"}`) + `"}`, "a@b.test"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","name":"Alice","preferred_username":"al"}`) + `"}`, "al"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","name":"Zoë"}`) + `"}`, "Zoë"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1"}`) + `"}`, "1"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","email":"a\u001b[2J"}`) + `"}`, "1"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","email":"`+strings.Repeat("a", 129)+`"}`) + `"}`, "1"},
		{"", `{"id_token":"` + idTokenOf(`{"sub":"1","sub":"2"}`) + `"}`, ""},
		{"", `{"id_token":"` + idTokenOf(`["sub"]`) + `"}`, ""},
		{"", `{"id_token":"a.b"}`, ""},
		{"", `{"id_token":"a.!!.c"}`, ""},
		{"", `{"id_token":7}`, ""},
		{"", `{}`, ""},
		{"", `<html>`, ""},
		{"name", `{"name":"Alice"}`, "Alice"},
		{"/owner/person/email", `{"owner":{"person":{"email":"a@b.test"}}}`, "a@b.test"},
		{"/owner/person/email", `{"owner":"x","id_token":"` + idTokenOf(`{"sub":"1"}`) + `"}`, "1"},
		{"name", `{"name":"two\nlines"}`, ""},
	} {
		if got := said("application/json", c.body).account(&api.OAuth2Spec{AccountMember: c.member}); got != c.want {
			t.Errorf("%q of %s: %q, want %q", c.member, c.body, got, c.want)
		}
	}
}

// What a login leaves in the vault is what a person would have stored, and is
// read as such.
func TestMaterialOfALogin(t *testing.T) {
	c := Client{Provider: "p", ID: `my "app"`, Secret: secret.FromString(`s\ecret`)}
	end := time.Unix(2e9, 0)
	g := &Granted{Fields: map[string]secret.Value{"access_token": secret.FromString("at"), "refresh_token": secret.FromString("rt")}, EndsAt: end}
	back, tokens, err := ClientOf("p", &api.OAuth2Spec{}, map[string]secret.Value{"oauth": c.Material(g)})
	if err != nil || back.ID != c.ID || !back.Secret.Equal(c.Secret) || string(tokens["refresh_token"].Expose()) != "rt" || !tokens["access_token"].IsZero() {
		t.Errorf("%+v, %v", back, err)
	}
	delete(g.Fields, "refresh_token")
	value := c.Material(g)
	have, err := materialOf(map[string]secret.Value{"oauth": value})
	if err != nil || string(have.values["access_token"].Expose()) != "at" || !have.endsAt.Equal(end) {
		t.Errorf("%s, %v", value.Expose(), err)
	}
	c.Secret = secret.Value{}
	if back, _, err = ClientOf("p", &api.OAuth2Spec{}, map[string]secret.Value{"oauth": c.Material(g)}); err != nil || !back.Secret.IsZero() {
		t.Errorf("%+v, %v", back, err)
	}
	first := g.Token("k", nil, nil, time.Unix(5, 0))
	if next := g.Token("k", nil, &vault.Token{Version: 7}, time.Unix(6, 0)); first.Version != 1 || next.Version != 8 || first.ExpiresAtMs != 2e12 || first.FirstAtMs != 5000 {
		t.Errorf("%+v, %+v", first, next)
	}
}

func FuzzDeviceAnswer(f *testing.F) {
	f.Add(`{"device_code":"d","user_code":"AB-CD","verification_uri":"https://id.test/go","interval":5,"expires_in":600}`)
	f.Add(`{"device_code":"d","user_code":"AB","verification_url":"https://id.test"}`)
	f.Fuzz(func(t *testing.T, body string) {
		d, err := said("application/json", body).device()
		if err != nil {
			if strings.ContainsFunc(err.Error(), unprintable) {
				t.Errorf("%q", err)
			}
			return
		}
		u, bad := url.Parse(d.VerificationURI)
		if bad != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsFunc(d.VerificationURI+d.UserCode, unprintable) ||
			d.Interval <= 0 || d.Interval > maxInterval || d.EndsAt.Sub(time.Unix(1e9, 0)) > maxDevice || d.Code.IsZero() {
			t.Errorf("%+v", d)
		}
	})
}

func FuzzAccount(f *testing.F) {
	f.Add(`{"sub":"1","name":"Alice","email":"a@b.test"}`)
	f.Add(`{"email":"\u001b[2J"}`)
	f.Fuzz(func(t *testing.T, claims string) {
		got := said("application/json", `{"id_token":"`+idTokenOf(claims)+`"}`).account(&api.OAuth2Spec{})
		if len(got) > maxAccount || strings.ContainsFunc(got, unprintable) {
			t.Errorf("%q", got)
		}
	})
}
