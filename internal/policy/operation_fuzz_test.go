package policy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

var (
	withBlocks    = regexp.MustCompile(`"""(?s:.*?)"""|"(?:\\.|[^"\\\n])*"|#[^\n]*`)
	withoutBlocks = regexp.MustCompile(`"(?:\\.|[^"\\\n])*"|#[^\n]*`)
	words         = regexp.MustCompile(`[_A-Za-z][_0-9A-Za-z]*|[^\s,]`)
)

// topWords is a third reader: it takes strings and comments out of a document
// and lists what begins a definition, sorted and each once.
func topWords(document string, texts *regexp.Regexp) []string {
	document = texts.ReplaceAllStringFunc(document, func(s string) string {
		if s[0] == '#' {
			return ""
		}
		return " $ "
	})
	var found []string
	depth, within := 0, false
	for _, w := range words.FindAllString(document, -1) {
		if !within {
			if within = true; w == "{" {
				w = "query"
				depth++
				found = append(found, w)
				continue
			}
			found = append(found, w)
			continue
		}
		switch w {
		case "{", "(", "[":
			depth++
		case "}", ")", "]":
			if depth--; depth == 0 && w == "}" {
				within = false
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Whatever passes as some operation is one JSON object whose document every
// reader finds the same operations in.
func FuzzGraphQLOperation(f *testing.F) {
	for _, document := range []string{
		`{ a }`, `query Q($a: [I!]! = [{b: "}"}]) @x(y: 1) { a: b(c: $a) { ...F ... on T @skip(if: true) { d } } } fragment F on T { e }`, `mutation { a }`, `subscription S { a } query { b }`,
		"# mutation { a }\r\nquery mutation { a(b: \"\\\"} mutation {\") }", "{ a(b: \"\"\"\n} \"x\" mutation { b }\n\"\"\") }", `query a { a(b: ["""x" ] ) { id } } mutation m { evil } # """]) { id } }`,
		"{ a(b: \"\"\"\"\"\") }", "{ a } # x\rmutation { b }", "\ufeff{ a }", "type T { a: I } { a }",
	} {
		f.Add([]byte(graphQLBody(document)))
		f.Add([]byte(document))
	}
	f.Add([]byte(`{"query":"{a}","qu\u0065ry":"mutation{a}"}`))
	f.Add([]byte(`[{"query":"{a}"}]`))
	f.Add([]byte(`{"query":"{a}","variables":{"a":[1]},"operationName":null,"extensions":{}}`))
	all := OperationRule{kindGraphQL, []string{opQuery, opMutation, opSubscription}}
	r := asking(f, "/graphql", asJSON)
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := all.Read(r, body)
		if err != nil {
			untellable(t, string(body), o, err)
			// A document by itself is read, too, so that more of them are tried.
			if body, err = json.Marshal(map[string]string{"query": string(body)}); err != nil {
				t.Fatal(err)
			}
			if o, err = all.Read(r, body); err != nil {
				untellable(t, string(body), o, err)
				return
			}
		}
		var request map[string]json.RawMessage
		if err := json.Unmarshal(body, &request); err != nil {
			t.Fatalf("%q is told, and is no JSON: %v", body, err)
		}
		for name := range request {
			if name != "query" && name != "operationName" && name != "variables" {
				t.Fatalf("%q has the member %q", body, name)
			}
		}
		var document string
		if err := json.Unmarshal(request["query"], &document); err != nil {
			t.Fatal(err)
		}
		got := topWords(document, withBlocks)
		got = slices.DeleteFunc(got, func(w string) bool { return w == "fragment" })
		want := slices.Sorted(slices.Values(o.names))
		if !slices.Equal(got, want) {
			t.Fatalf("%q: %q, and a third reader finds %q", document, want, got)
		}
		// Who knows no block strings finds the same, or a string that does not
		// end in its line.
		if rest := withoutBlocks.ReplaceAllString(document, ""); !strings.Contains(rest, `"`) && !strings.ContainsAny(rest, "'`%;~\\<>/?*^") {
			old := topWords(document, withoutBlocks)
			if old = slices.DeleteFunc(old, func(w string) bool { return w == "fragment" }); !slices.Equal(old, want) && !strings.ContainsFunc(rest, func(c rune) bool { return c > '~' }) {
				t.Fatalf("%q: %q, and without block strings %q", document, want, old)
			}
		}
	})
}

func FuzzJSONRPCOperation(f *testing.F) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}`, `{"jsonrpc":"2.0","method":"eth_getX","params":{"a":{"a":1}}}`, `[{"jsonrpc":"2.0","method":"eth_call"}]`,
		`{"jsonrpc":"2.0","method":"eth_call","m\u0065thod":"x"}`, `{"jsonrpc":"2.0","method":"eth_getX\u0000"}`, `{"jsonrpc":"2.0","method":"eth_call","id":true}`,
	} {
		f.Add([]byte(body))
	}
	rule := operation(f, registry.Operation{JSONRPC: []string{"eth_call", "eth_get*"}})
	r := asking(f, "/v2", asJSON)
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := rule.Read(r, body)
		if err != nil {
			untellable(t, string(body), o, err)
			return
		}
		var call map[string]any
		if err := json.Unmarshal(body, &call); err != nil {
			t.Fatalf("%q is told, and is no JSON: %v", body, err)
		}
		method, _ := call["method"].(string)
		if call["jsonrpc"] != "2.0" || o.names[0] != method {
			t.Fatalf("%q is %v", body, o)
		}
		for name := range call {
			if !slices.Contains([]string{"jsonrpc", "method", "params", "id"}, name) {
				t.Fatalf("%q has the member %q", body, name)
			}
		}
		if rule.Admits(o) != (method == "eth_call" || strings.HasPrefix(method, "eth_get") && method != "eth_get") {
			t.Fatalf("%q: %v", body, rule.Admits(o))
		}
	})
}

// Every document that the grammar makes is told, and as what it was made of.
func TestEveryDocumentOfTheGrammarIsTold(t *testing.T) {
	all, r := graphQL(t, opQuery, opMutation, opSubscription), asking(t, "/graphql", asJSON)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "B_1", "query", "mutation", "subscription", "fragment", "type", "_"})
		space := func() string {
			return rapid.SampledFrom([]string{" ", " ", "\n", "\t", ", ", "\r\n", " # mutation { x } \" \n", "#}\r\n", "\n#é\n"}).Draw(t, "space")
		}
		text := func() string {
			return rapid.SampledFrom([]string{
				`""`, `"x"`, `"} mutation {"`, `"\"}"`, `"\\"`, `"é # \u007b"`, `"""x"""`, "\"\"\"\n} mutation { a }\n\"\"\"", `"""say "so" (now)"""`, "\"\"\"'\n#\n\"\"\"", `"$"`,
			}).Draw(t, "text")
		}
		var value func(depth int) string
		value = func(depth int) string {
			switch n := rapid.IntRange(0, 7).Draw(t, "value"); {
			case n == 0 && depth > 0:
				return "[" + value(depth-1) + space() + value(depth-1) + "]"
			case n == 1 && depth > 0:
				return "{" + name.Draw(t, "field") + ":" + space() + value(depth-1) + "}"
			case n < 4:
				return text()
			}
			return rapid.SampledFrom([]string{"1", "-2.5e+3", "true", "null", "ENUM", "query"}).Draw(t, "literal")
		}
		var selection func(depth int) string
		selection = func(depth int) string {
			out := "{" + space()
			for range rapid.IntRange(1, 2).Draw(t, "fields") {
				out += name.Draw(t, "field")
				if rapid.Bool().Draw(t, "aliased") {
					out += ":" + space() + name.Draw(t, "field")
				}
				if rapid.Bool().Draw(t, "arguments") {
					out += "(" + name.Draw(t, "argument") + space() + ":" + value(2) + ")"
				}
				if depth > 0 && rapid.Bool().Draw(t, "deeper") {
					out += selection(depth - 1)
				}
				out += space()
			}
			return out + "}"
		}
		document, made := "", map[string]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "definitions") {
			document += space()
			kind := rapid.SampledFrom([]string{"", opQuery, opQuery, opMutation, opSubscription, "fragment"}).Draw(t, "kind")
			switch kind {
			case "":
				made[opQuery] = true
				document += selection(2)
				continue
			case "fragment":
				document += "fragment F on " + name.Draw(t, "type")
			default:
				made[kind] = true
				document += kind + space() + name.Draw(t, "operation")
				if rapid.Bool().Draw(t, "variables") {
					document += "($v: [Int!]! = " + strings.ReplaceAll(value(1), "$", "S") + ")"
				}
			}
			document += space() + "@d(x: 1)" + selection(2)
		}
		o, err := all.Read(r, []byte(graphQLBody(document)))
		if len(made) == 0 {
			if api.CodeOf(err) != api.PolicyViolation {
				t.Fatalf("%q: %v", document, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", document, err)
		}
		for _, kind := range []string{opQuery, opMutation, opSubscription} {
			if slices.Contains(o.names, kind) != made[kind] {
				t.Fatalf("%q: %v, made of %v", document, o, made)
			}
		}
	})
}
