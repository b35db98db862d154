package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

// parsed runs one command line up to the point where it would ask a daemon.
func parsed[T any](t *testing.T, flags func(cmd *cobra.Command) T, use func(cmd *cobra.Command, f T) error, args ...string) error {
	t.Helper()
	cmd := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs}
	f := flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return use(cmd, f) }
	cmd.SetArgs(args)
	return cmd.ExecuteContext(t.Context())
}

func TestScopeFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "global"},
		{"--scope global", "global"},
		{"--workspace-id w", "workspace:w"},
		{"--scope workspace --workspace-id w", "workspace:w"},
		{"--workspace-id w --group-id g", "group:w:g"},
		{"--scope group --workspace-id w --group-id g", "group:w:g"},
	} {
		var got string
		err := parsed(t, func(cmd *cobra.Command) *scopeFlags { return newScopeFlags(cmd, "x") },
			func(cmd *cobra.Command, s *scopeFlags) (err error) { got, err = s.get(cmd); return err }, strings.Fields(c.args)...)
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v", c.args, got, err)
		}
	}
}

func TestPolicyFlags(t *testing.T) {
	const member = "/messages/0/role"
	for _, c := range []struct {
		args []string
		want api.PolicyChange
	}{
		{[]string{"--rate-limit-per-minute", "60", "--max-request-body-bytes", "1048576", "--max-response-body-bytes", "10485760"},
			api.PolicyChange{RatePerMinute: new(60), MaxRequestBodyBytes: new(int64(1048576)), MaxResponseBodyBytes: new(int64(10485760))}},
		{[]string{"--rate-limit-per-minute", "1", "--per-caller"}, api.PolicyChange{RatePerCallerPerMinute: new(1)}},
		{[]string{"--rate-limit-per-minute", "1", "--per-caller=false"}, api.PolicyChange{RatePerMinute: new(1)}},
		{[]string{"--rate-limit-per-minute", "none", "--per-caller", "--deny-query", "none"}, api.PolicyChange{Lift: []string{"rateLimitPerMinutePerCaller", "denyQuery"}}},
		{[]string{"--rate-limit-per-minute", "none", "--max-request-body-bytes", "none", "--max-response-body-bytes", "none", "--response-block", "none",
			"--allow-query", "none", "--require-json-field", "none"},
			api.PolicyChange{Lift: []string{"rateLimitPerMinute", "maxRequestBodyBytes", "maxResponseBodyBytes", "responseBlock", "allowQuery", "requireJson"}}},
		{[]string{"--response-block", "a,b", "--response-block", "c", "--allow-query", "q", "--deny-query", "r"},
			api.PolicyChange{ResponseBlock: []string{"a,b", "c"}, AllowQuery: []string{"q"}, DenyQuery: []string{"r"}}},
		{[]string{"--require-json-field", "/model=a|b", "--require-json-field", member + "=user=x"},
			api.PolicyChange{RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"a", "b"}}, {Pointer: member, Values: []string{"user=x"}}}}},
	} {
		var got api.PolicyChange
		err := parsed(t, newPolicyFlags, func(cmd *cobra.Command, p *policyFlags) (err error) { got, err = p.change(cmd, "a/b"); return err }, c.args...)
		c.want.Capability = "a/b"
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%v: %v %s", c.args, err, d)
		}
	}
}

// The words by which a limit is lifted are the API's: each is a member of a
// policy.
func TestLiftedMembersAreAPolicys(t *testing.T) {
	var c api.PolicyChange
	args := []string{"--rate-limit-per-minute", "none", "--max-request-body-bytes", "none", "--max-response-body-bytes", "none", "--response-block", "none",
		"--allow-query", "none", "--deny-query", "none", "--require-json-field", "none"}
	for _, more := range [][]string{nil, {"--per-caller"}} {
		if err := parsed(t, newPolicyFlags, func(cmd *cobra.Command, p *policyFlags) (err error) { c, err = p.change(cmd, "a/b"); return err }, append(args, more...)...); err != nil {
			t.Fatal(err)
		}
		for _, name := range c.Lift {
			if err := decodeMember(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// decodeMember says whether a policy has a member of this name.
func decodeMember(name string) error {
	return strictjson.Unmarshal([]byte(`{"capability":"a/b","`+name+`":null}`), new(api.Policy))
}

func TestGrantFlags(t *testing.T) {
	hours := (8 * time.Hour).Milliseconds()
	for _, c := range []struct {
		args []string
		want api.GrantAdd
	}{
		{[]string{"--user", "agent"}, api.GrantAdd{Consumer: api.ConsumerRef{User: "agent"}}},
		{[]string{"--uid", "0", "--capability", "a/*", "--capability", "b/c"}, api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(0))}, Capabilities: []string{"a/*", "b/c"}}},
		{[]string{"--group-name", "g", "--workspace-id", "w", "--group-id", "x", "--strict-scope", "--rate-limit-per-minute", "5", "--expires", "8h"},
			api.GrantAdd{Consumer: api.ConsumerRef{GroupName: "g"}, WorkspaceID: "w", GroupID: "x", StrictScope: true, RatePerMinute: new(5), ExpiresInMs: &hours}},
	} {
		var got api.GrantAdd
		err := parsed(t, newGrantFlags, func(cmd *cobra.Command, g *grantFlags) (err error) { got, err = g.request(cmd); return err }, c.args...)
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%v: %v %s", c.args, err, d)
		}
	}
}

