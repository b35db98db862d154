package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
)

func TestCapabilityListShowsWhatIsOff(t *testing.T) {
	list := api.CapabilityList{
		Capabilities: []api.CapabilitySummary{
			{ID: "github/a", Provider: "github", Ready: true, Access: "read", Methods: []string{"GET"}, Description: "A"},
			{ID: "github/b", Provider: "github", Off: true, Access: "admin", Methods: []string{"PUT"}, Description: "B", Reason: "off"},
			{ID: "github/c", Provider: "github", Access: "read", Methods: []string{"GET"}, Reason: "waiting for X and a host: --host {x}.github.test"},
			{ID: "slack/d", Provider: "slack", Off: true, Access: "admin", Methods: []string{"PUT"}, Description: "D"},
		},
		Sets: []api.CapabilitySet{
			{ID: "github/s", Provider: "github", Description: "S", Ready: true, Members: []string{"github/a", "github/b"}},
			{ID: "slack/s", Provider: "slack", Description: "T", Members: []string{"slack/d"}},
		},
		Available: []api.AvailableProvider{{Provider: "slack", Title: "Slack", Capabilities: 1, Secrets: []string{"SLACK_BOT_TOKEN"}},
			{Provider: "twitch", Title: "Twitch", Capabilities: 3}},
	}
	const available = `
AVAILABLE  CAPABILITIES  STORE ITS SECRET WITH
slack      1             aivault secrets create --name SLACK_BOT_TOKEN
twitch     3             not yet: no login of it is built
`
	for _, c := range []struct {
		flags listFlags
		want  string
	}{
		{listFlags{all: true}, `CAPABILITY  ACCESS  METHODS  STATE                     DESCRIPTION
github/a    read    GET      ready                     A
github/b    admin   PUT      off                       B
github/c    read    GET      waiting for X and a host
slack/d     admin   PUT      off                       D

SET       STATE      MEMBERS  DESCRIPTION
github/s  ready      2        S
slack/s   not ready  1        T
` + available},
		{listFlags{search: "t"}, `CAPABILITY  ACCESS  METHODS  STATE                     DESCRIPTION
github/a    read    GET      ready                     A
github/b    admin   PUT      off                       B
github/c    read    GET      waiting for X and a host

SET       STATE      MEMBERS  DESCRIPTION
github/s  ready      2        S
slack/s   not ready  1        T
` + available},
	} {
		o, out, _ := testOptions(t, nil)
		if err := o.printCapabilities(c.flags, c.flags.choose(list)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, out.String()); d != "" {
			t.Errorf("%+v: %s", c.flags, d)
		}
	}
	if len(list.Capabilities) != 4 || list.Capabilities[2].ID != "github/c" {
		t.Error("the list itself was changed")
	}
}

