package lint

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// tokenFact is what is known, apart from the provider files, of how a
// provider's tokens are had: registry/testdata/token-facts.json.
type tokenFact struct {
	ID         string            `json:"id"`
	Grant      string            `json:"grant"` // "exchange": no OAuth
	Endpoint   string            `json:"endpoint"`
	ClientAuth string            `json:"clientAuth"`
	Format     string            `json:"format"`
	Headers    map[string]string `json:"headers"` // of the call
	Params     map[string]string `json:"params"`  // of the request for a token
}

func tokenFacts(t *testing.T) []tokenFact {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", "token-facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []tokenFact
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Every login of the registry that asks for a token does so as the facts say:
// of their endpoint, with the client authenticated in their way, and the call
// then carries the token, and nothing else that is a secret.
func TestTokenLogins(t *testing.T) {
	r, known := load(t), tokenFacts(t)
	type asked struct {
		p    *registry.Provider
		l    *registry.Login
		fact *tokenFact
	}
	var all []asked
	var hosts []string
	endpoints := map[string]bool{}
	for _, id := range r.Providers() {
		p := r.Provider(id)
		for i := range p.Logins {
			l := &p.Logins[i]
			grant, endpoint := "exchange", ""
			switch {
			case l.OAuth2 != nil && (l.OAuth2.GrantType == api.GrantJWTBearer || l.OAuth2.GrantType == api.GrantGitHubApp):
				continue // TestServiceAccounts
			case l.OAuth2 != nil:
				grant, endpoint = l.OAuth2.GrantType, l.OAuth2.TokenEndpoint
			case l.TokenExchange != nil:
				endpoint = l.TokenExchange.TokenEndpoint
			default:
				continue
			}
			at := slices.IndexFunc(known, func(f tokenFact) bool { return f.ID == id && f.Grant == grant && f.Endpoint == endpoint })
			if at < 0 {
				t.Errorf("%s: no fact about the tokens of its login %s", id, l.ID)
				continue
			}
			all = append(all, asked{p, l, &known[at]})
			hosts = append(hosts, accountHosts(p)...)
			filled := filledEndpoint(t, p, l)
			u, err := url.Parse(filled)
			if err != nil {
				t.Fatal(err)
			}
			hosts, endpoints[filled] = append(hosts, u.Host), true
		}
	}
	slices.Sort(hosts)
	v := aivaulttest.Start(t, aivaulttest.Options{Registry: r, Hosts: slices.Compact(hosts), Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body) // what is not read is not seen
		w.Header().Set("Content-Type", "application/json")
		if endpoints["https://"+q.Host+q.URL.Path] {
			_, _ = io.WriteString(w, `{"access_token":"token-of-`+q.Host+`","expires_in":3600,"token_type":"bearer"}`)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	})})
	for i, one := range all {
		t.Run(one.p.ID+"/"+one.l.ID, func(t *testing.T) {
			o := provided{v: v, p: one.p}
			values := map[string]string{} // by field
			refs := map[string]string{}
			workspace := fmt.Sprintf("w%d", i)
			for _, s := range one.p.Secrets {
				if !slices.Contains(one.l.Fields(), s.Field) {
					continue
				}
				plain := "v-" + strings.ReplaceAll(s.Field, "_", "-") + "-0123456789"
				if values[s.Field] = tokenShape(t, one.l, s.Field, plain); values[s.Field] == "" {
					values[s.Field] = plain
				}
				made, err := v.Admin.CreateSecret(context.Background(), aivaulttest.Operator(), api.SecretCreate{
					Name: s.Name, Value: secret.FromString(values[s.Field]), Scope: "workspace:" + workspace,
				})
				if err != nil {
					t.Fatal(err)
				}
				refs[s.Field] = made.ID
			}
			if one.p.Defaults() == nil {
				if _, err := v.Admin.CreateCredential(context.Background(), aivaulttest.Operator(), api.CredentialCreate{
					ID: "c-" + workspace, Provider: one.p.ID, SecretRefs: refs, Hosts: []string{accountHost(one.p, "acme")}, Scope: "workspace:" + workspace,
				}); err != nil {
					t.Fatal(err)
				}
			}
			call, ok := o.firstCallOf(t, one.l)
			if !ok {
				t.Fatal("nothing that starts on is called by this login")
			}
			call.WorkspaceID = workspace
			before := len(v.API.Seen())
			if _, _, err := v.Invoke(call); err != nil {
				t.Fatal(err)
			}
			sent := v.API.Seen()[before:]
			token := own(one.l, values)
			if token == "" {
				if len(sent) != 2 {
					t.Fatalf("%d requests", len(sent))
				}
				token = "token-of-" + sent[0].Host
				one.fact.checkAsk(t, one.p, one.l, &sent[0], values)
				sent = sent[1:]
			}
			if len(sent) != 1 || !slices.Contains(accountHosts(one.p), sent[0].Host) {
				t.Fatalf("%d requests, the last to %s", len(sent), sent[len(sent)-1].Host)
			}
			for name, template := range one.fact.Headers {
				want := strings.ReplaceAll(template, "{{access_token}}", token)
				want = strings.ReplaceAll(want, "{{account_id}}", accountID)
				for field, value := range values {
					want = strings.ReplaceAll(want, "{{"+field+"}}", value)
				}
				if got := sent[0].Header.Get(name); got != want {
					t.Errorf("the header %s is %q, not %q", name, got, want)
				}
				sent[0].Header.Del(name)
			}
			for field, value := range values {
				for _, s := range one.p.Secrets {
					if s.Field == field && !s.Public && strings.Contains(sent[0].Target+fmt.Sprint(sent[0].Header), value) {
						t.Errorf("the call holds %s, too", s.Name)
					}
				}
			}
		})
	}
}

