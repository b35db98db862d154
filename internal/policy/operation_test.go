package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

func operation(t testing.TB, o registry.Operation) *OperationRule {
	t.Helper()
	rule, err := CompileOperation(&o)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

func graphQL(t testing.TB, types ...string) *OperationRule {
	t.Helper()
	return operation(t, registry.Operation{GraphQL: types})
}

func jsonRPC(t testing.TB, names ...string) *OperationRule {
	t.Helper()
	return operation(t, registry.Operation{JSONRPC: names})
}

// graphQLBody is a request with a document and nothing else.
func graphQLBody(document string) string {
	b, err := json.Marshal(map[string]string{"query": document})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// untellable wants a refusal whose text can be shown.
func untellable(t testing.TB, body string, o *Operation, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%.200q is told: %s", body, o)
		return
	}
	if api.CodeOf(err) != api.PolicyViolation || o != nil {
		t.Errorf("%.200q: %v, %v", body, o, err)
	}
	if m := err.Error(); len(m) > 400 || strings.ContainsFunc(m, func(c rune) bool { return c < ' ' || c > '~' }) || !utf8.ValidString(m) {
		t.Errorf("%.200q: %q", body, m)
	}
}

func TestGraphQLOperations(t *testing.T) {
	rule, r := graphQL(t, "query"), asking(t, "/graphql", asJSON)
	for document, want := range map[string]string{
		`{ viewer { login } }`:                                      "query",
		`query { viewer { login } }`:                                "query",
		`query Q($n: Int = 5) @live { a(first: $n)}`:                "query",
		"# mutation { a }\nquery { a }":                             "query",
		"#mutation\r\n{ a }\r\n":                                    "query",
		`query mutation { mutation: query subscription: mutation }`: "query",
		`{ a(text: "} mutation { b }") }`:                           "query",
		`{ a(text: "\" } mutation { b } # \\") }`:                   "query",
		"{ a(text: \"\"\"\n} mutation { b }\n\"\"\") }":             "query",
		"{ a(text: \"\"\"say \"it\" now\"\"\") }":                   "query",
		`{ a(o: {mutation: [{x: {}}, MUTATION]}) }`:                 "query",
		`query A { ...F } fragment F on Query { a }`:                "query",
		`fragment mutation on Mutation { delete } query { ...F }`:   "query",
		`query A { a } query B { b }`:                               "query",
		`{ ... on User @include(if: true) { a } }`:                  "query",
		"{ a(emoji: \"\U0001F600\u200d\u00e9\") } # \u00e9\u3042":   "query",
		`mutation { a }`:                                            "mutation",
		`mutation M($i: I! = {a: [1, -2.5e+3]}) { a(i: $i) { b } }`: "mutation",
		`,,, mutation,{a}`:                                          "mutation",
		`query A { a } mutation B { b }`:                            "query mutation",
		`mutation B { b } query A { a }`:                            "query mutation",
		`{ a } mutation B { b }`:                                    "query mutation",
		`subscription { a }`:                                        "subscription",
		`subscription S { a } query Q { a } mutation M { a }`:       "query mutation subscription",
		"\tquery\n{\ta\n}":                                          "query",
	} {
		o, err := rule.Read(r, []byte(graphQLBody(document)))
		if err != nil {
			t.Errorf("%q: %v", document, err)
			continue
		}
		if got := strings.Join(o.names, " "); got != want {
			t.Errorf("%q: %s, want %s", document, got, want)
		}
		if rule.Admits(o) != (want == "query") {
			t.Errorf("%q: admitted as %v", document, o)
		}
	}
}

func TestDocumentsThatCouldBeReadInTwoWays(t *testing.T) {
	rule, r := graphQL(t, "query", "mutation", "subscription"), asking(t, "/graphql", asJSON)
	deep := func(n int) string { return strings.Repeat("{a", n) + strings.Repeat("}", n) }
	for _, document := range []string{
		"", " ", "#", "# query { a }", "...", "}", "{", "{}", "{a", "{a}}", "query", "query Q", "query {a", "query (", "query Q {}", "mutation", "{a} x", "{a} (", "{a} [", "{a} \"x\"", "(a)", "[a]",
		"fragment F on Query { a }", "query {a} fragment F on", "query on", "queryQ { a }", "Query { a }", "MUTATION { a }", "mutation_ { a }", "1query { a }", "query-Q { a }",
		"type Query { a: Int }", "{ a } type X { a: Int }", "schema { query: Q } { a }", "extend type Q { a: Int } { a }", "directive @d on FIELD { a }", "\"a description\" query { a }", "{ a } scalar X",
		"{ a(b: [) }", "{ a(b: 1] }", "query ($a: Int { a }", "query [a] { a }", "query $a { a }", "query : { a }", "query = { a }", "{ a ) }",
		// A carriage return, and other ends of a line.
		"# x\rmutation { a }", "{ a } # x\rmutation { b }", "{ a }\r", "\r{ a }", "{ a }\r\r\n", "# x\u2028mutation { a }\n{ a }", "{ a } # \u2029mutation { b }", "# \u0085mutation { a }\n{ a }", "# \vmutation { b }\n{ a }", "{\fa }",
		"\ufeff{ a }", "{ a } \ufeff mutation { b }", "{ a(b: \"\ufeff\") }", "{ a\x00 }", "{ a(b: \"\x00\") }", "{ a } \x00", "# \x7f\n{ a }", "# \x1b[2J\n{ a }", "{ a(b: \"\ufffe\") }",
		// Blanks and letters that are none.
		"{ a }\u00a0", "{\u3000a }", "{ é }", "mutatio\u0144 { a }", "\u200bmutation { a }", "{ a } ; mutation { b }", "{ a } / mutation", "{ a(b: 'x') }", "{ a(b: `x`) }", "{ a \\ b }", "{ a % b }", "{ a ~ }", "{ a < b > }",
		// Strings that end early for some.
		"{ a(b: \"x\n\") }", "{ a(b: \"x) }", "{ a(b: \"\\x\") }", "{ a(b: \"\\u12\") }", "{ a(b: \"\\u{22}\") }", "{ a(b: \"\\\n\") }", "{ a(b: \"\\", "{ a(b: \"x\"\"y\") }",
		"{ a(b: \"\"\"x) }", "{ a(b: \"\"\"\") }", "{ a(b: \"\"\"\"\"\") }", "{ a(b: \"\"\"x\"\"\"\") }", "{ a(b: \"\"\"\"x\"\"\") }", "{ a(b: \"\"\"x\\\"\"\"y\"\"\") }", "{ a(b: \"\"\"x\\\\\"\"\") }", "{ a(b: [\"\"\"\"x\"]) }", "{ a(b: \"\"\"x\"\"",
		"{ a(b: [\"x\"\"y\"]) }", "{ a(b: [\"\" \"\"\"\"]) }", "{ a(b: \"\"\"x\\\"\"\") } # \"\"\") }",
		// Two readings, for who has block strings and who has none.
		`query a { a(b: ["""x" ] ) { id } } mutation m { evil } # """]) { id } }`,
		`query a { a(b: ["""x" ] ) { id } } fragment m on M { evil } # """]) { id } }`,
		`mutation a { a(b: ["""x" ] ) { id } } query m { evil } # """]) { id } }`,
		`query a { a(b: """x"{"y""") }`,
		// Too much.
		deep(maxDocumentDepth + 1), deep(100_000), strings.Repeat("{ a }", maxDocumentTokens/3+1), "{" + strings.Repeat(" a #x\n", maxDocumentTokens) + "}",
		"{ a(b: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + ") }",
	} {
		body := graphQLBody(document)
		o, err := rule.Read(r, []byte(body))
		untellable(t, document, o, err)
	}
	for _, document := range []string{deep(maxDocumentDepth), "{" + strings.Repeat("a ", maxDocumentTokens-10) + "}"} {
		if _, err := rule.Read(r, []byte(graphQLBody(document))); err != nil {
			t.Errorf("%.20q: %v", document, err)
		}
	}
}

