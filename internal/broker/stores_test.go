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

const storeToken = "shpat-my-store-0123456789"

// store starts a vault that holds the token of one store, as the operator's
// commands would have made it.
func store(t *testing.T, handler http.Handler) *aivaulttest.Aivault {
	t.Helper()
	v := start(t, aivaulttest.Options{
		Hosts:   []string{"my-store.myshopify.com", "other.myshopify.com", "evil.test", "api.datadoghq.eu", "api.datadoghq.com", "home.test"},
		Handler: handler,
	})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		id, err := pinnedSecret(tx, "shopify", "shop=my-store", storeToken)
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
			ID: "store", Provider: "shopify", Scope: "global",
			Secrets: map[string]string{"secret": id}, HostParams: map[string]string{"shop": "my-store"},
		})
		return err
	})
	return v
}

func pinnedSecret(tx *vault.Tx, provider, tenant, value string) (string, error) {
	s := vault.Secret{ID: tx.NewID(), Name: "PINNED_" + strings.ToUpper(provider), Scope: "global", Version: 1, Pin: provider, PinTenant: tenant, Field: "secret"}
	err := tx.Seal(&s, secret.FromString(value))
	tx.State.Secrets = append(tx.State.Secrets, s)
	return s.ID, err
}

func shop() api.Call { return get("shopify/shop-read", "/admin/api/2025-10/shop.json") }

func TestATenantsTokenGoesToItsHost(t *testing.T) {
	v := store(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "token "+storeToken)
	}))
	_, body, err := v.Invoke(shop())
	if err != nil || body != "token [redacted]" {
		t.Fatalf("%q, %v", body, err)
	}
	seen := v.API.Seen()
	if len(seen) != 1 || seen[0].Host != "my-store.myshopify.com" || seen[0].Header.Get("X-Shopify-Access-Token") != storeToken {
		t.Errorf("the API saw %+v", seen)
	}
	// A capability of one's own goes to the same store, whether it names the
	// store or leaves that to the credential.
	tamper(t, v, func(tx *vault.Tx) error {
		for id, host := range map[string]string{"shopify/mine": "{shop}.myshopify.com", "shopify/this": "my-store.myshopify.com", "shopify/other": "other.myshopify.com", "shopify/evil": "evil.test"} {
			tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{ID: id, Provider: "shopify", Hosts: []string{host}, Methods: []string{"GET"}, Paths: []string{"/"}})
		}
		return nil
	})
	mustInvoke(t, v, get("shopify/mine", "/x"))
	mustInvoke(t, v, get("shopify/this", "/x"))
	mustRefuse(t, v, get("shopify/other", "/x"), api.CredentialNotFound)
	mustRefuse(t, v, get("shopify/evil", "/x"), api.PolicyViolation)
	for _, r := range v.API.Seen() {
		if r.Host != "my-store.myshopify.com" {
			t.Errorf("%s received a request", r.Host)
		}
	}
}

