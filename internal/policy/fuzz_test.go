package policy

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
)

// What Canonicalise lets through is its own canonical form, and every reader
// of it finds the segments that were judged.
func FuzzCanonicalise(f *testing.F) {
	for _, s := range []string{
		"/v1/chat/completions", "/a%2e%2e/b", "/caf%c3%a9/é?q=é&x[]=1", "/%252e", "/a/?", "/..;/x?access_token=1", "/a%3ab:c*%2A", "/\u2025/x", "/a?b;c#d",
		"/v1/%F0%9F%98%80", "/a b", "/x?%6bey=1&ap%69_key=2", "/./", "//", "/%2f",
	} {
		f.Add(s, "X-A", "v", "Content-Type", "a/b", false)
	}
	for _, s := range []string{"/p/a%2fb/x", "/a%2F%2E%2e%2fb", "/a%252fb", "/a%2f%2Fb", "/a%2f/b", "/a%2F\u2025%2fb", "/%2f", "/a%2F%2e%20", "/%41%2f%c3%a9?q=%2F"} {
		f.Add(s, "X-A", "v", "X-B", "w", true)
	}
	f.Add("/", "Transfer_Encoding", "chunked", "x-a", "a\r\nb", false)
	f.Add("/", "content-type", "a", "Content-Type", "b", false)
	f.Fuzz(func(t *testing.T, target, n1, v1, n2, v2 string, slashes bool) {
		rules := Rules{AuthQuery: []string{"key"}, Fixed: []api.Header{{Name: "X-Kind", Value: "1"}}, Slashes: slashes}
		headers := []api.Header{{Name: n1, Value: v1}, {Name: n2, Value: v2}}
		r, err := Canonicalise("POST", target, headers, rules)
		if err != nil {
			if c := api.CodeOf(err); c != api.InvalidRequest && c != api.PolicyViolation {
				t.Fatalf("code %s: %v", c, err)
			}
			for _, c := range err.Error() {
				if c < 0x20 || c == 0x7f || invisible(c) && c != ' ' {
					t.Fatalf("the error repeats %U", c)
				}
			}
			return
		}
		checkTarget(t, r, slashes)
		again, err := Canonicalise("POST", r.Target(), r.Headers(), rules)
		if err != nil {
			t.Fatalf("%q becomes %q, which is refused: %v", target, r.Target(), err)
		}
		if again.Target() != r.Target() || !slices.Equal(again.segments, r.segments) || !slices.Equal(again.headers, r.headers) {
			t.Fatalf("%q is not stable: %q", r.Target(), again.Target())
		}
		for _, h := range r.headers {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") || transportHeader(foldName(h.Name)) || authClass(foldName(h.Name)) {
				t.Fatalf("%q passed", h)
			}
		}
	})
}

func checkTarget(t *testing.T, r *Request, slashes bool) {
	t.Helper()
	target := r.Target()
	if len(target) > MaxTarget {
		t.Fatal("too long")
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("#;\\\"<>^`{|}", c) >= 0 {
			t.Fatalf("%q holds %q", target, c)
		}
	}
	if strings.Contains(r.Path(), "%2F") != r.slashed || r.slashed && !slashes {
		t.Fatalf("%q, and an escaped slash: %v, declared: %v", r.Path(), r.slashed, slashes)
	}
	for _, bad := range []string{"%2F/", "/%2F", "%2F%2F", "%2F.%2F", "%2F..%2F", "%2f", "%5C", "%5c", "%00", "%3B", "//", "/./", "/../", "%2E", "%41"} {
		if strings.Contains(r.Path(), bad) {
			t.Fatalf("%q holds %s", r.Path(), bad)
		}
	}
	// Another reader: the standard library's URL parser.
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatalf("net/url refuses %q: %v", target, err)
	}
	got := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i := range got {
		if got[i], err = url.PathUnescape(got[i]); err != nil {
			t.Fatalf("net/url cannot unescape %q: %v", target, err)
		}
	}
	if !slices.Equal(got, r.Segments()) {
		t.Fatalf("net/url reads %q in %q, judged were %q", got, target, r.Segments())
	}
	// One that undoes the escapes first finds the parts for segments, as many
	// as there are, and none that leads elsewhere.
	for i, part := range strings.Split(strings.TrimPrefix(u.Path, "/"), "/") {
		if strings.Trim(part, ". ") == "" && (part != "" || u.Path[len(u.Path)-1] != '/' || i != strings.Count(u.Path, "/")-1) {
			t.Fatalf("%q becomes %q", target, u.Path)
		}
	}
	if u.EscapedPath() != r.Path() || u.RawQuery != r.Query() || u.Host != "" {
		t.Fatalf("net/url reads %q ? %q in %q", u.EscapedPath(), u.RawQuery, target)
	}
	base := &url.URL{Scheme: "https", Host: "api.test", Path: "/"}
	if got := base.ResolveReference(u); got.Host != "api.test" || got.EscapedPath() != r.Path() {
		t.Fatalf("resolved, %q becomes %q", target, got)
	}
	if values, err := url.ParseQuery(r.Query()); err != nil {
		t.Fatalf("net/url refuses the query %q: %v", r.Query(), err)
	} else {
		for name := range values {
			switch strings.ToLower(name) {
			case "access_token", "api_key", "apikey", "key", "_method":
				t.Fatalf("%q passed in %q", name, r.Query())
			}
		}
	}
	for _, s := range r.Segments() {
		if s == "." || s == ".." || !utf8.ValidString(s) || strings.ContainsAny(s, "\\;\x00") || !slashes && strings.Contains(s, "/") {
			t.Fatalf("segment %q passed", s)
		}
		if twice, err := url.PathUnescape(s); err == nil && twice != s {
			t.Fatalf("segment %q can be unescaped again", s)
		}
	}
}

