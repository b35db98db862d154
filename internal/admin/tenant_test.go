package admin_test

import (
	"fmt"
	"slices"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

func (o *office) account(id, provider, scope string, refs map[string]string, hosts ...string) (api.Credential, error) {
	return o.CreateCredential(background, op, api.CredentialCreate{ID: id, Provider: provider, Scope: scope, SecretRefs: refs, Hosts: hosts})
}

func one(ref string) map[string]string { return map[string]string{"": ref} }

// A provider with a host for each account makes no credential by itself, and
// says what it waits for. The first credential seals the tenant.
func TestTenants(t *testing.T) {
	o := startOffice(t)
	s := o.store(t, "SHOP_TOKEN", "")
	if s.PinnedProvider != "shop" || credentialOf(s) != "" || len(s.Capabilities) != 0 || !slices.Equal(s.Waiting, []string{"--host {shop}.shop.test"}) || s.PinnedTenant != "" {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		what string
		host []string
		code api.Code
		text string
	}{
		{"no host", nil, api.InvalidRequest, "say which"},
		{"two", []string{"a.shop.test", "b.shop.test"}, api.InvalidRequest, "one host"},
		{"another's", []string{"evil.test"}, api.PolicyViolation, "is pinned to shop"},
		{"one that ends alike", []string{"evilshop.test"}, api.PolicyViolation, "is pinned to shop"},
		{"one below another's", []string{"a.shop.test.evil.test"}, api.PolicyViolation, "is pinned to shop"},
		{"two labels", []string{"a.b.shop.test"}, api.PolicyViolation, "is pinned to shop"},
		{"the suffix alone", []string{"shop.test"}, api.PolicyViolation, "is pinned to shop"},
		{"a port", []string{"a.shop.test:8443"}, api.PolicyViolation, "is pinned to shop"},
		{"the template", []string{"{shop}.shop.test"}, api.InvalidRequest, "host"},
		{"capitals", []string{"A.shop.test"}, api.InvalidRequest, "lower case"},
		{"a URL", []string{"https://a.shop.test/"}, api.InvalidRequest, "URL"},
		{"an address", []string{"127.0.0.1"}, api.PolicyViolation, "is pinned to shop"},
	} {
		o.unchanged(t, c.what, c.code, c.text, func() error { _, err := o.account("shop", "shop", "", one("SHOP_TOKEN"), c.host...); return err })
	}
	if _, err := o.account("shop", "shop", "", one("SHOP_TOKEN")); hintOf(err) != "add --host {shop}.shop.test" {
		t.Errorf("hint %q", hintOf(err))
	}
	c, err := o.account("shop", "shop", "", one("SHOP_TOKEN"), "mine.shop.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.credential(t, "shop"); fmt.Sprint(got.HostParams) != "map[shop:mine]" || len(got.Hosts) != 0 || got.Auth != nil {
		t.Errorf("%+v", got)
	}
	if !c.Ready || !slices.Equal(c.Hosts, []string{"mine.shop.test"}) || c.Tenant != "shop=mine" {
		t.Errorf("%+v", c)
	}
	if r := o.last(t, "credential.created"); r["host"] != "mine.shop.test" || r["provider"] != "shop" {
		t.Errorf("record %v", r)
	}
	tenant := func() string { return o.state(t).Secrets[0].PinTenant }
	if list, _ := o.Secrets(background, op); tenant() != "shop=mine" || list.Secrets[0].PinnedTenant != "shop=mine" {
		t.Errorf("%+v", list)
	}
	// Another tenant is refused for good, whatever is done to the secret.
	rented := func(what string) {
		t.Helper()
		for _, scope := range []string{"", "workspace:w", "group:w:g"} {
			o.unchanged(t, what, api.PolicyViolation, "is pinned to shop and to its tenant shop=mine, and goes to no other: shop=rented", func() error {
				_, err := o.account("rented", "shop", scope, one(s.ID), "rented.shop.test")
				return err
			})
		}
	}
	rented("beside")
	if _, err := o.DeleteCredential(background, op, "shop"); err != nil {
		t.Fatal(err)
	}
	rented("after deletion")
	if _, err := o.UpdateSecret(background, op, s.ID, api.SecretUpdate{NewName: "HARMLESS", ClearAliases: true}); err != nil {
		t.Fatal(err)
	}
	rented("renamed")
	if _, err := o.RotateSecret(background, op, s.ID, api.SecretRotate{Value: secret.FromString("new-0123456789")}); err != nil {
		t.Fatal(err)
	}
	rented("rotated")
	if _, err := o.ImportSecrets(background, op, api.SecretImport{Entries: entries("HARMLESS=newer-0123456789")}); err != nil {
		t.Fatal(err)
	}
	rented("imported over")
	if _, err := o.UpdateSecret(background, op, s.ID, api.SecretUpdate{NewName: "SHOP_TOKEN"}); err != nil || tenant() != "shop=mine" {
		t.Fatalf("%v, tenant %q", err, tenant())
	}
	rented("named again")
	// Its own tenant may have it again, under several credentials.
	for _, id := range []string{"shop", "shop-two"} {
		if _, err := o.account(id, "shop", "", one(s.ID), "mine.shop.test:443"); err != nil {
			t.Error(err)
		}
	}
	// Another tenant needs the value again.
	if s := o.store(t, "SECOND", ""); s.PinnedProvider != "" {
		t.Errorf("%+v", s)
	}
	if c, err := o.account("second", "shop", "", one("SECOND"), "second.shop.test"); err != nil || c.Tenant != "shop=second" {
		t.Errorf("%+v, %v", c, err)
	}
	if got := o.state(t).Secrets[1]; got.Pin != "shop" || got.PinTenant != "shop=second" || got.Field != "secret" {
		t.Errorf("%+v", got)
	}
}

// The tenant is sealed with each secret of a credential.
func TestTenantOfTwoSecrets(t *testing.T) {
	o := startOffice(t)
	if s := o.store(t, "DESK_TOKEN", "workspace:w"); !slices.Equal(s.Waiting, []string{"DESK_EMAIL", "--host {site}.desk.test"}) {
		t.Errorf("%+v", s)
	}
	if s := o.store(t, "DESK_EMAIL", "workspace:w"); !slices.Equal(s.Waiting, []string{"--host {site}.desk.test"}) {
		t.Errorf("%+v", s)
	}
	both := map[string]string{"token": "DESK_TOKEN", "email": "DESK_EMAIL"}
	_, err := o.account("desk", "desk", "workspace:w", map[string]string{"token": "DESK_TOKEN"}, "acme.desk.test")
	wants(t, "half", err, api.InvalidRequest, "DESK_EMAIL")
	for _, s := range o.state(t).Secrets {
		if s.PinTenant != "" {
			t.Errorf("a credential that was refused sealed %+v", s)
		}
	}
	if c, err := o.account("desk", "desk", "workspace:w", both, "acme.desk.test"); err != nil || !c.Ready {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, s := range o.state(t).Secrets {
		if s.Pin != "desk" || s.PinTenant != "site=acme" {
			t.Errorf("%+v", s)
		}
	}
	o.store(t, "NEW_TOKEN", "workspace:w")
	_, err = o.account("desk-2", "desk", "workspace:w", map[string]string{"token": "NEW_TOKEN", "email": "DESK_EMAIL"}, "other.desk.test")
	wants(t, "one secret of another tenant", err, api.PolicyViolation, "site=acme")
}

// A region is no tenant: it has a default, and may be another each time.
func TestRegions(t *testing.T) {
	o := startOffice(t)
	s := o.store(t, "MAIL_KEY", "")
	if credentialOf(s) != "mail" || len(s.Waiting) != 0 || !slices.Equal(s.Capabilities, []string{"mail/things-read", "mail/things-write"}) {
		t.Errorf("%+v", s)
	}
	if got := o.credential(t, "mail"); fmt.Sprint(got.HostParams) != "map[region:us]" {
		t.Errorf("%+v", got)
	}
	c, err := o.account("mail-eu", "mail", "", one("MAIL_KEY"), "eu.mail.test")
	if err != nil || fmt.Sprint(o.credential(t, "mail-eu").HostParams) != "map[region:eu]" || c.Tenant != "" || !c.Ready {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err = o.account("mail-us", "mail", "", one("MAIL_KEY")); err != nil || fmt.Sprint(o.credential(t, "mail-us").HostParams) != "map[region:us]" {
		t.Errorf("%v", err)
	}
	_, err = o.account("mail-mars", "mail", "", one("MAIL_KEY"), "mars.mail.test")
	wants(t, "no region", err, api.PolicyViolation, "is pinned to mail")
	_, err = o.CreateCredential(background, op, api.CredentialCreate{ID: "x", Provider: "mail", SecretRefs: one("MAIL_KEY"), Hosts: []string{"eu.mail.test"}, AllowPorts: []int{8443}})
	wants(t, "an exception", err, api.PolicyViolation, "is pinned to mail")
	if o.state(t).Secrets[0].PinTenant != "" {
		t.Error("a region is sealed as a tenant")
	}
}

// Of a provider that anyone may run the host is free, once.
func TestSelfHosted(t *testing.T) {
	o := startOffice(t)
	s := o.store(t, "FORGE_TOKEN", "")
	if s.PinnedProvider != "forge" || credentialOf(s) != "" || !slices.Equal(s.Waiting, []string{"--host {host}"}) {
		t.Errorf("%+v", s)
	}
	full := api.CredentialCreate{
		ID: "forge", Provider: "forge", SecretRefs: one("FORGE_TOKEN"), Hosts: []string{"forge.intern.test:8443"},
		CAPEM: string(o.API.CAPEM()), AllowPrivateNetwork: true, AllowPorts: []int{8443},
	}
	change := func(fn func(*api.CredentialCreate)) api.CredentialCreate { r := full; fn(&r); return r }
	for _, c := range []struct {
		what string
		r    api.CredentialCreate
		code api.Code
		text string
	}{
		{"no host", change(func(r *api.CredentialCreate) { r.Hosts = nil }), api.InvalidRequest, "say which"},
		{"two hosts", change(func(r *api.CredentialCreate) { r.Hosts = append(r.Hosts, "b.test") }), api.InvalidRequest, "one host"},
		{"a port without leave", change(func(r *api.CredentialCreate) { r.AllowPorts = nil }), api.InvalidRequest, "8443"},
		{"a port that is none", change(func(r *api.CredentialCreate) { r.AllowPorts = []int{0} }), api.InvalidRequest, "port 0"},
		{"metadata", change(func(r *api.CredentialCreate) { r.Hosts = []string{"169.254.169.254"} }), api.PolicyViolation, "never dialled"},
		{"loopback without leave", change(func(r *api.CredentialCreate) { r.Hosts, r.AllowPrivateNetwork = []string{"127.0.0.1"}, false }), api.PolicyViolation, "loopback"},
		{"a CA that is none", change(func(r *api.CredentialCreate) { r.CAPEM = "x" }), api.InvalidRequest, "CA file"},
		{"an auth", change(func(r *api.CredentialCreate) { r.Auth = &api.AuthSpec{Type: "header"} }), api.PolicyViolation, "is pinned to forge"},
		{"a public part", change(func(r *api.CredentialCreate) { r.PublicParts = []string{"secret"} }), api.PolicyViolation, "is pinned to forge"},
		{"what is no host", change(func(r *api.CredentialCreate) { r.Hosts = []string{"a b"} }), api.InvalidRequest, "host"},
	} {
		o.unchanged(t, c.what, c.code, c.text, func() error { _, err := o.CreateCredential(background, op, c.r); return err })
	}
	c, err := o.CreateCredential(background, op, full)
	if err != nil || !c.Ready || c.Tenant != "host=forge.intern.test:8443" || c.CAs != 1 || !slices.Equal(c.Hosts, []string{"forge.intern.test:8443"}) {
		t.Fatalf("%+v, %v", c, err)
	}
	got := o.credential(t, "forge")
	if got.CAPEM == "" || !got.AllowPrivateNetwork || !slices.Equal(got.AllowPorts, []int{8443}) || got.AllowHTTP || fmt.Sprint(got.HostParams) != "map[host:forge.intern.test:8443]" {
		t.Errorf("%+v", got)
	}
	if _, err := o.DeleteCredential(background, op, "forge"); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"evil.test", "forge.intern.test", "forge.intern.test:443"} {
		_, err = o.CreateCredential(background, op, change(func(r *api.CredentialCreate) { r.Hosts = []string{host} }))
		wants(t, host, err, api.PolicyViolation, "is pinned to forge and to its tenant host=forge.intern.test:8443")
	}
	o.store(t, "AT_HOME", "")
	if c, err = o.CreateCredential(background, op, api.CredentialCreate{
		ID: "home", Provider: "forge", SecretRefs: one("AT_HOME"), Hosts: []string{"192.168.1.5"}, AllowHTTP: true,
	}); err != nil || !c.AllowHTTP || !o.credential(t, "home").AllowHTTP || !c.Ready {
		t.Errorf("%+v, %v", c, err)
	}
}

// Several accounts of one provider are the operator's to make.
func TestSeveralAccounts(t *testing.T) {
	o := startOffice(t)
	o.store(t, "OPENAI_API_KEY", "")
	for i, name := range []string{"WORK_KEY", "HOME_KEY"} {
		o.store(t, name, "")
		if c, err := o.account(fmt.Sprintf("openai-%d", i), "openai", "", map[string]string{"secret": name}); err != nil || !c.Ready || c.Scope != "global" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if c, err := o.account("openai-w", "openai", "workspace:w", map[string]string{"secret": "WORK_KEY"}); err != nil || !c.Ready || c.Scope != "workspace:w" {
		t.Errorf("%+v, %v", c, err)
	}
	if got := o.state(t).Credentials; len(got) != 4 {
		t.Errorf("%d credentials", len(got))
	}
}

// A custom capability of a provider with a host for each account keeps the
// template.
func TestACapabilityOfTenants(t *testing.T) {
	o := startOffice(t)
	o.store(t, "SHOP_TOKEN", "")
	try := func(id, provider, host string) error {
		_, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: id, Provider: provider, Host: host, Methods: []string{"GET"}, Paths: []string{"/mine"}})
		return err
	}
	wants(t, "a set's id", try("shop/things", "", ""), api.AlreadyExists, "shop/things-read, shop/things-write")
	wants(t, "a set's id under a provider", try("github/repos", "github", "api.github.com"), api.AlreadyExists, "set")
	wants(t, "another's host", try("shop/x", "", "evil.test"), api.PolicyViolation, "evil.test")
	for id, host := range map[string]string{"shop/mine": "", "shop/template": "{shop}.shop.test", "shop/tenant": "a-store.shop.test", "forge/mine": "", "mail/mine": "eu.mail.test"} {
		if err := try(id, "", host); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, c := range o.state(t).Capabilities {
		want := map[string]string{"shop": "{shop}.shop.test", "forge": "{host}", "mail": "{region}.mail.test"}[c.Provider]
		if !slices.Equal(c.Hosts, []string{want}) {
			t.Errorf("%+v", c)
		}
	}
	if _, err := o.account("shop", "shop", "", one("SHOP_TOKEN"), "mine.shop.test"); err != nil {
		t.Fatal(err)
	}
	if d, err := o.Broker.Capability(background, op, "shop/mine"); err != nil || !d.Ready {
		t.Errorf("%+v, %v", d, err)
	}
}

// A custom capability that goes takes with it what was said of its id.
func TestACapabilityGoesWithWhatWasSaidOfIt(t *testing.T) {
	o := startOffice(t)
	s := o.store(t, "KEY", "")
	o.custom(t, "acme", "acme", "", s.ID)
	for _, id := range []string{"acme/x", "acme/xy"} {
		if _, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: id, Methods: []string{"GET"}, Paths: []string{"/"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.SetPolicy(background, op, api.PolicyChange{Capability: id, MaxRequestBodyBytes: new(int64(5))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"acme/x", "acme/*", "acme/xy"} {
		if _, err := o.disable(pattern); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.enable("acme/x"); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"acme/x", "acme/*", "acme/xy"} {
		if _, err := o.Bind(background, op, api.BindingCreate{Capability: pattern, Credential: "acme"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.DeleteCapability(background, op, "acme/x"); err != nil {
		t.Fatal(err)
	}
	st := o.state(t)
	if len(st.Policies) != 1 || st.Policies[0].Capability != "acme/xy" {
		t.Errorf("policies %+v", st.Policies)
	}
	if fmt.Sprint(st.Switches) != "[{acme/* false} {acme/xy false}]" {
		t.Errorf("switches %v", st.Switches)
	}
	if len(st.Bindings) != 2 || st.Bindings[0].Capability != "acme/*" || st.Bindings[1].Capability != "acme/xy" {
		t.Errorf("bindings %+v", st.Bindings)
	}
}

// The registry's own providers with a host for each account.
func TestAnotherStoreIsRefused(t *testing.T) {
	o := startOffice(t)
	for _, c := range []struct{ provider, name, field, mine, rented string }{
		{"shopify", "SHOPIFY_ACCESS_TOKEN", "secret", "my-store.myshopify.com", "evil-store.myshopify.com"},
		{"supabase", "SUPABASE_SECRET_KEY", "secret", "abcdefgh.supabase.co", "rented.supabase.co"},
		{"home-assistant", "HOME_ASSISTANT_TOKEN", "secret", "home.test", "evil.test"},
	} {
		s := o.store(t, c.name, "")
		refs := map[string]string{c.field: s.ID}
		if s.PinnedProvider != c.provider || len(s.Waiting) != 1 || credentialOf(s) != "" {
			t.Errorf("%+v", s)
		}
		if _, err := o.account(c.provider, c.provider, "", refs, c.mine); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{c.provider, "another"} {
			if id == c.provider {
				if _, err := o.DeleteCredential(background, op, id); err != nil {
					t.Fatal(err)
				}
			}
			o.unchanged(t, c.rented, api.PolicyViolation, "pinned to "+c.provider, func() error { _, err := o.account(id, c.provider, "", refs, c.rented); return err })
		}
	}
}
