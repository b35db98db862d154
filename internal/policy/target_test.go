package policy

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestMethod(t *testing.T) {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if r, err := Canonicalise(m, "/", nil, Rules{}); err != nil || r.Method() != m {
			t.Errorf("%s: %v", m, err)
		}
	}
	for _, m := range []string{"", "get", "Post", "OPTIONS", "CONNECT", "TRACE", "QUERY", "GET ", " GET", "GET\r\n", "PROPFIND", "GET\x00", "ＧＥＴ"} {
		if _, err := Canonicalise(m, "/", nil, Rules{}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%q: %v", m, err)
		}
	}
}

// What is sent, and how it is read, for targets that pass.
func TestCanonicalTarget(t *testing.T) {
	for _, c := range []struct {
		in, out  string
		segments []string
	}{
		{"/", "/", []string{""}},
		{"/v1/models", "/v1/models", []string{"v1", "models"}},
		{"/v1/models/", "/v1/models/", []string{"v1", "models", ""}},
		{"/v1/m%6fdels", "/v1/models", []string{"v1", "models"}},
		{"/v1/%7euser/%2d%5f", "/v1/~user/-_", []string{"v1", "~user", "-_"}},
		{"/a%2ab", "/a%2Ab", []string{"a*b"}},
		{"/a%3ab/%40me", "/a%3Ab/%40me", []string{"a:b", "@me"}},
		{"/x:generate", "/x:generate", []string{"x:generate"}},
		{"/a%20b", "/a%20b", []string{"a b"}},
		{"/caf%c3%a9", "/caf%C3%A9", []string{"café"}},
		{"/café", "/caf%C3%A9", []string{"café"}},
		{"/日本/語", "/%E6%97%A5%E6%9C%AC/%E8%AA%9E", []string{"日本", "語"}},
		{`/a"b<c>d^e` + "`{|}", "/a%22b%3Cc%3Ed%5Ee%60%7B%7C%7D", []string{`a"b<c>d^e` + "`{|}"}},
		{"/a[0]", "/a%5B0%5D", []string{"a[0]"}},
		{"/100%25", "/100%25", []string{"100%"}},
		{"/100%25zz", "/100%25zz", []string{"100%zz"}},
		{"/.well-known/x", "/.well-known/x", []string{".well-known", "x"}},
		{"/a...b/v1.2", "/a...b/v1.2", []string{"a...b", "v1.2"}},
		{"/a%23b%3fc", "/a%23b%3Fc", []string{"a#b?c"}},
		{"/v1?", "/v1?", []string{"v1"}},
		{"/v1?a=1&a=2&b", "/v1?a=1&a=2&b", []string{"v1"}},
		{"/v1?expand[]=x&expand[]=y", "/v1?expand[]=x&expand[]=y", []string{"v1"}},
		{"/v1?q=a+b%20c%2b", "/v1?q=a+b%20c%2b", []string{"v1"}},
		{"/v1?q=/../..//?x", "/v1?q=/../..//?x", []string{"v1"}},
		{"/v1?q=%3b%23%0a", "/v1?q=%3b%23%0a", []string{"v1"}},
		{"/v1?q=é\"<>\\^`{|}", "/v1?q=%C3%A9%22%3C%3E%5C%5E%60%7B%7C%7D", []string{"v1"}},
		{"/v1?method=x&pageToken=1&token_type=2&sort.by=3&=&&", "/v1?method=x&pageToken=1&token_type=2&sort.by=3&=&&", []string{"v1"}},
	} {
		r, err := Canonicalise("GET", c.in, nil, Rules{})
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if r.Target() != c.out || !slices.Equal(r.segments, c.segments) {
			t.Errorf("%q becomes %q %q", c.in, r.Target(), r.segments)
		}
		if r.HasQuery() != strings.Contains(c.in, "?") {
			t.Errorf("%q: HasQuery %v", c.in, r.HasQuery())
		}
	}
}

