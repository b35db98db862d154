//go:build system

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	granted    = "openai/chat-completions"
	notGranted = "openai/models"
	notThere   = "openai/no-such"
)

// aivault runs the CLI as a user, on the shared socket.
func (m *machine) aivault(who string, args ...string) result {
	m.t.Helper()
	return m.as(who, append(m.dev(), m.shared()...), append([]string{m.bin("dev", "aivault")}, args...)...)
}

// inGroups runs the CLI as a process of a user that is in just these groups,
// whatever the user database says.
func (m *machine) inGroups(who, primary string, groups []string, args ...string) result {
	m.t.Helper()
	u, err := user.Lookup(who)
	must(m.t, err)
	if primary == "" {
		primary = u.Gid
	}
	argv := []string{"--reuid", u.Uid, "--regid", primary, "--groups", strings.Join(groups, ","), "--", "env", "-i", "HOME=" + filepath.Join(m.dir, who), "PATH=/usr/bin:/bin"}
	argv = append(append(append(argv, m.dev()...), m.shared()...), m.bin("dev", "aivault"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "setpriv", append(argv, args...)...)
	cmd.Dir = "/"
	return finish(m.t, cmd)
}

// call makes a call of a capability that succeeds if it is let through.
func call(id string) []string {
	switch id {
	case notGranted:
		return []string{"invoke", id, "--path", "/v1/models"}
	case notThere:
		return []string{"invoke", id, "--path", "/v1/models", "-X", "GET"}
	}
	return []string{"invoke", id, "--body", `{"model":"gpt-5.2","messages":[]}`}
}

// indistinguishable asks after two capabilities in every way there is.
func (m *machine) indistinguishable(who, one, other string) {
	m.t.Helper()
	same := func(how string, answer func(id string) string) {
		m.t.Helper()
		a := strings.ReplaceAll(answer(one), one, "ID")
		b := strings.ReplaceAll(answer(other), other, "ID")
		if a != b {
			m.t.Errorf("%s, %s as %s:\n%s\nand %s:\n%s", how, one, who, a, other, b)
		}
		if !strings.Contains(a, "capability_not_found") && !strings.Contains(a, "no capability") {
			m.t.Errorf("%s, %s as %s does not say that it is not there: %s", how, one, who, a)
		}
	}
	for _, format := range []string{
		"invoke ID", "invoke ID --json", "invoke ID -X GET --path /v1/models", "invoke ID -X GET --path /v1/../x --json", "json ID --body {}", "markdown ID --json",
		"invoke ID --credential openai --json", "invoke ID --credential nobody --json", "invoke ID --workspace-id w --json", "invoke ID --workspace-id w --group-id g --json",
		"capability describe ID", "capability describe ID --json", "explain ID --json", "explain ID -X GET --path /v1/models --json",
	} {
		same(format, func(id string) string {
			r := m.aivault(who, strings.Fields(strings.ReplaceAll(format, "ID", id))...)
			return fmt.Sprintf("exit %d\n%s\n%s", r.exit, r.stdout, r.stderr)
		})
	}
	for _, format := range []struct{ method, path, body string }{
		{"POST", "/aivault/proxy", `{"capability":"ID","request":{}}`},
		{"POST", "/aivault/proxy", `{"capability":"ID","request":{"method":"GET","path":"/v1/models"}}`},
		{"POST", "/aivault/proxy", `{"capability":"ID","timeoutMs":1,"credential":"openai","workspaceId":"w","request":{"method":"GET","path":"/v1/models","body":"x"}}`},
		{"POST", "/aivault/explain", `{"capability":"ID","request":{"method":"GET","path":"/v1/models"}}`},
		{"GET", "/aivault/capabilities/ID", ""},
	} {
		same(format.method+" "+format.path, func(id string) string {
			status, answer := m.raw(who, format.method, strings.ReplaceAll(format.path, "ID", id), strings.ReplaceAll(format.body, "ID", id))
			return status + " " + answer
		})
	}
}

// knows are the capabilities that a user finds in the list, and how many the
// status counts.
func (m *machine) knows(who string) (ids []string, counted int) {
	m.t.Helper()
	var list struct{ Capabilities, Sets []struct{ ID string } }
	r := m.aivault(who, "capability", "list", "--all", "--json")
	must(m.t, json.Unmarshal([]byte(r.stdout), &list))
	for _, c := range slices.Concat(list.Capabilities, list.Sets) {
		ids = append(ids, c.ID)
	}
	var status struct{ Providers []struct{ Capabilities int } }
	r = m.aivault(who, "status", "--json")
	must(m.t, json.Unmarshal([]byte(r.stdout), &status))
	for _, p := range status.Providers {
		counted += p.Capabilities
	}
	return ids, counted
}

func TestSystemAGrantIsAllThatAnAgentMayDo(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	calls := func(who, id string, exit int, stderr string) {
		t.Helper()
		before := len(m.api.Seen())
		m.wantExit(m.aivault(who, call(id)...), exit, stderr)
		if sent := len(m.api.Seen()) - before; sent != 0 && exit != 0 || sent != 1 && exit == 0 {
			t.Errorf("%s as %s: %d requests reached the API", id, who, sent)
		}
	}
	// Without a grant an agent may call what is ready.
	calls(agentUser, granted, 0, "")
	calls(agentUser, notGranted, 0, "")

	m.do("grant add --user " + agentUser + " --capability " + granted)
	calls(agentUser, granted, 0, "")
	calls(agentUser, notGranted, 6, "")
	m.indistinguishable(agentUser, notGranted, notThere)
	if ids, n := m.knows(agentUser); !slices.Equal(ids, []string{granted}) || n != 1 {
		t.Errorf("the agent finds %v in the list, and %d in its status", ids, n)
	}
	calls(otherUser, notGranted, 0, "") // the grant is the agent's

	// The last grant leaves none when it is removed, and not what was before.
	var list struct{ Grants []struct{ GrantID string } }
	r := m.operator("grant", "list")
	must(t, json.Unmarshal([]byte(r.stdout), &list))
	m.do("grant remove " + list.Grants[0].GrantID)
	calls(agentUser, granted, 6, "")
	m.indistinguishable(agentUser, granted, notThere)
	if ids, n := m.knows(agentUser); len(ids) != 0 || n != 0 {
		t.Errorf("without any grant the agent finds %v and %d", ids, n)
	}
	m.do("grant default deny")
	calls(otherUser, granted, 6, "")
	m.indistinguishable(otherUser, granted, notThere)
	m.do("grant add --user " + otherUser + " --capability *-completions")
	calls(otherUser, granted, 0, "")
	calls(otherUser, notGranted, 6, "")
	m.do("grant reset --user " + agentUser)
	calls(agentUser, granted, 6, "")       // the default
	calls(operatorUser, notGranted, 0, "") // whom no grant limits
	m.do("grant default allow")
	calls(agentUser, notGranted, 0, "")
}

// The groups are those of the process that connects, as the kernel kept them.
func TestSystemAGroupsGrant(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	share, agents := gid(t, sharedGroup), gid(t, agentsGroup)
	m.do("grant default deny")
	m.do("grant add --group-name " + agentsGroup + " --capability " + granted)
	try := func(what string, r result, exit int) {
		t.Helper()
		if r.exit != exit {
			t.Errorf("%s: %+v", what, r)
		}
	}
	try("no member", m.aivault(agentUser, call(granted)...), 6)
	try("a process in the group", m.inGroups(agentUser, "", []string{share, agents}, call(granted)...), 0)
	try("the same, and what the group was not granted", m.inGroups(agentUser, "", []string{share, agents}, call(notGranted)...), 6)
	try("the group as the process's own", m.inGroups(agentUser, agents, []string{share}, call(granted)...), 0)
	try("among many groups", m.inGroups(agentUser, "", append(numbers(80000, 200), share, agents), call(granted)...), 0)
	try("among many groups, without it", m.inGroups(agentUser, "", append(numbers(80000, 200), share), call(granted)...), 6)
	m.root("usermod", "-a", "-G", agentsGroup, agentUser)
	try("a process of before the user joined", m.inGroups(agentUser, "", []string{share}, call(granted)...), 6)
	try("a process since", m.aivault(agentUser, call(granted)...), 0)

	// A user's own grants stand in place of the group's.
	m.do("grant add --user " + agentUser + " --capability " + notGranted)
	try("the group's, beside an own grant", m.aivault(agentUser, call(granted)...), 6)
	try("the own grant", m.aivault(agentUser, call(notGranted)...), 0)

	// More groups than are kept of a connection: nobody gets in by having
	// one left out.
	m.do("grant reset --user " + agentUser)
	m.do("grant default allow")
	if r := m.inGroups(agentUser, "", append(numbers(80000, 5000), share), call(notGranted)...); r.exit != 7 {
		t.Errorf("with five thousand groups: exit %d %q", r.exit, r.stderr)
	}
}

func numbers(from, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(from + i)
	}
	return all
}

