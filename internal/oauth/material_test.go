package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

func spec(grant string, edit func(*api.OAuth2Spec)) api.AuthSpec {
	o := &api.OAuth2Spec{GrantType: grant, TokenEndpoint: endpoint, Fields: []string{"oauth"}}
	if edit != nil {
		edit(o)
	}
	return api.AuthSpec{Type: "oauth2", OAuth2: o}
}

func checkText(s api.AuthSpec, field, text string) error {
	return CheckMaterial(s, map[string]secret.Value{field: secret.FromString(text)})
}

const awsProfile = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"

// The shapes that people have, told apart.
func TestShapes(t *testing.T) {
	t.Parallel()
	key := pkcs8(t, rfcKey(t))
	const cert = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	for text, want := range map[string]shape{
		account(t, rfcKey(t), nil):                                              shapeAccount,
		`{"clientEmail":"a@b","privateKey":"k"}`:                                shapeAccount,
		`{"type":"external_account","audience":"x","client_id":"y"}`:            shapeFederated,
		`{"type":"authorized_user","client_id":"i","refresh_token":"r"}`:        shapeRefresh,
		` {"clientId":"i","clientSecret":"s","refreshToken":"r"} `:              shapeRefresh,
		`{"installed":{"client_id":"i","client_secret":"s","project_id":"p"}}`:  shapeClient,
		`{"web":{"client_id":"i","client_secret":"s"}}`:                         shapeClient,
		`{"access_token":"a","token_type":"Bearer"}`:                            shapeAccess,
		`{"tokens":{"access_token":"a","refresh_token":"r"},"last_refresh":""}`: shapeRefresh,
		`{"AccessKeyId":"AKIA","SecretAccessKey":"s","Version":1}`:              shapeAWS,
		`{"Credentials":{"AccessKeyId":"ASIA","SecretAccessKey":"s"}}`:          shapeAWS,
		`{"appId":1,"privateKey":"k"}`:                                          shapeGitHubApp,
		awsProfile:                                                              shapeAWS,
		"export AWS_ACCESS_KEY_ID=AKIA\n":                                       shapeAWS,
		key:                                                                     shapeKey,
		cert:                                                                    shapeCert,
		cert + key:                                                              shapeCertAndKey,
		"sk-0123456789":                                                         shapeNone,
		"":                                                                      shapeNone,
		"{":                                                                     shapeNone,
		`{"a":1}`:                                                               shapeNone,
		`{"client_id":"a","client_id":""}`:                                      shapeNone,
		"-----BEGIN PGP MESSAGE-----\n":                                         shapeNone,
	} {
		if got := Shape(secret.FromString(text)); got != string(want) {
			t.Errorf("%.40q is %q, want %q", text, got, want)
		}
	}
}

