package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// ways are the attempts to send a pinned secret elsewhere, beside the
// credential that it may have.
func ways(o *office) map[string]func(*api.CredentialCreate) {
	evil := func(r *api.CredentialCreate) {
		r.Provider, r.Auth, r.Hosts = "evil", &api.AuthSpec{Type: "header"}, []string{"evil.test"}
	}
	return map[string]func(*api.CredentialCreate){
		"a host":                      func(r *api.CredentialCreate) { r.Hosts = []string{"evil.test"} },
		"a host that begins alike":    func(r *api.CredentialCreate) { r.Hosts = []string{"api.openai.com.evil.test"} },
		"a host that ends alike":      func(r *api.CredentialCreate) { r.Hosts = []string{"evil-api.openai.com"} },
		"its own host with a port":    func(r *api.CredentialCreate) { r.Hosts = []string{"api.openai.com:8443"} },
		"its own host and another":    func(r *api.CredentialCreate) { r.Hosts = []string{"api.openai.com", "evil.test"} },
		"a URL":                       func(r *api.CredentialCreate) { r.Hosts = []string{"https://evil.test/"} },
		"a CA":                        func(r *api.CredentialCreate) { r.CAPEM = string(o.API.CAPEM()) },
		"a private network":           func(r *api.CredentialCreate) { r.AllowPrivateNetwork = true },
		"a port":                      func(r *api.CredentialCreate) { r.AllowPorts = []int{8443} },
		"plain http":                  func(r *api.CredentialCreate) { r.AllowHTTP = true },
		"an auth":                     func(r *api.CredentialCreate) { r.Auth = &api.AuthSpec{Type: "query", ParamName: "key"} },
		"a public part":               func(r *api.CredentialCreate) { r.PublicParts = []string{"secret"} },
		"another registry provider":   func(r *api.CredentialCreate) { r.Provider = "stripe" },
		"a provider that anyone runs": func(r *api.CredentialCreate) { r.Provider, r.Hosts = "forge", []string{"evil.test"} },
		"a provider of tenants":       func(r *api.CredentialCreate) { r.Provider, r.Hosts = "shop", []string{"evil.shop.test"} },
		"a provider of one's own":     evil,
		"a name that looks alike":     func(r *api.CredentialCreate) { evil(r); r.Provider = "open-ai" },
		"without an auth":             func(r *api.CredentialCreate) { r.Provider, r.Hosts = "evil", []string{"evil.test"} },
		"without a host":              func(r *api.CredentialCreate) { r.Provider, r.Auth = "evil", &api.AuthSpec{Type: "header"} },
		"with everything": func(r *api.CredentialCreate) {
			evil(r)
			r.CAPEM, r.AllowPrivateNetwork, r.AllowPorts = string(o.API.CAPEM()), true, []int{8443}
		},
		"as one of two secrets": func(r *api.CredentialCreate) {
			evil(r)
			r.Auth = &api.AuthSpec{Type: "basic", UsernameTemplate: "{{a}}", PasswordTemplate: "{{b}}"}
			r.SecretRefs = map[string]string{"a": "PLAIN", "b": r.SecretRefs["secret"]}
		},
	}
}

