package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
)

func request(t testing.TB, method, target string) *Request {
	t.Helper()
	r, err := Canonicalise(method, target, nil, Rules{Slashes: true})
	if err != nil {
		t.Fatalf("%q: %v", target, err)
	}
	return r
}

func TestPathRule(t *testing.T) {
	for _, c := range []struct{ rule, yes, no string }{
		{"/v1/models", "/v1/models /v1/models/ /v1/models/x /v1/models/x/y /v1/mod%65ls", "/ /v1 /v1/model /v1/modelsx /v1/models-x /V1/models /v1/models%20 /x/v1/models"},
		{"=/v1/models", "/v1/models /v1/models?x=1", "/v1/models/ /v1/models/x /v1"},
		{"/v1/models/", "/v1/models/ /v1/models/x /v1/models/x/y", "/v1/models /v1/modelsx"},
		{"=/v1/models/", "/v1/models/", "/v1/models /v1/models/x"},
		{"/", "/ /a /a/b/c", ""},
		{"=/", "/", "/a /a/"},
		{"/repos/*/*/issues", "/repos/a/b/issues /repos/a/b/issues/7", "/repos/a/issues /repos/a/b/c/issues /repos/a//issues /repos/*/issues"},
		{"/a/*", "/a/b /a/b/c /a/*", "/a /a/"},
		{"=/a/*", "/a/b /a/%2A", "/a /a/ /a/b/ /a/b/c"},
		{"=/m/*:gen", "/m/x:gen /m/x:y:gen /m/x%3Agen /m/::gen", "/m/:gen /m/x:genX /m/x:gen/y /m/x/y:gen /m/gen"},
		{"=/m/a*", "/m/ab /m/abc", "/m/a /m/ba"},
		{"=/m/a*c", "/m/abc /m/acc /m/abbc", "/m/ac /m/abcd"},
		{"=/m/a*b*c", "/m/axbxc /m/abbbc /m/axbxbxc /m/axbccc", "/m/abc /m/abxc /m/axbc /m/axbx"},
		{"=/m/*x*", "/m/axb /m/xxx", "/m/x /m/ax /m/xb"},
		{"=/m/*aa*aa*", "/m/1aa2aa3 /m/aaaaaaa", "/m/1aaa2 /m/aaaaaa"},
		{"/v*/x", "/v1/x /v12/x/y", "/v/x /w1/x"},
		{"/caf%C3%A9/x", "/café/x /caf%c3%a9/x", "/cafe/x"},
		{"/café", "/caf%C3%A9", "/cafe"},
		{"/a%20b", "/a%20b", "/a /a+b"},
		{"=/a%2Ab", "/a*b /a%2Ab", "/axb"},
		{"/a+b", "/a+b /a%2Bb", "/a%20b"},
		{"/日*", "/日本", "/日 /本"},
		// An escaped slash, where it is declared and nowhere else.
		{"/p/*", "/p/a /p/a/b", "/p/a%2Fb /p/a%2Fb/x /p/a/b%2Fc"},
		{"/p/", "/p/a", "/p/a%2Fb"},
		{"/", "/a", "/a%2Fb /a/b%2Fc"},
		{"/p/*%2F*", "/p/a%2Fb /p/a%2fb%2Fc /p/a%2Fb/issues /p/a%20%2Fb", "/p/a /p/a/b /p /p/a%2Fb/c%2Fd /x/a%2Fb"},
		{"=/p/*%2F*/issues", "/p/a%2Fb/issues", "/p/a/issues /p/a/b/issues /p/a%2Fb/issues/ /p/a%2Fb/issues/7 /p/a%2Fissues /p/a%2Fb%2Fissues"},
		{"/p/*%2f*/i/*", "/p/a%2Fb/i/7", "/p/a%2Fb/i/7%2F8 /p/a/i/7"},
		{"=/p/*%2F*/f/*%2F*", "/p/a%2Fb/f/c%2Fd", "/p/a%2Fb/f/c /p/a/f/c%2Fd /p/a/f/c"},
		{"=/p/@*%2F*", "/p/@a%2Fb /p/@a%2Fb%2Fc", "/p/@a /p/a%2Fb /p/@a/b"},
		{"=/p/refs%2Fpr%2F*", "/p/refs%2Fpr%2F1 /p/refs%2Fpr%2F1%2F2", "/p/refs%2Fx%2F1 /p/refs%2Fpr /p/refs/pr/1"},
		{"=/p/a%2Fb", "/p/a%2Fb /p/%61%2Fb", "/p/a/b /p/a%2Fb%2Fc /p/a%2FB"},
	} {
		rule, err := ParsePathRule(c.rule)
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		if rule.String() != c.rule {
			t.Errorf("%s is written %s", c.rule, rule)
		}
		for _, p := range strings.Fields(c.yes) {
			if !rule.Match(request(t, "GET", p)) {
				t.Errorf("%s refuses %s", c.rule, p)
			}
		}
		for _, p := range strings.Fields(c.no) {
			if strings.Contains(p, "//") {
				continue // never becomes a request
			}
			if rule.Match(request(t, "GET", p)) {
				t.Errorf("%s admits %s", c.rule, p)
			}
		}
	}
	var zero PathRule
	if zero.Match(request(t, "GET", "/")) {
		t.Error("the zero rule admits a path")
	}
}

