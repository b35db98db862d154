package policy

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestTemplate(t *testing.T) {
	hosts := []string{"{shop}.myshopify.com", "{host}", "runtime.{region}.amazonaws.com", "{a}-{b2_c-d}.example.com:8443", "api.example.com"}
	c, err := CompileTemplate("shop/orders", "shop", hosts, []string{"GET"}, []string{"/orders"})
	if err != nil || !slices.Equal(c.Hosts, hosts) || c.DefaultPath != "/orders" {
		t.Fatal(c, err)
	}
	r, err := Canonicalise("GET", "/orders", nil, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts[:4] {
		one, err := CompileTemplate("shop/orders", "shop", []string{host}, []string{"GET"}, []string{"/orders"})
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Decide(one, r); api.CodeOf(err) != api.PolicyViolation || d != (Decision{}) {
			t.Errorf("a call to %s: %v %v", host, d, err)
		}
		if _, ok := one.Admits(r); !ok {
			t.Errorf("%s: not admitted", host)
		}
	}
	filled, err := c.WithHosts([]string{"my-store.myshopify.com"})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Decide(filled, r); err != nil || d.Host != "my-store.myshopify.com" || d.Rule != "/orders" {
		t.Error(d, err)
	}
	if !slices.Equal(c.Hosts, hosts) || filled.ID != c.ID || len(filled.Paths) != 1 {
		t.Error("the template is changed, or the copy lacks something")
	}
	for _, host := range []string{"", "{shop}.myshopify.com", "a@b", "https://a", "a}", "EVIL.test", "a.test.", "a/b", "a:0"} {
		if _, err := c.WithHosts([]string{"ok.test", host}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("filled with %q: %v", host, err)
		}
	}
	if _, err := c.WithHosts(nil); api.CodeOf(err) != api.InvalidRequest {
		t.Error("filled with nothing:", err)
	}
	for _, host := range []string{
		"", "{}", "{", "}", "{a", "a}", "{a}}", "}{a}", "{{a}}", "{a{b}}", "{a.b}.test", "{a b}", "{1}", "{-a}", "{\u00e9}", "{a}.EVIL", "{a}@b.test", "{a}/x", "https://{a}", "{a}..test", "-{a}.test", "{a}:0", "{a}%",
	} {
		if _, err := CompileTemplate("shop/orders", "shop", []string{host}, []string{"GET"}, []string{"/orders"}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := Compile("shop/orders", "shop", []string{"{shop}.myshopify.com"}, []string{"GET"}, []string{"/orders"}); err == nil {
		t.Error("Compile takes a template")
	}
	if _, err := CompileTemplate("shop/orders", "shop", nil, []string{"GET"}, []string{"/orders"}); err == nil {
		t.Error("no host at all")
	}
}

func TestAdmits(t *testing.T) {
	c, err := Compile("a/b", "a", []string{"a.test"}, []string{"GET", "POST"}, []string{"/v1", "/v1/items", "=/v1/items/*", "/v1/*/*"})
	if err != nil {
		t.Fatal(err)
	}
	c.Off, c.Hosts = true, nil // neither matters
	for _, r := range []struct {
		method, path, rule string
	}{
		{"GET", "/v1", "/v1"},
		{"POST", "/v1/items", "/v1/items"},
		{"GET", "/v1/items/7", "=/v1/items/*"},
		{"GET", "/v1/items/7/x", "/v1/*/*"},
		{"GET", "/v2", ""},
		{"DELETE", "/v1", ""},
	} {
		q, err := Canonicalise(r.method, r.path, nil, Rules{})
		if err != nil {
			t.Fatal(err)
		}
		rank, ok := c.Admits(q)
		if ok != (r.rule != "") {
			t.Errorf("%s %s: %v", r.method, r.path, ok)
		}
		for _, p := range c.Paths {
			if p.String() == r.rule && p.Specificity() != rank {
				t.Errorf("%s %s: rank %d, and %s has %d", r.method, r.path, rank, p, p.Specificity())
			}
		}
	}
	c.MatchHeader = []string{"X-Op: read"}
	for value, want := range map[string]bool{"read": true, "write": false} {
		q, err := Canonicalise("GET", "/v1", []api.Header{{Name: "X-Op", Value: value}}, Rules{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Admits(q); ok != want {
			t.Errorf("X-Op: %s: %v", value, ok)
		}
	}
}

func FuzzCompileTemplate(f *testing.F) {
	for _, s := range []string{"{shop}.myshopify.com", "{host}", "a{b}c:80", "{a}{b}", "}{", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		c, err := CompileTemplate("a/b", "a", []string{host}, []string{"GET"}, []string{"/"})
		if err != nil {
			return
		}
		r, err := Canonicalise("GET", "/", nil, Rules{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Decide(c, r)
		if _, _, plain := ParseHost(host); (err == nil) != (plain == nil) || strings.Contains(host, "{") != (err != nil) {
			t.Fatalf("%q: %v, as a host %v", host, err, plain)
		}
	})
}
