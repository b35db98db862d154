package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

var background = context.Background()

func create(v *aivaulttest.Aivault, name, value string, aliases ...string) (api.Secret, error) {
	return v.Admin.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{
		Name: name, Value: secret.FromString(value), Aliases: aliases,
	})
}

func credentialOf(s api.Secret) string {
	if s.Credential == nil {
		return ""
	}
	return *s.Credential
}

// wants checks an error's code and that it says something of use.
func wants(t *testing.T, what string, err error, code api.Code, text string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("%s: %q (%v), want %s", what, api.CodeOf(err), err, code)
		return
	}
	if err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %q does not say %q", what, err, text)
	}
}

// Nobody but the operator gets anything, and every attempt is in the log.
func TestOnlyTheOperatorChangesAnything(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	generation := v.Vault.Status(background).Generation
	agent := aivaulttest.Agent()
	a := v.Admin
	attempts := map[string]func() error{
		"init":          func() error { _, err := a.Init(background, agent, api.KeyOptions{}); return err },
		"unlock":        func() error { _, err := a.Unlock(background, agent, api.Unlock{}); return err },
		"lock":          func() error { _, err := a.Lock(background, agent); return err },
		"rotate-master": func() error { _, err := a.RotateMaster(background, agent, api.KeyOptions{}); return err },
		"backup":        func() error { _, err := a.Backup(background, agent, api.BackupRequest{}); return err },
		"restore":       func() error { _, err := a.Restore(background, agent, api.RestoreRequest{Accept: 1}, nil); return err },
		"secrets list":  func() error { _, err := a.Secrets(background, agent); return err },
		"secrets create": func() error {
			_, err := a.CreateSecret(background, agent, api.SecretCreate{Name: "A", Value: secret.FromString("v")})
			return err
		},
		"secrets update": func() error {
			_, err := a.UpdateSecret(background, agent, "OPENAI_API_KEY", api.SecretUpdate{NewName: "B"})
			return err
		},
		"secrets rotate": func() error {
			_, err := a.RotateSecret(background, agent, "OPENAI_API_KEY", api.SecretRotate{Value: secret.FromString("v")})
			return err
		},
		"secrets delete":  func() error { _, err := a.DeleteSecret(background, agent, "OPENAI_API_KEY"); return err },
		"credential list": func() error { _, err := a.Credentials(background, agent); return err },
		"credential create": func() error {
			_, err := a.CreateCredential(background, agent, api.CredentialCreate{})
			return err
		},
		"credential delete": func() error { _, err := a.DeleteCredential(background, agent, "openai"); return err },
		"capability create": func() error {
			_, err := a.CreateCapability(background, agent, api.CapabilityCreate{})
			return err
		},
		"capability delete": func() error { _, err := a.DeleteCapability(background, agent, "openai/models"); return err },
		"audit":             func() error { _, err := a.Audit(background, agent, audit.Query{}); return err },
		"audit export":      func() error { _, err := a.ExportAudit(background, agent, audit.Query{}); return err },
		"audit --follow":    func() error { _, err := a.FollowAudit(background, agent, audit.Query{}); return err },
		"secrets attach-group": func() error {
			_, err := a.AttachSecret(background, agent, "OPENAI_API_KEY", api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
			return err
		},
		"secrets detach-group": func() error {
			_, err := a.DetachSecret(background, agent, "OPENAI_API_KEY", api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
			return err
		},
		"secrets import": func() error {
			_, err := a.ImportSecrets(background, agent, api.SecretImport{Entries: entries("A=v"), DryRun: true})
			return err
		},
		"capability enable": func() error {
			_, err := a.EnableCapabilities(background, agent, api.SwitchRequest{Patterns: []string{"openai/models-delete"}})
			return err
		},
		"capability disable": func() error {
			_, err := a.DisableCapabilities(background, agent, api.SwitchRequest{Patterns: []string{"*"}})
			return err
		},
		"capability policy show": func() error { _, err := a.Policies(background, agent); return err },
		"capability policy set": func() error {
			_, err := a.SetPolicy(background, agent, api.PolicyChange{Capability: "openai/models", RatePerMinute: new(1)})
			return err
		},
		"capability policy clear": func() error { _, err := a.ClearPolicy(background, agent, "openai/models"); return err },
		"capability bindings":     func() error { _, err := a.Bindings(background, agent); return err },
		"capability bind": func() error {
			_, err := a.Bind(background, agent, api.BindingCreate{Capability: "openai/*", Credential: "openai"})
			return err
		},
		"capability unbind": func() error { _, err := a.Unbind(background, agent, api.BindingDelete{ID: "b-1"}); return err },
		"grant list":        func() error { _, err := a.Grants(background, agent); return err },
		"grant add": func() error {
			_, err := a.AddGrant(background, agent, api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(2000))}})
			return err
		},
		"grant remove": func() error { _, err := a.RemoveGrant(background, agent, "g-1"); return err },
		"grant reset": func() error {
			_, err := a.ResetGrants(background, agent, api.ConsumerRef{UID: new(uint32(2000))})
			return err
		},
		"grant default": func() error {
			_, err := a.SetGrantDefault(background, agent, api.GrantDefault{Default: "allow"})
			return err
		},
		"oauth status": func() error { _, err := a.OAuth(background, agent); return err },
		"oauth setup": func() error {
			_, err := a.OAuthSetup(background, agent, api.OAuthSetup{Provider: "dropbox", ClientID: "an-app", RedirectURI: "https://example.com/"})
			return err
		},
		"oauth login": func() error {
			_, err := a.StartLogin(background, agent, api.OAuthStart{Provider: "dropbox", Flow: api.FlowCode, ClientID: "an-app", RedirectURI: "http://127.0.0.1:1/callback"})
			return err
		},
		"the answer to oauth login": func() error { _, err := a.FinishLogin(background, agent, "a-login", api.OAuthAnswer{}); return err },
		"oauth logout":              func() error { _, err := a.Logout(background, agent, "dropbox"); return err },
	}
	// Every method of the Admin is asked, but for the policy of one capability,
	// which is shown as all are, and for whether a login is pending, which is no
	// caller's question.
	if methods := reflect.TypeOf(a).NumMethod() - 2; methods != len(attempts) {
		t.Errorf("%d of %d methods are tried", len(attempts), methods)
	}
	for name, attempt := range attempts {
		wants(t, name, attempt(), api.OperatorRequired, "operator")
	}
	_, err := a.Policy(background, agent, "openai/models")
	wants(t, "one policy", err, api.OperatorRequired, "operator")
	v.Vault.Desk().Close() // tells of equal refusals: some methods belong to one command
	refused := aivaulttest.Events(v.Records(t), "operator.refused")
	inLog := 0
	for _, r := range refused {
		if n, more := r["count"].(float64); more {
			inLog += int(n)
		} else {
			inLog++
		}
	}
	if inLog != len(attempts)+1 {
		t.Errorf("%d of %d attempts are in the log", inLog, len(attempts)+1)
	}
	for _, r := range refused {
		what, _ := r["object"].(string)
		if attempts[what] == nil {
			t.Errorf("the log names %q", what)
		}
	}
	if now := v.Vault.Status(background).Generation; now != generation {
		t.Errorf("generation %d became %d", generation, now)
	}
}

