package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

var scopes = []string{"global", "workspace:w", "group:w:g"}

// The same name may exist once in each scope, and provides a credential there.
func TestOneNameInEveryScope(t *testing.T) {
	o := startOffice(t)
	ids := map[string]string{}
	for i, scope := range scopes {
		s := o.store(t, "OPENAI_API_KEY", scope)
		want := []string{"openai", "openai-2", "openai-3"}[i]
		if s.Scope != scope || s.PinnedProvider != "openai" || credentialOf(s) != want || o.credential(t, want).Scope != scope {
			t.Errorf("%s: %+v", scope, s)
		}
		if r := o.last(t, "secret.created"); r["scope"] != scope || r["object"] != s.ID || r["credential"] != want {
			t.Errorf("%s: record %v", scope, r)
		}
		ids[scope] = s.ID
		_, err := o.CreateSecret(background, op, api.SecretCreate{Name: "openai_api_key", Value: secret.FromString("v"), Scope: scope})
		wants(t, "twice in "+scope, err, api.AlreadyExists, scope)
		if want := "aivault secrets rotate " + []string{s.Name, s.ID}[min(i, 1)]; hintOf(err) != want {
			t.Errorf("hint %q, want %q", hintOf(err), want)
		}
	}
	_, err := o.DeleteSecret(background, op, "OPENAI_API_KEY")
	wants(t, "by a name of several", err, api.InvalidRequest, "several")
	for scope, id := range ids {
		if !strings.Contains(err.Error(), fmt.Sprintf("%s (OPENAI_API_KEY, %s)", id, scope)) {
			t.Errorf("%q does not list the one in %s", err, scope)
		}
	}
	gone, err := o.DeleteSecret(background, op, ids["workspace:w"])
	if err != nil || !slices.Equal(gone.Credentials, []string{"openai-2"}) || gone.Secret.Scope != "workspace:w" {
		t.Errorf("%+v, %v", gone, err)
	}
	if s := o.store(t, "OPENAI_API_KEY", "workspace:w"); credentialOf(s) != "openai-2" {
		t.Errorf("stored again: %+v", s)
	}
}