func TestExplanation(t *testing.T) {
	o, out, errs := testOptions(t, nil)
	err := o.printExplanation(api.Explanation{
		Error:   api.Errorf(api.PolicyViolation, "path no").WithHint("aivault help"),
		Planned: &api.Planned{Capability: "a/b", Credential: "a", Method: "GET", URL: "https://a.test/x\x1b[2J"},
		Set:     "a/s", Binding: "b-1", Instead: "a/c", Command: "aivault invoke a/c",
		Checks: []api.Check{{Name: "vault", Result: "passed", Detail: "unlocked"}, {Name: "rules", Result: "failed", Detail: "path no"}, {Name: "host", Result: "not reached"}},
	})
	if err != exitStatus(3) || errs.Len() > 0 {
		t.Errorf("%v, %s", err, errs)
	}
	want := `        CHECK  DETAIL
ok      vault  unlocked
FAILED  rules  path no
-       host   not reached

Call        GET https://a.test/x\u001b[2J
Capability  a/b
Credential  a (by binding b-1)
Set         a/s
Result      refused, policy_violation: path no
Hint        aivault help
Allowed by  a/c
Try         aivault invoke a/c
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	// What an agent gets, and each code's own status.
	for _, c := range []struct {
		e    api.Explanation
		want string
		exit error
	}{
		{api.Explanation{Allowed: true}, "Result  the call would go out\n", nil},
		{api.Explanation{Error: &api.Error{Code: api.CredentialNotFound}}, "Result  refused, credential_not_found\n", exitStatus(6)},
		{api.Explanation{Error: &api.Error{Code: api.VaultLocked}}, "Result  refused, vault_locked\n", exitStatus(4)},
		{api.Explanation{}, "Result  refused\n", exitStatus(1)},
	} {
		out.Reset()
		if err := o.printExplanation(c.e); err != c.exit || out.String() != c.want {
			t.Errorf("%+v: %v, %q", c.e, err, out)
		}
	}
	out.Reset()
	o.JSON = true
	if err := o.printExplanation(api.Explanation{Error: api.Errorf(api.RateLimited, "wait")}); err != exitStatus(3) || !strings.Contains(out.String(), `"allowed": false`) {
		t.Errorf("%v, %s", err, out)
	}
}

func TestGrantTables(t *testing.T) {
	agent, staff := api.Consumer{UID: new(uint32(501)), User: "agent"}, api.Consumer{GID: new(uint32(20)), Group: "staff people"}
	list := api.GrantList{Default: api.GrantDeny, Grants: []api.Grant{
		{ID: "g-1", Consumer: agent, Capabilities: []string{"openai/*", "a/b"}, WorkspaceID: "w", GroupID: "g", StrictScope: true, RatePerMinute: 1, ExpiresAtMs: 1700000000000},
		{ID: "g-2", Consumer: staff, Capabilities: []string{}},
		{ID: "g-3", Consumer: api.Consumer{UID: new(uint32(7))}, Capabilities: []string{"*"}, WorkspaceID: "w", ExpiresAtMs: 1},
	}}
	o, out, errs := testOptions(t, nil)
	if err := o.printGrants(list); err != nil {
		t.Fatal(err)
	}
	want := `Without a grant  a caller may call nothing (deny)

GRANT  FOR                         CAPABILITIES                                                       CONTEXT              A MINUTE  EXPIRES
g-1    user agent (uid 501)        openai/*, a/b                                                      group:w:g, strictly  1 call    2023-11-14T22:13:20Z
g-2    group staff people (gid 20)  nothing, until: aivault grant reset --group-name 'staff people'  any                  -         -
g-3    uid 7                       *                                                                  workspace:w          -         expired 1970-01-01T00:00:00Z
`
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if d := cmp.Diff(fold(want), fold(out.String())); d != "" {
		t.Error(d)
	}
	// Only whoever lost the last grant is named.
	o.noticeEmptyGrant(list, list, "g-1")
	if errs.Len() > 0 {
		t.Errorf("%s", errs)
	}
	o.noticeEmptyGrant(list, list, "g-2")
	if got := errs.String(); got != "notice: group staff people (gid 20) may call nothing now; so that the default holds again: aivault grant reset --group-name 'staff people'\n" {
		t.Errorf("%s", got)
	}
}

func TestPolicyTable(t *testing.T) {
	o, out, _ := testOptions(t, nil)
	p := api.Policy{
		Capability: "a/b", RatePerMinute: 1, RatePerCallerPerMinute: 2, MaxRequestBodyBytes: 3, MaxResponseBodyBytes: 4,
		ResponseBlock: []string{"x", "y"}, AllowQuery: []string{"q"}, DenyQuery: []string{"r"},
		RequireJSON: []api.RequireJSON{{Pointer: "/m", Values: []string{"u", "v"}}},
	}
	if err := o.printTable(policyTable(p)); err != nil {
		t.Fatal(err)
	}
	want := `Capability  a/b
Limits      1 call a minute, of all callers together
            2 calls a minute of each caller
            request bodies of 3 bytes at most
            answers of 4 bytes at most
            removed from answers: x, y
            query parameters allowed: q
            query parameters refused: r
            the body's /m is u or v
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