// Where a rule declares an escaped '/', it stays in its segment, and what is
// between two of them is held to what a segment is held to.
func TestEscapedSlash(t *testing.T) {
	for _, c := range []struct {
		in, out  string
		segments []string
	}{
		{"/a%2fb", "/a%2Fb", []string{"a/b"}},
		{"/a%2Fb%2Fc/d/", "/a%2Fb%2Fc/d/", []string{"a/b/c", "d", ""}},
		{"/p/%61%2F.b%2fc..d/é%2fx?q=%2F/", "/p/a%2F.b%2Fc..d/%C3%A9%2Fx?q=%2F/", []string{"p", "a/.b/c..d", "é/x"}},
		{"/sc%3Aa%2Fb", "/sc%3Aa%2Fb", []string{"sc:a/b"}},
		{"/a", "/a", []string{"a"}},
	} {
		r, err := Canonicalise("GET", c.in, nil, Rules{Slashes: true})
		if err != nil || r.Target() != c.out || !slices.Equal(r.segments, c.segments) || r.slashed != strings.Contains(c.in, "%2") {
			t.Errorf("%q: %+v, %v", c.in, r, err)
		}
		if _, err := Canonicalise("GET", c.in, nil, Rules{}); (err == nil) == r.slashed {
			t.Errorf("%q where no rule declares it: %v", c.in, err)
		}
	}
	if _, err := Canonicalise("GET", "/a%2F/b", nil, Rules{Slashes: true}); err == nil || !strings.Contains(err.Error(), "%2F") {
		t.Errorf("the error says %v", err)
	}
	for _, target := range []string{
		"/%2F", "/%2fa", "/a%2f", "/a%2F/b", "/a%2f%2Fb", "/a/%2f/b", "/https%3A%2F%2Fexample.com",
		"/a%2f.", "/a%2F..", "/..%2fa", "/a%2f..%2fb", "/a%2F%2e%2E%2fb", "/.%2Fa", "/a%2f...", "/a%2F%20", "/a%2f.%20.%2fb", "/%20%2fa",
		"/a%252fb", "/a%252Fb", "/a%2f%252fb", "/a%2f%252e", "/a%25%32%66b", "/a%2f%5cb", `/a%2f..\b`, "/a%2f;b", "/a%2fb%3b", "/a%2f%00b", "/a%2F%0a",
		"/a%2f\u2024\u2024%2fb", "/a%2f\uff0e", "/a%2fb\uff0fc", "/a%2fb\u2215c", "/a%2f\u2025%2fb", "/a%2f\u200b%2fb", "/a%2f%c0%af", "/a%2f%ff", "/a%2fe%cc%81",
		"//a%2fb", "/a%2fb//", "/a%2fb/../c", "/../a%2fb",
	} {
		if r, err := Canonicalise("GET", target, nil, Rules{Slashes: true}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%+q: %+v %v", target, r, err)
		}
	}
}

func TestRefusedTarget(t *testing.T) {
	for _, target := range []string{
		// not a path
		"", "v1/models", "http://api.openai.com/v1", "https://evil.test/", "//evil.test/v1", "*", "?a=b", "@evil.test/", ":443/", "evil.test:443",
		// navigation, in every encoding
		"/.", "/..", "/v1/../admin", "/v1/./x", "/v1/..", "/%2e", "/%2e%2e", "/%2E%2e/x", "/.%2e/x", "/%2e./x", "/v1/%2e%2e/admin",
		"/%252e%252e/x", "/%252e", "/%25252e", "/.%252e", "/%25%32%65", "/%2%65%2e", "/..;/x", "/;/x", "/v1;a=b/x", "/v1%3b/x", "/v1%3Bx",
		"/...", "/. /x", "/.. /x", "/..%20/x", "/%20", "/.%20.", "/%25u002e%25u002e/x", "/%u002e/",
		// separators
		"/a%2fb", "/a%2Fb", "/a%252fb", `/a\b`, "/a%5cb", "/a%5Cb", "/a%255cb", "//", "/v1//models", "/v1/models//", "/v1///",
		// control characters and blanks
		"/a\x00", "/a%00", "/a\tb", "/a%09b", "/a\rb", "/a\nb", "/a%0d%0ab", "/a\x7f", "/a%7f", "/a b", "/a\x1bb", "/%c2%85", "/\u0085",
		// fragments
		"/a#b", "/#", "/a?b#c", "/a?#",
		// broken escapes
		"/%", "/%2", "/%zz", "/a%", "/%-1", "/% 2",
		// broken UTF-8: overlong '/' and '.', surrogates, cut short
		"/%c0%af", "/%c0%ae%c0%ae", "/%e0%80%af", "/%ed%a0%80", "/%ff", "/\xff", "/%c3", "/caf\xc3", "/%f4%90%80%80",
		// not NFC: e and a combining accent; a decomposed Hangul; an Angstrom sign
		"/cafe%cc%81", "/cafe\u0301", "/\u1112\u1161\u11ab", "/\u212b",
		// look-alikes
		"/\uff0e\uff0e/x", "/\u2025/x", "/\u2024\u2024/x", "/a\uff0fb", "/a\uff3cb", "/a\ufe68b", "/\u2026", "/a\u2100b", "/a\u2215b", "/a\u2044b", "/\u00bd",
		"/a\u29f8b", "/a\u2216b", "/a%ef%bc%8fb", "/\uff05\uff12\uff45", "/a\uff1bb", "/\ufe52\ufe52", "/a\uff1fb", "/a\uff03b",
		// invisible: zero width, joiners, directions, tags, selectors, fillers, blanks
		"/a\u200bb", "/a\u200d", "/\u200b", "/.\u200b.", "/a\u2060b", "/a\ufeffb", "/a\u00adb", "/a\u202eb", "/a\u2066b", "/a\U000e0041b", "/a\ufe0fb", "/a\u034fb",
		"/a\u115fb", "/a\u3164b", "/a\u00a0b", "/a\u3000b", "/a\u2028b", "/a\u2800b", "/a\U000e0100b", "/a\ue000b", "/a\ufffeb", "/a\ufffdb",
		// query
		"/a?b c", "/a?b\x00", "/a?b\n", "/a?b\tc", "/a?b\x7f", "/a?b;c", "/a?x=1;access_token=2", "/a?%", "/a?%4", "/a?x=%zz", "/a?\xff", "/a?x=\xc3",
		"/a?%ff=1", "/a?%00=1", "/a?a%0a=1", "/a?a%2500=1", "/a?a\u200b=1", "/a?a%e2%80%8b=1",
		// too long, as given or once escaped
		"/" + strings.Repeat("a", MaxTarget), "/" + strings.Repeat("é", MaxTarget/3), "/a?" + strings.Repeat("a", MaxTarget),
	} {
		if r, err := Canonicalise("GET", target, nil, Rules{}); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%+.60q: %v %v", target, r, err)
		} else if strings.ContainsAny(err.Error(), "\x00\r\n\t\x1b\x7f\u202e\u200b") || len(err.Error()) > 400 {
			t.Errorf("%+.60q: the error repeats it raw or at length: %q", target, err)
		}
	}
	long := "/" + strings.Repeat("a", MaxTarget-2)
	if _, err := Canonicalise("GET", long, nil, Rules{}); err != nil {
		t.Errorf("a target of the greatest length: %v", err)
	}
}