// However the state came about, a tenant's secret goes to no other tenant, and
// nobody's exceptions open the way to another place.
func TestATenantsTokenGoesNowhereElse(t *testing.T) {
	for name, change := range map[string]func(tx *vault.Tx, c *vault.Credential) error{
		"another tenant": func(_ *vault.Tx, c *vault.Credential) error {
			c.HostParams = map[string]string{"shop": "other"}
			return nil
		},
		"no host": func(_ *vault.Tx, c *vault.Credential) error { c.HostParams = nil; return nil },
		"a host within the parameter": func(_ *vault.Tx, c *vault.Credential) error {
			c.HostParams = map[string]string{"shop": "evil.test/my-store"}
			return nil
		},
		"a parameter more": func(_ *vault.Tx, c *vault.Credential) error {
			c.HostParams = map[string]string{"shop": "my-store", "host": "evil.test"}
			return nil
		},
		"a host of its own": func(_ *vault.Tx, c *vault.Credential) error { c.Hosts = []string{"evil.test"}; return nil },
		"plain http":        func(_ *vault.Tx, c *vault.Credential) error { c.AllowHTTP = true; return nil },
		"the private network": func(_ *vault.Tx, c *vault.Credential) error {
			c.AllowPrivateNetwork = true
			return nil
		},
		"a port":       func(_ *vault.Tx, c *vault.Credential) error { c.AllowPorts = []int{8443}; return nil },
		"a CA":         func(_ *vault.Tx, c *vault.Credential) error { c.CAPEM = "-----BEGIN CERTIFICATE-----"; return nil },
		"public parts": func(_ *vault.Tx, c *vault.Credential) error { c.PublicParts = []string{"secret"}; return nil },
		"auth":         func(_ *vault.Tx, c *vault.Credential) error { c.Auth = &api.AuthSpec{Type: "header"}; return nil },
		"no pin at all": func(tx *vault.Tx, c *vault.Credential) (err error) {
			c.Secrets["secret"], err = addSecret(tx, "PLAIN", "global", "plain-0123456789", "", "")
			return err
		},
		"a pin without its tenant": func(tx *vault.Tx, c *vault.Credential) (err error) {
			c.Secrets["secret"], err = pinnedSecret(tx, "shopify", "", "shpat-0123456789")
			return err
		},
		"the secret of another tenant": func(tx *vault.Tx, c *vault.Credential) (err error) {
			c.Secrets["secret"], err = pinnedSecret(tx, "shopify", "shop=other", "shpat-other-0123456789")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := store(t, nil)
			tamper(t, v, func(tx *vault.Tx) error { return change(tx, &tx.State.Credentials[0]) })
			err := mustRefuse(t, v, shop(), api.PolicyViolation)
			if !strings.Contains(err.Message, "store") {
				t.Errorf("%q names no credential", err.Message)
			}
			if n := len(v.API.Seen()); n != 0 {
				t.Errorf("the API saw %d requests", n)
			}
			_, problems := v.Broker.Providers(background, aivaulttest.Operator())
			if len(problems) != 1 || problems[0].What != "credential store" {
				t.Errorf("the problems are %+v", problems)
			}
		})
	}
}

func TestARegionIsNoTenant(t *testing.T) {
	v := store(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		c := vault.Credential{ID: "dd", Provider: "datadog", Scope: "global", Secrets: map[string]string{}}
		for _, field := range []string{"api_key", "app_key"} {
			s := vault.Secret{ID: tx.NewID(), Name: "DD_" + field, Scope: "global", Version: 1, Pin: "datadog", Field: field}
			if err := tx.Seal(&s, secret.FromString("datadog-"+field+"-0123456789")); err != nil {
				return err
			}
			tx.State.Secrets = append(tx.State.Secrets, s)
			c.Secrets[field] = s.ID
		}
		tx.State.Credentials = append(tx.State.Credentials, c)
		return nil
	})
	call := get("datadog/validate", "/api/v1/validate")
	mustInvoke(t, v, call)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Credentials[1].HostParams = map[string]string{"site": "datadoghq.eu"}
		return nil
	})
	mustInvoke(t, v, call)
	if seen := v.API.Seen(); seen[0].Host != "api.datadoghq.com" || seen[1].Host != "api.datadoghq.eu" {
		t.Errorf("the calls went to %s and %s", seen[0].Host, seen[1].Host)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Credentials[1].HostParams = map[string]string{"site": "evil.test"}
		return nil
	})
	mustRefuse(t, v, call, api.PolicyViolation)
}

// A provider whose hosts have no parameters has none to fill.
func TestParametersOfNothing(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Credentials[0].HostParams = map[string]string{"host": "evil.test"}
		return nil
	})
	mustRefuse(t, v, get("openai/models", "/v1/models"), api.PolicyViolation)
}