func TestGraphQLRequests(t *testing.T) {
	rule, r := graphQL(t, "query"), asking(t, "/graphql", asJSON)
	for _, body := range []string{
		`{"query":"{a}"}`, ` { "query" : "{a}" } `, `{"query":"{a}","variables":null,"operationName":null}`, `{"operationName":"A","query":"query A{a} query B{b}","variables":{"x":[1,{"y":null}]}}`,
		`{"qu\u0065ry":"\u007ba}"}`, `{"query":"{a}","variables":{"query":"mutation{a}","extensions":{}}}`, `{"query":"{a}","operationName":""}`,
	} {
		if o, err := rule.Read(r, []byte(body)); err != nil || !rule.Admits(o) {
			t.Errorf("%s: %v, %v", body, o, err)
		}
	}
	for _, body := range []string{
		``, ` `, `null`, `"{a}"`, `{}`, `{a}`, `query{a}`, `query=%7Ba%7D`, `[]`, `[{"query":"{a}"}]`, `[{"query":"{a}"},{"query":"mutation{a}"}]`, `{"query":"{a}"}{"query":"mutation{a}"}`, "{\"query\":\"{a}\"}\n{}", `{"query":"{a}"},`,
		`{"query":null}`, `{"query":["{a}"]}`, `{"query":{"a":1}}`, `{"query":1}`, `{"variables":{}}`, `{"operationName":"A"}`,
		`{"query":"{a}","query":"mutation{a}"}`, `{"query":"{a}","qu\u0065ry":"mutation{a}"}`, `{"query":"{a}","Query":"mutation{a}"}`, `{"Query":"{a}"}`, `{"QUERY":"{a}"}`, `{"query ":"{a}"}`, `{"query\u0000":"{a}"}`,
		`{"query":"{a}","mutation":"mutation{a}"}`, `{"query":"{a}","extensions":{}}`, `{"query":"{a}","extensions":null}`, `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, `{"query":"","extensions":{"persistedQuery":{}}}`,
		`{"query":"{a}","id":"1"}`, `{"query":"{a}","documentId":"1"}`, `{"id":"1"}`, `{"doc_id":"1","variables":{}}`, `{"query":"{a}","queryId":"1"}`, `{"query":"{a}","operations":"x"}`, `{"query":"{a}","key":1}`,
		`{"query":"{a}","operationName":1}`, `{"query":"{a}","operationName":["A"]}`, `{"query":"{a}","variables":"{}"}`, `{"query":"{a}","variables":[]}`, `{"query":"{a}","variables":1}`,
		`{"query":"{a}","variables":{"a":1,"a":2}}`, `{"query":"{a}","variables":{"x":{"a":1,"\u0061":2}}}`, `{"query":"{a}","variables":{"a":01}}`, `{"query":"{a}","variables":{"a":"` + "\xff" + `"}}`, `{"query":"{a}` + "\xff" + `"}`, `{"query":"{a}\ud800"}`,
		`{"query":"{a}","variables":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 101), `{"query":"{a}","variables":` + strings.Repeat(`[`, 20_000),
		"\xef\xbb\xbf" + `{"query":"{a}"}`, "{\x00\"\x00q\x00", "\xff\xfe{\x00\"\x00", "\xfe\xff\x00{\x00\"", "+ADs-", "{\"query\":\"{a}\"\x00}", `{"query":"{a}"/**/}`, `{'query':'{a}'}`, `{"query":"{a}",}`, "{\"query\":\"{a\n}\"}",
	} {
		o, err := rule.Read(r, []byte(body))
		untellable(t, body, o, err)
	}
	long := []byte(`{"query":"{a}"}` + strings.Repeat(" ", MaxInspected))
	o, err := rule.Read(r, long)
	untellable(t, "a long body", o, err)
	if _, err := rule.Read(r, long[:MaxInspected]); err != nil {
		t.Error(err)
	}
}

