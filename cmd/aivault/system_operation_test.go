//go:build system

package main_test

import (
	"os"
	"path/filepath"
	"testing"
)

// An agent who was granted reading makes no mutation go out, by the CLI or by
// raw HTTP.
func TestSystemAGrantOfReadingIsNoGrantOfMutations(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	m.do("secrets create --name GITHUB_TOKEN --value " + decoy)
	m.do("grant add --user " + agentUser + " --capability github/graphql-query")
	before := len(m.api.Seen())
	file := filepath.Join(m.dir, "query.json")
	must(t, os.WriteFile(file, []byte(`{"query":"query A { a } mutation B { b }","operationName":"A"}`), 0o644))
	for _, id := range []string{"github/graphql", "github/graphql-query"} {
		for _, args := range [][]string{
			{"-d", `{"query":"mutation { a }"}`}, {"--body-file", file}, {"-d", `[{"query":"{ a }"}]`}, {"--form", "query=mutation { a }"}, {"-d", `{"query":"{ a }","query":"mutation { b }"}`},
			{"-X", "GET", "--path", "/graphql?query=mutation%7Ba%7D"}, {"-d", `{"query":"{ a }"}`, "--path", "/graphql?query=mutation%7Ba%7D"},
		} {
			m.wantExit(m.aivault(agentUser, append([]string{"invoke", id}, args...)...), 3, "")
		}
		status, answer := m.raw(agentUser, "POST", "/aivault/proxy", `{"capability":"`+id+`","request":{"body":"{\"query\":\"{ a } # x\\rmutation { b }\"}"}}`)
		if status != "403" {
			t.Errorf("%s: %s %s", id, status, answer)
		}
	}
	m.wantExit(m.aivault(agentUser, "invoke", "github/graphql-mutation", "-d", `{"query":"mutation { a }"}`), 6, "")
	if n := len(m.api.Seen()) - before; n != 0 {
		t.Errorf("%d requests reached the API", n)
	}
	m.wantExit(m.aivault(agentUser, "invoke", "github/graphql", "-d", `{"query":"{ viewer { login } }"}`), 0, "")
	m.wantExit(m.operator("invoke", "github/graphql", "-d", `{"query":"mutation { a }"}`), 0, "") // whom no grant limits
}
