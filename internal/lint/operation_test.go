package lint

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/registry"
)

// graphs is a provider with endpoints that are told by their bodies.
const graphs = `{
  "schemaVersion": 1, "provider": "graphs", "title": "Graphs", "category": "test", "docs": "https://graphs.com/docs",
  "getKey": {"text": "Ask.", "url": "https://graphs.com/keys"},
  "secrets": [{"name": "GRAPHS_KEY", "field": "secret"}],
  "hosts": ["api.graphs.com"],
  "logins": [{"id": "key", "auth": {"type": "header", "headerName": "X-Graphs-Key", "valueTemplate": "{{secret}}"}}],
  "capabilities": [
    {"id": "graphs/query", "description": "Read.", "access": "read", "methods": ["POST"], "paths": ["=/graphql"],
     "operation": {"graphql": ["query"]}, "example": "--body '{\"query\":\"{ a }\"}'"},
    {"id": "graphs/mutation", "description": "Write.", "access": "write", "methods": ["POST"], "paths": ["=/graphql"],
     "operation": {"graphql": ["mutation"]}, "example": "--body '{\"query\":\"mutation { a }\"}'"},
    {"id": "graphs/node", "description": "Read.", "access": "read", "methods": ["POST"], "paths": ["=/node"],
     "operation": {"jsonrpc": ["eth_get*", "net_version"]}, "example": "--body '{\"jsonrpc\":\"2.0\",\"method\":\"net_version\"}'"},
    {"id": "graphs/any", "description": "Any.", "access": "read", "methods": ["POST"], "paths": ["=/any"], "example": "--body 'x'"}
  ],
  "sets": [{"id": "graphs/graphql", "description": "Both.", "members": ["graphs/query", "graphs/mutation"], "default": "graphs/query"}]
}`

func TestProblemsOfOperations(t *testing.T) {
	beside := load(t)
	if _, problems := File([]byte(graphs), beside); len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct{ old, new, where, why string }{
		{`"--body '{\"query\":\"{ a }\"}'"`, `""`, "graphs/query", "example: "},
		{`"--body '{\"query\":\"{ a }\"}'"`, `"--body '{\"query\":\"mutation { a }\"}'"`, "graphs/query", "takes a GraphQL query, not a GraphQL mutation"},
		{`"--body '{\"query\":\"{ a }\"}'"`, `"--body '{\"query\":\"{ a \"}'"`, "graphs/query", "example: "},
		{`"--body '{\"query\":\"{ a }\"}'"`, `"--body-file query.json"`, "graphs/query", "example: "},
		{`"--body '{\"query\":\"{ a }\"}'"`, `"--query a=b --body '{\"query\":\"{ a }\"}'"`, "graphs/query", "a query string"},
		{`"--body '{\"query\":\"{ a }\"}'"`, `"-H 'Content-Type: text/plain' --body '{\"query\":\"{ a }\"}'"`, "graphs/query", "Content-Type"},
		{`net_version\"}'"`, `eth_sendRawTransaction\"}'"`, "graphs/node", "not the JSON-RPC method eth_sendRawTransaction"},
		{`{"graphql": ["query"]}`, `{"graphql": ["query", "mutation"]}`, "file", "a read capability has the operation mutation"},
		{`{"graphql": ["mutation"]}`, `{"graphql": ["mutation", "query"]}`, "graphs/query", "as graphs/mutation does, which is write"},
		{`"operation": {"graphql": ["query"]}, `, ``, "graphs/query", "as graphs/mutation does, which is write"},
	} {
		if !strings.Contains(graphs, c.old) {
			t.Fatalf("%s is not in the file", c.old)
		}
		_, problems := File([]byte(strings.Replace(graphs, c.old, c.new, 1)), beside)
		found := false
		for _, p := range problems {
			found = found || p.Where == c.where && strings.Contains(p.Why, c.why)
		}
		if !found {
			t.Errorf("%s: %v", c.new, problems)
		}
	}
}

func TestRequestsWithBodies(t *testing.T) {
	beside := load(t)
	p, err := registry.Parse([]byte(graphs))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, body, why string }{
		{`allow POST api.graphs.com /graphql graphs/query body:{"query":"{ a }"}`, `{"query":"{ a }"}`, ""},
		{`allow POST api.graphs.com /graphql  graphs/query   body:{"query":"{ a(x: \"body:\") }"} `, `{"query":"{ a(x: \"body:\") }"} `, ""},
		{`allow POST api.graphs.com /graphql graphs/mutation body:{"query":"mutation { a }"}`, `{"query":"mutation { a }"}`, ""},
		{`allow POST api.graphs.com /graphql Content-Type:application/json;charset=utf-8 graphs/query body:{"query":"{ a }"}`, `{"query":"{ a }"}`, ""},
		{`allow POST api.graphs.com /node graphs/node body:{"jsonrpc":"2.0","method":"eth_getLogs"}`, `{"jsonrpc":"2.0","method":"eth_getLogs"}`, ""},
		{`allow POST api.graphs.com /any graphs/any body:what you like`, `what you like`, ""},
		{`allow POST api.graphs.com /any graphs/any`, ``, ""},
		{`refuse POST api.graphs.com /graphql`, ``, ""},
		{`refuse POST api.graphs.com /graphql body:query`, `query`, ""},
		{`refuse POST api.graphs.com /graphql body:[{"query":"{ a }"}]`, `[{"query":"{ a }"}]`, ""},
		{`refuse POST api.graphs.com /graphql Content-Type:text/plain body:{"query":"{ a }"}`, `{"query":"{ a }"}`, ""},
		{`refuse POST api.graphs.com /graphql body:{"query":"{ a } mutation B { b }"}`, `{"query":"{ a } mutation B { b }"}`, ""},
		{`refuse POST api.graphs.com /node body:{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}`, `{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}`, ""},
		{`allow POST api.graphs.com /graphql graphs/query body:{"query":"mutation { a }"}`, `{"query":"mutation { a }"}`, "it is admitted by graphs/mutation"},
		{`allow POST api.graphs.com /graphql graphs/query body:{"query":"subscription { a }"}`, `{"query":"subscription { a }"}`, "no capability admits it: graphs/mutation takes a GraphQL mutation"},
		{`refuse POST api.graphs.com /graphql body:{"query":"{ a }"}`, `{"query":"{ a }"}`, "it is admitted by graphs/query"},
	} {
		results, err := Requests(p, beside, "# body:\n"+c.line+"\n")
		if err != nil || len(results) != 1 {
			t.Fatalf("%s: %v %v", c.line, results, err)
		}
		if r := results[0]; r.OK != (c.why == "") || !strings.HasPrefix(r.Why, c.why) || r.Body != c.body {
			t.Errorf("%s: %+v", c.line, r)
		}
	}
	for _, bad := range []string{
		`allow POST api.graphs.com /graphql graphs/query body:`, `refuse POST api.graphs.com /graphql body: `, `allow POST api.graphs.com /graphql body:{"query":"{ a }"} graphs/query`,
	} {
		if results, err := Requests(p, beside, bad); err == nil {
			t.Errorf("%s: %+v", bad, results)
		}
	}
}