func TestBadPathRule(t *testing.T) {
	for _, s := range []string{
		"", "=", "v1", "=v1", "==/v1", "/v1/../x", "/v1/%2e%2e/x", "/v1/.", "/a//b", "//", "/a\\b",
		"/%2F", "/a%2F", "/%2fb", "/a%2f%2Fb", "/a%2F/b", "/*%2F", "/%2F*", "/*%2F%2F*", "/a%2f..", "/..%2fa", "/a%2f.%2fb", "/a%2f%20/b", "/a%252fb", "/a%2f\uff0eb", "/a%5cb", "/a;b", "/a?b", "/a?", "/a#b", "/a b",
		"/%zz", "/%", "/a**", "/**", "/a/**/b", "/a\x00", "/a\u202e", "/cafe\u0301", "/%2e%2e%2fb", "/%252e", "/\xff", "https://x.test/", "*", "/" + strings.Repeat("a", MaxRule),
	} {
		if p, err := ParsePathRule(s); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%.40q: %v %v", s, p, err)
		}
	}
}

func TestLiteralAndSpecificity(t *testing.T) {
	for rule, want := range map[string]string{"/v1/x": "/v1/x", "=/v1/x": "/v1/x", "/v1/x/": "/v1/x/", "/": "/", "/v1/*": "", "=/a*b": "", "/caf\u00e9": "/caf%C3%A9", "/a%2fb": "/a%2Fb", "/a%2F*": ""} {
		p, err := ParsePathRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.Literal(); got != want || ok != (want != "") {
			t.Errorf("%s stands for %q", rule, got)
		}
	}
	// From the least specific to the most, of rules that admit /v1/models/a:b.
	var last *PathRule
	for _, rule := range []string{"/", "/*", "/v1", "/v1/", "/v1/*", "/v1/models", "/*/*/*", "/v1/*/*", "/v1/models/*", "/v1/models/*:*", "/v1/models/*:b", "/v1/models/a:b", "=/v1/models/a:b"} {
		p, err := ParsePathRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Match(request(t, "GET", "/v1/models/a:b")) {
			t.Errorf("%s does not admit it", rule)
		}
		if last != nil && p.Specificity() <= last.Specificity() {
			t.Errorf("%s (%d) is not more specific than %s (%d)", rule, p.Specificity(), last, last.Specificity())
		}
		last = &p
	}
}