func TestNothingMakesAVaultButWhatStoresSomething(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	op := aivaulttest.Operator()
	_, err := v.Admin.Secrets(background, op)
	wants(t, "secrets list", err, api.VaultUnavailable, "no vault")
	if hint := api.AsError(err).Hint; hint != "aivault init" {
		t.Errorf("hint %q", hint)
	}
	_, err = v.Admin.DeleteSecret(background, op, "A")
	wants(t, "secrets delete", err, api.VaultUnavailable, "")
	_, err = v.Admin.Lock(background, op)
	wants(t, "lock", err, api.VaultUnavailable, "")
	_, err = v.Admin.Unlock(background, op, api.Unlock{})
	wants(t, "unlock", err, api.VaultUnavailable, "")
	_, err = v.Admin.RotateMaster(background, op, api.KeyOptions{})
	wants(t, "rotate-master", err, api.VaultUnavailable, "")
	_, err = create(v, "bad name", "v")
	wants(t, "a bad create", err, api.InvalidRequest, "")
	list, err := v.Admin.Audit(background, op, audit.Query{})
	if err != nil || list.Records == nil || len(list.Records) != 0 {
		t.Errorf("audit: %v, %v", list.Records, err)
	}
	if state := v.Vault.Status(background).State; state != vault.None {
		t.Fatalf("the vault is %s", state)
	}
	if _, err := create(v, "GOOD", "v"); err != nil {
		t.Fatal(err)
	}
	if state := v.Vault.Status(background).State; state != vault.Unlocked {
		t.Fatalf("the vault is %s", state)
	}
}

