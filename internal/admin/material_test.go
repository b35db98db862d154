package admin_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

func rsaPEM(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func serviceAccount(t *testing.T, key, endpoint string) string {
	t.Helper()
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "marker-robot@acme.test", "private_key_id": "marker-id", "private_key": key, "client_id": "marker-client", "token_uri": endpoint,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const googleTokens = "https://oauth2.googleapis.com/token"

// tell wants an error that says something and nothing of the value.
func tell(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("%s: %v", what, err)
		return
	}
	e := api.AsError(err)
	for _, p := range parts {
		if !strings.Contains(e.Message+"\n"+e.Hint, p) {
			t.Errorf("%s: %q, hint %q: want %q in it", what, e.Message, e.Hint, p)
		}
	}
	if text := e.Message + e.Hint; strings.Contains(text, "marker") || strings.Contains(text, "MII") {
		t.Errorf("%s: %q repeats the value", what, text)
	}
}

// Every way by which a value comes in says what it is when it is the wrong
// one, and stores nothing.
func TestMaterialIsNamedWhenStored(t *testing.T) {
	t.Parallel()
	v := aivaulttest.Start(t, aivaulttest.Options{})
	key := rsaPEM(t)
	good := serviceAccount(t, key, googleTokens)
	client := `{"client_id":"marker-client","client_secret":"marker-secret","refresh_token":"marker-refresh"}`
	create := func(name, value string) error {
		_, err := v.Admin.CreateSecret(t.Context(), op, api.SecretCreate{Name: name, Value: secret.FromString(value), Scope: "global"})
		return err
	}
	bad := map[string][]string{
		client: {"does not fit google-vertex: it is an OAuth client with its refresh token, and a service account's key is wanted", "the JSON file that the provider gave"},
		serviceAccount(t, key, "https://evil.test/marker"):   {"another token_uri than " + googleTokens},
		strings.Replace(good, "-----BEGIN", "-----BEGUN", 1): {"private key that is not PEM"},
		key: {"a private key in PEM"},
		"[default]\naws_access_key_id = marker\naws_secret_access_key=x": {"an AWS access key"},
		"marker": {"is no JSON"},
	}
	for value, parts := range bad {
		tell(t, "create", create("GOOGLE_SERVICE_ACCOUNT_JSON", value), parts...)
		_, err := v.Admin.ImportSecrets(t.Context(), op, api.SecretImport{Scope: "global", Entries: []api.SecretEntry{{Name: "GOOGLE_SERVICE_ACCOUNT_JSON", Value: secret.FromString(value)}}})
		tell(t, "import", err, append(parts, "GOOGLE_SERVICE_ACCOUNT_JSON")...)
	}
	tell(t, "app", create("GITHUB_APP_PRIVATE_KEY", good), "does not fit github", "the file that GitHub gave")
	tell(t, "app's id", create("GITHUB_APP_ID", key), "a private key in PEM, and only the app_id belongs there")
	tell(t, "installation", create("GITHUB_APP_INSTALLATION_ID", "https://marker"), "that is a number")
	if list, err := v.Admin.Secrets(t.Context(), op); err == nil && len(list.Secrets) > 0 {
		t.Fatalf("%d secrets are stored", len(list.Secrets))
	}
	made := v.Create(t, "GOOGLE_SERVICE_ACCOUNT_JSON", good)
	if made.PinnedProvider != "google-vertex" || made.Credential == nil || *made.Credential != "google-vertex" {
		t.Errorf("%+v", made)
	}
	for value, parts := range bad {
		_, err := v.Admin.RotateSecret(t.Context(), op, "GOOGLE_SERVICE_ACCOUNT_JSON", api.SecretRotate{Value: secret.FromString(value)})
		tell(t, "rotate", err, parts...)
	}
	// A secret of no provider is looked at when it is given to one.
	v.Create(t, "MY_CLIENT", client)
	_, err := v.Admin.CreateCredential(t.Context(), op, api.CredentialCreate{ID: "robot", Provider: "google-drive", SecretRefs: map[string]string{"service_account": "MY_CLIENT"}, Scope: "global"})
	tell(t, "credential", err, "does not fit google-drive: it is an OAuth client")
	for name, c := range map[string]struct {
		spec api.OAuth2Spec
		part string
	}{
		"an account for a client": {api.OAuth2Spec{GrantType: "refresh_token", Fields: []string{"oauth"}, TokenEndpoint: "https://id.acme.test/token"}, "it is a service account's key, and an OAuth client"},
		"another endpoint":        {api.OAuth2Spec{GrantType: api.GrantJWTBearer, Fields: []string{"oauth"}, TokenEndpoint: "https://id.acme.test/token"}, "another token_uri than https://id.acme.test/token"},
	} {
		v.Admin.DeleteSecret(t.Context(), op, "PLAIN")
		v.Create(t, "PLAIN", good)
		_, err := v.Admin.CreateCredential(t.Context(), op, api.CredentialCreate{ID: "own", Provider: "own", SecretRefs: map[string]string{"": "PLAIN"}, Hosts: []string{"api.acme.test"}, Auth: &api.AuthSpec{Type: "oauth2", OAuth2: &c.spec}, Scope: "global"})
		tell(t, name, err, c.part)
	}
}

// What is said of a credential's tokens has to be about tokens that it has.
func TestTokenOptions(t *testing.T) {
	t.Parallel()
	v := aivaulttest.Start(t, aivaulttest.Options{})
	key := rsaPEM(t)
	v.Create(t, "GOOGLE_DRIVE_SERVICE_ACCOUNT_JSON", serviceAccount(t, key, googleTokens))
	v.Create(t, "GITHUB_APP_ID", "4711")
	v.Create(t, "GITHUB_APP_INSTALLATION_ID", "815")
	v.Create(t, "GITHUB_APP_PRIVATE_KEY", key)
	v.Create(t, "OPENAI_API_KEY", "sk-0123456789")
	v.Create(t, "PLAIN", "plain-0123456789")
	v.Create(t, "GOOGLE_GMAIL_OAUTH", `{"client_id":"an-id","client_secret":"a-value-of-it","refresh_token":"a-refresh-token"}`)
	drive, github := map[string]string{"": "GOOGLE_DRIVE_SERVICE_ACCOUNT_JSON"}, map[string]string{"app_id": "GITHUB_APP_ID", "installation_id": "GITHUB_APP_INSTALLATION_ID", "private_key": "GITHUB_APP_PRIVATE_KEY"}
	try := func(provider string, refs map[string]string, o api.TokenOptions, more ...func(*api.CredentialCreate)) (api.Credential, error) {
		r := api.CredentialCreate{ID: "one", Provider: provider, SecretRefs: refs, Scope: "global", Token: &o}
		for _, edit := range more {
			edit(&r)
		}
		made, err := v.Admin.CreateCredential(t.Context(), op, r)
		if err == nil {
			_, err = v.Admin.DeleteCredential(t.Context(), op, "one")
		}
		return made, err
	}
	for _, c := range []struct {
		provider string
		refs     map[string]string
		o        api.TokenOptions
	}{
		{"google-drive", drive, api.TokenOptions{Subject: "ann@acme.test"}},
		{"google-drive", drive, api.TokenOptions{Scopes: []string{"https://www.googleapis.com/auth/drive.readonly"}}},
		{"github", github, api.TokenOptions{Repositories: []string{"site", "a.b-c_d"}, Permissions: map[string]string{"contents": "read", "pull_requests": "write"}}},
	} {
		made, err := try(c.provider, c.refs, c.o)
		if err != nil || made.Token == nil || made.Token.Subject != c.o.Subject || len(made.Token.Repositories) != len(c.o.Repositories) || !made.Ready {
			t.Errorf("%s %+v: %+v %v", c.provider, c.o, made, err)
		}
	}
	for name, c := range map[string]struct {
		provider string
		refs     map[string]string
		o        api.TokenOptions
		part     string
	}{
		"a subject of an app":        {"github", github, api.TokenOptions{Subject: "ann@acme.test"}, "has no login with tokens that a subject could be about"},
		"repositories of an account": {"google-drive", drive, api.TokenOptions{Repositories: []string{"site"}}, "repositories"},
		"scopes of a key":            {"openai", map[string]string{"": "OPENAI_API_KEY"}, api.TokenOptions{Subject: "ann@acme.test"}, "a subject"},
		"scopes of a person's login": {"google-gmail", map[string]string{"": "GOOGLE_GMAIL_OAUTH"}, api.TokenOptions{Scopes: []string{"https://www.googleapis.com/auth/gmail.send"}}, "scopes"},
		"an owner":                   {"github", github, api.TokenOptions{Repositories: []string{"acme/site"}}, "without the owner"},
		"twice":                      {"github", github, api.TokenOptions{Repositories: []string{"site", "site"}}, "twice"},
		"a level":                    {"github", github, api.TokenOptions{Permissions: map[string]string{"contents": "all"}}, "NAME=LEVEL"},
		"a name":                     {"github", github, api.TokenOptions{Permissions: map[string]string{"Contents": "read"}}, "NAME=LEVEL"},
		"a blank":                    {"google-drive", drive, api.TokenOptions{Subject: "ann acme"}, "blank"},
	} {
		_, err := try(c.provider, c.refs, c.o)
		tell(t, name, err, c.part)
	}
	own := func(endpoint string, edit func(*api.CredentialCreate)) func(*api.CredentialCreate) {
		return func(r *api.CredentialCreate) {
			r.Hosts, r.Token = []string{"api.acme.test"}, nil
			r.Auth = &api.AuthSpec{Type: "token-exchange", TokenExchange: &api.TokenExchangeSpec{TokenEndpoint: endpoint, BodyFormat: "json", Body: map[string]string{"key": "{{secret}}"}, TokenField: "token"}}
			if edit != nil {
				edit(r)
			}
		}
	}
	plain := map[string]string{"": "PLAIN"}
	for endpoint, c := range map[string]struct {
		edit func(*api.CredentialCreate)
		part string // "": taken
	}{
		"https://id.acme.test/token":      {},
		"https://id.acme.test:443/token":  {},
		"http://id.internal/token":        {part: "is not https"},
		"http://id.internal:80/token":     {edit: func(r *api.CredentialCreate) { r.AllowHTTP = true }},
		"https://id.acme.test:8443/token": {part: "a port that is not allowed"},
		"https://id.acme.test:9443/token": {edit: func(r *api.CredentialCreate) { r.AllowPorts = []int{9443} }},
		"https://{tenant}.acme.test/t":    {part: "in braces"},
		"https://u:p@id.acme.test/t":      {part: "more than host, path and query"},
	} {
		_, err := try("own", plain, api.TokenOptions{}, own(endpoint, c.edit))
		if c.part != "" {
			tell(t, endpoint, err, c.part)
		} else if err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// What a custom capability says of new tokens is checked when it is made.
func TestIssuesTokenIsChecked(t *testing.T) {
	t.Parallel()
	v := aivaulttest.Start(t, aivaulttest.Options{})
	v.Create(t, "PLAIN", "plain-0123456789")
	if _, err := v.Admin.CreateCredential(t.Context(), op, api.CredentialCreate{ID: "own", Provider: "own", SecretRefs: map[string]string{"secret": "PLAIN"}, Hosts: []string{"api.acme.test"}, Auth: &api.AuthSpec{Type: "header"}, Scope: "global"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"key", "", "/", "/a//b", "/~", "$.key"} {
		_, err := v.Admin.CreateCapability(t.Context(), op, api.CapabilityCreate{ID: "own/keys", Methods: []string{"POST"}, Paths: []string{"/keys"}, IssuesToken: []string{p}})
		tell(t, p, err, "JSON pointer", "/data/*/key")
	}
	made, err := v.Admin.CreateCapability(t.Context(), op, api.CapabilityCreate{ID: "own/keys", Methods: []string{"POST"}, Paths: []string{"/keys"}, IssuesToken: []string{"/key", "/data/*/key"}})
	if err != nil || len(made.IssuesToken) != 2 {
		t.Errorf("%+v %v", made, err)
	}
}