// slow is the meaning of a rule, written to be seen right rather than fast.
func slow(rule string, segs []string) bool {
	path, exact := strings.CutPrefix(rule, "=")
	parts := strings.Split(path[1:], "/")
	if !exact && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
		if len(segs) <= len(parts) {
			return false
		}
	}
	if len(segs) < len(parts) || exact && len(segs) != len(parts) {
		return false
	}
	for i, s := range segs {
		if i < len(parts) && !slowSegment(strings.ReplaceAll(parts[i], "%2F", "/"), s) {
			return false
		}
		if strings.Contains(s, "/") && (i >= len(parts) || !strings.Contains(parts[i], "%2F")) {
			return false
		}
	}
	return true
}

func slowSegment(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] != '*' {
		return s != "" && s[0] == pattern[0] && slowSegment(pattern[1:], s[1:])
	}
	for i := 1; i <= len(s); i++ {
		if slowSegment(pattern[1:], s[i:]) {
			return true
		}
	}
	return false
}

// Words, globs, rules and paths that often fit each other.
var (
	anyWord = rapid.StringMatching(`[ab]{1,4}|[ab]{1,2}%2F[ab]{1,2}`)
	anyGlob = rapid.StringMatching(`\*?[ab]{0,2}(\*[ab]{1,2}){0,2}\*?|[ab]?\*%2F\*[ab]?|\*%2Fa`)
	anyRule = rapid.Custom(func(rt *rapid.T) string {
		return rapid.SampledFrom([]string{"/", "=/"}).Draw(rt, "kind") +
			strings.Join(rapid.SliceOfN(rapid.OneOf(anyGlob, anyWord), 1, 4).Draw(rt, "rule"), "/") + rapid.SampledFrom([]string{"", "/"}).Draw(rt, "end")
	})
	anyPath = rapid.Custom(func(rt *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(anyWord, 1, 5).Draw(rt, "words"), "/") + rapid.SampledFrom([]string{"", "/"}).Draw(rt, "slash")
	})
)

// A rule admits exactly what the slow reading of it admits.
func TestPathRuleProperty(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(rt *rapid.T) {
		rule := anyRule.Draw(rt, "rule")
		p, err := ParsePathRule(rule)
		if err != nil {
			return
		}
		for _, target := range rapid.SliceOfN(anyPath, 40, 40).Draw(rt, "paths") {
			r, err := Canonicalise("GET", target, nil, Rules{Slashes: true})
			if err != nil {
				continue
			}
			got, want := p.Match(r), slow(rule, r.segments)
			if got != want {
				rt.Fatalf("%s on %s: %v, want %v", rule, target, got, want)
			}
			seen[got]++
		}
	})
	enough := 20
	if testing.Short() {
		enough = 1 // rapid makes a fifth of the cases then
	}
	if seen[true] < enough || seen[false] < 10*enough {
		t.Fatalf("too few cases to show anything: %v", seen)
	}
}

func TestCompile(t *testing.T) {
	c, err := Compile("acme/things", "acme", []string{"api.acme.test:8443"}, []string{"POST"}, []string{"/v1/things"})
	if err != nil || c.DefaultMethod != "POST" || c.DefaultPath != "/v1/things" || c.Off {
		t.Fatal(c, err)
	}
	c, err = Compile("acme/things", "acme", []string{"api.acme.test"}, []string{"GET", "POST"}, []string{"/v1/*"})
	if err != nil || c.DefaultMethod != "" || c.DefaultPath != "" {
		t.Fatal(c, err)
	}
	ok := []string{"x"}
	for name, make := range map[string]func() (*Capability, error){
		"no host":     func() (*Capability, error) { return Compile("a/b", "a", nil, []string{"GET"}, []string{"/"}) },
		"no method":   func() (*Capability, error) { return Compile("a/b", "a", ok, nil, []string{"/"}) },
		"no path":     func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"GET"}, []string{}) },
		"no provider": func() (*Capability, error) { return Compile("a/b", "", ok, []string{"GET"}, []string{"/"}) },
		"bad id":      func() (*Capability, error) { return Compile("a", "a", ok, []string{"GET"}, []string{"/"}) },
		"bad host":    func() (*Capability, error) { return Compile("a/b", "a", []string{"X"}, []string{"GET"}, []string{"/"}) },
		"any host":    func() (*Capability, error) { return Compile("a/b", "a", []string{"*"}, []string{"GET"}, []string{"/"}) },
		"bad method":  func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"get"}, []string{"/"}) },
		"any method":  func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"*"}, []string{"/"}) },
		"same method": func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"GET", "GET"}, []string{"/"}) },
		"bad path":    func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"GET"}, []string{"/.."}) },
		"same path":   func() (*Capability, error) { return Compile("a/b", "a", ok, []string{"GET"}, []string{"/", "/"}) },
	} {
		if c, err := make(); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%s: %v %v", name, c, err)
		}
	}
}

