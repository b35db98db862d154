package broker_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// However a pinned secret got into the wrong hands within the state, it is
// not sent.
func TestAPinnedSecretIsNotSentElsewhere(t *testing.T) {
	const value = "sk-pinned-0123456789"
	for name, change := range map[string]func(tx *vault.Tx, pinned string) error{
		"a custom provider": func(tx *vault.Tx, pinned string) error {
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: "evil", Provider: "evil", Scope: "global", Secrets: map[string]string{"secret": pinned},
				Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
			})
			return nil
		},
		"a custom provider of the pin's name in another case": func(tx *vault.Tx, pinned string) error {
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: "evil", Provider: "OpenAI", Scope: "global", Secrets: map[string]string{"secret": pinned},
				Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
			})
			tx.State.Capabilities[0].Provider = "OpenAI"
			return nil
		},
		"another registry provider": func(tx *vault.Tx, pinned string) error {
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: "evil", Provider: "stripe", Scope: "global", Secrets: map[string]string{"secret": pinned},
			})
			tx.State.Capabilities[0].Provider, tx.State.Capabilities[0].Hosts = "stripe", []string{"api.stripe.com"}
			return nil
		},
		"its own provider with another host": func(tx *vault.Tx, pinned string) error {
			c := &tx.State.Credentials[0]
			c.Hosts, c.Auth = []string{aivaulttest.CustomHost}, &api.AuthSpec{Type: "header"}
			tx.State.Capabilities[0].Provider = "openai"
			return nil
		},
		"its own provider and a capability with another host": func(tx *vault.Tx, _ string) error {
			tx.State.Capabilities[0].Provider = "openai"
			return nil
		},
		"an exception for the private network": func(tx *vault.Tx, _ string) error {
			tx.State.Credentials[0].AllowPrivateNetwork = true
			tx.State.Capabilities[0].Provider, tx.State.Capabilities[0].Hosts = "openai", []string{"api.openai.com"}
			return nil
		},
		"a CA of one's own": func(tx *vault.Tx, _ string) error {
			tx.State.Credentials[0].CAPEM = "-----BEGIN CERTIFICATE-----"
			tx.State.Capabilities[0].Provider, tx.State.Capabilities[0].Hosts = "openai", []string{"api.openai.com"}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := start(t, aivaulttest.Options{})
			pinned := v.Create(t, "OPENAI_API_KEY", value)
			tamper(t, v, func(tx *vault.Tx) error {
				tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
					ID: "evil/all", Provider: "evil", Hosts: []string{aivaulttest.CustomHost},
					Methods: []string{"GET"}, Paths: []string{"/"},
				})
				return change(tx, pinned.ID)
			})
			_, _, err := v.Invoke(get("evil/all", "/"))
			if err == nil {
				t.Error("the call went out")
			}
			if code := api.CodeOf(err); code != api.PolicyViolation {
				t.Errorf("%s: %v", code, err)
			}
			for _, seen := range v.API.Seen() {
				t.Errorf("%s received a request", seen.Host)
			}
		})
	}
}