func TestCheckMaterial(t *testing.T) {
	t.Parallel()
	good := account(t, rfcKey(t), nil)
	client := `{"client_id":"the-client","client_secret":"the-secret","refresh_token":"the-refresh"}`
	refresh, code, account_, app := spec("refresh_token", nil), spec("authorization_code", nil), spec(api.GrantJWTBearer, nil), spec(api.GrantGitHubApp, nil)
	split := spec(api.GrantGitHubApp, func(o *api.OAuth2Spec) { o.Fields = []string{"app_id", "installation_id", "private_key"} })
	for name, c := range map[string]struct {
		spec        api.AuthSpec
		field, text string
		want        string // "": fits
	}{
		"a client":                     {spec: refresh, text: client},
		"in camel case":                {spec: refresh, text: `{"clientId":"i","refreshToken":"r"}`},
		"an authorized user":           {spec: refresh, text: `{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}`},
		"with its access token":        {spec: refresh, text: `{"client_id":"i","access_token":"a","expires_at":1780000000}`},
		"a client that is fixed":       {spec: spec("refresh_token", func(o *api.OAuth2Spec) { o.TokenParams = map[string]string{"client_id": "app"} }), text: `{"refresh_token":"r"}`},
		"a client of its own field":    {spec: spec("refresh_token", func(o *api.OAuth2Spec) { o.Fields = []string{"client_id", "oauth"} }), text: `{"refresh_token":"r"}`},
		"a service account":            {spec: account_, text: good},
		"an app":                       {spec: app, text: `{"app_id":1,"installation_id":2,"private_key":` + quoted(pkcs1(rfcKey(t))) + `}`},
		"an app's key":                 {spec: split, field: "private_key", text: pkcs1(rfcKey(t))},
		"an app's id":                  {spec: split, field: "app_id", text: "Iv23liAbCdEf"},
		"a code's token":               {spec: code, text: `{"access_token":"a"}`},
		"a client's secret":            {spec: spec("client_credentials", func(o *api.OAuth2Spec) { o.Fields = []string{"client_id", "client_secret"} }), field: "client_secret", text: "{not json}"},
		"a header":                     {spec: api.AuthSpec{Type: "header"}, text: "anything"},
		"a service account for oauth":  {spec: refresh, text: good, want: "it is a service account's key, and an OAuth client with its refresh token is wanted"},
		"a client for an account":      {spec: account_, text: client, want: "it is an OAuth client with its refresh token, and a service account's key is wanted"},
		"a client without a token":     {spec: refresh, text: `{"installed":{"client_id":"the-client","client_secret":"the-secret"}}`, want: "it is an OAuth client without a refresh token, and"},
		"an access token":              {spec: refresh, text: `{"client_id":"the-client","access_token":"the-access"}`, want: "it is an access token without a refresh token"},
		"a token without its client":   {spec: refresh, text: `{"refresh_token":"the-refresh"}`, want: "it has no client_id"},
		"AWS keys":                     {spec: refresh, text: awsProfile, want: "it is an AWS access key, and an OAuth client"},
		"a federated account":          {spec: account_, text: `{"type":"external_account","audience":"the-audience"}`, want: "which holds no key"},
		"PEM":                          {spec: account_, text: pkcs8(t, rfcKey(t)), want: "it is a private key in PEM, and a service account's key is wanted"},
		"a plain token":                {spec: refresh, text: "1//the-refresh-token", want: "it is no JSON, and an OAuth client"},
		"JSON that is cut off":         {spec: refresh, text: client[:30], want: "not one object with each member once"},
		"a member twice":               {spec: refresh, text: `{"client_id":"the-client","clientId":"the-client","refresh_token":"r"}`, want: "not one object with each member once"},
		"a line break":                 {spec: refresh, text: `{"client_id":"i","refresh_token":"the\nrefresh"}`, want: "refresh_token that holds more than printable ASCII"},
		"another endpoint":             {spec: account_, text: account(t, rfcKey(t), map[string]any{"token_uri": "https://the-other.test/token"}), want: "it names another token_uri than " + endpoint},
		"no account":                   {spec: account_, text: account(t, rfcKey(t), map[string]any{"client_email": nil, "client_id": nil}), want: "it has no client_email"},
		"a broken key":                 {spec: account_, text: account(t, rfcKey(t), map[string]any{"private_key": "the-private-key"}), want: "private key that is not PEM"},
		"an app without installation":  {spec: app, text: `{"app_id":1,"private_key":"the-key"}`, want: "it has no installation_id"},
		"a number for a key":           {spec: split, field: "private_key", text: "4711", want: "private key that is not PEM"},
		"a key for a number":           {spec: split, field: "app_id", text: pkcs1(rfcKey(t)), want: "it is a private key in PEM, and only the app_id belongs there"},
		"an address for a number":      {spec: split, field: "installation_id", text: "https://github.com/settings/installations/the-id", want: "it is no installation_id: that is a number"},
		"an account for a client's id": {spec: spec("client_credentials", nil), field: "client_id", text: good, want: "it is a service account's key, and only the client_id belongs there"},
	} {
		if c.field == "" {
			c.field = "oauth"
		}
		err := checkText(c.spec, c.field, c.text)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
			continue
		}
		if e := api.AsError(err); strings.Contains(e.Message+e.Hint, "the-") || strings.Contains(e.Message, "MII") || strings.Contains(e.Message, "AKIA") {
			t.Errorf("%s: %v repeats the value", name, err)
		}
	}
}

func TestRSAKey(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	key := rfcKey(t)
	one := pkcs1(key)
	block := func(kind string, headers map[string]string) string {
		b, _ := pem.Decode([]byte(one))
		b.Type, b.Headers = kind, headers
		return string(pem.EncodeToMemory(b))
	}
	for text, want := range map[string]string{
		one: "", pkcs8(t, key): "", "Bag Attributes\n" + one: "",
		"":                                  "is not PEM",
		"ghp_0123":                          "is not PEM",
		one[:200]:                           "cut off",
		one + pkcs8(t, key):                 "more than one block",
		pkcs8(t, ed):                        "is not an RSA key",
		pkcs8(t, ec):                        "is not an RSA key",
		pkcs1(small):                        "fewer than 2048 bits",
		block("PUBLIC KEY", nil):            "is a public key",
		block("CERTIFICATE", nil):           "is a public key",
		block("EC PRIVATE KEY", nil):        "another kind",
		block("OPENSSH PRIVATE KEY", nil):   "OpenSSH",
		block("ENCRYPTED PRIVATE KEY", nil): "is encrypted",
		block("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED"}): "is encrypted",
		block("PRIVATE KEY", nil): "cannot be read",
	} {
		got, why := rsaKey([]byte(text))
		if want == "" && (why != "" || !got.Equal(key)) || want != "" && (got != nil || !strings.Contains(why, want)) {
			t.Errorf("%.60q: %q, want %q", text, why, want)
		}
	}
}