func TestFirstCommandsAtOnceMakeOneVault(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	other := v.Open(t)
	var wg sync.WaitGroup
	errs := make(chan error, 10)
	for i := range 10 {
		wg.Go(func() {
			a := v.Admin
			if i%2 == 1 {
				a = other.Admin
			}
			_, err := a.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{Name: fmt.Sprintf("S%d", i), Value: secret.FromString("v")})
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	list, err := v.Admin.Secrets(background, aivaulttest.Operator())
	if err != nil || len(list.Secrets) != 10 {
		t.Errorf("%d secrets, %v", len(list.Secrets), err)
	}
}

func TestNamesAndValues(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	if _, err := create(v, "TAKEN", "v", "ALSO"); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 129)
	for _, c := range []struct {
		name, value string
		aliases     []string
		code        api.Code
		text        string
	}{
		{"", "v", nil, api.InvalidRequest, "empty"},
		{long, "v", nil, api.InvalidRequest, "129"},
		{"A B", "v", nil, api.InvalidRequest, `" "`},
		{"A\nB", "v", nil, api.InvalidRequest, `\n`},
		{"\x1b[31m", "v", nil, api.InvalidRequest, `\x1b`},
		{"ОPENAI_API_KEY", "v", nil, api.InvalidRequest, "a-z"}, // a Cyrillic O
		{"vault:secret:x", "v", nil, api.InvalidRequest, ":"},
		{"--value", "v", nil, api.InvalidRequest, "begin"},
		{"..", "v", nil, api.InvalidRequest, "begin"},
		{"A", "v", []string{"b c"}, api.InvalidRequest, "alias"},
		{"A", "v", []string{"-f"}, api.InvalidRequest, "begin"},
		{"A", "", nil, api.InvalidRequest, "value is empty"},
		{"A", strings.Repeat("v", 64<<10+1), nil, api.InvalidRequest, "65536"},
		{"TAKEN", "v", nil, api.AlreadyExists, "TAKEN"},
		{"taken", "v", nil, api.AlreadyExists, "TAKEN"},
		{"also", "v", nil, api.AlreadyExists, "alias of the secret TAKEN"},
		{"A", "v", []string{"Taken"}, api.AlreadyExists, "TAKEN"},
		{"OPENAI_API_KEY", "v", []string{"STRIPE_API_KEY"}, api.InvalidRequest, "cannot be both"},
		{"TRELLO_API_KEY", "v", []string{"TRELLO_TOKEN"}, api.InvalidRequest, "cannot be both"},
		{"OPENAI_API_KEY", "two\nlines", nil, api.InvalidRequest, "does not fit openai"},
		{"openai_api_key", "tab\x00", nil, api.InvalidRequest, "does not fit openai"},
	} {
		_, err := create(v, c.name, c.value, c.aliases...)
		wants(t, fmt.Sprintf("%.20q", c.name), err, c.code, c.text)
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: the error holds control characters", c.name)
		}
	}
	if hint := api.AsError(func() error { _, err := create(v, "TAKEN", "v"); return err }()).Hint; hint != "aivault secrets rotate TAKEN" {
		t.Errorf("hint %q", hint)
	}
	for _, name := range []string{"a", "A.b-c_9", strings.Repeat("n", 128)} {
		if _, err := create(v, name, strings.Repeat("v", 64<<10)); err != nil {
			t.Errorf("%.20s: %v", name, err)
		}
	}
	for _, scope := range []string{"workspace", "workspace:", "Global", "group:w", "group:w:", "group::g", "workspace:W", "workspace:a b", "all"} {
		_, err := v.Admin.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{Name: "S", Value: secret.FromString("v"), Scope: scope})
		wants(t, "scope "+scope, err, api.InvalidRequest, "is none")
	}
}

