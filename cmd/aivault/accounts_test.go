package main_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/standin"
)

// accountHosts are the hosts of those who give tokens for a signed JWT, of
// their APIs, and of one whose answers carry new keys.
var accountHosts = []string{"oauth2.googleapis.com", "www.googleapis.com", "gmail.googleapis.com", "api.github.com", "api.acme.test"}

const (
	robotMail = "robot@acme.iam.gserviceaccount.com"
	freshKey  = "key-that-nobody-had-before"
)

// robotKey is the one key of the stories' and pages' accounts and apps.
var robotKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// accountFiles are a service account's file and an app's private key, as they
// are downloaded, and what people take for them.
func accountFiles() (map[string]string, error) {
	key, err := robotKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	robot := func(endpoint string) string {
		text, _ := json.MarshalIndent(map[string]string{ // strings: cannot fail
			"type": "service_account", "project_id": "acme", "private_key_id": "key-1",
			"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
			"client_email": robotMail, "client_id": "1047", "token_uri": endpoint,
			"auth_uri": "https://accounts.google.com/o/oauth2/auth", "universe_domain": "googleapis.com",
		}, "", "  ")
		return string(text) + "\n"
	}
	return map[string]string{
		"robot.json":           robot("https://oauth2.googleapis.com/token"),
		"evil.json":            robot("https://evil.test/token"),
		"acme-robot.json":      robot("https://api.acme.example/oauth/token"),
		"client.json":          `{"installed":{"client_id":"client-0123456789","client_secret":"client-secret-0123"}}` + "\n",
		"acme.private-key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	}, nil
}

// newAuthority knows the account and the app of accountFiles.
func newAuthority() (*standin.JWTAuthority, error) {
	key, err := robotKey()
	if err != nil {
		return nil, err
	}
	scopes := strings.Fields("drive.readonly drive.file gmail.modify gmail.send contacts.readonly")
	for i, s := range scopes {
		scopes[i] = "https://www.googleapis.com/auth/" + s
	}
	return &standin.JWTAuthority{
		Endpoint: "https://oauth2.googleapis.com/token",
		Accounts: map[string]standin.ServiceAccount{robotMail: {Keys: map[string]*rsa.PublicKey{"key-1": &key.PublicKey}, Subjects: []string{"ann@acme.test"}, Scopes: scopes}},
		Apps: map[string]standin.GitHubApp{"4711": {Keys: []*rsa.PublicKey{&key.PublicKey}, Installations: map[string]standin.Installation{
			"815": {Repositories: []string{"site"}, Permissions: map[string]string{"contents": "write", "metadata": "read"}},
		}}},
	}, nil
}

// cmdAccounts starts stand-ins for Google, GitHub and api.acme.test, which
// makes keys, and writes the files of accounts.
func cmdAccounts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: accounts")
	}
	authority, err := newAuthority()
	ts.Check(err)
	files, err := accountFiles()
	ts.Check(err)
	for name, text := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
	api, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "api.acme.test" {
			authority.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/keys":
			fmt.Fprintf(w, `{"id":1,"key":%q,"data":[{"id":2,"key":%[1]q}]}`, freshKey)
		case "/keys/bad":
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"exists","key":%q}`, freshKey)
		default:
			w.Header().Set("Content-Type", "text/csv")
			fmt.Fprintf(w, "id,key\n1,%s\n", freshKey)
		}
	}), accountHosts...)
	ts.Check(err)
	ts.Defer(api.Close)
	apis(ts).api, apis(ts).authority = api, authority
	ca := ts.MkAbs("standin-ca.pem")
	ts.Check(os.WriteFile(ca, api.CAPEM(), 0o600))
	ts.Setenv("AIVAULT_DEV_RESOLVE", devResolve(api, accountHosts))
	ts.Setenv("AIVAULT_DEV_CA_CERT_PATH", ca)
}

// cmdSigned wants a claim of the last JWT that was good, or with "asked" how
// often a token was asked for.
func cmdSigned(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signed CLAIM VALUE | signed asked N")
	}
	seen := apis(ts).authority.Seen()
	got := fmt.Sprint(seen.Claims[args[0]])
	switch args[0] {
	case "asked":
		got = fmt.Sprint(seen.Asked)
	case "body":
		text, err := json.Marshal(seen.Body)
		ts.Check(err)
		got = string(text)
	}
	if got != args[1] {
		ts.Fatalf("%s is %q", args[0], got)
	}
}

// cmdUnseen wants no token that was given, no part of the key and no fresh key
// to be in a file of the home or in a process.
func cmdUnseen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: unseen")
	}
	files, err := accountFiles()
	ts.Check(err)
	secrets := append(apis(ts).authority.Seen().Tokens, freshKey, strings.Split(files["acme.private-key.pem"], "\n")[5])
	for _, s := range secrets {
		cmdNowhere(ts, false, []string{s})
		for _, out := range []string{"stdout", "stderr"} {
			if strings.Contains(ts.ReadFile(out), s) {
				ts.Fatalf("%s shows %.8s…", out, s)
			}
		}
	}
}

// tokenFor answers as the token endpoints of the registry do, whoever asks.
func tokenFor(r *http.Request) (string, bool) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/access_tokens"): // GitHub's
		return `{"token":"ghs_a-token","expires_at":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `","permissions":{"contents":"read"}}`, true
	case tokenEndpoints()["https://"+r.Host+r.URL.Path]:
		return `{"access_token":"ya29.a-token","expires_in":3599,"token_type":"Bearer"}`, true
	}
	return "", false
}

// tokenEndpoints are those of the registry, for accounts as accountOf makes
// them.
var tokenEndpoints = sync.OnceValue(func() map[string]bool {
	reg, err := registry.Load()
	if err != nil {
		panic(err)
	}
	all := map[string]bool{}
	for _, id := range reg.Providers() {
		p := reg.Provider(id)
		for i := range p.Logins {
			if endpoint := tokenEndpoint(p, &p.Logins[i], accountOf(p)); endpoint != "" {
				all[endpoint] = true
			}
		}
	}
	return all
})

// tokenValue is a line of .env's value for a field that tokens are asked for
// with, "" where any text will do.
func tokenValue(t *testing.T, l *registry.Login, field string) string {
	t.Helper()
	o := l.OAuth2
	switch {
	case o == nil || !slices.Contains(o.Fields, field):
		return ""
	case field == "app_id" || field == "installation_id":
		return "4711"
	case field != "private_key" && o.GrantType != api.GrantJWTBearer:
		if len(o.Fields) > 1 && o.GrantType != "refresh_token" || field == "client_id" {
			return ""
		}
		return `'{"client_id":"an-id","client_secret":"a-value-of-it","refresh_token":"a-refresh-token","access_token":"an-access-token"}'`
	}
	key, err := robotKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "\n", `\n`)
	if field == "private_key" {
		return `"` + text + `"`
	}
	return `'{"type":"service_account","client_email":"robot@acme.iam.gserviceaccount.com","private_key":"` + text + `","token_uri":"` + o.TokenEndpoint + `"}'`
}

// tokenEndpoint is where a login asks for its tokens, "" for one that has none.
func tokenEndpoint(p *registry.Provider, l *registry.Login, params map[string]string) string {
	switch spec, _ := p.SpecFor(l, params); {
	case spec.OAuth2 != nil:
		return spec.OAuth2.TokenEndpoint
	case spec.TokenExchange != nil:
		return spec.TokenExchange.TokenEndpoint
	}
	return ""
}