func TestABrokenEntryHarmsOnlyItself(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	acme(t, v, "acme-token-0123456789", bearer())
	v.Create(t, "PLAIN", "plain-value-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		id, err := addSecret(tx, "OTHER", "global", "other-value-0123456789", "", "")
		if err != nil {
			return err
		}
		add := func(c vault.Credential) {
			c.Scope = "global"
			tx.State.Credentials = append(tx.State.Credentials, c)
			tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
				ID: c.Provider + "/all", Provider: c.Provider, Hosts: []string{aivaulttest.CustomHost}, Methods: []string{"GET"}, Paths: []string{"/"},
			})
		}
		one := map[string]string{"secret": id}
		host := []string{aivaulttest.CustomHost}
		add(vault.Credential{ID: "badhost", Provider: "badhost", Secrets: one, Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost, "bad host/*"}})
		add(vault.Credential{ID: "badauth", Provider: "badauth", Secrets: one, Auth: &api.AuthSpec{Type: "header", ValueTemplate: "{{nope"}, Hosts: host})
		add(vault.Credential{ID: "noauth", Provider: "noauth", Secrets: one, Hosts: host})
		add(vault.Credential{ID: "gone", Provider: "gone", Secrets: map[string]string{"secret": "nosuchsecret"}, Auth: &api.AuthSpec{Type: "header"}, Hosts: host})
		add(vault.Credential{ID: "badport", Provider: "badport", Secrets: one, Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost, aivaulttest.CustomHost + ":22"}})
		tx.State.Capabilities = append(tx.State.Capabilities,
			vault.Capability{ID: "acme/badrule", Provider: "acme", Hosts: host, Methods: []string{"GET"}, Paths: []string{"no-slash"}},
			vault.Capability{ID: "acme/nomethods", Provider: "acme", Hosts: host, Paths: []string{"/"}},
			vault.Capability{ID: "openai/models", Provider: "acme", Hosts: host, Methods: []string{"GET"}, Paths: []string{"/"}},
		)
		return nil
	})
	broken := []string{"badhost/all", "badauth/all", "noauth/all", "gone/all", "badport/all", "acme/badrule", "acme/nomethods"}
	for _, id := range broken {
		err := mustRefuse(t, v, get(id, "/"), api.PolicyViolation)
		if !strings.Contains(err.Message, "broken") {
			t.Errorf("%s: %q", id, err.Message)
		}
		if d, err := v.Broker.Capability(background, aivaulttest.Agent(), id); err != nil || d.Ready || d.Reason == "" {
			t.Errorf("%s is described as %+v, %v", id, d, err)
		}
	}
	mustInvoke(t, v, get("acme/all", "/x"))
	mustInvoke(t, v, get("openai/models", "/v1/models"))
	if seen := v.API.Seen(); len(seen) != 2 || seen[1].Host != "api.openai.com" {
		t.Errorf("the API saw %v", seen)
	}
	_, problems := v.Broker.Providers(background, aivaulttest.Operator())
	var named []string
	for _, p := range problems {
		named = append(named, p.What)
		if p.Why == "" || p.Hint == "" {
			t.Errorf("%+v says too little", p)
		}
	}
	want := []string{
		"credential badauth", "credential badhost", "credential badport", "credential gone", "credential noauth",
		"capability acme/badrule", "capability acme/nomethods", "capability openai/models",
	}
	if !slices.Equal(named, want) {
		t.Errorf("problems %q, want %q", named, want)
	}
	if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "badhost"); err != nil {
		t.Errorf("a broken entry cannot be deleted: %v", err)
	}
	if _, err := v.Admin.DeleteCapability(background, aivaulttest.Operator(), "acme/badrule"); err != nil {
		t.Errorf("a broken entry cannot be deleted: %v", err)
	}
}

// A capability of several hosts is no way to a host that is not the
// credential's.
func TestACredentialReachesItsOwnHostsOnly(t *testing.T) {
	v := start(t, aivaulttest.Options{Hosts: []string{"evil.test"}})
	acme(t, v, "acme-token-0123456789", bearer())
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
			ID: "acme/both", Provider: "acme", Hosts: []string{"evil.test", aivaulttest.CustomHost}, Methods: []string{"GET"}, Paths: []string{"/"},
		})
		return nil
	})
	mustRefuse(t, v, get("acme/both", "/"), api.PolicyViolation)
	if len(v.API.Seen()) != 0 {
		t.Error("the call went out")
	}
}

func TestTheMostSpecificCredentialIsUsed(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-global-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		for _, c := range []struct{ id, scope string }{
			{"w1", "workspace:w1"}, {"w1-g", "group:w1:g"}, {"w2", "workspace:w2"}, {"twin-a", "workspace:w3"}, {"twin-b", "workspace:w3"},
		} {
			s, err := addSecret(tx, "OPENAI_API_KEY", c.scope, "sk-"+c.id+"-0123456789", "openai", "secret")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: c.id, Provider: "openai", Scope: c.scope, Secrets: map[string]string{"secret": s},
			})
		}
		// A credential that holds another tenant's secret.
		other := tx.State.Secrets[len(tx.State.Secrets)-3].ID
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
			ID: "thief", Provider: "openai", Scope: "workspace:w4", Secrets: map[string]string{"secret": other},
		})
		return nil
	})
	for _, c := range []struct {
		workspace, group, named string
		want                    string
		code                    api.Code
	}{
		{want: "sk-global-0123456789"},
		{workspace: "w1", want: "sk-w1-0123456789"},
		{workspace: "w1", group: "g", want: "sk-w1-g-0123456789"},
		{workspace: "w1", group: "h", want: "sk-w1-0123456789"},
		{workspace: "w2", group: "g", want: "sk-w2-0123456789"},
		{workspace: "w9", want: "sk-global-0123456789"},
		{workspace: "w1", named: "openai", want: "sk-global-0123456789"},
		{workspace: "w3", named: "twin-b", want: "sk-twin-b-0123456789"},
		{workspace: "w3", code: api.CredentialAmbiguous},
		{workspace: "w1", named: "w2", code: api.CredentialNotFound},
		{named: "w1", code: api.CredentialNotFound},
		{workspace: "w1", named: "w1-g", code: api.CredentialNotFound},
		{workspace: "w4", code: api.PolicyViolation},
	} {
		call := get("openai/models", "/v1/models")
		call.WorkspaceID, call.GroupID, call.Credential = c.workspace, c.group, c.named
		if c.code != "" {
			mustRefuse(t, v, call, c.code)
			continue
		}
		mustInvoke(t, v, call)
		seen := v.API.Seen()
		if got := seen[len(seen)-1].Header.Get("Authorization"); got != "Bearer "+c.want {
			t.Errorf("%s/%s %s: %q, want %q", c.workspace, c.group, c.named, got, c.want)
		}
	}
}