func TestRegistryMagic(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	s, err := create(v, "openai_api_key", "sk-test-0123456789", "MY_KEY", "my_key")
	if err != nil {
		t.Fatal(err)
	}
	if s.PinnedProvider != "openai" || credentialOf(s) != "openai" || len(s.Waiting) != 0 || !slices.Contains(s.Capabilities, "openai/chat-completions") || !slices.Equal(s.Aliases, []string{"MY_KEY"}) {
		t.Errorf("%+v", s)
	}
	if slices.Contains(s.Capabilities, "openai/codex-responses") {
		t.Error("a capability that needs another login is said to be enabled")
	}
	if s, err = create(v, "TRELLO_API_KEY", "key-0123456789"); err != nil {
		t.Fatal(err)
	}
	if credentialOf(s) != "trello" || len(s.Capabilities) != 0 || !slices.Equal(s.Waiting, []string{"TRELLO_TOKEN"}) {
		t.Errorf("half of trello: %+v", s)
	}
	if s, err = create(v, "TRELLO_TOKEN", "token-0123456789"); err != nil {
		t.Fatal(err)
	}
	if credentialOf(s) != "trello" || len(s.Capabilities) == 0 || len(s.Waiting) != 0 {
		t.Errorf("all of trello: %+v", s)
	}
	if gone, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "TRELLO_TOKEN"); err != nil || len(gone.Credentials) != 0 {
		t.Errorf("%+v, %v", gone, err)
	}
	if s, err = create(v, "TRELLO_TOKEN", "token-9876543210"); err != nil || len(s.Capabilities) == 0 {
		t.Errorf("trello again: %+v, %v", s, err)
	}

	// The second name of a provider's only key is a second account: which one
	// is used is the operator's to say.
	if _, err = create(v, "GITHUB_TOKEN", "ghp-0123456789"); err != nil {
		t.Fatal(err)
	}
	if s, err = create(v, "GH_TOKEN", "ghp-9876543210"); err != nil || credentialOf(s) != "" || s.PinnedProvider != "github" {
		t.Errorf("%+v, %v", s, err)
	}
	c, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), api.CredentialCreate{
		ID: "github-work", Provider: "github", SecretRefs: map[string]string{"": "GH_TOKEN"},
	})
	if err != nil || c.Secrets["secret"] != s.ID || !c.Ready || c.Origin != "registry" {
		t.Errorf("%+v, %v", c, err)
	}

	// The automatic credential takes another id where its own is taken.
	if _, err = create(v, "PLAIN", "plain-0123456789"); err != nil {
		t.Fatal(err)
	}
	if _, err = v.Admin.CreateCredential(background, aivaulttest.Operator(), api.CredentialCreate{
		ID: "stripe", Provider: "acme", SecretRefs: map[string]string{"secret": "PLAIN"},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
	}); err != nil {
		t.Fatal(err)
	}
	if s, err = create(v, "STRIPE_API_KEY", "rk-0123456789"); err != nil || credentialOf(s) != "stripe-2" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRenamingPinsAndNothingUnpins(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	op := aivaulttest.Operator()
	update := func(ref string, r api.SecretUpdate) (api.Secret, error) {
		return v.Admin.UpdateSecret(background, op, ref, r)
	}
	custom := func(ref string) error {
		_, err := v.Admin.CreateCredential(background, op, api.CredentialCreate{
			ID: "mine", Provider: "mine", SecretRefs: map[string]string{"secret": ref},
			Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
		})
		return err
	}
	if _, err := create(v, "KEY", "sk-test-0123456789"); err != nil {
		t.Fatal(err)
	}
	s, err := update("KEY", api.SecretUpdate{Aliases: []string{"OPENAI_API_KEY"}})
	if err != nil || s.PinnedProvider != "openai" || credentialOf(s) != "openai" {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = update(s.ID, api.SecretUpdate{NewName: "HARMLESS", ClearAliases: true}); err != nil || s.PinnedProvider != "openai" || len(s.Aliases) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	wants(t, "use elsewhere", custom("HARMLESS"), api.PolicyViolation, "pinned to openai")
	_, err = update("HARMLESS", api.SecretUpdate{NewName: "STRIPE_API_KEY"})
	wants(t, "another pin", err, api.InvalidRequest, "pinned to openai")
	_, err = update("HARMLESS", api.SecretUpdate{})
	wants(t, "nothing to do", err, api.InvalidRequest, "nothing")
	_, err = update("NOPE", api.SecretUpdate{NewName: "A"})
	wants(t, "unknown", err, api.SecretNotFound, `"NOPE"`)
	if s, err = v.Admin.RotateSecret(background, op, "vault:secret:"+s.ID, api.SecretRotate{Value: secret.FromString("sk-new-0123456789")}); err != nil || s.Version != 2 || s.PinnedProvider != "openai" || s.RotatedAtMs == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	wants(t, "use elsewhere after rotation", custom(s.ID), api.PolicyViolation, "pinned to openai")

	// A secret that a custom credential uses is pinned all the same, and the
	// credential loses it.
	if _, err := create(v, "LOOSE", "loose-0123456789"); err != nil {
		t.Fatal(err)
	}
	if err := custom("LOOSE"); err != nil {
		t.Fatal(err)
	}
	if _, err := update("LOOSE", api.SecretUpdate{NewName: "STRIPE_API_KEY"}); err != nil {
		t.Fatal(err)
	}
	list, err := v.Admin.Credentials(background, op)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Credentials {
		if c.ID == "mine" && (c.Ready || !strings.Contains(c.Problem, "pinned to stripe")) {
			t.Errorf("%+v", c)
		}
	}
}

func TestASecretThatTwoNamesMean(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	first, err := create(v, "FIRST", "v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create(v, first.ID, "v"); err != nil { // a name like the other's id
		t.Fatal(err)
	}
	_, err = v.Admin.DeleteSecret(background, aivaulttest.Operator(), first.ID)
	wants(t, "twice", err, api.InvalidRequest, "FIRST")
	if text := err.Error(); !strings.Contains(text, "vault:secret:"+first.ID) {
		t.Errorf("%q does not say the reference, and an id is what was given", text)
	}
	if _, err := v.Admin.DeleteSecret(background, aivaulttest.Operator(), "vault:secret:"+first.ID); err != nil {
		t.Error(err)
	}
}

// Nothing that an answer holds, or an error says, is the value.
func TestNoAnswerHoldsTheValue(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	const value = "sk-test-0123456789"
	s, err := create(v, "OPENAI_API_KEY", value)
	if err != nil {
		t.Fatal(err)
	}
	list, _ := v.Admin.Secrets(background, aivaulttest.Operator())
	credentials, _ := v.Admin.Credentials(background, aivaulttest.Operator())
	capabilities, _ := v.Broker.Capabilities(background, aivaulttest.Operator())
	log, _ := v.Admin.Audit(background, aivaulttest.Operator(), audit.Query{})
	for _, answer := range []any{s, list, credentials, capabilities, log} {
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(value)) {
			t.Errorf("%T holds the value", answer)
		}
	}
}

