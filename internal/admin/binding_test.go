package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/vault"
)

func TestBindings(t *testing.T) {
	o := startOffice(t)
	_, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/*", Credential: "mail"})
	wants(t, "without a vault", err, api.VaultUnavailable, "no vault")
	o.store(t, "MAIL_KEY", "")            // mail
	o.store(t, "MAIL_KEY", "workspace:w") // mail-2
	shared := o.store(t, "SHARED", "workspace:w")
	o.custom(t, "acme-w", "acme", "workspace:w", shared.ID)
	if _, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: "acme/x", Methods: []string{"GET"}, Paths: []string{"/"}}); err != nil {
		t.Fatal(err)
	}
	own := o.store(t, "OWN", "group:w:h")
	o.custom(t, "acme-h", "acme", "group:w:h", own.ID)
	if _, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: "acme/h", Credential: "acme-h", Methods: []string{"GET"}, Paths: []string{"/"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.AttachSecret(background, op, own.ID, api.SecretAttach{WorkspaceID: "w", GroupID: "g"}); err != nil {
		t.Fatal(err)
	}
	// Two secrets, of which one alone is attached; and none of its secrets,
	// though other groups may use them.
	half, err := o.CreateCredential(background, op, api.CredentialCreate{
		ID: "half", Provider: "acme", Scope: "group:w:h", SecretRefs: map[string]string{"a": own.ID, "b": o.store(t, "THEIRS", "group:w:h").ID},
		Auth: &api.AuthSpec{Type: "basic", UsernameTemplate: "{{a}}", PasswordTemplate: "{{b}}"}, Hosts: []string{aivaulttest.CustomHost},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.custom(t, "kept", "acme", "group:w:h", shared.ID)
	for _, c := range []struct {
		r    api.BindingCreate
		code api.Code
		text string
	}{
		{api.BindingCreate{Capability: "mail", Credential: "mail"}, api.InvalidRequest, "no pattern"},
		{api.BindingCreate{Capability: "", Credential: "mail"}, api.InvalidRequest, "no pattern"},
		{api.BindingCreate{Capability: "mail/nope", Credential: "mail"}, api.CapabilityNotFound, "mail/nope"},
		{api.BindingCreate{Capability: "nope/*", Credential: "mail"}, api.CapabilityNotFound, "nope/*"},
		{api.BindingCreate{Capability: "mail/things", Credential: "mail"}, api.InvalidRequest, "mail/things-read, mail/things-write"},
		{api.BindingCreate{Capability: "openai/*", Credential: "mail"}, api.InvalidRequest, "one of mail"},
		{api.BindingCreate{Capability: "openai/models", Credential: "mail"}, api.InvalidRequest, "one of mail"},
		{api.BindingCreate{Capability: "acme/h", Credential: "acme-w", Scope: "workspace:w"}, api.InvalidRequest, "restricted to another credential"},
		{api.BindingCreate{Capability: "mail/*", Credential: "nope"}, api.CredentialNotFound, "nope"},
		{api.BindingCreate{Capability: "mail/*", Credential: ""}, api.InvalidRequest, "credential id"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail", Scope: "group:w"}, api.InvalidRequest, "is none"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail-2"}, api.InvalidRequest, "belongs to workspace:w"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail-2", Scope: "workspace:v"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail-2", Scope: "group:v:g"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "acme/*", Credential: "acme-h", Scope: "workspace:w"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "acme/*", Credential: "acme-h", Scope: "group:w:i"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "acme/*", Credential: half.ID, Scope: "group:w:g"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "acme/*", Credential: "kept", Scope: "group:w:g"}, api.InvalidRequest, "do not see"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{}}, api.InvalidRequest, "one user or one group"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{User: "agent", UID: new(uint32(1))}}, api.InvalidRequest, "one user or one group"},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{User: "nobody-here"}}, api.InvalidRequest, `no user "nobody-here"`},
		{api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{GroupName: "nobodies"}}, api.InvalidRequest, `no group "nobodies"`},
	} {
		o.unchanged(t, fmt.Sprintf("%+v", c.r), c.code, c.text, func() error { _, err := o.Bind(background, op, c.r); return err })
	}
	for _, r := range []api.BindingCreate{
		{Capability: "mail/*", Credential: "mail"},
		{Capability: "mail/*", Credential: "mail", Scope: "workspace:w"},
		{Capability: "mail/*", Credential: "mail-2", Scope: "group:w:g"},
		{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{User: "agent"}},
		{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{UID: new(uint32(2001))}},
		{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{GroupName: "robots"}},
		{Capability: "mail/things-read", Credential: "mail"},
		{Capability: "*-read", Credential: "mail"},
		{Capability: "*", Credential: "mail-2", Scope: "workspace:w"},
		{Capability: "acme/*", Credential: "acme-h", Scope: "group:w:h"},
		{Capability: "acme/*", Credential: "acme-h", Scope: "group:w:g"}, // attached
	} {
		b, err := o.Bind(background, op, r)
		if err != nil {
			t.Errorf("%+v: %v", r, err)
			continue
		}
		scope := r.Scope
		if scope == "" {
			scope = "global"
		}
		if len(b.ID) != 10 || !strings.HasPrefix(b.ID, "b-") || b.Capability != r.Capability || b.Credential != r.Credential || b.Scope != scope || b.CreatedAtMs == 0 {
			t.Errorf("%+v became %+v", r, b)
		}
		if rec := o.last(t, "binding.set"); rec["object"] != b.ID || rec["binding"] != b.ID || rec["capability"] != r.Capability || rec["credential"] != r.Credential || rec["scope"] != scope {
			t.Errorf("record %v", rec)
		}
	}
	list, err := o.Bindings(background, op)
	if err != nil || len(list.Bindings) != 11 {
		t.Fatalf("%d bindings, %v", len(list.Bindings), err)
	}
	agents := list.Bindings[3].Consumer
	if *agents.UID != 2000 || agents.User != "agent" || agents.GID != nil || *list.Bindings[5].Consumer.GID != 3000 || list.Bindings[5].Consumer.Group != "robots" {
		t.Errorf("consumers %+v %+v", agents, list.Bindings[5].Consumer)
	}
	// The same again replaces, whatever the user is called.
	again, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{UID: new(uint32(2000))}})
	if err != nil || again.ID == list.Bindings[3].ID || len(o.state(t).Bindings) != 11 {
		t.Errorf("%+v, %v; %d bindings", again, err, len(o.state(t).Bindings))
	}
	// A credential that goes leaves its bindings, which then fail.
	gone, err := o.DeleteCredential(background, op, "acme-h")
	if err != nil || !strings.Contains(gone.Notice, list.Bindings[9].ID) || !strings.Contains(gone.Notice, list.Bindings[10].ID) || len(o.state(t).Bindings) != 11 {
		t.Errorf("%+v, %v", gone, err)
	}

	for _, c := range []struct {
		r    api.BindingDelete
		text string
	}{
		{api.BindingDelete{}, "no pattern"},
		{api.BindingDelete{ID: "b-nope"}, "no binding"},
		{api.BindingDelete{ID: again.ID, Capability: "mail/*"}, "not by both"},
		{api.BindingDelete{ID: again.ID, Scope: "global"}, "not by both"},
		{api.BindingDelete{Capability: "mail/things-write"}, "nothing is bound"},
		{api.BindingDelete{Capability: "mail/*", Scope: "workspace:v"}, "nothing is bound"},
		{api.BindingDelete{Capability: "mail/*", Scope: "w"}, "is none"},
		{api.BindingDelete{Capability: "mail/things-read", Consumer: &api.ConsumerRef{User: "agent"}}, "nothing is bound"},
		{api.BindingDelete{Capability: "mail/*", Consumer: &api.ConsumerRef{}}, "one user or one group"},
		{api.BindingDelete{Capability: "mail/*", Consumer: &api.ConsumerRef{User: "stranger"}}, "nothing is bound"},
	} {
		o.unchanged(t, fmt.Sprintf("%+v", c.r), api.InvalidRequest, c.text, func() error { _, err := o.Unbind(background, op, c.r); return err })
	}
	for _, r := range []api.BindingDelete{
		{ID: again.ID},
		{Capability: "mail/*"},
		{Capability: "mail/*", Scope: "workspace:w"},
		{Capability: "mail/*", Consumer: &api.ConsumerRef{GroupName: "robots"}},
	} {
		b, err := o.Unbind(background, op, r)
		if err != nil || r.ID != "" && b.ID != r.ID {
			t.Errorf("%+v: %+v, %v", r, b, err)
		}
		if rec := o.last(t, "binding.deleted"); rec["object"] != b.ID || rec["credential"] != b.Credential {
			t.Errorf("record %v", rec)
		}
	}
	if left := o.state(t).Bindings; len(left) != 7 {
		t.Errorf("%d are left", len(left))
	}
	o.edit(t, func(st *vault.State) {
		for i := range 4096 {
			st.Bindings = append(st.Bindings, api.Binding{ID: fmt.Sprint(i), Capability: fmt.Sprintf("x/%d", i), Credential: "mail", Scope: "global"})
		}
	})
	o.unchanged(t, "too many", api.InvalidRequest, "4096", func() error {
		_, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/*", Credential: "mail"})
		return err
	})
}

// A consumer that the system has forgotten is known by its old name.
func TestUnbindWhoIsGone(t *testing.T) {
	o := startOffice(t)
	o.store(t, "MAIL_KEY", "")
	b, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/*", Credential: "mail", Consumer: &api.ConsumerRef{User: "agent"}})
	if err != nil {
		t.Fatal(err)
	}
	o.edit(t, func(st *vault.State) { st.Bindings[0].Consumer.User = "ghost" })
	if gone, err := o.Unbind(background, op, api.BindingDelete{Capability: "mail/*", Consumer: &api.ConsumerRef{User: "ghost"}}); err != nil || gone.ID != b.ID {
		t.Errorf("%+v, %v", gone, err)
	}
}
