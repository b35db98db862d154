//go:build system

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"moldable.sh/aivault/internal/server"
)

// operatorRequests are for each of the operator's routes a path, a body, and
// the commands that ask for it.
var operatorRequests = map[string]struct {
	path, body string
	commands   []string // VALUE is a file with a value
}{
	"POST /aivault/capabilities":           {"", `{}`, []string{"capability create openai/all --provider openai --method POST --path /"}},
	"DELETE /aivault/capabilities/{id...}": {"/aivault/capabilities/openai/x", "", []string{"capability delete openai/all"}},
	"POST /aivault/capabilities/enable":    {"", `{"patterns":["openai/*"]}`, []string{"capability enable openai/*"}},
	"POST /aivault/capabilities/disable":   {"", `{"patterns":["openai/*"]}`, []string{"capability disable openai/*"}},
	"POST /aivault/init":                   {"", `{}`, []string{"init"}},
	"POST /aivault/unlock":                 {"", `{}`, []string{"unlock --passphrase-file VALUE"}},
	"POST /aivault/lock":                   {"", `{}`, []string{"lock"}},
	"POST /aivault/rotate-master":          {"", `{}`, []string{"rotate-master"}},
	"POST /aivault/backup":                 {"", `{}`, []string{"backup VALUE --force", "backup VALUE --force --passphrase-file VALUE"}},
	"POST /aivault/restore":                {"", `{"accept":1}`, []string{"restore --accept 1"}},
	"GET /aivault/secrets":                 {"", "", []string{"secrets list"}},
	"POST /aivault/secrets":                {"", `{"name":"A","value":"bbbbbbbb"}`, []string{"secrets create --name X_KEY --value-file VALUE", "secrets create --name Y_KEY --value-file VALUE --scope workspace --workspace-id w"}},
	"PATCH /aivault/secrets/{ref}":         {"/aivault/secrets/OPENAI_API_KEY", `{"newName":"Z"}`, []string{"secrets update OPENAI_API_KEY --new-name Y"}},
	"POST /aivault/secrets/{ref}/rotate":   {"/aivault/secrets/OPENAI_API_KEY/rotate", `{"value":"bbbbbbbb"}`, []string{"secrets rotate OPENAI_API_KEY --value-file VALUE"}},
	"DELETE /aivault/secrets/{ref}":        {"/aivault/secrets/OPENAI_API_KEY", "", []string{"secrets delete OPENAI_API_KEY"}},
	"POST /aivault/secrets/{ref}/groups":   {"/aivault/secrets/OPENAI_API_KEY/groups", `{"workspaceId":"w","groupId":"g"}`, []string{"secrets attach-group OPENAI_API_KEY --workspace-id w --group-id g"}},
	"DELETE /aivault/secrets/{ref}/groups": {"/aivault/secrets/OPENAI_API_KEY/groups", `{"workspaceId":"w","groupId":"g"}`, []string{"secrets detach-group OPENAI_API_KEY --workspace-id w --group-id g"}},
	"POST /aivault/secrets/import":         {"", `{"entries":[{"name":"A","value":"bbbbbbbb"}]}`, []string{"secrets import --entry A=bbbbbbbb", "secrets import --entry A=bbbbbbbb --dry-run"}},
	"GET /aivault/credentials":             {"", "", []string{"credential list"}},
	"POST /aivault/credentials":            {"", `{}`, []string{"credential create evil --provider evil --secret OPENAI_API_KEY --auth header --host evil.test"}},
	"DELETE /aivault/credentials/{ref}":    {"/aivault/credentials/openai", "", []string{"credential delete openai"}},
	"GET /aivault/policies":                {"", "", []string{"capability policy show"}},
	"POST /aivault/policies":               {"", `{"capability":"openai/models","rateLimitPerMinute":1}`, []string{"capability policy set openai/models --rate-limit-per-minute 1"}},
	"GET /aivault/policies/{id...}":        {"/aivault/policies/openai/models", "", []string{"capability policy show openai/models"}},
	"DELETE /aivault/policies/{id...}":     {"/aivault/policies/openai/models", "", []string{"capability policy clear openai/models"}},
	"GET /aivault/bindings":                {"", "", []string{"capability bindings"}},
	"POST /aivault/bindings":               {"", `{"capability":"openai/*","credential":"openai"}`, []string{"capability bind openai/* --credential openai"}},
	"DELETE /aivault/bindings":             {"", `{"capability":"openai/*"}`, []string{"capability unbind openai/*"}},
	"GET /aivault/grants":                  {"", "", []string{"grant list"}},
	"POST /aivault/grants":                 {"", `{"consumer":{"uid":0}}`, []string{"grant add --user root", "grant add --uid 0 --capability *"}},
	"DELETE /aivault/grants/{ref}":         {"/aivault/grants/g", "", []string{"grant remove g"}},
	"POST /aivault/grants/reset":           {"", `{"uid":0}`, []string{"grant reset --uid 0"}},
	"POST /aivault/grants/default":         {"", `{"default":"deny"}`, []string{"grant default deny", "grant default allow"}},
	"GET /aivault/audit":                   {"", "", []string{"audit", "audit --denied --since 1h"}},
	"GET /aivault/audit/export":            {"", "", []string{"audit export"}},
	"GET /aivault/audit/follow":            {"", "", []string{"audit --follow"}},
	"GET /aivault/oauth":                   {"", "", []string{"oauth status"}},
	"POST /aivault/oauth/setup": {"", `{"provider":"dropbox","clientId":"an-app","redirectUri":"https://example.com/"}`,
		[]string{"oauth setup dropbox --client-id an-app --redirect-uri https://example.com/"}},
	"POST /aivault/oauth/logins": {"", `{"provider":"dropbox","flow":"code","clientId":"an-app","redirectUri":"http://127.0.0.1:1/callback"}`,
		[]string{"oauth login dropbox --client-id an-app --public-client --no-browser", "oauth login gitlab --device --client-id an-app --public-client"}},
	"POST /aivault/oauth/logins/{ref}": {"/aivault/oauth/logins/a-login", `{"code":"a-code"}`, []string{"oauth login dropbox --client-id an-app --public-client --no-browser"}},
	"DELETE /aivault/oauth/{ref}":      {"/aivault/oauth/openai", "", []string{"oauth logout openai"}},
}