func TestDecide(t *testing.T) {
	c, err := Compile("acme/things", "acme", []string{"api.acme.test", "b.acme.test"}, []string{"GET", "POST"}, []string{"/v1", "/v1/things/*", "=/v1/things/7"})
	if err != nil {
		t.Fatal(err)
	}
	for target, rule := range map[string]string{"/v1/x": "/v1", "/v1/things/8": "/v1/things/*", "/v1/things/7": "=/v1/things/7"} {
		d, err := Decide(c, request(t, "GET", target))
		if err != nil || d.Rule != rule || d.Host != "api.acme.test" {
			t.Errorf("%s: %v %v", target, d, err)
		}
	}
	for _, k := range []struct{ method, target, says string }{
		{"DELETE", "/v1/x", "GET, POST"}, {"GET", "/v2", "/v1"}, {"GET", "/", "/v1"}, {"GET", "/v1x", "/v1"},
	} {
		_, err := Decide(c, request(t, k.method, k.target))
		if api.CodeOf(err) != api.PolicyViolation || !strings.Contains(err.Error(), k.says) || !strings.Contains(err.Error(), c.ID) {
			t.Errorf("%s %s: %v", k.method, k.target, err)
		}
	}
	_, err = Decide(c, request(t, "GET", "/"+strings.Repeat("x", 5000)))
	if err == nil || len(err.Error()) > 600 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	off := *c
	off.Off = true
	if _, err := Decide(&off, request(t, "GET", "/v1")); api.CodeOf(err) != api.PolicyViolation || !strings.Contains(err.Error(), "is off") {
		t.Error(err)
	}
	for name, broken := range map[string]Capability{
		"zero": {}, "no host": {ID: "a/b", Methods: c.Methods, Paths: c.Paths}, "no method": {ID: "a/b", Hosts: c.Hosts, Paths: c.Paths},
		"no path": {ID: "a/b", Hosts: c.Hosts, Methods: c.Methods}, "zero rule": {ID: "a/b", Hosts: c.Hosts, Methods: c.Methods, Paths: []PathRule{{}}},
	} {
		if d, err := Decide(&broken, request(t, "GET", "/v1")); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v %v", name, d, err)
		}
	}
}

