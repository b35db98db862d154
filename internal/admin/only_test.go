package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

func (o *office) storeOnly(name, scope string, only ...string) (api.Secret, error) {
	return o.CreateSecret(background, op, api.SecretCreate{Name: name, Value: secret.FromString("value-0123456789"), Scope: scope, Only: only})
}

func TestOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		only  []string
		stays []string // in the credential
		has   []string // enabled
	}{
		{"MAIL_KEY", nil, nil, []string{"mail/things-read", "mail/things-write"}},
		{"MAIL_KEY", []string{"mail/*"}, []string{"mail/*"}, []string{"mail/things-read", "mail/things-write"}},
		{"MAIL_KEY", []string{"*-read"}, []string{"*-read"}, []string{"mail/things-read"}},
		{"MAIL_KEY", []string{"mail/things"}, []string{"mail/things-read", "mail/things-write"}, []string{"mail/things-read", "mail/things-write"}},
		{"MAIL_KEY", []string{"mail/things-write", "mail/things", "mail/things-write"}, []string{"mail/things-write", "mail/things-read"}, []string{"mail/things-read", "mail/things-write"}},
		{"MAIL_KEY", []string{"mail/users"}, []string{"mail/users"}, []string{"mail/users"}},
		{"MAIL_KEY", []string{"mail/things-read", "mail/users"}, []string{"mail/things-read", "mail/users"}, []string{"mail/things-read", "mail/users"}},
		// A set does not turn on what is an admin's.
		{"MAIL_KEY", []string{"mail/office"}, []string{"mail/things-read", "mail/users"}, []string{"mail/things-read"}},
		{"OPENAI_API_KEY", []string{"openai/responses"}, []string{"openai/responses"}, []string{"openai/responses"}}, // a capability and a set
	} {
		o := startOffice(t)
		s, err := o.storeOnly(c.name, "workspace:w", c.only...)
		if err != nil {
			t.Errorf("%v: %v", c.only, err)
			continue
		}
		if got := o.credential(t, credentialOf(s)).Only; !slices.Equal(got, c.stays) {
			t.Errorf("%v: the credential is for %v, want %v", c.only, got, c.stays)
		}
		if !slices.Equal(s.Capabilities, c.has) {
			t.Errorf("%v: enabled %v, want %v", c.only, s.Capabilities, c.has)
		}
	}
}

func TestOnlyThatIsRefused(t *testing.T) {
	o := startOffice(t)
	for _, c := range []struct {
		what, name, scope string
		only              []string
		text              string
	}{
		{"no pin", "PLAIN", "", []string{"openai/*"}, "belongs to no provider"},
		{"another's", "MAIL_KEY", "", []string{"openai/models"}, `"openai/models" matches no capability of mail`},
		{"another's set", "MAIL_KEY", "", []string{"github/repos"}, `"github/repos" matches no capability of mail`},
		{"unknown", "MAIL_KEY", "", []string{"mail/nope"}, `"mail/nope" matches no capability of mail`},
		{"one of several", "MAIL_KEY", "", []string{"mail/things", "mail/nope*"}, `"mail/nope*" matches no capability of mail`},
		{"no pattern", "MAIL_KEY", "", []string{"mail"}, `"mail" is no capability and no pattern`},
		{"empty", "MAIL_KEY", "", []string{""}, `"" is no capability and no pattern`},
		{"a host to be named", "SHOP_TOKEN", "", []string{"shop/things"}, "makes no credential yet"},
		{"too many", "MAIL_KEY", "", slices.Repeat([]string{"mail/*"}, 513), "512"},
	} {
		wants(t, c.what, func() error { _, err := o.storeOnly(c.name, c.scope, c.only...); return err }(), api.InvalidRequest, c.text)
		if o.Vault.Status(background).State != vault.None {
			t.Fatalf("%s: made a vault", c.what)
		}
	}
	o.store(t, "GITHUB_TOKEN", "")
	o.unchanged(t, "a second account", api.InvalidRequest, "has one in scope global already", func() error { _, err := o.storeOnly("GH_TOKEN", "", "github/repos"); return err })
	o.store(t, "SLACK_BOT_TOKEN", "")
	o.unchanged(t, "a credential for all", api.InvalidRequest, "serves every capability", func() error { _, err := o.storeOnly("SLACK_USER_TOKEN", "", "slack/chat"); return err })
}

