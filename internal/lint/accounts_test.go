package lint

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/standin"
)

// appKey is the one key of this package's service accounts and apps.
var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

const (
	accountMail = "robot@acme.iam.gserviceaccount.com"
	accountID   = "account-0123456789" // of a secret that names one
)

// tokenShape is a value for a field that a login asks for its tokens with, ""
// for one that is asked with as it is.
func tokenShape(t *testing.T, l *registry.Login, field, plain string) string {
	t.Helper()
	o := l.OAuth2
	if o == nil || !slices.Contains(o.Fields, field) {
		return ""
	}
	switch field {
	case "client_id", "client_secret":
		return ""
	case "app_id", "installation_id":
		return "4711"
	case "private_key":
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(appKey())}))
	}
	for _, template := range o.TokenParams {
		if strings.Contains(template, "{{"+field+"}}") {
			return ""
		}
	}
	members := map[string]string{"client_id": "client-0123456789", "client_secret": "secret-" + plain, "refresh_token": "refresh-" + plain}
	if slices.Contains(o.Yields, "account_id") {
		members["account_id"] = accountID
	}
	switch o.GrantType {
	case "authorization_code":
		members = map[string]string{"access_token": "access-" + plain}
	case api.GrantJWTBearer:
		der, err := x509.MarshalPKCS8PrivateKey(appKey())
		if err != nil {
			t.Fatal(err)
		}
		members = map[string]string{
			"type": "service_account", "client_email": accountMail, "client_id": "1047", "private_key_id": "key-1", "token_uri": o.TokenEndpoint,
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every provider that a service account, or an app's installation, can enter
// is called once with the token that its key asks for: of the endpoint that the
// registry names, for the scopes that it lists.
func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	r := load(t)
	authority := &standin.JWTAuthority{
		Accounts: map[string]standin.ServiceAccount{accountMail: {Keys: map[string]*rsa.PublicKey{"key-1": &appKey().PublicKey}, Subjects: []string{"ann@acme.test"}}},
		Apps: map[string]standin.GitHubApp{"4711": {Keys: []*rsa.PublicKey{&appKey().PublicKey}, Installations: map[string]standin.Installation{
			"4711": {Repositories: []string{"site"}, Permissions: map[string]string{"contents": "read"}},
		}}},
	}
	type entered struct {
		p *registry.Provider
		l *registry.Login
	}
	var all []entered
	hosts := []string{"oauth2.googleapis.com"}
	robot := authority.Accounts[accountMail]
	for _, id := range r.Providers() {
		p := r.Provider(id)
		for i := range p.Logins {
			l := &p.Logins[i]
			if l.OAuth2 == nil || l.OAuth2.GrantType != api.GrantJWTBearer && l.OAuth2.GrantType != api.GrantGitHubApp {
				continue
			}
			all = append(all, entered{p, l})
			hosts = append(hosts, accountHosts(p)...)
			robot.Scopes = append(robot.Scopes, l.OAuth2.Scopes...)
			if l.OAuth2.GrantType == api.GrantJWTBearer {
				authority.Endpoint = l.OAuth2.TokenEndpoint
			}
		}
	}
	authority.Accounts[accountMail] = robot
	if len(all) < 14 || authority.Endpoint != "https://oauth2.googleapis.com/token" {
		t.Fatalf("%d logins, %s", len(all), authority.Endpoint)
	}
	v := aivaulttest.Start(t, aivaulttest.Options{Registry: r, Handler: authority, Hosts: hosts})
	for _, one := range all {
		for _, s := range one.p.Secrets {
			if text := tokenShape(t, one.l, s.Field, "x"); text != "" {
				v.Create(t, s.Name, text)
			}
		}
		o := provided{v: v, p: one.p}
		call, ok := o.firstCall(t)
		if !ok {
			t.Errorf("%s has nothing to call", one.p.ID)
			continue
		}
		before, calls := authority.Seen(), len(v.API.Seen())
		answer, _, err := v.Invoke(call)
		seen := authority.Seen()
		if err != nil || answer.Status != 200 || seen.Asked != before.Asked+1 {
			t.Errorf("%s: %v, asked %d times: %s", call.Capability, err, seen.Asked-before.Asked, seen.Why)
			continue
		}
		sent := v.API.Seen()[calls:]
		if len(sent) != 2 || "https://"+sent[0].Host+sent[0].Target != one.l.OAuth2.TokenEndpoint && !strings.HasPrefix("https://"+sent[0].Host+sent[0].Target, one.l.OAuth2.TokenEndpoint+"/") {
			t.Errorf("%s: %d requests", call.Capability, len(sent))
			continue
		}
		if got := sent[1].Header.Get("Authorization"); got != "Bearer "+seen.Tokens[len(seen.Tokens)-1] {
			t.Errorf("%s is not called with the token", call.Capability)
		}
		if scope, _ := seen.Claims["scope"].(string); scope != strings.Join(one.l.OAuth2.Scopes, " ") {
			t.Errorf("%s asks for %q", one.p.ID, scope)
		}
	}
}