// A query string and other words about the body are refused before the body
// is looked at.
func TestOperationsOfOtherRequests(t *testing.T) {
	for _, rule := range []*OperationRule{graphQL(t, "query"), jsonRPC(t, "eth_call")} {
		body := `{"query":"{a}"}`
		if rule.kind == kindJSONRPC {
			body = `{"jsonrpc":"2.0","method":"eth_call"}`
		}
		for _, kind := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8", `application/json;charset="UTF-8"`, "application/json ; charset=UTF-8 "} {
			r := asking(t, "/graphql", api.Header{Name: "content-type", Value: kind}, api.Header{Name: "X-Content-Type", Value: "text/plain"})
			if o, err := rule.Read(r, []byte(body)); err != nil || !rule.Admits(o) {
				t.Errorf("%s: %v, %v", kind, o, err)
			}
		}
		for _, kind := range []string{
			"", "text/plain", "application/graphql", "application/graphql+json", "application/vnd.api+json", "application/json+x", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "json", "*/*",
			"application/json; charset=utf-16", "application/json; charset=latin1", "application/json; charset=", "application/json;", "application/json; charset=utf-8; charset=utf-16", "application/json; boundary=x", "application/json; charset='utf-8'",
			"application/json, text/plain", "application/json; charset*=utf-8''utf-8", "application/json/x", "application /json", "application/json;charset=utf-8,application/graphql",
		} {
			r := asking(t, "/graphql", api.Header{Name: "Content-Type", Value: kind})
			o, err := rule.Read(r, []byte(body))
			untellable(t, kind, o, err)
			if rule.CheckHead(r) == nil {
				t.Errorf("%s passes without the body", kind)
			}
		}
		for _, h := range []string{"Content-Encoding", "Content-Transfer-Encoding", "Content-Disposition", "Content-Location", "Content-Language"} {
			o, err := rule.Read(asking(t, "/graphql", asJSON, api.Header{Name: h, Value: "identity"}), []byte(body))
			untellable(t, h, o, err)
		}
		for _, path := range []string{"/graphql?query=mutation%7Ba%7D", "/graphql?x", "/graphql?"} {
			o, err := rule.Read(asking(t, path, asJSON), []byte(body))
			untellable(t, path, o, err)
		}
		o, err := rule.Read(asking(t, "/graphql"), []byte(body))
		untellable(t, "no type", o, err)
		if api.AsError(err).Hint == "" {
			t.Error("no hint")
		}
	}
}

