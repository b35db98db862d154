package policy

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/registry"
)

func rule(t testing.TB, s string) PathRule {
	t.Helper()
	p, err := ParsePathRule(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Rules that cover all of what two have in common, and are a multitude of
// places to be in at once: that is not looked at to its end.
func TestCommonGivesUp(t *testing.T) {
	covering := []PathRule{rule(t, "=/a*b"), rule(t, "=/ab")}
	for _, c := range "cdefghijklmnopqrstuvwxyz0123456789" {
		covering = append(covering, rule(t, "=/a*"+string(c)+"*"))
	}
	p, q := rule(t, "=/a*"), rule(t, "=/*b")
	start := time.Now()
	if _, ok, err := p.Common(q, covering...); ok || err != ErrTangled {
		t.Errorf("%v %v", ok, err)
	}
	if _, ok, err := p.Common(q, covering[:5]...); ok || err != nil {
		t.Errorf("few rules: %v %v", ok, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCommon(t *testing.T) {
	for _, c := range []struct{ p, q, but, path string }{
		{"/v1", "/v1", "", "/v1"},
		{"/v1", "=/v2", "", ""},
		{"/v1", "=/v1/x", "", "/v1/x"},
		{"=/v1", "=/v1/x", "", ""},
		{"=/v1", "/v1/", "", ""},
		{"=/v1/", "/v1", "", "/v1/"},
		{"=/v1/", "/v1/", "", "/v1/"},
		{"=/v1/", "/v1/*", "", ""},
		{"/", "=/", "", "/"},
		{"/", "/", "=/", "/q"},
		{"/a/*", "/*/b", "", "/a/b"},
		{"/a/*", "/*/b", "/a/b", ""},
		{"/*", "/*", "/a*", "/q"},
		{"/*", "/*", "/*a /q", "/r"},
		{"=/*", "=/*", "/*", ""},
		{"=/a*", "=/*b", "", "/aqb"},
		{"=/a*", "=/*b", "=/a*b", "/ab"},
		{"=/a*", "=/*b", "=/a*b =/ab", ""},
		{"=/a*c", "=/b*c", "", ""},
		{"=/*:gen", "=/m*", "", "/mq:gen"},
		{"=/*x*", "=/*y*", "", "/qxqyq"},
		{"=/*q*", "=/*r*", "", "/sqsrs"},
		{"=/abc", "=/a*c", "", "/abc"},
		{"=/abc", "=/a*d", "", ""},
		{"=/.*", "=/*.", "", "/.q."},
		{"/repos/*/*", "/repos/*/*/issues", "", "/repos/q/q/issues"},
		{"/repos/*/*", "/repos/*/*", "/repos/*/*/issues =/repos/*/*", "/repos/q/q/"},
		{"/p/*", "/p/*%2F*", "", ""},
		{"/p", "/p/*%2F*", "", ""},
		{"/p/", "/p/*%2F*", "", ""},
		{"/p/*%2F*", "/p/a%2F*", "", "/p/a%2Fq%2Fq"},
		{"/p/*%2F*", "/p/*%2F*%2F*", "", "/p/q%2Fq%2Fq%2Fq"},
		{"/p/*%2F*", "/p/*%2F*", "/p/*%2F*%2F*", "/p/q%2Fq"},
		{"/p/*%2F*", "/p/a%2Fb", "", "/p/a%2Fb"},
		{"/p/*%2F*", "/p/a%2Fb", "/p/*%2Fb", ""},
		{"/p/*%2F*", "/*/*%2F*/i", "", "/p/q%2Fq%2Fq/i"},
		{"/caf\u00e9/*", "/*/x+y", "", "/caf%C3%A9/x+y"},
	} {
		var but []PathRule
		for _, b := range strings.Fields(c.but) {
			but = append(but, rule(t, b))
		}
		p, q := rule(t, c.p), rule(t, c.q)
		path, ok, err := p.Common(q, but...)
		if err != nil || ok != (path != "") || path != c.path {
			t.Errorf("%s and %s without %s: %q %v %v, want %q", p, q, c.but, path, ok, err, c.path)
		}
		if c.but == "" && p.Meets(q) != ok {
			t.Errorf("%s and %s: %v", p, q, !ok)
		}
		if back, ok, _ := q.Common(p, but...); ok != (path != "") || ok && !admitted(t, back, p, q) {
			t.Errorf("%s and %s the other way: %q", q, p, back)
		}
	}
	var zero PathRule
	if zero.Meets(rule(t, "/")) || rule(t, "/").Meets(zero) {
		t.Error("the zero rule meets another")
	}
}

func TestOverlaps(t *testing.T) {
	capability := func(text string) *Capability {
		words := strings.Fields(text)
		c, err := Compile("acme/a", "acme", []string{"a.test"}, strings.Split(words[0], ","), strings.Split(words[1], ","))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words[2:] {
			if name, value, header := strings.Cut(w, ":"); header {
				c.MatchHeader = append(c.MatchHeader, name+": "+value)
			} else if c.Operation, err = CompileOperation(&registry.Operation{GraphQL: strings.Split(w, ",")}); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"GET /v1", "GET,POST /v1/x", true},
		{"GET /v1", "POST /v1/x", false},
		{"GET =/v1", "GET =/v2,/v1/x", false},
		{"GET =/v1,/v3", "GET =/v2,/v3/x", true},
		{"POST =/ X-Op:A X-Op:B", "POST =/ X-Op:C X-Op:B", true},
		{"POST =/ X-Op:A X-Op:B", "POST =/ x_op:C", false},
		{"POST =/ X-Op:A", "POST =/", true},
		{"POST =/ X-Op:A X-Kind:1", "POST =/ X-Op:A", true},
		{"POST =/ X-Op:A X-Kind:1", "POST =/ X-Op:A X-Kind:2", false},
		{"POST =/ X-Op:A", "POST =/ X-Kind:2", true},
		{"POST =/ query", "POST =/ mutation", false},
		{"POST =/ query,subscription", "POST =/ mutation,subscription", true},
		{"POST =/ query", "POST =/", true},
	} {
		a, b := capability(c.a), capability(c.b)
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s: %v %v", c.a, c.b, a.Overlaps(b), b.Overlaps(a))
		}
	}
}

func admitted(t testing.TB, path string, rules ...PathRule) bool {
	r := request(t, "GET", path)
	for i := range rules {
		if !rules[i].Match(r) {
			return false
		}
	}
	return true
}

// What Common finds is as it says, and where it finds nothing there is
// nothing: no path of many is admitted by both rules and by none of the rest.
func TestCommonProperty(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "*", "b*", "*b", "a*b", "*a*", "ab", "*a*b*", "*%2F*", "a%2F*", "*%2F*b"})
	related := rapid.Custom(func(rt *rapid.T) string {
		return rapid.SampledFrom([]string{"/", "=/"}).Draw(rt, "kind") +
			strings.Join(rapid.SliceOfN(segment, 1, 2).Draw(rt, "segments"), "/") + rapid.SampledFrom([]string{"", "", "/"}).Draw(rt, "end")
	})
	seen := map[bool]int{}
	rapid.Check(t, func(rt *rapid.T) {
		var rules []PathRule
		for _, s := range rapid.SliceOfN(rapid.OneOf(related, related, related, anyRule), 2, 5).Draw(rt, "rules") {
			if p, err := ParsePathRule(s); err == nil {
				rules = append(rules, p)
			}
		}
		if len(rules) < 2 {
			return
		}
		p, q, but := rules[0], rules[1], rules[2:]
		// The short way and the walk agree where nothing is left out.
		segs, ok := p.meet(&q)
		if walked, found, err := without([]*PathRule{&p, &q}); err != nil || found != ok || ok && len(walked) != len(segs) {
			rt.Fatalf("%s and %s meet in %q, and walking them finds %q", p, q, segs, walked)
		}
		holds := func(path string) bool {
			r, err := Canonicalise("GET", path, nil, Rules{Slashes: true})
			if err != nil {
				return false
			}
			for i := range but {
				if but[i].Match(r) {
					return false
				}
			}
			return p.Match(r) && q.Match(r)
		}
		path, ok, err := p.Common(q, but...)
		if err != nil {
			rt.Fatal(err)
		}
		seen[ok]++
		if ok {
			if !holds(path) {
				rt.Fatalf("%s is no path of %s and %s without %s", path, p, q, but)
			}
			return
		}
		for _, path := range append(rapid.SliceOfN(anyPath, 20, 20).Draw(rt, "paths"), fills(p)...) {
			if holds(path) {
				rt.Fatalf("%s is a path of %s and %s without %s", path, p, q, but)
			}
		}
	})
	t.Log(seen)
	if !testing.Short() && (seen[true] == 0 || seen[false] == 0) {
		t.Fatalf("too few cases to show anything: %v", seen)
	}
}

// fills are paths of a rule with some texts in place of each '*'.
func fills(p PathRule) []string {
	path, exact := strings.CutPrefix(p.String(), "=")
	paths := []string{path}
	for strings.Contains(paths[0], "*") {
		var more []string
		for _, one := range paths {
			for _, text := range []string{"a", "b", "q", "ab", "ba", "bb", "aab", "a%2Fb"} {
				more = append(more, strings.Replace(one, "*", text, 1))
			}
		}
		if paths = more; len(paths) > 20_000 {
			break
		}
	}
	if !exact {
		for _, one := range paths[:min(len(paths), 500)] {
			one = strings.TrimSuffix(one, "/")
			paths = append(paths, one+"/", one+"/a", one+"/q/b")
		}
	}
	return paths
}
