package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// disguises are bodies that a careless reader takes for a query, or that a
// server might run a mutation from.
func disguises() map[string]string {
	text := func(document string) string {
		b, err := json.Marshal(map[string]string{"query": document})
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	plain := text("mutation { a }")
	wide := func(order func(hi, lo byte) []byte) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(plain)) {
			b = append(b, order(byte(u>>8), byte(u))...)
		}
		return string(b)
	}
	return map[string]string{
		"plain":                      plain,
		"named for a query":          text("mutation query { query: a }"),
		"behind a comment":           text("# query { a }\nmutation { b }"),
		"behind commas":              text(",,,mutation,{a}"),
		"second":                     text("query A { a } mutation B { b }"),
		"second, and not the chosen": `{"query":"query A { a } mutation B { b }","operationName":"A"}`,
		"second, and the chosen":     `{"query":"query A { a } mutation B { b }","operationName":"B"}`,
		"behind a fragment":          text("fragment F on Query { a } mutation { ...F } query A { a }"),
		"after a lone CR":            text("{ a } # comment\rmutation { b }"),
		"after a line separator":     text("{ a } # comment\u2028mutation { b }"),
		"after a next line":          text("{ a } # comment\u0085mutation { b }"),
		"after a form feed":          text("{ a } # comment\fmutation { b }"),
		"after a NUL":                text("{ a }\x00mutation { b }"),
		"behind a mark":              text("\ufeffmutation { b }"),
		"behind a blank":             text("{ a }\u00a0mutation { b }"),
		"in a string that ends":      text(`{ a(b: "\\") } mutation { b } #") }`),
		"in a block string":          text(`query a { a(b: ["""x" ] ) { id } } mutation m { evil } # """]) { id } }`),
		"behind four quotes":         text(`{ a(b: """"x""") } mutation { b } # """) }`),
		"behind an escape":           text(`{ a(b: """x\""") } mutation { b } # """) }`),
		"in a batch of one":          "[" + plain + "]",
		"in a batch":                 `[{"query":"{ a }"},` + plain + "]",
		"after another text":         `{"query":"{ a }"}` + plain,
		"in the second of two":       `{"query":"{ a }","query":"mutation { b }"}`,
		"in the first of two":        `{"query":"mutation { b }","query":"{ a }"}`,
		"in an escaped second":       `{"query":"{ a }","qu\u0065ry":"mutation { b }"}`,
		"in another case":            `{"query":"{ a }","Query":"mutation { b }"}`,
		"beside the query":           `{"query":"{ a }","mutation":"mutation { b }"}`,
		"persisted":                  `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"0a"}}}`,
		"persisted, with a query":    `{"query":"{ a }","extensions":{"persistedQuery":{"version":1,"sha256Hash":"0a"}}}`,
		"by an id":                   `{"query":"{ a }","id":"0a"}`,
		"by a document's id":         `{"documentId":"0a","variables":{}}`,
		"in extensions":              `{"query":"{ a }","extensions":{"query":"mutation { b }"}}`,
		"behind a byte order mark":   "\xef\xbb\xbf" + plain,
		"in UTF-16 BE":               "\xfe\xff" + wide(func(hi, lo byte) []byte { return []byte{hi, lo} }),
		"in UTF-16 LE":               wide(func(hi, lo byte) []byte { return []byte{lo, hi} }),
		"as a document":              "mutation { a }",
		"as a form":                  "query=mutation%20%7B%20a%20%7D",
		"as a list":                  `{"query":["mutation { a }"]}`,
		"as a subscription":          text("subscription { a }"),
		"beside a type":              text("type T { a: Int } mutation { b }"),
		"of nothing":                 "",
		"of no operation":            text("fragment F on Query { a }"),
		"too deep":                   text(strings.Repeat("{a", 10_000) + strings.Repeat("}", 10_000)),
	}
}

