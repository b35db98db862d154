package admin_test

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
)

// What a credential may be is judged when it is made, and says why not.
func TestCredentialsThatAreRefused(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	for name, value := range map[string]string{
		"OPENAI_API_KEY": "sk-test-0123456789", "PLAIN": "plain-0123456789", "TRELLO_API_KEY": "key-0123456789", "LINES": "two\nlines",
	} {
		if _, err := create(v, name, value); err != nil {
			t.Fatal(err)
		}
	}
	header := &api.AuthSpec{Type: "header"}
	host := []string{aivaulttest.CustomHost}
	plain := map[string]string{"secret": "PLAIN"}
	good := api.CredentialCreate{ID: "acme", Provider: "acme", SecretRefs: plain, Auth: header, Hosts: host}
	pinned := api.CredentialCreate{ID: "again", Provider: "openai", SecretRefs: map[string]string{"secret": "OPENAI_API_KEY"}}
	change := func(r api.CredentialCreate, fn func(*api.CredentialCreate)) api.CredentialCreate { fn(&r); return r }
	for _, c := range []struct {
		name string
		r    api.CredentialCreate
		code api.Code
		text string
	}{
		{"no id", change(good, func(r *api.CredentialCreate) { r.ID = "" }), api.InvalidRequest, "credential id"},
		{"an id with a slash", change(good, func(r *api.CredentialCreate) { r.ID = "../x" }), api.InvalidRequest, "credential id"},
		{"a provider in capitals", change(good, func(r *api.CredentialCreate) { r.Provider = "OpenAI" }), api.InvalidRequest, "provider"},
		{"no secret", change(good, func(r *api.CredentialCreate) { r.SecretRefs = nil }), api.InvalidRequest, "at least one secret"},
		{"a secret that is not there", change(good, func(r *api.CredentialCreate) { r.SecretRefs = map[string]string{"secret": "NOPE"} }), api.SecretNotFound, "NOPE"},
		{"no auth", change(good, func(r *api.CredentialCreate) { r.Auth = nil }), api.InvalidRequest, "how it authenticates"},
		{"an unknown auth", change(good, func(r *api.CredentialCreate) { r.Auth = &api.AuthSpec{Type: "magic"} }), api.InvalidRequest, "magic"},
		{"no host", change(good, func(r *api.CredentialCreate) { r.Hosts = nil }), api.InvalidRequest, "which host"},
		{"a bad host", change(good, func(r *api.CredentialCreate) { r.Hosts = []string{"https://x/"} }), api.InvalidRequest, "is a URL"},
		{"a host twice", change(good, func(r *api.CredentialCreate) { r.Hosts = append(host, host...) }), api.InvalidRequest, "twice"},
		{"a port without leave", change(good, func(r *api.CredentialCreate) { r.Hosts = []string{"a.test:8443"} }), api.InvalidRequest, "8443"},
		{"a port that is none", change(good, func(r *api.CredentialCreate) { r.AllowPorts = []int{0} }), api.InvalidRequest, "port"},
		{"a CA that is none", change(good, func(r *api.CredentialCreate) { r.CAPEM = "nonsense" }), api.InvalidRequest, "CA file"},
		{"a key among the CAs", change(good, func(r *api.CredentialCreate) {
			r.CAPEM = string(v.API.CAPEM()) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
		}), api.InvalidRequest, "CA file"},
		{"another field", change(good, func(r *api.CredentialCreate) { r.SecretRefs = map[string]string{"other": "PLAIN"} }), api.InvalidRequest, `"other"`},
		{"a field too few", change(good, func(r *api.CredentialCreate) {
			r.Auth = &api.AuthSpec{Type: "basic", UsernameTemplate: "{{secret}}", PasswordTemplate: "{{password}}"}
		}), api.InvalidRequest, `"password"`},
		{"a value that cannot be sent", change(good, func(r *api.CredentialCreate) { r.SecretRefs = map[string]string{"secret": "LINES"} }), api.InvalidRequest, "does not fit"},

		{"a pinned secret elsewhere", change(good, func(r *api.CredentialCreate) { r.SecretRefs = map[string]string{"secret": "OPENAI_API_KEY"} }), api.PolicyViolation, "pinned to openai"},
		{"a pinned secret at another provider", change(pinned, func(r *api.CredentialCreate) { r.Provider = "stripe" }), api.PolicyViolation, "pinned to openai"},
		{"a host of one's own", change(pinned, func(r *api.CredentialCreate) { r.Hosts = []string{"evil.test"} }), api.PolicyViolation, "hosts of openai alone"},
		{"an auth of one's own", change(pinned, func(r *api.CredentialCreate) { r.Auth = header }), api.PolicyViolation, "openai"},
		{"a CA of one's own", change(pinned, func(r *api.CredentialCreate) { r.CAPEM = string(v.API.CAPEM()) }), api.PolicyViolation, "openai"},
		{"a private network", change(pinned, func(r *api.CredentialCreate) { r.AllowPrivateNetwork = true }), api.PolicyViolation, "openai"},
		{"a port", change(pinned, func(r *api.CredentialCreate) { r.AllowPorts = []int{8443} }), api.PolicyViolation, "openai"},
		{"a field that is none", change(pinned, func(r *api.CredentialCreate) { r.SecretRefs = map[string]string{"nope": "OPENAI_API_KEY"} }), api.InvalidRequest, "no field"},
		{"one of several fields, unsaid", api.CredentialCreate{ID: "o", Provider: "trello", SecretRefs: map[string]string{"": "PLAIN"}}, api.InvalidRequest, "as FIELD=NAME; it has key (TRELLO_API_KEY)"},
		{"one of two fields of one's own, unsaid", change(good, func(r *api.CredentialCreate) {
			r.SecretRefs = map[string]string{"": "PLAIN"}
			r.Auth = &api.AuthSpec{Type: "basic", UsernameTemplate: "{{user}}", PasswordTemplate: "{{password}}"}
		}), api.InvalidRequest, "as FIELD=NAME; it has user, password"},
		{"half a login", api.CredentialCreate{ID: "t", Provider: "trello", SecretRefs: map[string]string{"key": "TRELLO_API_KEY"}}, api.InvalidRequest, "TRELLO_TOKEN"},
		{"a key as another's field", api.CredentialCreate{ID: "t", Provider: "trello", SecretRefs: map[string]string{"token": "TRELLO_API_KEY"}}, api.InvalidRequest, "key"},
		{"an id that is taken", change(pinned, func(r *api.CredentialCreate) { r.ID = "openai" }), api.AlreadyExists, "openai"},
	} {
		_, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), c.r)
		wants(t, c.name, err, c.code, c.text)
		if err != nil && (strings.Contains(err.Error(), "two\nlines") || strings.Contains(err.Error(), "0123456789")) {
			t.Errorf("%s: the error holds a value: %v", c.name, err)
		}
	}
	list, err := v.Admin.Credentials(background, aivaulttest.Operator())
	if err != nil || len(list.Credentials) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}

	full := good
	full.CAPEM, full.AllowPrivateNetwork, full.AllowPorts = string(v.API.CAPEM()), true, []int{8443}
	full.Hosts = []string{"127.0.0.1:8443"}
	c, err := v.Admin.CreateCredential(background, aivaulttest.Operator(), full)
	if err != nil || c.CAs != 1 || !c.AllowPrivateNetwork || !c.Ready || c.Auth != "header" || c.Origin != "custom" {
		t.Errorf("%+v, %v", c, err)
	}

	// Of a CA file its certificates are told, and nothing that came with them.
	full.ID = "beside"
	full.CAPEM = "password: in-the-clear\n" + strings.Replace(string(v.API.CAPEM()), "CERTIFICATE-----\n", "CERTIFICATE-----\nNote: in-the-clear\n\n", 1)
	if c, err = v.Admin.CreateCredential(background, aivaulttest.Operator(), full); err != nil || c.CAPEM != string(v.API.CAPEM()) {
		t.Errorf("%q, %v", c.CAPEM, err)
	}
}