func TestDecideMatchHeader(t *testing.T) {
	c, err := Compile("aws/sqs-read", "aws", []string{"sqs.test"}, []string{"POST"}, []string{"=/"})
	if err != nil {
		t.Fatal(err)
	}
	c.MatchHeader = []string{"X-Amz-Target: AmazonSQS.ReceiveMessage", "X-Amz-Target: AmazonSQS.ListQueues", "X-Kind: a"}
	for lines, want := range map[string]bool{
		"X-Amz-Target: AmazonSQS.ReceiveMessage|X-Kind: a":                                 true,
		"x-amz-target: AmazonSQS.ListQueues|x-kind: a":                                     true,
		"X-Amz-Target: AmazonSQS.ListQueues":                                               false,
		"X-Kind: a":                                                                        false,
		"X-Amz-Target: AmazonSQS.SendMessage|X-Kind: a":                                    false,
		"X-Amz-Target: amazonsqs.listqueues|X-Kind: a":                                     false,
		"X-Amz-Target: AmazonSQS.ListQueues|X-Amz-Target: AmazonSQS.SendMessage|X-Kind: a": false,
		"X-Amz-Target: AmazonSQS.ListQueues, AmazonSQS.SendMessage|X-Kind: a":              false,
	} {
		r, err := Canonicalise("POST", "/", headersOf(strings.Split(lines, "|")...), Rules{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decide(c, r); (err == nil) != want || err != nil && api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v", lines, err)
		}
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]struct {
		host string
		port int
	}{
		"api.openai.com": {"api.openai.com", 0}, "api.openai.com:443": {"api.openai.com", 443}, "localhost": {"localhost", 0}, "localhost:65535": {"localhost", 65535},
		"a-b.c1": {"a-b.c1", 0}, "xn--bcher-kva.example": {"xn--bcher-kva.example", 0}, "1.2.3.4": {"1.2.3.4", 0}, "127.0.0.1:8443": {"127.0.0.1", 8443},
		"::1": {"::1", 0}, "[::1]": {"::1", 0}, "[::1]:8443": {"::1", 8443}, "[2001:db8::1]:1": {"2001:db8::1", 1}, "3com.test": {"3com.test", 0},
	} {
		host, port, err := ParseHost(in)
		if err != nil || host != want.host || port != want.port {
			t.Errorf("%s: %s %d %v", in, host, port, err)
		}
	}
	for _, in := range []string{
		"", ":443", "a:", "a:0", "a:00", "a:0443", "a:+443", "a:-1", "a:65536", "a:65979", "a:4 43", "a:443:443", "a:http", "a:4４3",
		"API.openai.com", "api.openai.com.", ".", "..", "a..b", ".a", "a.b..", "api.openai.com.:443",
		"user@a", "user:pw@a", "a@b", "a/b", "a\\b", "a?b", "a#b", "a b", "a\x00", "a\n", "a\tb", "http://a", "//a", "a%2eb", "a_b.test", "*.a.test", "a{b}.test",
		"ａpi.test", "api。test", "api．openai.com", "bücher.example", "xn--a", "xn--bücher", "xn--", "ab--c.test", "XN--bcher-kva.example", "-a.test", "a-.test",
		"xn--80ak6aa92e.com.", "xn--zckzah-", strings.Repeat("a", 64) + ".test", strings.Repeat("a.", 127) + "ab",
		"2130706433", "0x7f.1", "0x7f000001", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "a.1", "a.0x1", "a.0x", "0",
		"::ffff:127.0.0.1", "::ffff:7f00:1", "[::ffff:1.2.3.4]:443", "fe80::1%eth0", "[fe80::1%25eth0]", "[::1", "::1]", "[]", "[1.2.3.4]", "[a]:1", "[::1]x", "[::1]:", "[::1]:0", "0:0:0:0:0:0:0:1", "2001:DB8::1", "1::2::3",
	} {
		if host, port, err := ParseHost(in); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%q: %s %d %v", in, host, port, err)
		}
	}
	_, _, err := ParseHost("bücher.example")
	if err == nil || !strings.Contains(err.Error(), "xn--bcher-kva.example") {
		t.Errorf("the A-label is not named: %v", err)
	}
}

func TestValidCapabilityID(t *testing.T) {
	for id, want := range map[string]bool{
		"openai/chat-completions": true, "a/b": true, "a1.b/c_d.e": true,
		"": false, "a": false, "/": false, "a/": false, "/b": false, "a/b/c": false, "A/b": false, "a/B": false, "a b/c": false, "a/*": false, "-a/b": false, "a/é": false, "a/b\n": false,
	} {
		if ValidCapabilityID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
	if ValidCapabilityID("a/" + strings.Repeat("b", 65)) {
		t.Error("too long")
	}
}