// Who was granted reading, and no more, makes no mutation go out, however it
// is dressed up.
func TestAReadOnlyGrantOfGraphQL(t *testing.T) {
	v, s := start(t, aivaulttest.Options{}, aivaulttest.Agent())
	v.Create(t, "GITHUB_TOKEN", "ghp_0123456789abcdef")
	if _, err := v.Admin.AddGrant(t.Context(), aivaulttest.Operator(), api.GrantAdd{Consumer: api.ConsumerRef{UID: new(aivaulttest.Agent().UID)}, Capabilities: []string{"github/graphql-query"}}); err != nil {
		t.Fatal(err)
	}
	const asJSON = `"headers":[{"name":"Content-Type","value":"application/json"}]`
	// send gives the body as text of the envelope where it can be, or beside it.
	send := func(id, more, body string, beside bool) (int, string) {
		envelope := `{"capability":"` + id + `","request":{"method":"POST","path":"/graphql"` + more
		if !beside {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			resp, answer := s.send(t, "POST", api.RouteProxy, envelope+`,"body":`+string(text)+`}}`)
			return resp.StatusCode, answer
		}
		kind, parts := parts([3]string{"envelope", "", envelope + "}}"}, [3]string{"body", "", body})
		resp, answer := s.send(t, "POST", api.RouteProxy, parts, kind)
		return resp.StatusCode, answer
	}
	for name, body := range disguises() {
		for _, id := range []string{"github/graphql", "github/graphql-query", "github/graphql-*"} {
			for _, beside := range []bool{true, false} {
				if !beside && !utf8.ValidString(body) {
					continue
				}
				if status, answer := send(id, ","+asJSON, body, beside); status != 403 || !strings.Contains(answer, `"policy_violation"`) || strings.Contains(answer, "graphql-mutation") {
					t.Errorf("%s, %s, beside %v: %d %s", name, id, beside, status, answer)
				}
			}
		}
		if status, answer := send("github/graphql-mutation", ","+asJSON, body, true); status != 404 {
			t.Errorf("%s, by its name: %d %s", name, status, answer)
		}
	}
	const query = `{"query":"{ viewer { login } }"}`
	for name, more := range map[string]string{
		"a form's type":   `,"headers":[{"name":"Content-Type","value":"application/x-www-form-urlencoded"}]`,
		"GraphQL's type":  `,"headers":[{"name":"Content-Type","value":"application/graphql"}]`,
		"another charset": `,"headers":[{"name":"Content-Type","value":"application/json; charset=utf-16"}]`,
		"a multipart":     `,"headers":[{"name":"Content-Type","value":"multipart/form-data; boundary=x"}]`,
		"a coding":        `,"headers":[{"name":"Content-Type","value":"application/json"},{"name":"Content-Encoding","value":"gzip"}]`,
		"two types":       `,"headers":[{"name":"Content-Type","value":"application/json"},{"name":"content-type","value":"application/graphql"}]`,
		"no type":         ``,
	} {
		if status, answer := send("github/graphql", more, query, true); status != 403 && status != 400 {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	for name, request := range map[string]string{
		"GET":               `{"method":"GET","path":"/graphql?query=mutation%7Ba%7D"}`,
		"PUT":               `{"method":"PUT","path":"/graphql",` + asJSON + `,"body":"{\"query\":\"{a}\"}"}`,
		"a query string":    `{"method":"POST","path":"/graphql?query=mutation%7Ba%7D","body":"{\"query\":\"{a}\"}"}`,
		"an empty one":      `{"method":"POST","path":"/graphql?","body":"{\"query\":\"{a}\"}"}`,
		"a method's twin":   `{"method":"POST","path":"/graphql","headers":[{"name":"X-HTTP-Method-Override","value":"GET"}],"body":"{\"query\":\"{a}\"}"}`,
		"another path":      `{"method":"POST","path":"/graphql/","body":"{\"query\":\"{a}\"}"}`,
		"a path's disguise": `{"method":"POST","path":"/graphq%6C","body":"{\"query\":\"mutation{a}\"}"}`,
	} {
		if resp, answer := s.send(t, "POST", api.RouteProxy, `{"capability":"github/graphql","request":`+request+`}`); resp.StatusCode != 403 && resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		}
	}
	if seen := v.API.Seen(); len(seen) != 0 {
		t.Fatalf("the API saw %+v", seen)
	}
	for _, r := range aivaulttest.Events(v.Records(t), "call.allowed") {
		t.Errorf("allowed: %v", r)
	}
	// What reads goes out as it was sent.
	for _, body := range []string{query, `{"query":"query A { a } query B { b } fragment F on T { mutation }","operationName":"B","variables":{"x":"mutation { a }"}}`, " {\"query\" : \"# mutation { a }\\r\\n{ a(b: \\\"\\\"\\\"\\nmutation { b }\\n\\\"\\\"\\\") }\"}\n"} {
		for _, beside := range []bool{true, false} {
			before := len(v.API.Seen())
			if status, answer := send("github/graphql", ","+asJSON, body, beside); status != 200 && status != 404 {
				t.Errorf("%s: %d %s", body, status, answer)
			}
			if seen := v.API.Seen()[before:]; len(seen) != 1 || string(seen[0].Body) != body || seen[0].Target != "/graphql" {
				t.Errorf("%s: the API saw %+v", body, seen)
			}
		}
	}
}