// A rule that parses is stable, admits its own literal path, and, when it is
// a prefix, what lies below it.
func FuzzPathRule(f *testing.F) {
	for _, s := range []string{"/", "=/", "/v1/*", "=/m/*:gen", "/a%2Ab/é/", "/a*b*c", "/**", "/..", "/%2f", "/p/*%2F*", "=/p/a%2f*/x"} {
		f.Add(s, "/v1/x")
	}
	f.Fuzz(func(t *testing.T, rule, target string) {
		p, err := ParsePathRule(rule)
		if err != nil {
			return
		}
		if p.String() != rule || p.Specificity() < 0 {
			t.Fatalf("%q is written %q, rank %d", rule, p, p.Specificity())
		}
		path := strings.TrimPrefix(rule, "=")
		own, err := Canonicalise("GET", strings.ReplaceAll(path, "*", "x"), nil, Rules{Slashes: true})
		if err != nil {
			return // the x made another text of it
		}
		if !p.Match(own) {
			t.Fatalf("%q does not admit %q", rule, own.Path())
		}
		if literal, ok := p.Literal(); ok != !strings.Contains(path, "*") || ok && literal != own.Path() {
			t.Fatalf("%q stands for %q", rule, literal)
		}
		if below, err := Canonicalise("GET", strings.TrimSuffix(own.Path(), "/")+"/below/it", nil, Rules{Slashes: true}); err == nil {
			if p.Match(below) == strings.HasPrefix(rule, "=") {
				t.Fatalf("%q and %q", rule, below.Path())
			}
		}
		if slashed, err := Canonicalise("GET", strings.TrimSuffix(own.Path(), "/")+"/below/i%2Ft", nil, Rules{Slashes: true}); err == nil && p.Match(slashed) {
			t.Fatalf("%q admits %q", rule, slashed.Path())
		}
		if r, err := Canonicalise("GET", target, nil, Rules{Slashes: true}); err == nil && p.Match(r) {
			// The rule that is the admitted path alone admits it as well, and
			// is at least as long.
			if len(p.segments) > len(r.segments) {
				t.Fatalf("%q admits the shorter %q", rule, r.Path())
			}
			if strings.Contains(r.Path(), "%2F") && !strings.Contains(strings.ToUpper(rule), "%2F") {
				t.Fatalf("%q admits %q", rule, r.Path())
			}
		}
	})
}

// A host that parses has one spelling, and none that could leave its place.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"api.openai.com", "a:443", "[::1]:8443", "xn--bcher-kva.example", "127.0.0.1", "0x7f.1", "a@b", "a:0443", "bücher.example", "xn--a", "1.2.3.4."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := ParseHost(s)
		if err != nil {
			if host != "" || port != 0 {
				t.Fatalf("%q: an error beside %q %d", s, host, port)
			}
			return
		}
		if strings.ToLower(s) != s || strings.ContainsAny(s, "@/\\?#% \x00\r\n*_") || strings.HasSuffix(host, ".") {
			t.Fatalf("%q passed", s)
		}
		written := host
		if strings.Contains(host, ":") {
			written = "[" + host + "]"
		}
		u, err := url.Parse("https://" + strings.TrimSuffix(s, ":") + "/")
		if strings.Count(s, ":") > 1 && s[0] != '[' {
			u, err = url.Parse("https://" + written + "/")
		}
		if err != nil || u.Hostname() != host {
			t.Fatalf("net/url reads %v in %q: %v", u, s, err)
		}
		if again, p, err := ParseHost(written); err != nil || again != host || p != 0 {
			t.Fatalf("%q is not stable: %q %d %v", host, again, p, err)
		}
	})
}
