package admin_test

import (
	"fmt"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// A capability that is made again under a name that was granted once is
// granted to nobody, since its limits went with the first one. Whoever has no
// other grant then has none, and not what callers without a grant have.
func TestACapabilityMadeAgainIsNotGranted(t *testing.T) {
	o := startOffice(t)
	o.custom(t, "acme", "acme", "", o.store(t, "PLAIN", "").ID)
	narrow := api.CapabilityCreate{ID: "acme/x", Methods: []string{"GET"}, Paths: []string{"=/x"}}
	if _, err := o.CreateCapability(background, op, narrow); err != nil {
		t.Fatal(err)
	}
	for _, patterns := range [][]string{{"acme/x"}, {"openai/models", "acme/x"}, {"acme/*"}} {
		if _, err := o.AddGrant(background, op, api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(2000 + len(o.state(t).Grants)))}, Capabilities: patterns}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.DeleteCapability(background, op, "acme/x"); err != nil {
		t.Fatal(err)
	}
	wide := api.CapabilityCreate{ID: "acme/x", Methods: []string{"GET", "POST"}, Paths: []string{"/"}}
	if _, err := o.CreateCapability(background, op, wide); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, g := range o.state(t).Grants {
		left = append(left, fmt.Sprint(*g.Consumer.UID, g.Capabilities))
	}
	if got := fmt.Sprint(left); got != "[2000 [] 2001 [openai/models] 2002 [acme/*]]" {
		t.Errorf("grants %s", got)
	}
	if r := o.last(t, "capability.deleted"); fmt.Sprint(r["grants"]) == "" || len(r["grants"].([]any)) != 2 {
		t.Errorf("the log says %v", r)
	}
}

// Whatever else is wrong with a request, the pin is named: in every spelling of
// its provider, and of its tenant's host.
func TestThePinIsNamedFirst(t *testing.T) {
	o := startOffice(t)
	key := o.store(t, "OPENAI_API_KEY", "")
	for _, provider := range []string{"OpenAI", "openai ", "open ai", "evil", "\u043epenai", "openai\n", ""} {
		o.unchanged(t, provider, api.PolicyViolation, "is pinned to openai", func() error {
			_, err := o.CreateCredential(background, op, api.CredentialCreate{
				ID: "x", Provider: provider, SecretRefs: map[string]string{"secret": key.ID}, Hosts: []string{"evil.test"}, Auth: &api.AuthSpec{Type: "header"},
			})
			return err
		})
	}
	store := o.store(t, "SHOPIFY_ACCESS_TOKEN", "")
	for _, host := range []string{"Evil.myshopify.com", "evil.myshopify.com.", "evil@my.myshopify.com", "https://evil.test", "*.myshopify.com", ""} {
		o.unchanged(t, host, api.InvalidRequest, "is pinned to shopify", func() error {
			_, err := o.CreateCredential(background, op, api.CredentialCreate{ID: "x", Provider: "shopify", SecretRefs: map[string]string{"secret": store.ID}, Hosts: []string{host}})
			return err
		})
	}
	plain := o.store(t, "PLAIN", "")
	_, err := o.CreateCredential(background, op, api.CredentialCreate{ID: "x", Provider: "Acme", SecretRefs: map[string]string{"secret": plain.ID}})
	wants(t, "a provider that is none", err, api.InvalidRequest, `provider "Acme" is none`)
}