// Whatever is stored, reading it neither fails nor tells what it holds.
func FuzzMaterial(f *testing.F) {
	for _, text := range []string{
		`{"client_id":"x","clientSecret":"x","refresh_token":"x","expires_at":"2026-01-01T00:00:00Z"}`, `{"type":"service_account","private_key":"-----BEGIN x-----\nx\n-----END x-----","token_uri":"https://x"}`,
		awsProfile, `{"installed":{"client_id":"x"},"x":{"x":1}}`, "-----BEGIN PRIVATE KEY-----\nxxxx\n-----END PRIVATE KEY-----", `{"app_id":1,"installation_id":"x","private_key":"x"}`, `{"x":"\ud800"}`, "{", `{"AccessKeyId":"x","SecretAccessKey":"x"}`,
	} {
		f.Add(text)
	}
	const canary = "Qz7Kanary"
	grants := []string{"refresh_token", "authorization_code", "client_credentials", "account_credentials", api.GrantJWTBearer, api.GrantGitHubApp}
	now := time.Unix(1_780_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "x", canary)
		v := secret.FromString(text)
		clear := func(err error) {
			if err == nil {
				return
			}
			if e := api.AsError(err); strings.Contains(e.Message+e.Hint, canary) || strings.ContainsAny(e.Message, "\n\r\x00") {
				t.Fatalf("%q: %v", text, err)
			}
		}
		if s := Shape(v); len(s) > 60 || strings.Contains(s, canary) {
			t.Fatal(s)
		}
		if key, why := rsaKey([]byte(text)); (key == nil) != (why != "") || strings.Contains(why, canary) {
			t.Fatal(why)
		}
		for _, grant := range grants {
			for _, field := range []string{"oauth", "private_key", "app_id", "client_id"} {
				s := spec(grant, func(o *api.OAuth2Spec) { o.Fields = []string{field} })
				err := CheckMaterial(s, map[string]secret.Value{field: v})
				clear(err)
				asked := Check(s, map[string]secret.Value{field: v}, now)
				clear(asked)
				if asked == nil && err != nil && field == "oauth" && grant != "refresh_token" {
					t.Fatalf("%q could be asked with, and is refused: %v", text, err)
				}
			}
		}
		m, err := materialOf(map[string]secret.Value{"oauth": v})
		clear(err)
		if err == nil {
			again, err := materialOf(map[string]secret.Value{"oauth": v})
			if err != nil || !maps.EqualFunc(m.values, again.values, secret.Value.Equal) || !m.endsAt.Equal(again.endsAt) {
				t.Fatalf("%q is read differently a second time: %v", text, err)
			}
		}
		for _, p := range Parts(map[string]secret.Value{"oauth": v}) {
			if p.IsZero() {
				t.Fatal("an empty part")
			}
			p.Wipe()
		}
	})
}

// What an endpoint answers is never repeated, and never fails to be read.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"x","expires_in":3600,"refresh_token":"x","scope":"a b"}`, `access_token=x&expires_in=1`, `{"error":"invalid_grant","error_description":"x"}`, `{"token":"x","expires_at":"2026-05-28T21:26:40Z","permissions":{"a":"x"}}`, `[]`, `{"error":{"x":"x"}}`, "",
	} {
		f.Add(body, 200, "application/json")
	}
	const canary = "Qz7Kanary"
	f.Fuzz(func(t *testing.T, body string, status int, kind string) {
		body = strings.ReplaceAll(body, "x", canary)
		for _, grant := range []string{"refresh_token", "client_credentials", api.GrantJWTBearer, api.GrantGitHubApp} {
			w := Want{Spec: spec(grant, nil), Provider: "acme", Renew: "aivault oauth login acme"}
			k, err := kindOf(&w)
			if err != nil {
				t.Fatal(err)
			}
			have := &material{values: map[string]secret.Value{"refresh_token": secret.FromString("r")}}
			got, _, err := read(k, &asking{want: &w, have: have}, &answer{host: "h", status: status, body: []byte(body), kind: kind, askedAt: time.Unix(1_780_000_000, 0)})
			if err != nil {
				if e := api.AsError(err); e.Code != api.OAuthRefreshFailed || strings.Contains(e.Message+e.Hint, canary) {
					t.Fatalf("%q: %v", body, err)
				}
				continue
			}
			for name, v := range got.fields {
				if why := badToken(v.Expose()); why != "" {
					t.Fatalf("%q: %s %s", body, name, why)
				}
			}
			if got.fields["access_token"].IsZero() {
				t.Fatalf("%q gave nothing", body)
			}
		}
	})
}