func TestSystemALimitOfOneCallerLeavesOthersAlone(t *testing.T) {
	m := newMachine(t)
	daemon := m.startShared()
	m.do("capability policy set " + granted + " --rate-limit-per-minute 3 --per-caller")
	m.do("grant add --user " + otherUser + " --rate-limit-per-minute 2")
	first := time.Now()
	limited := func(who string) {
		t.Helper()
		r := m.aivault(who, append(call(granted), "--json")...)
		if r.exit == 0 && time.Since(first) > time.Minute {
			t.Logf("this machine is too slow to tell: %v have passed", time.Since(first))
			return
		}
		var e struct {
			Error        string
			RetryAfterMs int64
		}
		if err := json.Unmarshal([]byte(r.stderr), &e); err != nil || r.exit != 3 || e.Error != "rate_limited" || e.RetryAfterMs < 1 || e.RetryAfterMs > 60000 {
			t.Errorf("one call too many as %s: %+v", who, r)
		}
	}
	pass := func(who string, n int) {
		t.Helper()
		for range n {
			m.wantExit(m.aivault(who, call(granted)...), 0, "")
		}
	}
	pass(agentUser, 3)
	limited(agentUser)
	limited(agentUser)
	pass(otherUser, 2)
	limited(otherUser) // its grant's limit, lower than the policy's
	pass(operatorUser, 3)
	limited(operatorUser)

	// The headers say how long, in whole seconds.
	r := m.as(agentUser, nil, "curl", "-sS", "--unix-socket", m.socket, "-D", "-", "-o", "/dev/null", "-H", "Content-Type: application/json",
		"-d", `{"capability":"`+granted+`","request":{"body":"{}"}}`, "http://d/aivault/proxy")
	seconds := ""
	for line := range strings.Lines(r.stdout) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Retry-After: "); ok {
			seconds = value
		}
	}
	if n, err := strconv.Atoi(seconds); (err != nil || n < 1 || n > 60) && time.Since(first) < time.Minute {
		t.Errorf("Retry-After is %q: %s", seconds, r.stdout)
	}

	// Another process counts in the same file, and so does the next daemon.
	inProcess := m.as(operatorUser, append(m.dev(), "AIVAULTD_DISABLE=1"), append([]string{m.bin("dev", "aivault")}, call(granted)...)...)
	if inProcess.exit != 3 && time.Since(first) < time.Minute {
		t.Errorf("in-process: %+v", inProcess)
	}
	must(t, exec.Command("pkill", "-TERM", "-u", operatorUser, "aivaultd").Run())
	_ = daemon.Wait()
	m.listen()
	limited(agentUser)
	limited(otherUser)
}
