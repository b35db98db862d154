package client

import (
	"slices"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// What scopes, switches, policies, bindings and grants are asked for arrives
// as it was meant, whichever way it goes.
func TestEveryAccessRequest(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		check := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		acme(t, c, nil)
		s, err := c.CreateSecret(ctx, api.SecretCreate{Name: "TEAM_KEY", Value: secret.FromString("sk-team-0123"), Scope: "workspace:w"})
		check("create in a workspace", err)
		s, err = c.AttachSecret(ctx, s.ID, api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
		check("attach", err)
		if !slices.Equal(s.AttachedGroups, []string{"group:w:g"}) || s.Scope != "workspace:w" {
			t.Errorf("attached: %+v", s)
		}
		s, err = c.DetachSecret(ctx, s.ID, api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
		check("detach", err)
		if len(s.AttachedGroups) != 0 {
			t.Errorf("detached: %+v", s)
		}

		value := "sk-imported-\"\\\n\u00e4"
		imported, err := c.ImportSecrets(ctx, api.SecretImport{DryRun: true, Entries: []api.SecretEntry{{Name: "ONE_KEY", Value: secret.FromString(value)}}})
		check("dry run", err)
		if len(imported.Created) != 1 || !imported.DryRun {
			t.Errorf("dry run: %+v", imported)
		}
		imported, err = c.ImportSecrets(ctx, api.SecretImport{Entries: []api.SecretEntry{
			{Name: "ONE_KEY", Value: secret.FromString(value)}, {Name: "TWO_KEY", Value: secret.FromString("sk-two-0123")},
		}})
		check("import", err)
		if len(imported.Created) != 2 || imported.Created[0].Name != "ONE_KEY" {
			t.Errorf("import: %+v", imported)
		}

		off, err := c.DisableCapabilities(ctx, api.SwitchRequest{Patterns: []string{"acme/*"}})
		check("disable", err)
		if off.On || !slices.Equal(off.Capabilities, []string{"acme/all"}) {
			t.Errorf("disabled: %+v", off)
		}
		if _, err := c.Proxy(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/x"}}, Body{}); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("a call of what is off: %v", err)
		}
		on, err := c.EnableCapabilities(ctx, api.SwitchRequest{Patterns: []string{"acme/all"}})
		check("enable", err)
		if !on.On || !slices.Equal(on.Capabilities, []string{"acme/all"}) {
			t.Errorf("enabled: %+v", on)
		}

		limits, err := c.SetPolicy(ctx, api.PolicyChange{Capability: "acme/all", MaxRequestBodyBytes: ptr(int64(10))})
		check("set policy", err)
		if len(limits.Policies) != 1 || limits.Policies[0].MaxRequestBodyBytes != 10 {
			t.Errorf("policy: %+v", limits)
		}
		all, err := c.Policies(ctx)
		check("policies", err)
		one, err := c.Policy(ctx, "acme/all")
		check("policy", err)
		if len(all.Policies) != 1 || len(one.Policies) != 1 {
			t.Errorf("policies: %+v, %+v", all, one)
		}
		_, err = c.ClearPolicy(ctx, "acme/all")
		check("clear policy", err)
		if all, err = c.Policies(ctx); err != nil || len(all.Policies) != 0 {
			t.Errorf("after clear: %+v %v", all, err)
		}

		b, err := c.Bind(ctx, api.BindingCreate{Capability: "acme/*", Credential: "acme", Consumer: &api.ConsumerRef{UID: ptr(uint32(60000))}})
		check("bind", err)
		bindings, err := c.Bindings(ctx)
		check("bindings", err)
		if len(bindings.Bindings) != 1 || bindings.Bindings[0].ID != b.ID || *b.Consumer.UID != 60000 {
			t.Errorf("bindings: %+v", bindings)
		}
		_, err = c.Unbind(ctx, api.BindingDelete{ID: b.ID})
		check("unbind", err)
		if bindings, err = c.Bindings(ctx); err != nil || len(bindings.Bindings) != 0 {
			t.Errorf("after unbind: %+v %v", bindings, err)
		}

		g, err := c.AddGrant(ctx, api.GrantAdd{Consumer: api.ConsumerRef{UID: ptr(uint32(60000))}, Capabilities: []string{"acme/*"}})
		check("add grant", err)
		grants, err := c.Grants(ctx)
		check("grants", err)
		if len(grants.Grants) != 1 || grants.Grants[0].ID != g.ID || grants.Default != api.GrantAllow {
			t.Errorf("grants: %+v", grants)
		}
		grants, err = c.RemoveGrant(ctx, g.ID)
		check("remove grant", err)
		if len(grants.Grants) != 1 || len(grants.Grants[0].Capabilities) != 0 {
			t.Errorf("after the last was removed: %+v", grants)
		}
		grants, err = c.ResetGrants(ctx, api.ConsumerRef{UID: ptr(uint32(60000))})
		check("reset grants", err)
		if len(grants.Grants) != 0 {
			t.Errorf("after reset: %+v", grants)
		}
		grants, err = c.SetGrantDefault(ctx, api.GrantDefault{Default: api.GrantDeny})
		check("default", err)
		if grants.Default != api.GrantDeny {
			t.Errorf("default: %+v", grants)
		}

		why, err := c.Explain(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/x"}}, Body{})
		check("explain", err)
		if !why.Allowed || len(why.Checks) == 0 || why.Planned == nil {
			t.Errorf("explain: %+v", why)
		}
	})
}