// A pinned secret goes to its provider, whatever is tried, in every scope and
// however the secret is named: each attempt is refused with the pin named, and
// changes nothing.
func TestAPinnedSecretGoesNowhereElse(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	for _, scope := range scopes {
		s := o.store(t, "OPENAI_API_KEY", scope)
		if _, err := o.UpdateSecret(background, op, s.ID, api.SecretUpdate{Aliases: []string{"KEY_OF_" + strings.ReplaceAll(scope, ":", "_")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.DeleteCredential(background, op, credentialOf(s)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := o.Secrets(background, op)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Secrets {
		if s.PinnedProvider != "openai" {
			continue
		}
		for _, ref := range []string{s.ID, "vault:secret:" + s.ID, s.Aliases[0], strings.ToLower(s.Aliases[0])} {
			for _, scope := range scopes {
				for _, id := range []string{"openai", "openai-2", "evil"} {
					for way, change := range ways(o) {
						r := api.CredentialCreate{ID: id, Provider: "openai", Scope: scope, SecretRefs: map[string]string{"secret": ref}}
						change(&r)
						what := fmt.Sprintf("%s of %s in %s as %s", way, s.Scope, scope, id)
						o.unchanged(t, what, api.PolicyViolation, "pinned to openai", func() error { _, err := o.CreateCredential(background, op, r); return err })
					}
				}
				if testing.Short() {
					break
				}
			}
			if ref != s.ID { // one spelling in every scope is enough
				break
			}
		}
	}
	// What it may have, it gets.
	for _, s := range list.Secrets {
		if s.PinnedProvider == "openai" {
			if _, err := o.CreateCredential(background, op, api.CredentialCreate{ID: "again-" + strings.ReplaceAll(s.Scope, ":", "-"), Provider: "openai", Scope: s.Scope, SecretRefs: map[string]string{"": s.ID}}); err != nil {
				t.Error(err)
			}
		}
	}
}

// Nothing that can be done to a secret unpins it.
func TestNothingUnpins(t *testing.T) {
	evil := func(o *office, ref string) error {
		_, err := o.CreateCredential(background, op, api.CredentialCreate{
			ID: "evil", Provider: "evil", SecretRefs: map[string]string{"": ref}, Scope: "group:w:g",
			Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{"evil.test"},
		})
		return err
	}
	for name, c := range map[string]func(*office, string) error{
		"renamed": func(o *office, id string) error {
			_, err := o.UpdateSecret(background, op, id, api.SecretUpdate{NewName: "HARMLESS"})
			return err
		},
		"renamed without aliases": func(o *office, id string) error {
			_, err := o.UpdateSecret(background, op, id, api.SecretUpdate{NewName: "HARMLESS", ClearAliases: true})
			return err
		},
		"aliased": func(o *office, id string) error {
			_, err := o.UpdateSecret(background, op, id, api.SecretUpdate{Aliases: []string{"HARMLESS"}})
			return err
		},
		"rotated": func(o *office, id string) error {
			_, err := o.RotateSecret(background, op, id, api.SecretRotate{Value: secret.FromString("sk-other-0123456789")})
			return err
		},
		"attached": func(o *office, id string) error {
			_, err := o.AttachSecret(background, op, id, api.SecretAttach{WorkspaceID: "w", GroupID: "g"})
			return err
		},
		"imported over": func(o *office, _ string) error {
			_, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("OPENAI_API_KEY=sk-other-0123456789"), Scope: "workspace:w"})
			return err
		},
		"renamed and imported over": func(o *office, id string) error {
			if _, err := o.UpdateSecret(background, op, id, api.SecretUpdate{NewName: "HARMLESS"}); err != nil {
				return err
			}
			_, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("HARMLESS=sk-other-0123456789"), Scope: "workspace:w"})
			return err
		},
		"its credential deleted": func(o *office, _ string) error { _, err := o.DeleteCredential(background, op, "openai"); return err },
		"its capability off":     func(o *office, _ string) error { _, err := o.disable("openai/*"); return err },
	} {
		o := startOffice(t)
		s := o.store(t, "OPENAI_API_KEY", "workspace:w")
		if err := c(o, s.ID); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if now := o.state(t).Secrets[0]; now.ID != s.ID || now.Pin != "openai" || now.Field != "secret" {
			t.Errorf("%s: %+v", name, now)
		}
		wants(t, name, evil(o, s.ID), api.PolicyViolation, "pinned to openai")
	}
	// Imported under another name it is another secret; under a claimed one it
	// is pinned, in whatever spelling.
	o := startOffice(t)
	for _, name := range []string{"openai_api_key", "OpenAI-API-Key", "0PENAI_API_KEY"} {
		done, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries(name + "=sk-test-0123456789"), Scope: "workspace:w"})
		if err != nil || len(done.Created) != 1 || done.Created[0].PinnedProvider != "openai" {
			t.Fatalf("%s: %+v, %v", name, done, err)
		}
		wants(t, name, evil(o, done.Created[0].SecretID), api.PolicyViolation, "pinned to openai")
		if _, err := o.DeleteSecret(background, op, done.Created[0].SecretID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCustomCredentials(t *testing.T) {
	o := startOffice(t)
	for _, name := range []string{"KEY", "USER", "PASSWORD"} {
		o.store(t, name, "")
	}
	try := func(change func(*api.CredentialCreate)) (api.Credential, error) {
		r := api.CredentialCreate{
			ID: "acme", Provider: "acme", SecretRefs: map[string]string{"user": "USER", "password": "PASSWORD"},
			Auth:  &api.AuthSpec{Type: "basic", UsernameTemplate: "{{user}}", PasswordTemplate: "{{password}}"},
			Hosts: []string{aivaulttest.CustomHost},
		}
		change(&r)
		return o.CreateCredential(background, op, r)
	}
	host := func(h ...string) func(*api.CredentialCreate) {
		return func(r *api.CredentialCreate) { r.Hosts = h }
	}
	private := func(h ...string) func(*api.CredentialCreate) {
		return func(r *api.CredentialCreate) { r.Hosts, r.AllowPrivateNetwork = h, true }
	}
	plain := func(h ...string) func(*api.CredentialCreate) {
		return func(r *api.CredentialCreate) { r.Hosts, r.AllowHTTP = h, true }
	}
	public := func(parts ...string) func(*api.CredentialCreate) {
		return func(r *api.CredentialCreate) { r.PublicParts = parts }
	}
	for _, c := range []struct {
		what   string
		change func(*api.CredentialCreate)
		code   api.Code
		text   string
	}{
		{"no such part", public("name"), api.InvalidRequest, `"name"`},
		{"a part twice", public("user", "user"), api.InvalidRequest, "twice"},
		{"all parts", public("user", "password"), api.InvalidRequest, "something has to be a secret"},
		{"link-local", host("169.254.1.1"), api.PolicyViolation, "link-local"},
		{"metadata", host("169.254.169.254"), api.PolicyViolation, "never dialled"},
		{"metadata with leave", private("169.254.169.254"), api.PolicyViolation, "never dialled"},
		{"metadata over plain http", plain("169.254.169.254"), api.PolicyViolation, "never dialled"},
		{"metadata of version 6", private("[fd00:ec2::254]"), api.PolicyViolation, "never dialled"},
		{"metadata with a port", private("169.254.169.254:443"), api.PolicyViolation, "never dialled"},
		{"multicast", private("224.0.0.1"), api.PolicyViolation, "multicast"},
		{"unspecified", private("0.0.0.0"), api.PolicyViolation, "unspecified"},
		{"unspecified of version 6", private("[::]:443"), api.PolicyViolation, "unspecified"},
		{"link-local of version 6", private("[fe80::1]"), api.PolicyViolation, "link-local"},
		{"NAT64", private("[64:ff9b::a9fe:a9fe]"), api.PolicyViolation, "never dialled"},
		{"an address in decimal", private("2852039166"), api.InvalidRequest, "address"},
		{"a mapped address", private("[::ffff:169.254.169.254]"), api.InvalidRequest, "address"},
		{"the second of two", private("127.0.0.1", "169.254.169.254"), api.PolicyViolation, "never dialled"},
		{"loopback without leave", host("127.0.0.1"), api.PolicyViolation, "loopback"},
		{"a private address without leave", host("10.0.0.1"), api.PolicyViolation, "private"},
		{"a public address over plain http", plain("8.8.8.8"), api.PolicyViolation, "public"},
		{"a port over plain http", plain("intern.test:8080"), api.InvalidRequest, "8080"},
		{"port 80 over https", host("intern.test:80"), api.InvalidRequest, "80"},
		{"plain http with a CA", func(r *api.CredentialCreate) { r.AllowHTTP, r.CAPEM = true, string(o.API.CAPEM()) }, api.InvalidRequest, "CA file"},
		{"too many secrets", func(r *api.CredentialCreate) {
			for i := range 20 {
				r.SecretRefs[fmt.Sprintf("f%d", i)] = "KEY"
			}
		}, api.InvalidRequest, "16"},
	} {
		o.unchanged(t, c.what, c.code, c.text, func() error { _, err := try(c.change); return err })
	}
	if _, err := try(host("10.0.0.1")); hintOf(err) != "add --allow-private-network" {
		t.Errorf("hint %q", hintOf(err))
	}
	n := 0
	for what, change := range map[string]func(*api.CredentialCreate){
		"a public part": public("user"), "the other": public("password"), "a name": host("intern.test"),
		"private addresses": private("10.0.0.1", "127.0.0.1", "[::1]", "[fd12::1]"), "a public address": host("8.8.8.8"),
		"plain http": plain("intern.test"), "plain http at 80": plain("intern.test:80", "127.0.0.1"),
		"plain http at a port": func(r *api.CredentialCreate) {
			r.Hosts, r.AllowHTTP, r.AllowPorts = []string{"127.0.0.1:8080"}, true, []int{8080}
		},
	} {
		n++
		var given api.CredentialCreate
		c, err := try(func(r *api.CredentialCreate) { change(r); r.ID = fmt.Sprintf("c%d", n); given = *r })
		if err != nil || !c.Ready || c.Notice != "" {
			t.Errorf("%s: %+v, %v", what, c, err)
			continue
		}
		got := o.credential(t, c.ID)
		if !slices.Equal(got.PublicParts, given.PublicParts) || got.AllowHTTP != given.AllowHTTP || got.AllowPrivateNetwork != given.AllowPrivateNetwork || !slices.Equal(got.Hosts, given.Hosts) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// A host that the registry has gets a hint, and is let be.
	c, err := try(func(r *api.CredentialCreate) {
		r.ID, r.Hosts = "mine", []string{aivaulttest.CustomHost, "api.openai.com"}
	})
	if err != nil || !strings.Contains(c.Notice, "aivault credential create mine --provider openai --secret secret=NAME") {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = try(func(r *api.CredentialCreate) { r.ID, r.Hosts = "mine2", []string{"a-store.shop.test"} }); err != nil || !strings.Contains(c.Notice, "--provider shop") {
		t.Errorf("%+v, %v", c, err)
	}
	list, err := o.Credentials(background, op)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Credentials {
		if c.Notice != "" {
			t.Errorf("the list repeats a notice: %+v", c)
		}
	}
}
