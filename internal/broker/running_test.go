package broker_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// granted is a vault in which the agent has been granted a chat by its uid
// and by its group, in a group that the account is attached to.
func granted(t *testing.T) *aivaulttest.Aivault {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		s := &tx.State.Secrets[0]
		if err := tx.Reseal(s, func(s *vault.Secret) { s.Scope, s.Groups = "group:w:h", []string{"group:w:g"} }); err != nil {
			return err
		}
		tx.State.Credentials[0].Scope = "group:w:h"
		uid, gid := aivaulttest.Agent().UID, aivaulttest.Agent().GID
		tx.State.Grants = []api.Grant{
			{ID: "g1", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"openai/chat-completions"}},
			{ID: "g2", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"openai/*"}, WorkspaceID: "w", GroupID: "g", StrictScope: true},
			{ID: "g3", Consumer: api.Consumer{GID: &gid}, Capabilities: []string{"openai/models"}},
		}
		return nil
	})
	return v
}

// A call that runs ends within a second when what it needs is taken away, and
// with nothing else.
func TestWhatEndsARunningCall(t *testing.T) {
	remove := func(ids ...string) func(tx *vault.Tx) error {
		return func(tx *vault.Tx) error {
			var left []api.Grant
			for _, g := range tx.State.Grants {
				if !strings.Contains(strings.Join(ids, " "), g.ID) {
					left = append(left, g)
				}
			}
			tx.State.Grants = left
			return nil
		}
	}
	for name, c := range map[string]struct {
		change func(tx *vault.Tx) error
		ends   string // with what in its text; "": goes on
	}{
		"the secret goes":     {func(tx *vault.Tx) error { tx.State.Secrets = nil; return nil }, "revoked"},
		"the credential goes": {func(tx *vault.Tx) error { tx.State.Credentials = nil; return nil }, "revoked"},
		"the credential takes another secret": {func(tx *vault.Tx) error {
			id, err := pinnedSecret(tx, "openai", "", "sk-other-0123456789")
			tx.State.Credentials[0].Secrets["secret"] = id
			return err
		}, "revoked"},
		"the group is detached":    {func(tx *vault.Tx) error { tx.State.Secrets[0].Groups = nil; return nil }, "revoked"},
		"another credential comes": {func(tx *vault.Tx) error { tx.State.Credentials[0].ID = "other"; return nil }, "revoked"},
		"the capability is turned off": {func(tx *vault.Tx) error {
			tx.State.Switches = []api.Switch{{Pattern: "openai/chat-completions", On: false}}
			return nil
		}, "turned off"},
		"the account is for others alone": {func(tx *vault.Tx) error {
			tx.State.Credentials[0].Only = []string{"openai/models"}
			return nil
		}, "turned off"},
		"both grants go":                  {remove("g1", "g2"), "grant"},
		"all grants go, and none remains": {remove("g1", "g2", "g3"), ""},
		"all go, and nobody may by default": {func(tx *vault.Tx) error {
			tx.State.Grants, tx.State.GrantDefault = nil, api.GrantDeny
			return nil
		}, "grant"},
		"the one grant expires": {func(tx *vault.Tx) error {
			tx.State.Grants[0].ExpiresAtMs, tx.State.Grants[1].ExpiresAtMs = 1, 1
			return nil
		}, "grant"},
		"one grant goes":       {remove("g1"), ""},
		"the other grant goes": {remove("g2"), ""},
		"another capability is off": {func(tx *vault.Tx) error {
			tx.State.Switches = []api.Switch{{Pattern: "openai/models", On: false}}
			return nil
		}, ""},
		"the value is replaced": {func(tx *vault.Tx) error {
			s := &tx.State.Secrets[0]
			s.Version++
			return tx.Seal(s, secret.FromString("sk-second-0123456789"))
		}, ""},
		"a binding names another": {func(tx *vault.Tx) error {
			tx.State.Bindings = []api.Binding{{ID: "b", Capability: "*", Credential: "nowhere", Scope: "global"}}
			return nil
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := granted(t)
			v.API.StepChat(true)
			call := post("openai/chat-completions", "", `{"stream":true}`)
			call.WorkspaceID, call.GroupID, call.TimeoutMs = "w", "g", 20_000
			answer, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{})
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			v.API.Step()
			buf := make([]byte, 4096)
			if _, err := answer.Body.Read(buf); err != nil {
				t.Fatal(err)
			}
			tamper(t, v, c.change)
			v.Broker.Observe(background)
			if c.ends == "" {
				// What would end it has happened: the rest arrives.
				v.API.StepChat(false)
				for range 8 {
					v.API.Step()
				}
				if _, err := io.ReadAll(answer.Body); err != nil {
					t.Errorf("the call ended: %v", err)
				}
				return
			}
			_, err = io.ReadAll(answer.Body)
			if err == nil || !strings.Contains(err.Error(), c.ends) || api.CodeOf(err) != api.PolicyViolation {
				t.Errorf("the call ended with %v, want %q", err, c.ends)
			}
		})
	}
}

// A grant that ends by itself ends the calls that it permitted.
func TestAnExpiredGrantEndsItsCalls(t *testing.T) {
	t.Parallel()
	v := granted(t)
	soon := time.Now().Add(300 * time.Millisecond).UnixMilli()
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants[0].ExpiresAtMs, tx.State.Grants[1].ExpiresAtMs = soon, soon-1
		return nil
	})
	v.API.StepChat(true)
	call := post("openai/chat-completions", "", `{"stream":true}`)
	call.WorkspaceID, call.GroupID, call.TimeoutMs = "w", "g", 20_000
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{})
	if err == nil {
		defer answer.Body.Close()
		_, err = io.ReadAll(answer.Body) // the API says nothing more
	}
	// A machine too slow to begin the call in time finds no grant at all.
	if code := api.CodeOf(err); code != api.PolicyViolation && code != api.CapabilityNotFound || time.Now().UnixMilli() < soon {
		t.Errorf("the call ended with %v", err)
	}
	v.API.StepChat(false)
}
