package registry

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

// An entry cannot take from a login what protects it, nor say what nothing
// would read.
func TestConsent(t *testing.T) {
	for _, c := range []struct {
		what string
		o    api.OAuth2Spec
		ok   bool
	}{
		{"none", api.OAuth2Spec{}, true},
		{"a page", api.OAuth2Spec{AuthorizationEndpoint: "x", AuthorizationParams: map[string]string{"access_type": "offline"}, RedirectHost: "localhost", AccountMember: "/a/b"}, true},
		{"a device", api.OAuth2Spec{DeviceEndpoint: "x", AccountMember: "name"}, true},
		{"parameters of no page", api.OAuth2Spec{DeviceEndpoint: "x", AuthorizationParams: map[string]string{"a": "b"}}, false},
		{"a redirect from no page", api.OAuth2Spec{RedirectHost: "localhost"}, false},
		{"an account of no login", api.OAuth2Spec{AccountMember: "name"}, false},
		{"another machine", api.OAuth2Spec{AuthorizationEndpoint: "x", RedirectHost: "evil.test"}, false},
		{"an empty parameter", api.OAuth2Spec{AuthorizationEndpoint: "x", AuthorizationParams: map[string]string{"a": ""}}, false},
		{"a parameter that is none", api.OAuth2Spec{AuthorizationEndpoint: "x", AuthorizationParams: map[string]string{"a b": "c"}}, false},
	} {
		if err := checkConsent(&c.o); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for _, name := range append(ownParams, strings.ToUpper(ownParams[0])) {
		if checkConsent(&api.OAuth2Spec{AuthorizationEndpoint: "x", AuthorizationParams: map[string]string{name: "v"}}) == nil {
			t.Errorf("an entry may set %s", name)
		}
	}
}

// Every login in a browser of the registry gives an address that can be asked
// for.
func TestLoginsOfTheRegistry(t *testing.T) {
	r, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	pages, devices, back := 0, 0, 0
	for _, id := range r.Providers() {
		p := r.Provider(id)
		for i := range p.Logins {
			o := p.Logins[i].OAuth2
			if o == nil {
				continue
			}
			for _, e := range []string{o.AuthorizationEndpoint, o.DeviceEndpoint, o.RevocationEndpoint} {
				if strings.Contains(e, "{") {
					t.Errorf("%s: a login goes to %s, which differs from account to account", id, e)
				}
			}
			if o.AuthorizationEndpoint != "" {
				pages++
			}
			if o.DeviceEndpoint != "" {
				devices++
			}
			if o.RevocationEndpoint != "" {
				back++
			}
		}
	}
	if pages < 40 || devices < 3 || back < 20 {
		t.Errorf("%d logins by a page, %d by a device, %d that can be ended", pages, devices, back)
	}
}