// A secret that is not pinned becomes so with the first registry provider
// that gets it.
func TestARegistryCredentialPinsItsSecret(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	if _, err := create(v, "SECOND_ACCOUNT", "sk-second-0123456789"); err != nil {
		t.Fatal(err)
	}
	op := aivaulttest.Operator()
	c, err := v.Admin.CreateCredential(background, op, api.CredentialCreate{
		ID: "second", Provider: "openai", SecretRefs: map[string]string{"secret": "SECOND_ACCOUNT"},
	})
	if err != nil || !c.Ready {
		t.Fatalf("%+v, %v", c, err)
	}
	list, err := v.Admin.Secrets(background, op)
	if err != nil || list.Secrets[0].PinnedProvider != "openai" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, _, err := v.Invoke(api.Call{Capability: "openai/models", Request: api.Request{Method: "GET", Path: "/v1/models"}}); err != nil {
		t.Error(err)
	}
	if _, err := v.Admin.DeleteCredential(background, op, "second"); err != nil {
		t.Fatal(err)
	}
	_, err = v.Admin.CreateCredential(background, op, api.CredentialCreate{
		ID: "second", Provider: "evil", SecretRefs: map[string]string{"secret": "SECOND_ACCOUNT"},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{"evil.test"},
	})
	wants(t, "elsewhere after deletion", err, api.PolicyViolation, "pinned to openai")
	_, err = v.Admin.DeleteCredential(background, op, "second")
	wants(t, "deleted twice", err, api.CredentialNotFound, "second")
}