// An upstream may know more than the value of this call: what else goes to
// that host, and what went there before.
func TestWhatTheHostMayKnowIsScrubbed(t *testing.T) {
	told := ""
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, told)
	})})
	acme(t, v, "acme-token-0123456789", bearer())
	v.Create(t, "ACME_SECOND", "second-token-0123456789")
	credential(t, v, api.CredentialCreate{
		ID: "acme2", Provider: "acme2", SecretRefs: map[string]string{"secret": "ACME_SECOND"},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
	})
	v.Create(t, "OPENAI_API_KEY", "sk-elsewhere-0123456789")
	told = "mine acme-token-0123456789, hers second-token-0123456789, elsewhere sk-elsewhere-0123456789"
	if got := mustInvoke(t, v, get("acme/all", "/")); strings.Contains(got, "acme-token") || strings.Contains(got, "second-token") {
		t.Errorf("answered %q", got)
	}
	operator := aivaulttest.Operator()
	for _, value := range []string{"acme-third-0123456789", "acme-fourth-0123456789"} {
		if _, err := v.Admin.RotateSecret(background, operator, "ACME_TOKEN", api.SecretRotate{Value: secret.FromString(value)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Admin.DeleteSecret(background, operator, "ACME_SECOND"); err != nil {
		t.Fatal(err)
	}
	told += ", third acme-third-0123456789, fourth acme-fourth-0123456789"
	got := mustInvoke(t, v, get("acme/all", "/"))
	for _, gone := range []string{"acme-token", "second-token", "acme-third", "acme-fourth"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s came back in %q", gone, got)
		}
	}
	seen := v.API.Seen()
	if got := seen[len(seen)-1].Header.Get("Authorization"); got != "Bearer acme-fourth-0123456789" {
		t.Errorf("sent %q after the rotation", got)
	}
}

// An account id is no secret: an answer that names it stays as it is.
func TestPublicPartsAreNotScrubbed(t *testing.T) {
	const sid, token = "AC00000000000000000000000000000000", "twilio-auth-token-0123456789"
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		_, _ = io.WriteString(w, "sid "+sid+" token "+password+" "+r.Header.Get("Authorization"))
	})})
	v.Create(t, "TWILIO_ACCOUNT_SID", sid)
	v.Create(t, "TWILIO_AUTH_TOKEN", token)
	call := get("twilio/messages-read", "/2010-04-01/Accounts/"+sid+"/Messages.json")
	if got := mustInvoke(t, v, call); got != "sid "+sid+" token [redacted] Basic [redacted]" && got != "sid "+sid+" token [redacted] [redacted]" {
		t.Errorf("answered %q", got)
	}
	// Yet a secret that somehow fills the public field is scrubbed.
	tamper(t, v, func(tx *vault.Tx) error {
		for i := range tx.State.Credentials {
			c := &tx.State.Credentials[i]
			c.Secrets["account_sid"] = c.Secrets["auth_token"]
		}
		return nil
	})
	if got := mustInvoke(t, v, call); strings.Contains(got, token) {
		t.Errorf("answered %q", got)
	}
}

func TestDeletingASecretEndsItsCalls(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	call := get("openai/models", "/v1/models")
	mustInvoke(t, v, call)
	gone, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "openai_api_key")
	if err != nil || !slices.Equal(gone.Credentials, []string{"openai"}) {
		t.Fatalf("%+v, %v", gone, err)
	}
	mustRefuse(t, v, call, api.CredentialNotFound)
	if len(v.API.Seen()) != 1 {
		t.Error("a call went out with a deleted secret")
	}
	v.Create(t, "OPENAI_API_KEY", "sk-second-0123456789")
	mustInvoke(t, v, call)
	if got := v.API.Seen()[1].Header.Get("Authorization"); got != "Bearer sk-second-0123456789" {
		t.Errorf("sent %q", got)
	}
}