// everyOperatorRouteIsRefused asks for each of the operator's routes by its
// commands and by raw HTTP, with a fitting body and with none that can be read.
func (m *machine) everyOperatorRouteIsRefused(agent func(args ...string) result) {
	t := m.t
	t.Helper()
	value := filepath.Join(m.dir, "value")
	must(t, os.WriteFile(value, []byte("another value"), 0o644))
	before := m.state()
	tried := 0
	for _, rt := range server.Routes() {
		if !rt.Operator {
			continue
		}
		row := rt.Method + " " + rt.Pattern
		r, ok := operatorRequests[row]
		if !ok || len(r.commands) == 0 {
			t.Errorf("nobody tries %s as an agent", row)
			continue
		}
		tried++
		if r.path == "" {
			r.path = rt.Pattern
		}
		// The agent's CLI does not even send a value or a passphrase to a
		// daemon of another user, and says what the daemon would have said.
		for _, command := range r.commands {
			args := strings.Fields(strings.ReplaceAll(command, "VALUE", value))
			m.wantExit(agent(append(args, "--json")...), 3, `{"error":"operator_required"`)
		}
		for _, body := range []string{r.body, "not even JSON"} {
			status, answer := m.raw(agentUser, rt.Method, r.path, body)
			var e struct{ Error string }
			if err := json.Unmarshal([]byte(answer), &e); err != nil || e.Error != "operator_required" || status != "403" {
				t.Errorf("%s by raw HTTP: %s %s", row, status, answer)
			}
		}
	}
	if tried != len(operatorRequests) {
		t.Errorf("%d routes were tried, and %d are known here", tried, len(operatorRequests))
	}
	if after := m.state(); after != before {
		t.Errorf("what the operator sees was\n%s\nand is now\n%s", before, after)
	}
}

// raw makes a request without aivault's own client.
func (m *machine) raw(who, method, path, body string) (status, answer string) {
	m.t.Helper()
	args := []string{"curl", "-sS", "--unix-socket", m.socket, "-X", method, "-w", " %{http_code}"}
	if body != "" {
		args = append(args, "-H", "Content-Type: application/json", "-d", body)
	}
	r := m.as(who, nil, append(args, "http://d"+path)...)
	i := strings.LastIndex(r.stdout, " ")
	if r.exit != 0 || i < 0 {
		m.t.Fatalf("%s %s by raw HTTP: %+v", method, path, r)
	}
	return r.stdout[i+1:], r.stdout[:i]
}

// state is all that the operator can list.
func (m *machine) state() string {
	m.t.Helper()
	var all strings.Builder
	for _, command := range []string{"secrets list", "credential list", "capability list", "capability policy show", "capability bindings", "grant list"} {
		r := m.operator(strings.Fields(command)...)
		if r.exit != 0 {
			m.t.Fatalf("%s: %+v", command, r)
		}
		fmt.Fprintf(&all, "%s: %s\n", command, r.stdout)
	}
	return all.String()
}

// operator runs a command as the vault's owner, on the shared socket.
func (m *machine) operator(args ...string) result {
	m.t.Helper()
	return m.as(operatorUser, append(m.dev(), m.shared()...), append(append([]string{m.bin("dev", "aivault")}, args...), "--json")...)
}

// do is operator for what has to succeed.
func (m *machine) do(command string) {
	m.t.Helper()
	if r := m.operator(strings.Fields(command)...); r.exit != 0 {
		m.t.Fatalf("%s: %+v", command, r)
	}
}
