package admin_test

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// A name means the secret of the credential's own scope, or the only one that
// the scope may use; what stays ambiguous is refused with the references.
func TestNamesInAScope(t *testing.T) {
	o := startOffice(t)
	acme, beta := o.store(t, "KEY", "workspace:acme"), o.store(t, "KEY", "workspace:beta")
	lent := o.store(t, "LENT", "workspace:acme")
	global := o.store(t, "LENT", "global")
	o.store(t, acme.ID, "workspace:gamma") // a name like another's id stays ambiguous
	group := api.SecretAttach{WorkspaceID: "acme", GroupID: "build"}
	for _, s := range []api.Secret{lent, global} {
		if _, err := o.AttachSecret(background, op, s.ID, group); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ id, scope, name, want string }{
		{"a", "workspace:acme", "KEY", acme.ID},
		{"b", "workspace:beta", "KEY", beta.ID},
		{"c", "group:beta:build", "KEY", beta.ID},
		{"d", "workspace:acme", "LENT", lent.ID},
		{"e", "workspace:gamma", "LENT", global.ID},
		{"f", "global", "LENT", global.ID},
		{"g", "global", "KEY", ""},
		{"h", "workspace:gamma", "KEY", ""},
		{"i", "group:acme:build", "LENT", ""},
		{"j", "workspace:gamma", acme.ID, ""},
	} {
		made, err := o.CreateCredential(background, op, api.CredentialCreate{
			ID: c.id, Provider: "own", Scope: c.scope, SecretRefs: map[string]string{"": c.name},
			Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{"own.test"},
		})
		if c.want == "" {
			wants(t, c.id, err, api.InvalidRequest, "several secrets")
			if err != nil && !strings.Contains(err.Error(), "vault:secret:") {
				t.Errorf("%s: no reference in %q", c.id, err)
			}
			continue
		}
		if err != nil || made.Secrets["secret"] != c.want {
			t.Errorf("%s in %s: %s is %v, %v; want %s", c.id, c.scope, c.name, made.Secrets, err, c.want)
		}
	}
}