func TestBindingToDelete(t *testing.T) {
	for _, c := range []struct {
		given string
		args  []string
		want  api.BindingDelete
	}{
		{"b-12345678", nil, api.BindingDelete{ID: "b-12345678"}},
		{"openai/*", nil, api.BindingDelete{Capability: "openai/*", Scope: "global"}},
		{"*", []string{"--workspace-id", "w", "--uid", "7"}, api.BindingDelete{Capability: "*", Scope: "workspace:w", Consumer: &api.ConsumerRef{UID: new(uint32(7))}}},
	} {
		type both struct {
			s *scopeFlags
			c *consumerFlags
		}
		var got api.BindingDelete
		err := parsed(t, func(cmd *cobra.Command) both { return both{newScopeFlags(cmd, "x"), newConsumerFlags(cmd, "for")} },
			func(cmd *cobra.Command, b both) (err error) {
				got, err = bindingToDelete(cmd, c.given, b.s, b.c)
				return err
			}, c.args...)
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%s %v: %v %s", c.given, c.args, err, d)
		}
	}
}

func TestSecretRefs(t *testing.T) {
	for _, c := range []struct {
		provider    string
		refs, names []string
		want        map[string]string
	}{
		{"acme", nil, []string{"ACME"}, map[string]string{"": "ACME"}},
		{"acme", []string{"a=vault:secret:x"}, []string{"b=Y"}, map[string]string{"a": "vault:secret:x", "b": "Y"}},
		{"trello", nil, []string{"TRELLO_API_KEY"}, map[string]string{"": "TRELLO_API_KEY"}},
		{"trello", nil, []string{"TRELLO_API_KEY", "TRELLO_TOKEN"}, map[string]string{"key": "TRELLO_API_KEY", "token": "TRELLO_TOKEN"}},
		{"trello", []string{"key=vault:secret:x"}, []string{"trello_token"}, map[string]string{"key": "vault:secret:x", "token": "trello_token"}},
	} {
		got, err := secretRefs(c.provider, c.refs, c.names)
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%v %v: %v %s", c.refs, c.names, err, d)
		}
	}
	for _, names := range [][]string{{"A", "B"}, {"TRELLO_API_KEY", "TRELLO_API_KEY"}, {"x=A", "x=B"}, {"OPENAI_API_KEY", "GITHUB_TOKEN"}} {
		if got, err := secretRefs("trello", nil, names); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%v: %v, %v", names, got, err)
		}
	}
}

func TestTenantCommand(t *testing.T) {
	s := api.Secret{Name: "JIRA_EMAIL", PinnedProvider: "jira", Scope: "group:w:g"}
	all := []api.Secret{s, {Name: "a b", PinnedProvider: "jira", Scope: "group:w:g"}, {Name: "C", PinnedProvider: "jira", Scope: "global"}, {Name: "D", PinnedProvider: "x", Scope: "group:w:g"}}
	const want = "aivault credential create jira --secret JIRA_EMAIL --secret 'a b' --host {site}.atlassian.net --workspace-id w --group-id g"
	if got := tenantCommand(s, all, nil, waitingHost([]string{"X", "--host {site}.atlassian.net (the site)"})); got != want {
		t.Errorf("%s", got)
	}
	// An id that is taken is none to hint at.
	for _, c := range []struct {
		scope string
		taken []api.Credential
		want  string
	}{
		{"group:w:g", []api.Credential{{ID: "jira"}}, "jira-w-g --provider jira"},
		{"workspace:w", []api.Credential{{ID: "jira"}, {ID: "jira-w"}}, "jira-w-2 --provider jira"},
		{"global", []api.Credential{{ID: "jira"}, {ID: "jira-2"}}, "jira-3 --provider jira"},
		{"workspace:w", []api.Credential{{ID: "other"}}, "jira"},
	} {
		s := api.Secret{Name: "N", PinnedProvider: "jira", Scope: c.scope}
		if got := tenantCommand(s, []api.Secret{s}, c.taken, "h"); !strings.HasPrefix(got, "aivault credential create "+c.want+" --secret N --host h") {
			t.Errorf("%s: %s", c.scope, got)
		}
	}
	if got := waitingHost([]string{"OTHER_KEY"}); got != "" {
		t.Errorf("%q", got)
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"a-b/c.D": "a-b/c.D", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'", "*": "'*'", "é": "'é'"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: %s", word, got)
		}
	}
}
