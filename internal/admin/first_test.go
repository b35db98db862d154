package admin_test

import (
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/vault"
)

// The operator's first command that stores something makes the vault; one that
// is refused makes none.
func TestTheFirstChangeMakesTheVault(t *testing.T) {
	grantTo := func(o *office, capability string) error {
		_, err := o.AddGrant(background, op, api.GrantAdd{Consumer: api.ConsumerRef{User: "agent"}, Capabilities: []string{capability}})
		return err
	}
	limit := func(o *office, capability string, r api.PolicyChange) error {
		r.Capability = capability
		_, err := o.SetPolicy(background, op, r)
		return err
	}
	deny := func(o *office, to string) error {
		_, err := o.SetGrantDefault(background, op, api.GrantDefault{Default: to})
		return err
	}
	for what, c := range map[string]struct {
		refused []func(o *office) error
		do      func(o *office) error
		kept    func(st *vault.State) bool
	}{
		"grant add": {
			[]func(o *office) error{
				func(o *office) error { return grantTo(o, "mail/none") },
				func(o *office) error { return grantTo(o, "mail/**") },
			},
			func(o *office) error { return grantTo(o, "mail/*") },
			func(st *vault.State) bool { return len(st.Grants) == 1 },
		},
		"grant default": {
			[]func(o *office) error{func(o *office) error { return deny(o, "none") }},
			func(o *office) error { return deny(o, api.GrantDeny) },
			func(st *vault.State) bool { return st.GrantDefault == api.GrantDeny },
		},
		"policy set": {
			[]func(o *office) error{
				func(o *office) error { return limit(o, "mail/none", api.PolicyChange{RatePerMinute: new(5)}) },
				func(o *office) error {
					return limit(o, "mail/users", api.PolicyChange{Lift: []string{"rateLimitPerMinute"}})
				},
				func(o *office) error { return limit(o, "mail/users", api.PolicyChange{DenyQuery: []string{""}}) },
			},
			func(o *office) error { return limit(o, "mail/users", api.PolicyChange{RatePerMinute: new(5)}) },
			func(st *vault.State) bool { return len(st.Policies) == 1 },
		},
		"disable": {
			[]func(o *office) error{func(o *office) error { _, err := o.disable("mail/none"); return err }},
			func(o *office) error { _, err := o.disable("mail/*"); return err },
			func(st *vault.State) bool { return len(st.Switches) == 1 },
		},
	} {
		o := startOffice(t)
		for i, refused := range c.refused {
			if err := refused(o); err == nil {
				t.Errorf("%s: number %d went through", what, i)
			}
			if o.Vault.Status(background).State != vault.None {
				t.Fatalf("%s: what was refused made a vault (number %d)", what, i)
			}
		}
		if err := c.do(o); err != nil || !c.kept(o.state(t)) {
			t.Errorf("%s: %v, %+v", what, err, o.state(t))
		}
	}
}