func TestLockAndUnlock(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	op := aivaulttest.Operator()
	if _, err := create(v, "A", "v"); err != nil {
		t.Fatal(err)
	}
	r, err := v.Admin.Unlock(background, op, api.Unlock{})
	if err != nil || r.Notice == "" || r.State != vault.Unlocked || r.Provider != "file" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = v.Admin.Lock(background, op); err != nil || r.State != vault.Locked {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = create(v, "B", "v")
	wants(t, "create while locked", err, api.VaultLocked, "")
	if r, err = v.Admin.Unlock(background, op, api.Unlock{}); err != nil || r.State != vault.Unlocked {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = v.Admin.Unlock(background, op, api.Unlock{ForMs: -1})
	wants(t, "a negative time", err, api.InvalidRequest, "")
	_, err = v.Admin.Init(background, op, api.KeyOptions{})
	wants(t, "init over secrets", err, api.AlreadyExists, "")
}

func TestRotateMaster(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	op := aivaulttest.Operator()
	if _, err := create(v, "OPENAI_API_KEY", "sk-test-0123456789"); err != nil {
		t.Fatal(err)
	}
	call := api.Call{Capability: "openai/models", Request: api.Request{Method: "GET", Path: "/v1/models"}}
	for _, c := range []struct {
		options  api.KeyOptions
		provider string
	}{
		{api.KeyOptions{}, "file"},
		{api.KeyOptions{Passphrase: secret.FromString("correct horse battery")}, "passphrase"},
		{api.KeyOptions{Passphrase: secret.FromString("staple")}, "passphrase"},
		{api.KeyOptions{Provider: "file"}, "file"},
	} {
		r, err := v.Admin.RotateMaster(background, op, c.options)
		if err != nil || r.Provider != c.provider {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, _, err := v.Invoke(call); err != nil {
			t.Fatalf("a call under %s: %v", c.provider, err)
		}
	}
}

func TestAuditLimits(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	for i := range 5 {
		if _, err := create(v, fmt.Sprintf("S%d", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{-1, 10_001} {
		_, err := v.Admin.Audit(background, aivaulttest.Operator(), audit.Query{Limit: limit})
		wants(t, fmt.Sprint(limit), err, api.InvalidRequest, "10000")
	}
	list, err := v.Admin.Audit(background, aivaulttest.Operator(), audit.Query{Limit: 3})
	if err != nil || len(list.Records) != 3 {
		t.Errorf("%d records, %v", len(list.Records), err)
	}
	created := aivaulttest.Events(v.Records(t), "secret.created")
	if len(created) != 5 || created[0]["name"] != "S0" || created[0]["object"] == nil || created[0]["generation"] == nil {
		t.Errorf("%v", created)
	}
}
