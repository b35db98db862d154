package auth

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

func TestUnknownType(t *testing.T) {
	for _, name := range []string{"", "Header", "OAuth2", "none"} {
		if _, err := New(api.AuthSpec{Type: name}); api.CodeOf(err) != api.InvalidRequest || !strings.HasPrefix(err.Error(), "auth.type: ") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFieldsAreInOrderOfFirstUse(t *testing.T) {
	for _, c := range []struct {
		spec api.AuthSpec
		want []string
	}{
		{api.AuthSpec{Type: "header", ValueTemplate: "{{z}} {{a}} {{z}}"}, []string{"z", "a"}},
		{api.AuthSpec{Type: "basic", UsernameTemplate: "{{user}}", PasswordTemplate: "{{pass}}"}, []string{"user", "pass"}},
		{api.AuthSpec{Type: "basic"}, []string{"secret"}},
		{api.AuthSpec{Type: "multi-header", Headers: []api.AuthField{{Name: "B", ValueTemplate: "{{b}}"}, {Name: "A", ValueTemplate: "{{a}}{{b}}"}}}, []string{"b", "a"}},
	} {
		if got := Fields(c.spec); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	for _, s := range []string{"{", "}", "{{", "}}", "{{}}", "{{ a }}", "{{a b}}", "{{{a}}}", "{{a}}}", "{{a{{b}}}}", "{{1a}}", "{{-a}}", "{a}", "{{é}}",
		"{{a.b}}", "{{a\n}}", "{{" + strings.Repeat("a", 65) + "}}", strings.Repeat("a", 1025)} {
		if got, err := parseTemplate(s); err == nil {
			t.Errorf("%q parses as %q", s, got)
		}
	}
	for s, want := range map[string]template{
		"":                nil,
		"x":               {{literal: "x"}},
		"{{a}}":           {{field: "a"}},
		"x {{a}}{{b_c}}-": {{literal: "x "}, {field: "a"}, {field: "b_c"}, {literal: "-"}},
	} {
		if got, err := parseTemplate(s); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func TestPathRefusesWhatBendsIt(t *testing.T) {
	for template, secrets := range map[string][]string{
		"/bot{{secret}}": {"a/b", "..", "a/../b", "a%2fb", `a\b`, "a;b", "a b", "a\u2215b", "a\xc0\xaf"},
		"/{{secret}}":    {".", "..", "a/.."},
		"/{{secret}}.":   {"."},
	} {
		for _, v := range secrets {
			in := Input{Fields: map[string]secret.Value{"secret": secret.FromString(v)}}
			a, err := additions(t, api.AuthSpec{Type: "path", PrefixTemplate: template}, in)
			if v == ".." && template == "/bot{{secret}}" {
				if got := string(a.PathPrefix.Expose()); err != nil || got != "/bot.." {
					t.Errorf("dots within a segment: %q, %v", got, err)
				}
				continue
			}
			if api.CodeOf(err) != api.AuthFailed || strings.Contains(err.Error(), v) && len(v) > 2 {
				t.Errorf("%q in %s: %q, %v", v, template, a.PathPrefix.Expose(), err)
			}
		}
	}
}

func TestBasicRefuses(t *testing.T) {
	for _, v := range []string{"nocolon", ":", "{}", `{"username":"u"}`, `{"password":"p"}`, `{"username":"u","password":"p","x":1}`,
		`{"username":"u","username":"v","password":"p"}`, `{"username":"u:v","password":"p"}`, `{"username":"","password":""}`,
		`{"username":"u","password":"p\n"}`, `{"username":1,"password":"p"}`, `{"username":"u","password":"p"} x`, `{"username":null,"password":"p"}`} {
		in := Input{Fields: map[string]secret.Value{"secret": secret.FromString(v)}}
		if a, err := additions(t, api.AuthSpec{Type: "basic"}, in); api.CodeOf(err) != api.AuthFailed {
			t.Errorf("%s: %q, %v", v, wireOf(a), err)
		}
	}
	in := Input{Fields: map[string]secret.Value{"u": secret.FromString("a:b"), "p": secret.FromString("c")}}
	if _, err := additions(t, api.AuthSpec{Type: "basic", UsernameTemplate: "{{u}}", PasswordTemplate: "{{p}}"}, in); api.CodeOf(err) != api.AuthFailed {
		t.Errorf("a colon in the user name: %v", err)
	}
}

func TestHeaderRefusesSurroundingSpace(t *testing.T) {
	for _, v := range []string{" x", "x "} {
		in := Input{Fields: map[string]secret.Value{"secret": secret.FromString(v)}}
		_, err := additions(t, api.AuthSpec{Type: "header", HeaderName: "X-Key"}, in)
		if api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), `"secret"`) {
			t.Errorf("%q: %v", v, err)
		}
	}
}

// What Rendered lists is enough to recognise each part of a Basic value.
func TestRenderedBasic(t *testing.T) {
	in := Input{Fields: map[string]secret.Value{"secret": secret.FromString("user:pass")}}
	a, err := additions(t, api.AuthSpec{Type: "basic"}, in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range Rendered(a) {
		got = append(got, string(v.Expose()))
	}
	if want := []string{"Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "user:pass", "pass"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Rendered(egress.Additions{}); got != nil {
		t.Errorf("of nothing: %d values", len(got))
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"Bearer {{secret}}", "{{a}}:{{b}}", "{{", "}}{{a}}", "{{{a}}}", "/bot{{secret}}", "x\r\n{{a}}"} {
		f.Add(s, "value\n")
	}
	f.Fuzz(func(t *testing.T, s, value string) {
		tmpl, err := parseTemplate(s)
		if err == nil {
			var b strings.Builder
			for _, p := range tmpl {
				if p.field != "" {
					b.WriteString("{{" + p.field + "}}")
				}
				b.WriteString(p.literal)
			}
			if b.String() != s {
				t.Fatalf("%q came back as %q", s, b.String())
			}
		}
		// Whatever a template and a value are, nothing that is rendered
		// breaks out of where it stands.
		for _, spec := range []api.AuthSpec{
			{Type: "header", ValueTemplate: s},
			{Type: "query", ParamName: "k", ValueTemplate: s},
			{Type: "path", PrefixTemplate: s},
			{Type: "basic", UsernameTemplate: s, PasswordTemplate: s},
			{Type: "basic"},
		} {
			strategy, err := New(spec)
			if err != nil {
				continue
			}
			in := Input{Fields: make(map[string]secret.Value)}
			for _, name := range Fields(spec) {
				in.Fields[name] = secret.FromString(value)
			}
			a, err := strategy.Additions(context.Background(), in)
			if err != nil {
				if len(value) > 3 && !strings.Contains(s, value) && strings.Contains(err.Error(), value) && !strings.Contains(`auth: the secret for field "secret" holds a line break; a control character that cannot stand in a path`, value) {
					t.Fatalf("the error repeats the value: %v", err)
				}
				continue
			}
			for _, v := range Rendered(a) {
				if bytes.ContainsAny(v.Expose(), "\r\n\x00") {
					t.Fatalf("%+v with %q renders %q", spec, value, v.Expose())
				}
			}
			if p := a.PathPrefix.Expose(); len(p) > 0 && (p[0] != '/' || bytes.ContainsAny(p, "?#\\; ") || bytes.Contains(p, []byte("//")) || bytes.Contains(p, []byte("/../"))) {
				t.Fatalf("%+v with %q renders the path %q", spec, value, p)
			}
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	s, err := New(api.AuthSpec{Type: "header"})
	if err != nil {
		b.Fatal(err)
	}
	in := Input{Fields: map[string]secret.Value{"secret": secret.FromString("sk-proj-0123456789abcdefghijklmnopqrstuvwxyz")}}
	b.ReportAllocs()
	for b.Loop() {
		a, err := s.Additions(context.Background(), in)
		if err != nil {
			b.Fatal(err)
		}
		a.Headers[0].Value.Wipe()
	}
}
