package auth

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// suite is what the contract needs to know of a strategy to test it.
type suite struct {
	spec   api.AuthSpec
	fields map[string]string // a value for each field
	params []string          // the query parameters it sets
	wire   []string          // what it renders, "Name: value", "name=value" or "/path"
	open   []string          // what of wire is no secret
	target string            // of the request; default /
	body   string            // of the request
	bad    []api.AuthSpec    // refused, each for the field named in badFor
	badFor []string
}

// suites has an entry for every strategy; a strategy without one fails.
func suites() map[string][]suite {
	return map[string][]suite{
		"header": {{
			spec:   api.AuthSpec{Type: "header"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"Authorization: Bearer sk-0123456789"},
			bad: []api.AuthSpec{
				{Type: "header", HeaderName: "Host"},
				{Type: "header", HeaderName: "content-LENGTH"},
				{Type: "header", HeaderName: "Accept-Encoding"},
				{Type: "header", HeaderName: "Proxy-Authorization"},
				{Type: "header", HeaderName: "Aivault-Answer"},
				{Type: "header", HeaderName: "X Key"},
				{Type: "header", HeaderName: "X-Key:"},
				{Type: "header", HeaderName: "X-Kéy"},
				{Type: "header", ValueTemplate: "Bearer"},
				{Type: "header", ValueTemplate: "Bearer {{}}"},
				{Type: "header", ValueTemplate: "Bearer {{secret}}\r\nX: y"},
				{Type: "header", ValueTemplate: "Bearer {{secret}} "},
				{Type: "header", ParamName: "key"},
				{Type: "header", Headers: []api.AuthField{{Name: "A", ValueTemplate: "{{a}}"}}},
			},
			badFor: []string{"headerName", "headerName", "headerName", "headerName", "headerName", "headerName", "headerName", "headerName",
				"valueTemplate", "valueTemplate", "valueTemplate", "valueTemplate", "paramName", "headers"},
		}, {
			spec:   api.AuthSpec{Type: "header", HeaderName: "authorization"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"Authorization: Bearer sk-0123456789"},
		}, {
			spec:   api.AuthSpec{Type: "header", HeaderName: "x-api-key"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"X-Api-Key: sk-0123456789"},
		}, {
			spec:   api.AuthSpec{Type: "header", ValueTemplate: "{{id}}:{{token}}"},
			fields: map[string]string{"id": "acct-0123456789", "token": "tok-0123456789"},
			wire:   []string{"Authorization: acct-0123456789:tok-0123456789"},
		}, {
			spec:   api.AuthSpec{Type: "header", HeaderName: "Cookie", ValueTemplate: "sid={{secret}}"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"Cookie: sid=sk-0123456789"},
		}},
		"query": {{
			spec:   api.AuthSpec{Type: "query", ParamName: "key"},
			fields: map[string]string{"secret": "AIza/+=&0123456789"},
			params: []string{"key"},
			wire:   []string{"key=AIza/+=&0123456789"},
			bad: []api.AuthSpec{
				{Type: "query"},
				{Type: "query", ParamName: "a&b"},
				{Type: "query", ParamName: "key", ValueTemplate: "x"},
				{Type: "query", ParamName: "key", HeaderName: "X-Key"},
			},
			badFor: []string{"paramName", "paramName", "valueTemplate", "headerName"},
		}},
		"path": {{
			spec:   api.AuthSpec{Type: "path", PrefixTemplate: "/bot{{secret}}"},
			fields: map[string]string{"secret": "123456:AAF-abc_DEF"},
			wire:   []string{"/bot123456:AAF-abc_DEF"},
			bad: []api.AuthSpec{
				{Type: "path"},
				{Type: "path", PrefixTemplate: "bot{{secret}}"},
				{Type: "path", PrefixTemplate: "/bot{{secret}}/"},
				{Type: "path", PrefixTemplate: "/../{{secret}}"},
				{Type: "path", PrefixTemplate: "//{{secret}}"},
				{Type: "path", PrefixTemplate: "/%2e/{{secret}}"},
				{Type: "path", PrefixTemplate: "/a?b={{secret}}"},
				{Type: "path", PrefixTemplate: "/bot"},
				{Type: "path", PrefixTemplate: "/bot{{secret}}", ValueTemplate: "{{secret}}"},
			},
			badFor: []string{"prefixTemplate", "prefixTemplate", "prefixTemplate", "prefixTemplate", "prefixTemplate", "prefixTemplate",
				"prefixTemplate", "prefixTemplate", "valueTemplate"},
		}, {
			spec:   api.AuthSpec{Type: "path", PrefixTemplate: "/v2/{{secret}}"},
			fields: map[string]string{"secret": "key@with=signs"},
			wire:   []string{"/v2/key%40with%3Dsigns"},
		}},
		"basic": {{
			spec:   api.AuthSpec{Type: "basic", UsernameTemplate: "{{username}}", PasswordTemplate: "{{password}}"},
			fields: map[string]string{"username": "AC0123456789", "password": "pa:ss-0123456789"},
			wire:   []string{"Authorization: Basic QUMwMTIzNDU2Nzg5OnBhOnNzLTAxMjM0NTY3ODk="},
			bad: []api.AuthSpec{
				{Type: "basic", UsernameTemplate: "user"},
				{Type: "basic", UsernameTemplate: "a:{{secret}}"},
				{Type: "basic", UsernameTemplate: "{{a"},
				{Type: "basic", PasswordTemplate: "}}"},
				{Type: "basic", HeaderName: "Authorization"},
			},
			badFor: []string{"passwordTemplate", "usernameTemplate", "usernameTemplate", "passwordTemplate", "headerName"},
		}, {
			spec:   api.AuthSpec{Type: "basic"},
			fields: map[string]string{"secret": "user:pass:0123456789"},
			wire:   []string{"Authorization: Basic dXNlcjpwYXNzOjAxMjM0NTY3ODk="},
		}, {
			spec:   api.AuthSpec{Type: "basic"},
			fields: map[string]string{"secret": "{\n \"username\": \"user\", \"password\": \"pass:0123456789\"\n}"},
			wire:   []string{"Authorization: Basic dXNlcjpwYXNzOjAxMjM0NTY3ODk="},
		}, {
			spec:   api.AuthSpec{Type: "basic", UsernameTemplate: "{{secret}}"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"Authorization: Basic c2stMDEyMzQ1Njc4OTo="},
		}, {
			spec:   api.AuthSpec{Type: "basic", UsernameTemplate: "api", PasswordTemplate: "{{secret}}"},
			fields: map[string]string{"secret": "sk-0123456789"},
			wire:   []string{"Authorization: Basic YXBpOnNrLTAxMjM0NTY3ODk="},
		}},
		"multi-header": {{
			spec:   api.AuthSpec{Type: "multi-header", Headers: []api.AuthField{{Name: "x-b", ValueTemplate: "{{b}}"}, {Name: "X-A", ValueTemplate: "Key {{a}}"}}},
			fields: map[string]string{"a": "aaaa-0123456789", "b": "bbbb-0123456789"},
			wire:   []string{"X-B: bbbb-0123456789", "X-A: Key aaaa-0123456789"},
			bad: []api.AuthSpec{
				{Type: "multi-header"},
				{Type: "multi-header", Headers: []api.AuthField{{Name: "X-A", ValueTemplate: "{{a}}"}, {Name: "x-a", ValueTemplate: "{{b}}"}}},
				{Type: "multi-header", Headers: []api.AuthField{{Name: "X-A"}}},
				{Type: "multi-header", Headers: []api.AuthField{{ValueTemplate: "{{a}}"}}},
				{Type: "multi-header", Headers: slices.Repeat([]api.AuthField{{Name: "X-A", ValueTemplate: "{{a}}"}}, 17)},
				{Type: "multi-header", Params: []api.AuthField{{Name: "a", ValueTemplate: "{{a}}"}}},
			},
			badFor: []string{"headers", "headers[1].name", "headers[0].valueTemplate", "headers[0].name", "headers", "params"},
		}},
		"multi-query": {{
			spec:   api.AuthSpec{Type: "multi-query", Params: []api.AuthField{{Name: "key", ValueTemplate: "{{key}}"}, {Name: "token", ValueTemplate: "{{token}}"}}},
			fields: map[string]string{"key": "kkkk-0123456789", "token": "tttt-0123456789"},
			params: []string{"key", "token"},
			wire:   []string{"key=kkkk-0123456789", "token=tttt-0123456789"},
			bad: []api.AuthSpec{
				{Type: "multi-query"},
				{Type: "multi-query", Params: []api.AuthField{{Name: "a", ValueTemplate: "{{a}}"}, {Name: "A", ValueTemplate: "{{b}}"}}},
				{Type: "multi-query", Params: []api.AuthField{{Name: "a"}}},
				{Type: "multi-query", ParamName: "key"},
			},
			badFor: []string{"params", "params[1].name", "params[0].valueTemplate", "paramName"},
		}},
		"hmac":           hmacSuites(),
		"mtls":           mtlsSuites(),
		"aws-sigv4":      sigv4Suites(),
		"oauth2":         oauth2Suites(),
		"token-exchange": tokenExchangeSuites(),
	}
}