func TestJSONRPCOperations(t *testing.T) {
	rule, r := jsonRPC(t, "eth_call", "eth_get*", "net_version"), asking(t, "/v2", asJSON)
	for body, admitted := range map[string]bool{
		`{"jsonrpc":"2.0","method":"eth_call"}`:                                true,
		`{"id":1,"jsonrpc":"2.0","method":"eth_getBalance","params":["0x",1]}`: true,
		`{"id":"a","jsonrpc":"2.0","method":"net_version","params":{}}`:        true,
		`{"id":null,"jsonrpc":"2.0","method":"eth_\u0063all","params":[]}`:     true,
		`{"id":-1.5e3,"jsonrpc":"2.0","method":"eth_getLogs"}`:                 true,
		`{"jsonrpc":"2.0","method":"eth_get"}`:                                 false,
		`{"jsonrpc":"2.0","method":"eth_callMany"}`:                            false,
		`{"jsonrpc":"2.0","method":"ETH_CALL"}`:                                false,
		`{"jsonrpc":"2.0","method":"eth_sendRawTransaction","params":["0x"]}`:  false,
		`{"jsonrpc":"2.0","method":"x_eth_getX"}`:                              false,
	} {
		o, err := rule.Read(r, []byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if rule.Admits(o) != admitted || graphQL(t, "query").Admits(o) || graphQL(t, "query").Reads(o) {
			t.Errorf("%s: %s", body, o)
		}
	}
	for _, body := range []string{
		``, `null`, `1`, `"eth_call"`, `{}`, `[]`, `[{"jsonrpc":"2.0","method":"eth_call"}]`, `[{"jsonrpc":"2.0","method":"eth_call"},{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}]`, `{"jsonrpc":"2.0","method":"eth_call"}{"jsonrpc":"2.0","method":"x"}`,
		`{"method":"eth_call"}`, `{"jsonrpc":"1.0","method":"eth_call"}`, `{"jsonrpc":2.0,"method":"eth_call"}`, `{"jsonrpc":"2.0"}`, `{"jsonrpc":"2.0","method":null}`, `{"jsonrpc":"2.0","method":["eth_call"]}`, `{"jsonrpc":"2.0","method":""}`,
		`{"jsonrpc":"2.0","method":"eth_call","method":"eth_sendRawTransaction"}`, `{"jsonrpc":"2.0","method":"eth_call","Method":"eth_sendRawTransaction"}`, `{"jsonrpc":"2.0","method":"eth_call","m\u0065thod":"x"}`,
		`{"jsonrpc":"2.0","method":"eth_call","params":"x"}`, `{"jsonrpc":"2.0","method":"eth_call","params":null}`, `{"jsonrpc":"2.0","method":"eth_call","params":1}`, `{"jsonrpc":"2.0","method":"eth_call","params":[{"a":1,"a":2}]}`,
		`{"jsonrpc":"2.0","method":"eth_call","id":true}`, `{"jsonrpc":"2.0","method":"eth_call","id":{}}`, `{"jsonrpc":"2.0","method":"eth_call","id":[]}`, `{"jsonrpc":"2.0","method":"eth_call","extra":1}`, `{"jsonrpc":"2.0","method":"eth_call","query":"{a}"}`,
		`{"jsonrpc":"2.0","method":"eth_getX\u0000eth_send"}`, `{"jsonrpc":"2.0","method":"eth_getX eth_send"}`, `{"jsonrpc":"2.0","method":"eth_get\n"}`, `{"jsonrpc":"2.0","method":"eth_get\u00e9"}`, `{"jsonrpc":"2.0","method":"eth_get*"}`, `{"jsonrpc":"2.0","method":" eth_call"}`,
		`{"jsonrpc":"2.0","method":"` + strings.Repeat("x", 129) + `"}`, "\xef\xbb\xbf" + `{"jsonrpc":"2.0","method":"eth_call"}`,
	} {
		o, err := rule.Read(r, []byte(body))
		untellable(t, body, o, err)
	}
}

// Whatever a parser and the scanner find has to be the same.
func TestTheScannerHasToAgree(t *testing.T) {
	parsed := func(document string) *ast.QueryDocument {
		d, err := parser.ParseQuery(&ast.Source{Input: document})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		found  definitions
		parsed *ast.QueryDocument
		want   bool
	}{
		{definitions{[]string{"query"}, 0}, parsed("{ a }"), true},
		{definitions{[]string{"query", "mutation"}, 1}, parsed("{ a } fragment F on T { a } mutation { b }"), true},
		{definitions{[]string{"query"}, 0}, parsed("mutation { a }"), false},
		{definitions{[]string{"query"}, 0}, parsed("{ a } mutation { b }"), false},
		{definitions{[]string{"query", "mutation"}, 0}, parsed("{ a }"), false},
		{definitions{[]string{"mutation", "query"}, 0}, parsed("{ a } mutation { b }"), false},
		{definitions{[]string{"query"}, 0}, parsed("{ a } fragment F on T { a }"), false},
		{definitions{[]string{"query"}, 1}, parsed("{ a }"), false},
		{definitions{}, nil, false},
	} {
		if c.found.agrees(c.parsed) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func TestCompileOperation(t *testing.T) {
	if rule, err := CompileOperation(nil); rule != nil || err != nil || !rule.Admits(nil) || rule.Names() != nil {
		t.Error(rule, err)
	}
	for _, bad := range []registry.Operation{
		{}, {GraphQL: []string{}}, {GraphQL: []string{"query"}, JSONRPC: []string{"a"}}, {GraphQL: []string{"Query"}}, {GraphQL: []string{"query", ""}}, {GraphQL: []string{"*"}},
		{JSONRPC: []string{""}}, {JSONRPC: []string{"*"}}, {JSONRPC: []string{"a*b"}}, {JSONRPC: []string{"a**"}}, {JSONRPC: []string{"a b"}}, {JSONRPC: []string{"a", "é"}},
	} {
		if rule, err := CompileOperation(&bad); err == nil || rule != nil {
			t.Errorf("%+v: %v", bad, rule)
		}
	}
	rule := jsonRPC(t, "a", "b*")
	if fmt.Sprint(rule) != "the JSON-RPC methods a, b*" || !slices.Equal(rule.Names(), []string{"JSON-RPC a", "JSON-RPC b*"}) {
		t.Error(rule, rule.Names())
	}
	if rule.Admits(nil) || rule.Admits(&Operation{}) || rule.Admits(&Operation{kind: kindJSONRPC}) || rule.Admits(&Operation{kind: kindGraphQL, names: []string{"a"}}) {
		t.Error("an operation that nobody read is admitted")
	}
	err := graphQL(t, "query").Refuse("github/graphql-query", &Operation{kindGraphQL, []string{"query", "mutation"}})
	if e := api.AsError(err); e.Code != api.PolicyViolation || e.Message != "github/graphql-query takes a GraphQL query, not a GraphQL query and mutation" {
		t.Error(e.Message)
	}
}

// Two rules meet where some operation is admitted by both.
func TestOperationRulesMeet(t *testing.T) {
	for _, c := range []struct {
		a, b *OperationRule
		want bool
	}{
		{nil, nil, true}, {nil, graphQL(t, "query"), true},
		{graphQL(t, "query"), graphQL(t, "mutation"), false}, {graphQL(t, "query"), graphQL(t, "mutation", "query"), true},
		{graphQL(t, "query"), jsonRPC(t, "query"), false},
		{jsonRPC(t, "a"), jsonRPC(t, "a"), true}, {jsonRPC(t, "a"), jsonRPC(t, "b"), false}, {jsonRPC(t, "a*"), jsonRPC(t, "ab"), true}, {jsonRPC(t, "a*"), jsonRPC(t, "a"), false},
		{jsonRPC(t, "a*"), jsonRPC(t, "ab*"), true}, {jsonRPC(t, "ab*"), jsonRPC(t, "ac*"), false}, {jsonRPC(t, "x", "ac"), jsonRPC(t, "ab*", "ac*", "x*"), false}, {jsonRPC(t, "x", "acd"), jsonRPC(t, "ab*", "ac*"), true},
	} {
		if c.a.Meets(c.b) != c.want || c.b.Meets(c.a) != c.want {
			t.Errorf("%v and %v", c.a, c.b)
		}
	}
	names := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,3}\*?`), 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		a, b := OperationRule{kindJSONRPC, names.Draw(t, "a")}, OperationRule{kindJSONRPC, names.Draw(t, "b")}
		o := Operation{kindJSONRPC, []string{rapid.StringMatching(`[ab]{1,4}`).Draw(t, "method")}}
		if a.Admits(&o) && b.Admits(&o) && !a.Meets(&b) {
			t.Fatalf("%v is of %v and %v", o, a, b)
		}
		if a.Meets(&b) {
			// The longest name with one letter more is of both, if any is.
			for _, n := range slices.Concat(a.names, b.names) {
				n = strings.TrimSuffix(n, "*")
				for _, more := range []string{"", "a"} {
					o := Operation{kindJSONRPC, []string{n + more}}
					if a.Admits(&o) && b.Admits(&o) {
						return
					}
				}
			}
			t.Fatalf("%v and %v meet nowhere", a, b)
		}
	})
}