// The second secret of a credential adds to what the first was for.
func TestOnlyOfTwoSecrets(t *testing.T) {
	o := startOffice(t)
	if s, err := o.storeOnly("TRELLO_API_KEY", "", "trello/boards-read"); err != nil || len(s.Capabilities) != 0 || !slices.Equal(s.Waiting, []string{"TRELLO_TOKEN"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	s, err := o.storeOnly("TRELLO_TOKEN", "", "trello/lists-read", "trello/boards-read")
	if err != nil || !slices.Equal(s.Capabilities, []string{"trello/boards-read", "trello/lists-read"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	// One half without, the other with: nothing was enabled yet.
	o.store(t, "TRELLO_API_KEY", "workspace:w")
	if s, err = o.storeOnly("TRELLO_TOKEN", "workspace:w", "trello/lists-read"); err != nil || !slices.Equal(s.Capabilities, []string{"trello/lists-read"}) {
		t.Fatalf("%+v, %v", s, err)
	}
}

// Deleting a secret removes what it enabled.
func TestDeletingRemovesWhatWasEnabled(t *testing.T) {
	o := startOffice(t)
	s, err := o.storeOnly("MAIL_KEY", "", "mail/users", "mail/keys")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := o.storeOnly("MAIL_KEY", "workspace:w", "mail/keys"); err != nil || !slices.Equal(other.Capabilities, []string{"mail/keys"}) {
		t.Fatalf("%+v, %v", other, err)
	}
	for _, scope := range []string{"", "workspace:w"} {
		if _, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/*", Credential: "mail", Scope: scope}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Bind(background, op, api.BindingCreate{Capability: "mail/keys", Credential: "mail-2", Scope: "workspace:w"}); err != nil {
		t.Fatal(err)
	}
	gone, err := o.DeleteSecret(background, op, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	// What was bound stays bound, and fails rather than use another account.
	st := o.state(t)
	if len(st.Bindings) != 3 || !strings.Contains(gone.Notice, st.Bindings[0].ID) {
		t.Errorf("bindings %+v, notice %q", st.Bindings, gone.Notice)
	}
	if fmt.Sprint(st.Switches) != "[{mail/keys true}]" {
		t.Errorf("switches %v: one was the other credential's too", st.Switches)
	}
	if s, err = o.storeOnly("MAIL_KEY", ""); err != nil || !slices.Equal(s.Capabilities, []string{"mail/keys", "mail/things-read", "mail/things-write"}) {
		t.Errorf("stored again: %+v, %v", s, err)
	}
	if c := o.credential(t, "mail"); len(c.Only) != 0 {
		t.Errorf("%+v", c)
	}
}

// What is off by a switch is not said to be enabled.
func TestWhatIsOffIsNotEnabled(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	if _, err := o.DisableCapabilities(background, op, api.SwitchRequest{Patterns: []string{"*-write"}}); err != nil {
		t.Fatal(err)
	}
	s, err := o.storeOnly("MAIL_KEY", "")
	if err != nil || !slices.Equal(s.Capabilities, []string{"mail/things-read"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	// Nor is it turned on by being named, which only an admin's is.
	if s, err = o.storeOnly("MAIL_KEY", "workspace:v", "mail/things-write", "mail/things-read"); err != nil || !slices.Equal(s.Capabilities, []string{"mail/things-read"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := o.EnableCapabilities(background, op, api.SwitchRequest{Patterns: []string{"mail/keys"}}); err != nil {
		t.Fatal(err)
	}
	// A custom capability of the provider is enabled as well.
	if _, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: "mail/mine", Methods: []string{"GET"}, Paths: []string{"/mine"}}); err != nil {
		t.Fatal(err)
	}
	s, err = o.storeOnly("MAIL_KEY", "workspace:w")
	if err != nil || !slices.Equal(s.Capabilities, []string{"mail/keys", "mail/mine", "mail/things-read"}) {
		t.Fatalf("%+v, %v", s, err)
	}
}