// own is the token that a login's secret holds itself: of a provider whose
// tokens do not end.
func own(l *registry.Login, values map[string]string) string {
	if l.OAuth2 == nil || l.OAuth2.GrantType != "authorization_code" {
		return ""
	}
	var material struct {
		Token string `json:"access_token"`
	}
	for _, f := range l.OAuth2.Fields {
		_ = json.Unmarshal([]byte(values[f]), &material)
	}
	return material.Token
}

func filledEndpoint(t *testing.T, p *registry.Provider, l *registry.Login) string {
	t.Helper()
	params := p.Defaults()
	if params == nil {
		params, _ = p.MatchHost(accountHost(p, "acme"))
	}
	spec, ok := p.SpecFor(l, params)
	switch {
	case !ok:
		t.Fatalf("%s: %v fills no endpoint of %s", p.ID, params, l.ID)
	case spec.OAuth2 != nil:
		return spec.OAuth2.TokenEndpoint
	}
	return spec.TokenExchange.TokenEndpoint
}

// checkAsk holds a request for a token against the fact.
func (f *tokenFact) checkAsk(t *testing.T, p *registry.Provider, l *registry.Login, s *standin.Seen, values map[string]string) {
	t.Helper()
	if got, want := "https://"+s.Host+s.Target, filledEndpoint(t, p, l); s.Method != "POST" || got != want {
		t.Errorf("asks %s %s, not %s", s.Method, got, want)
	}
	members := map[string]string{}
	switch f.Format {
	case "json":
		if err := json.Unmarshal(s.Body, &members); err != nil || s.Header.Get("Content-Type") != "application/json" {
			t.Errorf("its body is no JSON of texts: %v (%s)", err, s.Header.Get("Content-Type"))
		}
	case "form":
		form, err := url.ParseQuery(string(s.Body))
		if err != nil || s.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("its body is no form: %v (%s)", err, s.Header.Get("Content-Type"))
		}
		for name, list := range form {
			if members[name] = list[0]; len(list) > 1 {
				t.Errorf("%s is there %d times", name, len(list))
			}
		}
	default:
		t.Errorf("no fact about the form of the body: %q", f.Format)
	}
	want := map[string]string{}
	for name, template := range f.Params {
		params := p.Defaults()
		if params == nil {
			params, _ = p.MatchHost(accountHost(p, "acme"))
		}
		for param, value := range params {
			template = strings.ReplaceAll(template, "{"+param+"}", value)
		}
		for field, value := range values {
			template = strings.ReplaceAll(template, "{{"+field+"}}", value)
		}
		want[name] = template
	}
	if f.Grant != "exchange" {
		id, password := values["client_id"], values["client_secret"]
		want["grant_type"] = f.Grant
		var material map[string]string
		for _, field := range l.OAuth2.Fields {
			if json.Unmarshal([]byte(values[field]), &material) == nil {
				id, password = cmp.Or(id, material["client_id"]), material["client_secret"]
				want["refresh_token"] = material["refresh_token"]
			}
		}
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(password)))
		switch got := s.Header.Get("Authorization"); f.ClientAuth {
		case "basic":
			if got != basic {
				t.Errorf("authenticates the client by %q", got)
			}
		case "body":
			if want["client_id"], want["client_secret"] = id, password; got != "" {
				t.Errorf("authenticates the client in the header, too: %q", got)
			}
		default:
			t.Errorf("no fact about how the client authenticates: %q", f.ClientAuth)
		}
	}
	delete(members, "scope") // of client credentials: what the entry says
	if !maps.Equal(members, want) {
		t.Errorf("asks with %v, not %v", members, want)
	}
}