func TestACredentialHoldsWhatItsScopeSees(t *testing.T) {
	o := startOffice(t)
	secrets := map[string]api.Secret{}
	for _, scope := range []string{"global", "workspace:w", "group:w:g", "group:w:h", "workspace:v", "group:v:g"} {
		name := strings.ToUpper(strings.ReplaceAll(scope, ":", "_"))
		secrets[scope] = o.store(t, name, scope)
	}
	attached := o.store(t, "ATTACHED", "workspace:w")
	if _, err := o.AttachSecret(background, op, "ATTACHED", api.SecretAttach{WorkspaceID: "w", GroupID: "g"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []struct{ scope, sees string }{
		{"global", "global"},
		{"workspace:w", "global workspace:w"},
		{"group:w:g", "global workspace:w group:w:g"},
		{"workspace:v", "global workspace:v"},
	} {
		for scope, s := range secrets {
			n++
			made, err := o.CreateCredential(background, op, api.CredentialCreate{
				ID: fmt.Sprintf("c%d", n), Provider: "acme", Scope: c.scope, SecretRefs: map[string]string{"": s.ID},
				Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
			})
			if slices.Contains(strings.Fields(c.sees), scope) {
				if err != nil || made.Scope != c.scope || !made.Ready {
					t.Errorf("%s in %s: %+v, %v", scope, c.scope, made, err)
				}
				continue
			}
			wants(t, scope+" in "+c.scope, err, api.InvalidRequest, "does not see")
		}
	}
	// Attached to the group: its own credentials may hold it, and no other's.
	for _, c := range []struct {
		scope string
		ok    bool
	}{{"group:w:g", true}, {"group:w:h", true}, {"group:v:g", false}, {"global", false}} {
		n++
		_, err := o.CreateCredential(background, op, api.CredentialCreate{
			ID: fmt.Sprintf("c%d", n), Provider: "acme", Scope: c.scope, SecretRefs: map[string]string{"": attached.ID},
			Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
		})
		if c.ok != (err == nil) {
			t.Errorf("attached in %s: %v", c.scope, err)
		}
	}
	// Another group's secret, once attached.
	create := func() error {
		_, err := o.CreateCredential(background, op, api.CredentialCreate{
			ID: "lent", Provider: "acme", Scope: "group:w:g", SecretRefs: map[string]string{"": secrets["group:w:h"].ID},
			Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
		})
		return err
	}
	err := create()
	wants(t, "not lent", err, api.InvalidRequest, "does not see")
	if want := "aivault secrets attach-group " + secrets["group:w:h"].ID + " --workspace-id w --group-id g"; hintOf(err) != want {
		t.Errorf("hint %q, want %q", hintOf(err), want)
	}
	if _, err := o.AttachSecret(background, op, secrets["group:w:h"].ID, api.SecretAttach{WorkspaceID: "w", GroupID: "g"}); err != nil {
		t.Fatal(err)
	}
	if err := create(); err != nil {
		t.Error(err)
	}
	_, err = o.CreateCredential(background, op, api.CredentialCreate{
		ID: "x", Provider: "acme", Scope: "group:w", SecretRefs: map[string]string{"": attached.ID},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
	})
	wants(t, "a scope that is none", err, api.InvalidRequest, "is none")
}

func TestAttach(t *testing.T) {
	o := startOffice(t)
	_, err := o.AttachSecret(background, op, "A", api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
	wants(t, "without a vault", err, api.VaultUnavailable, "no vault")
	for scope, name := range map[string]string{"global": "EVERYONES", "workspace:w": "SHARED", "group:w:g": "OWN", "workspace:v": "THEIRS"} {
		o.store(t, name, scope)
	}
	group := api.SecretAttach{WorkspaceID: "w", GroupID: "g"}
	for _, c := range []struct {
		ref  string
		r    api.SecretAttach
		code api.Code
		text string
	}{
		{"NOPE", group, api.SecretNotFound, "NOPE"},
		{"SHARED", api.SecretAttach{}, api.InvalidRequest, "which group"},
		{"SHARED", api.SecretAttach{WorkspaceID: "w"}, api.InvalidRequest, "which group"},
		{"SHARED", api.SecretAttach{GroupID: "g"}, api.InvalidRequest, "which group"},
		{"SHARED", api.SecretAttach{WorkspaceID: "W", GroupID: "g"}, api.InvalidRequest, "workspace id"},
		{"SHARED", api.SecretAttach{WorkspaceID: "w", GroupID: "g:h"}, api.InvalidRequest, "group id"},
		{"OWN", group, api.InvalidRequest, "belongs to group:w:g"},
		{"THEIRS", group, api.InvalidRequest, "no workspace lends"},
		{"OWN", api.SecretAttach{WorkspaceID: "v", GroupID: "g"}, api.InvalidRequest, "no workspace lends"},
	} {
		o.unchanged(t, c.ref+fmt.Sprint(c.r), c.code, c.text, func() error { _, err := o.AttachSecret(background, op, c.ref, c.r); return err })
	}
	for _, ref := range []string{"EVERYONES", "SHARED"} {
		s, err := o.AttachSecret(background, op, ref, group)
		if err != nil || !slices.Equal(s.AttachedGroups, []string{"group:w:g"}) {
			t.Errorf("%+v, %v", s, err)
		}
		if r := o.last(t, "secret.attached"); r["object"] != s.ID || r["name"] != ref || r["scope"] != "group:w:g" {
			t.Errorf("record %v", r)
		}
		o.unchanged(t, "twice", api.AlreadyExists, "already", func() error { _, err := o.AttachSecret(background, op, ref, group); return err })
	}
	if s, err := o.AttachSecret(background, op, "EVERYONES", api.SecretAttach{WorkspaceID: "v", GroupID: "g"}); err != nil || len(s.AttachedGroups) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	// A rotation keeps the groups, and the value can still be opened.
	if s, err := o.RotateSecret(background, op, "EVERYONES", api.SecretRotate{Value: secret.FromString("new-0123456789")}); err != nil || len(s.AttachedGroups) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := o.DetachSecret(background, op, "EVERYONES", group); err != nil || !slices.Equal(s.AttachedGroups, []string{"group:v:g"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if r := o.last(t, "secret.detached"); r["name"] != "EVERYONES" || r["scope"] != "group:w:g" {
		t.Errorf("record %v", r)
	}
	o.unchanged(t, "detached twice", api.InvalidRequest, "not attached", func() error { _, err := o.DetachSecret(background, op, "EVERYONES", group); return err })
	o.edit(t, func(st *vault.State) {
		i := slices.IndexFunc(st.Secrets, func(s vault.Secret) bool { return s.Name == "EVERYONES" })
		for n := range 255 {
			st.Secrets[i].Groups = append(st.Secrets[i].Groups, fmt.Sprintf("group:w:g%d", n))
		}
	})
	o.unchanged(t, "too many groups", api.InvalidRequest, "256", func() error { _, err := o.AttachSecret(background, op, "EVERYONES", group); return err })
}