// contractTime is when the contract's requests are made.
const contractTime = 1700000000

func (s suite) input() Input {
	r, err := policy.Canonicalise("POST", cmp.Or(s.target, "/"), nil, policy.Rules{})
	if err != nil {
		panic(err) // a suite's own mistake
	}
	in := Input{
		Fields: make(map[string]secret.Value), Request: r, Body: []byte(s.body), Now: time.Unix(contractTime, 123456789),
		Destination: egress.Destination{Host: "api.example.com"},
	}
	for name, v := range s.fields {
		in.Fields[name] = secret.FromString(v)
	}
	return in
}

// wireOf writes additions as suite.wire does.
func wireOf(a egress.Additions) []string {
	var out []string
	for _, f := range a.Headers {
		out = append(out, f.Name+": "+string(f.Value.Expose()))
	}
	for _, f := range a.Query {
		out = append(out, f.Name+"="+string(f.Value.Expose()))
	}
	for _, f := range a.Form {
		out = append(out, f.Name+"="+string(f.Value.Expose()))
	}
	if !a.PathPrefix.IsZero() {
		out = append(out, string(a.PathPrefix.Expose()))
	}
	if c := a.Certificate; c != nil {
		out = append(out, "certificate: "+c.Leaf.Subject.CommonName)
	}
	return out
}