// Of a self-hosted provider the host is the operator's to say, exceptions
// included, and its name belongs to the pin.
func TestASelfHostedProvider(t *testing.T) {
	v := store(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		id, err := pinnedSecret(tx, "home-assistant", "host=home.test:8123", "home-token-0123456789")
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
			ID: "home", Provider: "home-assistant", Scope: "global", Secrets: map[string]string{"secret": id},
			HostParams: map[string]string{"host": "home.test:8123"}, AllowPorts: []int{8123}, AllowPrivateNetwork: true,
		})
		return err
	})
	call := get("home-assistant/states-read", "/api/states")
	mustInvoke(t, v, call)
	if seen := v.API.Seen(); seen[0].Host != "home.test:8123" || seen[0].Header.Get("Authorization") != "Bearer home-token-0123456789" {
		t.Errorf("the API saw %+v", seen[0])
	}
	for name, change := range map[string]func(*vault.Credential){
		"another host":            func(c *vault.Credential) { c.HostParams = map[string]string{"host": "evil.test"} },
		"a port that is not open": func(c *vault.Credential) { c.AllowPorts = nil },
		"auth of one's own":       func(c *vault.Credential) { c.Auth = &api.AuthSpec{Type: "header"} },
	} {
		tamper(t, v, func(tx *vault.Tx) error {
			change(&tx.State.Credentials[1])
			return nil
		})
		if _, _, err := v.Invoke(call); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%s: %v", name, err)
		}
		tamper(t, v, func(tx *vault.Tx) error {
			c := &tx.State.Credentials[1]
			c.HostParams, c.AllowPorts, c.Auth = map[string]string{"host": "home.test:8123"}, []int{8123}, nil
			return nil
		})
	}
	mustInvoke(t, v, call)
}

// Where a tenant has to be named, that is what the capability waits for.
func TestWhatWaitsForAHostSaysSo(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	err := mustRefuse(t, v, shop(), api.CredentialNotFound)
	if !strings.Contains(err.Message, "it waits for SHOPIFY_ACCESS_TOKEN and a host: --host {shop}.myshopify.com") || err.Hint != "aivault secrets create --name SHOPIFY_ACCESS_TOKEN" {
		t.Errorf("%q, hint %q", err.Message, err.Hint)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		_, err := pinnedSecret(tx, "shopify", "", "shpat-0123456789")
		return err
	})
	err = mustRefuse(t, v, shop(), api.CredentialNotFound)
	if !strings.Contains(err.Message, "it waits for a host: --host {shop}.myshopify.com") || err.Hint != "aivault credential create shopify --provider shopify --secret SHOPIFY_ACCESS_TOKEN --host {shop}.myshopify.com" {
		t.Errorf("%q, hint %q", err.Message, err.Hint)
	}
	scoped := shop()
	scoped.WorkspaceID = "acme"
	if err := mustRefuse(t, v, scoped, api.CredentialNotFound); err.Hint != "aivault credential create shopify-acme --provider shopify --secret SHOPIFY_ACCESS_TOKEN --host {shop}.myshopify.com --workspace-id acme" {
		t.Errorf("in a workspace the hint is %q", err.Hint)
	}
	providers, _ := v.Broker.Providers(background, aivaulttest.Operator())
	if len(providers) != 1 || providers[0].Provider != "shopify" || !slices.Equal(providers[0].Waiting, []string{"a host: --host {shop}.myshopify.com"}) {
		t.Errorf("%+v", providers)
	}
	if providers, _ := v.Broker.Providers(background, aivaulttest.Agent()); len(providers) != 0 {
		t.Errorf("the agent is told of %+v", providers)
	}
	d, failure := v.Broker.Capability(background, aivaulttest.Operator(), "shopify/shop-read")
	if failure != nil || d.Ready || d.Reason != "waiting for a host: --host {shop}.myshopify.com" {
		t.Errorf("%+v, %v", d, failure)
	}
}

// A binding gets no call to another tenant's account.
func TestABindingCrossesNoScope(t *testing.T) {
	v := store(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Capabilities = acmeCapabilities()
		for _, w := range []string{"w1", "w2"} {
			id, err := addSecret(tx, "TOKEN", "workspace:"+w, "value-of-"+w+"-0123456789", "", "")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, account(w, "workspace:"+w, id))
		}
		tx.State.Bindings = []api.Binding{{ID: "b1", Capability: "acme/*", Credential: "w2", Scope: "workspace:w1"}}
		return nil
	})
	call := get("acme/x", "/x")
	call.WorkspaceID = "w1"
	err := mustRefuse(t, v, call, api.CredentialNotFound)
	if strings.Contains(err.Message, "b1") {
		t.Errorf("%q names the binding to a caller", err.Message)
	}
	_, _, failure := callAs(v, aivaulttest.Operator(), call)
	if e := api.AsError(failure); e == nil || !strings.Contains(e.Message, "binding b1") || e.Hint != "aivault capability unbind b1" {
		t.Errorf("%v", failure)
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Errorf("the API saw %d requests", n)
	}
}