func TestAuthQuery(t *testing.T) {
	rules := Rules{AuthQuery: []string{"key", "X-Token"}, CallerQuery: []string{"api_key_id", "x_token"}}
	for _, q := range []string{
		"oauth_token=x", "access_token=x", "ACCESS_TOKEN=x", "Access_Token", "access%5ftoken=x", "%61ccess_token=x", "access-token=x", "access.token=x", "access+token=x",
		"a=1&api_key=x", "apikey", "apiKey=x", "API-KEY=x", "api%20key=x", "api_key[]=x", "api_key%5b0%5d=x", "+api_key=x",
		"key=x", "KEY=x", "%6bey=x", "k%45y=x", "key", "key[]=1", "a=b&key=1&c=d", "&&key=1",
		"ｋｅｙ=x", "%ef%bd%8bey=1", "\u212aey=x", "acce\u017f\u017f_token=1", "ap\u0131key=1", "AP\u0130KEY=1",
		"_method=DELETE", "_METHOD=DELETE", "%5fmethod=DELETE", "_Method", ".method=x", "+_method=x", "X-HTTP-Method-Override=PUT", "_HttpMethod=PATCH",
		"xtoken=1", "X-TOKEN=1", "$key=x", "%24key=x", "$.key=x", "$access_token=x", "$httpMethod=DELETE", "%24httpMethod=DELETE", "$method=DELETE",
		"[method=DELETE", "%5bmethod=DELETE", "[_method=DELETE", "+[method]=DELETE", "[_method[x=DELETE", "[key=x", "%5b_access_token=x",
	} {
		if _, err := Canonicalise("GET", "/a?"+q, nil, rules); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%+q: %v", q, err)
		}
	}
	for _, q := range []string{"keys=1", "monkey=1", "key_id=1", "a[key]=1", "pageToken=1", "method=flickr.test", "x=access_token", "api_key_id=1", "x_token=1", "q=key", "$filter=key", "$alt=sse", "method[x]=1", "[methods=1"} {
		if _, err := Canonicalise("GET", "/a?"+q, nil, rules); err != nil {
			t.Errorf("%+q: %v", q, err)
		}
	}
}

// A request cannot be changed through what it hands out.
func TestRequestIsImmutable(t *testing.T) {
	given := []api.Header{{Name: "A", Value: "1"}}
	r, err := Canonicalise("GET", "/a/b", given, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	given[0].Value = "2"
	r.Headers()[0].Value = "3"
	r.Segments()[0] = "x"
	if r.Header("a") != "1" || r.Segments()[0] != "a" {
		t.Fatal(r)
	}
}