func additions(t *testing.T, spec api.AuthSpec, in Input) (egress.Additions, error) {
	t.Helper()
	s, err := New(spec)
	if err != nil {
		t.Fatalf("New(%+v): %v", spec, err)
	}
	return s.Additions(context.Background(), in)
}

func TestContract(t *testing.T) {
	all := suites()
	for name := range all {
		if _, built := lookUp(name); !built {
			t.Errorf("there is a suite for %q, and no such strategy", name)
		}
	}
	for _, row := range strategies() {
		t.Run(row.name, func(t *testing.T) {
			list := all[row.name]
			if len(list) == 0 {
				t.Fatal("no suite: add one to suites")
			}
			bad := 0
			for _, s := range list {
				checkRendering(t, s)
				checkFieldValues(t, s)
				bad += len(s.bad)
				for i, spec := range s.bad {
					_, err := New(spec)
					if api.CodeOf(err) != api.InvalidRequest || !strings.HasPrefix(err.Error(), "auth."+s.badFor[i]+": ") {
						t.Errorf("New(%+v): %v, want invalid_request for %s", spec, err, s.badFor[i])
					}
					if Fields(spec) != nil || QueryParams(spec) != nil {
						t.Errorf("%+v is refused and has fields", spec)
					}
				}
			}
			if bad == 0 {
				t.Error("the suite names no spec that must be refused")
			}
		})
	}
}

