package policy

import (
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
)

func limits(t interface {
	Helper()
	Fatal(...any)
}, p api.Policy) *Limits {
	t.Helper()
	p.Capability = "a/b"
	l, err := CompileLimits(p)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func asking(t interface {
	Helper()
	Fatal(...any)
}, target string, headers ...api.Header) *Request {
	t.Helper()
	r, err := Canonicalise("POST", target, headers, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNoLimits(t *testing.T) {
	for _, l := range []*Limits{nil, limits(t, api.Policy{}), limits(t, api.Policy{RatePerMinute: 5})} {
		r := asking(t, "/?a=1")
		answer := strings.NewReader("no JSON")
		if l.CheckQuery(r) != nil || l.CheckBody(r, []byte("{")) != nil || l.InspectsBody() || l.BlocksFields() || l.MaxRequest() != -1 || l.MaxResponse() != -1 || l.Block(answer) != answer {
			t.Errorf("%+v limits something", l.Policy())
		}
	}
	if p := (*Limits)(nil).Policy(); !reflect.DeepEqual(p, api.Policy{}) {
		t.Error(p)
	}
}

func TestCompileLimits(t *testing.T) {
	require := func(pointer string, values ...string) api.Policy {
		return api.Policy{RequireJSON: []api.RequireJSON{{Pointer: pointer, Values: values}}}
	}
	many := func(n int) []string { return slices.Repeat([]string{"a"}, n) }
	long := strings.Repeat("a", maxLimitName)
	for what, p := range map[string]api.Policy{
		"rates": {RatePerMinute: 1, RatePerCallerPerMinute: MaxRate}, "bytes": {MaxRequestBodyBytes: 1, MaxResponseBodyBytes: math.MaxInt64},
		"fields": {ResponseBlock: []string{"a", "A", "a b", "é", "a.b[0]", long}}, "many": {ResponseBlock: many(maxLimitNames)},
		"query": {AllowQuery: []string{"expand[]", "$filter", "a b", "é"}, DenyQuery: []string{"_", "x"}},
		"root":  require("", "1"), "pointer": require("/a~1b/~0/0//-", ""), "values": require("/a", slices.Repeat([]string{"x"}, maxValues)...),
	} {
		l, err := CompileLimits(p)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if !reflect.DeepEqual(l.Policy(), p) {
			t.Errorf("%s: %+v is compiled from %+v", what, p, l.Policy())
		}
	}
	for what, p := range map[string]api.Policy{
		"rate -1": {RatePerMinute: -1}, "rate per caller -1": {RatePerCallerPerMinute: -1}, "a great rate": {RatePerMinute: MaxRate + 1}, "a great rate per caller": {RatePerCallerPerMinute: MaxRate + 1},
		"request bytes -1": {MaxRequestBodyBytes: -1}, "response bytes -1": {MaxResponseBodyBytes: -1},
		"an empty field": {ResponseBlock: []string{"a", ""}}, "a long field": {ResponseBlock: []string{long + "a"}}, "a control character": {ResponseBlock: []string{"a\n"}},
		"no UTF-8": {ResponseBlock: []string{"\xff"}}, "many fields": {ResponseBlock: many(maxLimitNames + 1)},
		"an empty parameter": {AllowQuery: []string{""}}, "an empty denied one": {DenyQuery: []string{""}}, "with a value": {AllowQuery: []string{"a=1"}}, "two": {DenyQuery: []string{"a&b"}},
		"an escape": {DenyQuery: []string{"%61"}}, "many parameters": {AllowQuery: many(maxLimitNames + 1)}, "many denied": {DenyQuery: many(maxLimitNames + 1)}, "a NUL": {DenyQuery: []string{"\x00"}},
		"no value": require("/a"), "no slash": require("a", "1"), "a bad escape": require("/a~2", "1"), "half an escape": require("/a~", "1"), "no UTF-8 pointer": require("/\xff", "1"),
		"a long pointer": require("/"+strings.Repeat("a", maxPointer), "1"), "a deep pointer": require(strings.Repeat("/a", maxTokens+1), "1"), "many values": require("/a", slices.Repeat([]string{"x"}, maxValues+1)...),
		"a long value": require("/a", strings.Repeat("x", maxValue+1)), "a bad value": require("/a", "\xff"),
		"twice":                {RequireJSON: []api.RequireJSON{{Pointer: "/a", Values: []string{"1"}}, {Pointer: "/a", Values: []string{"2"}}}},
		"many fields required": {RequireJSON: slices.Repeat([]api.RequireJSON{{Pointer: "/a", Values: []string{"1"}}}, maxRequired+1)},
	} {
		l, err := CompileLimits(p)
		if l != nil || api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%s: %v", what, err)
		} else if m := err.Error(); len(m) > 300 || strings.ContainsAny(m, "\x00\n") || !utf8.ValidString(m) || !strings.HasPrefix(m, "policy: ") {
			t.Errorf("%s: %q", what, m)
		}
	}
	if l := limits(t, api.Policy{MaxRequestBodyBytes: 7, MaxResponseBodyBytes: 8}); l.MaxRequest() != 7 || l.MaxResponse() != 8 {
		t.Error(l.MaxRequest(), l.MaxResponse())
	}
}

// What is done with a policy afterwards changes no limit.
func TestLimitsAreTheirOwn(t *testing.T) {
	p := api.Policy{Capability: "a/b", AllowQuery: []string{"a"}, ResponseBlock: []string{"x"}, RequireJSON: []api.RequireJSON{{Pointer: "/m", Values: []string{"1"}}}}
	l, err := CompileLimits(p)
	if err != nil {
		t.Fatal(err)
	}
	want := api.Policy{Capability: "a/b", AllowQuery: []string{"a"}, ResponseBlock: []string{"x"}, RequireJSON: []api.RequireJSON{{Pointer: "/m", Values: []string{"1"}}}}
	for _, q := range []api.Policy{p, l.Policy()} {
		q.AllowQuery[0], q.ResponseBlock[0], q.RequireJSON[0].Pointer, q.RequireJSON[0].Values[0] = "b", "y", "/n", "2"
	}
	if !reflect.DeepEqual(l.Policy(), want) || l.CheckQuery(asking(t, "/?b=1")) == nil {
		t.Error("changed from outside")
	}
}

func TestCheckQuery(t *testing.T) {
	allow := limits(t, api.Policy{AllowQuery: []string{"limit", "expand[]", "a b", "é", "$top"}})
	deny := limits(t, api.Policy{DenyQuery: []string{"debug", "include[secrets]", "_", "page-token", "é", "K", "Ünit", "\uff26ull"}})
	both := limits(t, api.Policy{AllowQuery: []string{"a", "b"}, DenyQuery: []string{"b"}})
	for _, c := range []struct {
		l         *Limits
		good, bad []string
	}{
		{allow, []string{"", "limit=1", "limit=1&limit=2", "limit", "expand[]=x&expand[]=y", "expand%5B%5D=x", "a+b=1", "a%20b=1", "%C3%A9=1", "é=1", "&&limit=1&", "%6cimit=1", "limit=a%26b%3d1", "$top=1", "limit=a=b"},
			[]string{"x=1", "limit=1&x=2", "Limit=1", "LIMIT=1", "limit[]=1", "expand=1", "expand[0]=1", "limit%20=1", "+limit=1", "=1", "limit=1&=", "a%2bb=1", "É=1", "e=1", "top=1", "ｌimit=1", "limit%26=1"}},
		{deny, []string{"", "x=debug", "debugger=1", "include[x]=1", "include=1", "x[debug]=1", "d=1", "=1", "$=1", "&&", "q=_", "kk=1", "pagetokens=1"},
			[]string{"debug=1", "debug", "a=1&debug=0", "DEBUG=1", "d%65bug=1", "%64%65%62%75%67=1", "de_bug=1", "debug[]=1", "debug%5B%5D=1", "debug[a][b]=1", "$debug=1", "ｄebug=1", "%EF%BD%84ebug=1", "+debug=1", "debug%20=1", "debug.=1",
				"include[secrets]=1", "include%5bsecrets%5d=1", "INCLUDE[Secrets]=1", "include[secrets][]=1", "include.secrets=1", "_=1", "pageToken=1", "page_token=1", "pagetoken=1", "É=1", "e%CC%81=1", "\u212a=1", "k=1", "ünit=1", "%C3%9CNIT=1", "full=1", "FULL[]", "debu%C9%A1=1&debug"}},
		{both, []string{"a=1"}, []string{"b=1", "c=1", "a=1&b=1", "B=1"}},
	} {
		for _, q := range c.good {
			if err := c.l.CheckQuery(asking(t, "/x?"+q)); err != nil {
				t.Errorf("%s: %v", q, err)
			}
		}
		for _, q := range c.bad {
			err := c.l.CheckQuery(asking(t, "/x?"+q))
			if api.CodeOf(err) != api.PolicyViolation || api.AsError(err).Hint != "aivault capability describe a/b" {
				t.Errorf("%s: %v", q, err)
			}
		}
	}
	if err := allow.CheckQuery(asking(t, "/x")); err != nil {
		t.Error(err)
	}
}

func TestIsJSON(t *testing.T) {
	for s, want := range map[string]bool{
		"application/json": true, "Application/JSON; charset=UTF-8": true, "application/vnd.github.v3+json": true, "application/json;charset=\"utf-8\"": true, "application/problem+json; x=y": true,
		"": false, "json": false, "text/json": false, "application/json5": false, "application/jsonl": false, "application/x-ndjson": false, "application/json-seq": false, "application/+json": false, "application/json; charset=utf-16": false,
		"application/json; charset=latin1": false, "application/json, text/html": false, "application/json;": true, "application/json; charset=utf-8; charset=utf-16": false, "text/event-stream": false, "application/jsonp": false, "application/json+xml": false,
		"multipart/form-data": false, "application/x-www-form-urlencoded": false, "application/json text/html": false, "application/json; charset=": false,
	} {
		if IsJSON(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func FuzzCheckQuery(f *testing.F) {
	for _, s := range []string{"a=1&b", "%61=2", "A[x]", "a%20", "ａ=1", "&&=", "a%5B"} {
		f.Add(s)
	}
	allow, deny := limits(f, api.Policy{AllowQuery: []string{"a", "c d"}}), limits(f, api.Policy{DenyQuery: []string{"a", "c d"}})
	f.Fuzz(func(t *testing.T, q string) {
		r, err := Canonicalise("GET", "/?"+q, nil, Rules{})
		if err != nil {
			return
		}
		allowed, denied := true, false
		for pair := range strings.SplitSeq(r.Query(), "&") {
			if pair == "" {
				continue
			}
			name, _, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(name)
			if err != nil {
				t.Fatal(err)
			}
			allowed = allowed && (name == "a" || name == "c d")
			denied = denied || strings.EqualFold(name, "a") || strings.EqualFold(name, "c d") || strings.HasPrefix(name, "a[")
		}
		if (allow.CheckQuery(r) == nil) != allowed {
			t.Fatalf("%q is allowed: %v", r.Query(), !allowed)
		}
		if err := deny.CheckQuery(r); denied && api.CodeOf(err) != api.PolicyViolation {
			t.Fatalf("%q is not denied: %v", r.Query(), err)
		}
	})
}

func BenchmarkCheckQuery(b *testing.B) {
	r := asking(b, "/v1/customers?limit=10&expand%5B%5D=data.customer&starting_after=cus_1")
	for name, p := range map[string]api.Policy{
		"none":  {},
		"allow": {AllowQuery: []string{"limit", "expand[]", "starting_after", "ending_before"}},
		"deny":  {DenyQuery: []string{"debug", "include", "fields"}},
	} {
		l := limits(b, p)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := l.CheckQuery(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
