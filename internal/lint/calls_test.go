package lint

import (
	"context"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// Providers with no login that this version has stand in
// registry/testdata/not-yet.txt. The list may become shorter, never longer.
func TestNotYet(t *testing.T) {
	r := load(t)
	data, err := os.ReadFile(filepath.Join("..", "..", "registry", "testdata", "not-yet.txt"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(data))
	for _, id := range r.Providers() {
		switch late := !built(r.Provider(id)); {
		case late && !slices.Contains(listed, id):
			t.Errorf("nothing of %s can be called, and registry/testdata/not-yet.txt does not say so", id)
		case !late && slices.Contains(listed, id):
			t.Errorf("%s can be called: take it off registry/testdata/not-yet.txt", id)
		case late:
			t.Logf("not yet: %s", id)
		}
	}
}

func built(p *registry.Provider) bool {
	return slices.ContainsFunc(p.Capabilities, func(c registry.Capability) bool {
		return slices.ContainsFunc(p.LoginsOf(&c), func(l *registry.Login) bool { return l.NotYet == "" })
	})
}

// Every provider that can be called is: each of its names and aliases pins and
// provisions, and a call carries what the facts say, and nothing else that is
// a secret, to one of the provider's hosts.
func TestCalls(t *testing.T) {
	r, known := load(t), facts(t)
	var ids []string
	for _, id := range r.Providers() {
		if built(r.Provider(id)) {
			ids = append(ids, id)
		}
	}
	// A vault holds some of them: with all in one each change would cost more.
	const some = 24
	for part := range slices.Chunk(ids, some) {
		t.Run(part[0], func(t *testing.T) {
			t.Parallel()
			var hosts []string
			for _, id := range part {
				hosts = append(hosts, accountHosts(r.Provider(id))...)
			}
			v := aivaulttest.Start(t, aivaulttest.Options{Registry: r, Hosts: hosts})
			ca := newClientCA(t)
			for _, id := range part {
				one := provided{v: v, ca: ca, p: r.Provider(id), fact: known[id], values: map[string]string{}}
				if one.fact == nil {
					t.Logf("no fact about %s", id)
					continue
				}
				one.store(t)
				one.call(t)
			}
		})
	}
}

// provided is a provider whose secrets are in a vault.
type provided struct {
	v      *aivaulttest.Aivault
	ca     *standin.ClientCA
	p      *registry.Provider
	fact   *fact
	values map[string]string // by name
}

// store stores every secret of the provider under its name, and again under
// each alias in a scope of its own.
func (o *provided) store(t *testing.T) {
	t.Helper()
	credential, pair := "", map[string]string{}
	for _, s := range o.p.Secrets {
		o.values[s.Name] = shaped(t, o.ca, o.p, s.Field, "v-"+strings.ToLower(strings.ReplaceAll(s.Name, "_", "-"))+"-0123456789", pair)
		made := o.v.Create(t, s.Name, o.values[s.Name])
		if made.PinnedProvider != o.p.ID {
			t.Errorf("%s is pinned to %q, not to %s", s.Name, made.PinnedProvider, o.p.ID)
		}
		if made.Credential != nil && *made.Credential != "" {
			credential = *made.Credential
		}
		for i, alias := range s.Aliases {
			a, err := o.v.Admin.CreateSecret(context.Background(), aivaulttest.Operator(), api.SecretCreate{
				Name: alias, Value: secret.FromString("another-value-0123456789"), Scope: "workspace:alias" + string(rune('a'+i)),
			})
			if err != nil || a.PinnedProvider != o.p.ID {
				t.Errorf("%s of %s: %+v, %v", alias, o.p.ID, a, err)
			}
		}
	}
	for name := range o.fact.Logins[0].Names {
		if c, ok := o.v.Registry.Claims(name); !ok || c.Provider != o.p.ID {
			t.Errorf("%s does not claim %s", o.p.ID, name)
		}
	}
	for _, name := range o.fact.Aliases {
		if c, ok := o.v.Registry.Claims(name); !ok || c.Provider != o.p.ID {
			t.Errorf("%s does not claim its alias %s", o.p.ID, name)
		}
	}
	if o.p.Defaults() != nil {
		if credential == "" {
			t.Errorf("%s has no credential after its secrets were stored", o.p.ID)
		}
		return
	}
	o.account(t)
}

// account makes a credential for a tenant, and is refused one for another
// tenant, for the bare suffix and for a host beside it.
func (o *provided) account(t *testing.T) {
	t.Helper()
	refs := map[string]string{}
	for _, s := range o.p.Secrets {
		refs[s.Field] = s.Name
	}
	create := func(id, host string) error {
		_, err := o.v.Admin.CreateCredential(context.Background(), aivaulttest.Operator(), api.CredentialCreate{
			ID: o.p.ID + id, Provider: o.p.ID, SecretRefs: refs, Hosts: []string{host},
		})
		return err
	}
	own := accountHost(o.p, "acme")
	_, suffix, _ := strings.Cut(own, ".")
	for _, bad := range []string{suffix, "acme." + own, own + ".evil.test"} {
		if !o.p.SelfHosted && create("-bad", bad) == nil {
			t.Errorf("%s takes the host %s", o.p.ID, bad)
		}
	}
	if err := create("", own); err != nil {
		t.Errorf("%s at %s: %v", o.p.ID, own, err)
		return
	}
	params, _ := o.p.MatchHost(own)
	if o.p.Tenant(params) == "" {
		return // regions: one value works in each
	}
	if other := accountHost(o.p, "other"); other == own || create("-other", other) == nil {
		t.Errorf("%s takes the secrets of %s to %s", o.p.ID, own, other)
	}
}

// accountHost is the host of a tenant, in the shape that the provider's has.
func accountHost(p *registry.Provider, name string) string {
	if p.SelfHosted {
		return name + ".acme.test"
	}
	params := map[string]string{}
	for i := range p.HostParams {
		h := &p.HostParams[i]
		switch {
		case h.Default != "":
			params[h.Name] = h.Default
		case len(h.Values) > 0:
			params[h.Name] = h.Values[0]
		default:
			shape := regexp.MustCompile(h.Pattern)
			first := name[:1]
			for _, v := range []string{name, "us1", name + "-1", strings.Repeat(first, 20), strings.Repeat(first, 8), strings.Repeat(first, 7),
				"us-east-1", name + "-us-east-1", name + "-0123abc", strings.Repeat(first, 32)} {
				if shape.MatchString(v) {
					params[h.Name] = v
					break
				}
			}
		}
	}
	for _, h := range p.Hosts {
		if filled, ok := p.FillHost(h, params); ok && strings.Contains(h, "{") {
			if _, ok := p.MatchHost(filled); ok {
				return filled
			}
		}
	}
	return ""
}

// accountHosts are all hosts of the account that calls are made for.
func accountHosts(p *registry.Provider) []string {
	params := p.Defaults()
	if params == nil {
		params, _ = p.MatchHost(accountHost(p, "acme"))
	}
	var hosts []string
	all := slices.Clone(p.Hosts)
	for i := range p.Logins {
		all = append(all, p.Logins[i].Hosts...)
	}
	for _, h := range all {
		if filled, ok := p.FillHost(h, params); ok {
			hosts = append(hosts, filled)
		}
	}
	return hosts
}

// firstCall is the first call of the provider that can be made.
func (o *provided) firstCall(t *testing.T) (call api.Call, ok bool) {
	t.Helper()
	return o.firstCallOf(t, nil)
}

// firstCallOf is the first that can be made by a login, nil for any.
func (o *provided) firstCallOf(t *testing.T, by *registry.Login) (call api.Call, ok bool) {
	t.Helper()
	all, _ := compile(o.p, o.v.Registry)
	at := slices.IndexFunc(all, func(c capability) bool {
		return c.Access != "admin" && slices.ContainsFunc(o.p.LoginsOf(c.Capability), func(l *registry.Login) bool { return l.NotYet == "" && (by == nil || l == by) })
	})
	if at < 0 {
		t.Logf("%s has nothing that starts on and can be called", o.p.ID)
		return api.Call{}, false
	}
	c := all[at]
	method, path := c.DefaultCall()
	e, err := parseExample(c.Example)
	if err != nil {
		t.Fatal(err)
	}
	call = api.Call{Capability: c.ID, Request: api.Request{Method: method, Path: path, Headers: e.headers}}
	if e.method != "" {
		call.Request.Method = e.method
	}
	if e.path != "" {
		call.Request.Path = e.path
	}
	if e.body != "" {
		call.Request.Body = &e.body
	}
	return call, true
}

// call makes the first call of the provider that can be made, and looks at it
// as the API does.
func (o *provided) call(t *testing.T) {
	t.Helper()
	call, ok := o.firstCall(t)
	if !ok {
		return
	}
	_, def := o.v.Registry.Capability(call.Capability)
	logins := o.p.LoginsOf(def)
	if l := logins[slices.IndexFunc(logins, func(l *registry.Login) bool { return l.NotYet == "" })]; l.OAuth2 != nil || l.TokenExchange != nil {
		return // TestTokenLogins
	}
	before := len(o.v.API.Seen())
	if _, _, err := o.v.Invoke(call); err != nil {
		t.Errorf("%s: %v", call.Capability, err)
		return
	}
	seen := o.v.API.Seen()[before:]
	if len(seen) != 1 {
		t.Errorf("%s: %d requests", call.Capability, len(seen))
		return
	}
	s := seen[0]
	if !slices.Contains(accountHosts(o.p), s.Host) {
		t.Errorf("%s goes to %s", call.Capability, s.Host)
	}
	for name, want := range o.fact.Static {
		if got := s.Header.Get(name); got != want && (got == "" || !strings.Contains(want, "{")) && !slices.ContainsFunc(call.Request.Headers, func(h api.Header) bool { return strings.EqualFold(h.Name, name) }) {
			t.Errorf("%s: the header %s is %q, the facts say %q", call.Capability, name, got, want)
		}
	}
	var texts []string
	for i := range o.fact.Logins {
		l := &o.fact.Logins[i]
		if verify := verifiers()[o.p.ID]; verify != nil && (l.Type == "hmac" || l.Type == "mtls" || l.Type == "aws-sigv4") {
			if o.p.ID == "teller" {
				return // TestSigned has a server that asks for the certificate
			}
			if err := verify(&s, o.values); err != nil {
				texts = append(texts, l.Type+": "+err.Error())
				continue
			}
			return
		}
		sent := received{target: s.Target, header: s.Header.Clone()}
		if text, ok := l.matches(&sent, o.values); !ok {
			texts = append(texts, l.Type+": "+text)
			continue
		}
		for name, value := range o.values {
			if public(o.p, name) {
				continue
			}
			for header, got := range sent.header {
				if strings.Contains(strings.Join(got, " "), value) {
					t.Errorf("%s: the header %s holds %s, too", call.Capability, header, name)
				}
			}
			if strings.Contains(sent.target, value) {
				t.Errorf("%s: the URL holds %s, too", call.Capability, name)
			}
		}
		return
	}
	t.Errorf("%s authenticates as no fact says: %s", call.Capability, strings.Join(texts, "; "))
}

func public(p *registry.Provider, name string) bool {
	return slices.ContainsFunc(p.Secrets, func(s registry.SecretName) bool { return s.Name == name && s.Public })
}

// received is a request, without what has been accounted for.
type received struct {
	target string
	header map[string][]string
}

// matches takes what a login sets out of a request; it says what was not as
// the login sets it.
func (l *factLogin) matches(r *received, values map[string]string) (string, bool) {
	fill := func(template string) string {
		for name, field := range l.Names {
			template = strings.ReplaceAll(template, "{{"+field+"}}", values[name])
		}
		return template
	}
	header := func(name, want string) bool {
		for key, got := range r.header {
			if strings.EqualFold(key, name) && len(got) == 1 && got[0] == want {
				delete(r.header, key)
				return true
			}
		}
		return false
	}
	switch l.Type {
	case "header", "multi-header":
		for name, template := range l.Headers {
			if !header(name, fill(template)) {
				return name + " is not " + template, false
			}
		}
		return "", len(l.Headers) > 0
	case "basic":
		if !header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(fill(l.User)+":"+fill(l.Password)))) {
			return "Authorization is not " + l.User + ":" + l.Password, false
		}
		return "", true
	case "query", "multi-query":
		path, raw, _ := strings.Cut(r.target, "?")
		query, err := url.ParseQuery(raw)
		if err != nil {
			return "the query cannot be read", false
		}
		for name, template := range l.Params {
			if got := query[name]; len(got) != 1 || got[0] != fill(template) {
				return name + " is not " + template, false
			}
			query.Del(name)
		}
		r.target = path + "?" + query.Encode()
		return "", true
	case "path":
		rest, ok := strings.CutPrefix(r.target, fill(l.Prefix)+"/")
		r.target = rest
		return "the path does not begin with " + l.Prefix, ok
	}
	return "it is not built", false
}