func checkRendering(t *testing.T, s suite) {
	t.Helper()
	in := s.input()
	a, err := additions(t, s.spec, in)
	if err != nil {
		t.Fatalf("%+v: %v", s.spec, err)
	}
	if got := wireOf(a); !slices.Equal(got, s.wire) {
		t.Errorf("%+v: renders %q, want %q", s.spec, got, s.wire)
	}
	if got := QueryParams(s.spec); !slices.Equal(got, s.params) {
		t.Errorf("%+v: QueryParams %q, want %q", s.spec, got, s.params)
	}
	if got := slices.Sorted(slices.Values(Fields(s.spec))); !slices.Equal(got, slices.Sorted(maps.Keys(s.fields))) {
		t.Errorf("%+v: Fields %q", s.spec, got)
	}

	// Every secret's value is in what is to be scrubbed, and nothing there
	// is shared.
	rendered := Rendered(a)
	var all strings.Builder
	for _, v := range rendered {
		all.Write(v.Expose())
		all.WriteByte('\n')
		v.Wipe()
	}
	if got := wireOf(a); !slices.Equal(got, s.wire) {
		t.Errorf("%+v: wiping what Rendered returned changed the additions to %q", s.spec, got)
	}
	for _, w := range s.wire {
		sent := w
		if i := strings.IndexAny(w, "=:"); w[0] != '/' {
			w = strings.TrimPrefix(w[i+1:], " ")
		}
		if !strings.Contains(all.String(), w) && !slices.Contains(s.open, sent) {
			t.Errorf("%+v: %q is sent and Rendered does not list it", s.spec, w)
		}
	}

	// Wiping the fields leaves the additions, and the other way round.
	before := wireOf(a)
	for _, v := range in.Fields {
		v.Wipe()
	}
	if got := wireOf(a); !slices.Equal(got, before) {
		t.Errorf("%+v: wiping the fields changed the additions", s.spec)
	}
	in = s.input()
	a, _ = additions(t, s.spec, in)
	for _, f := range slices.Concat(a.Headers, a.Query, a.Form) {
		f.Value.Wipe()
	}
	a.PathPrefix.Wipe()
	for name, v := range in.Fields {
		if string(v.Expose()) != s.fields[name] {
			t.Errorf("%+v: wiping the additions changed field %q", s.spec, name)
		}
	}

	// Public fields make public additions, and are not scrubbed.
	in.Public = make(map[string]bool)
	for name := range in.Fields {
		in.Public[name] = true
	}
	a, _ = additions(t, s.spec, in)
	if s.spec.Type != "path" && !(s.spec.Type == "basic" && in.Fields["secret"].Len() > 0 && s.spec.UsernameTemplate+s.spec.PasswordTemplate == "") {
		if n := len(Rendered(a)); n != 0 {
			t.Errorf("%+v: %d public values would be scrubbed", s.spec, n)
		}
	}
}

// checkFieldValues puts what does not fit into each field in turn.
func checkFieldValues(t *testing.T, s suite) {
	t.Helper()
	for name, good := range s.fields {
		for _, bad := range []string{"", good + "\n", good + "\r", "\x00" + good, "x\x1b" + good, "x\x7f" + good} {
			if (good[0] == '{' || strings.HasPrefix(good, "-----")) && (bad == good+"\n" || bad == good+"\r") {
				continue // white space around JSON and PEM is no part of the value
			}
			in := s.input()
			in.Fields[name] = secret.FromString(bad)
			a, err := additions(t, s.spec, in)
			if api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), `"`+name+`"`) {
				t.Errorf("%+v with %s = %q: got %q, %v; want auth_failed that names the field", s.spec, name, bad, wireOf(a), err)
			} else if text := err.Error() + api.AsError(err).Hint; strings.Contains(text, "0123456789") {
				t.Errorf("%+v: the error repeats the secret: %s", s.spec, text)
			}
		}
		in := s.input()
		delete(in.Fields, name)
		if _, err := additions(t, s.spec, in); api.CodeOf(err) != api.AuthFailed {
			t.Errorf("%+v without %s: %v", s.spec, name, err)
		}
	}
}