func TestCapabilities(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	op := aivaulttest.Operator()
	if _, err := create(v, "PLAIN", "plain-0123456789"); err != nil {
		t.Fatal(err)
	}
	two := []string{"a.acme.test", aivaulttest.CustomHost}
	if _, err := v.Admin.CreateCredential(background, op, api.CredentialCreate{
		ID: "acme", Provider: "acme", SecretRefs: map[string]string{"secret": "PLAIN"}, Auth: &api.AuthSpec{Type: "header"}, Hosts: two,
	}); err != nil {
		t.Fatal(err)
	}
	get, all := []string{"GET"}, []string{"/"}
	for _, c := range []struct {
		name string
		r    api.CapabilityCreate
		code api.Code
		text string
	}{
		{"no slash", api.CapabilityCreate{ID: "acme", Methods: get, Paths: all}, api.InvalidRequest, "provider/name"},
		{"the registry's", api.CapabilityCreate{ID: "openai/models", Methods: get, Paths: all}, api.AlreadyExists, "registry"},
		{"a registry prefix with another provider", api.CapabilityCreate{ID: "openai/x", Provider: "acme", Methods: get, Paths: all}, api.InvalidRequest, "openai"},
		{"an unknown provider", api.CapabilityCreate{ID: "nope/x", Methods: get, Paths: all}, api.CredentialNotFound, "nope"},
		{"an unknown credential", api.CapabilityCreate{ID: "acme/x", Credential: "nope", Methods: get, Paths: all}, api.CredentialNotFound, "nope"},
		{"several hosts", api.CapabilityCreate{ID: "acme/x", Methods: get, Paths: all}, api.InvalidRequest, "several hosts"},
		{"another host", api.CapabilityCreate{ID: "acme/x", Host: "evil.test", Methods: get, Paths: all}, api.PolicyViolation, "evil.test"},
		{"another host of a registry provider", api.CapabilityCreate{ID: "openai/x", Host: "evil.test", Methods: get, Paths: all}, api.PolicyViolation, "evil.test"},
		{"no method", api.CapabilityCreate{ID: "acme/x", Host: two[0], Paths: all}, api.InvalidRequest, "method"},
		{"no path", api.CapabilityCreate{ID: "acme/x", Host: two[0], Methods: get}, api.InvalidRequest, "path"},
		{"a bad method", api.CapabilityCreate{ID: "acme/x", Host: two[0], Methods: []string{"TRACE"}, Paths: all}, api.InvalidRequest, `"TRACE" is not one of GET, `},
		{"a method twice", api.CapabilityCreate{ID: "acme/x", Host: two[0], Methods: []string{"GET", "GET"}, Paths: all}, api.InvalidRequest, `"GET" is named twice`},
		{"a bad path", api.CapabilityCreate{ID: "acme/x", Host: two[0], Methods: get, Paths: []string{"/../x"}}, api.InvalidRequest, ""},
	} {
		_, err := v.Admin.CreateCapability(background, op, c.r)
		wants(t, c.name, err, c.code, c.text)
	}
	d, err := v.Admin.CreateCapability(background, op, api.CapabilityCreate{ID: "acme/x", Host: two[1], Methods: get, Paths: []string{"/v1/things"}})
	if err != nil || !d.Ready || d.Credential != "acme" || d.Origin != "custom" || d.Call.Defaults != (api.CallDefaults{Method: "GET", Path: "/v1/things"}) {
		t.Errorf("%+v, %v", d, err)
	}
	_, err = v.Admin.CreateCapability(background, op, api.CapabilityCreate{ID: "acme/x", Host: two[1], Methods: get, Paths: all})
	wants(t, "twice", err, api.AlreadyExists, "acme/x")
	_, err = v.Admin.DeleteCapability(background, op, "openai/models")
	wants(t, "delete the registry's", err, api.InvalidRequest, "stays")
	if _, err := v.Admin.DeleteCapability(background, op, "acme/x"); err != nil {
		t.Error(err)
	}
	_, err = v.Admin.DeleteCapability(background, op, "acme/x")
	wants(t, "delete twice", err, api.CapabilityNotFound, "acme/x")
}
