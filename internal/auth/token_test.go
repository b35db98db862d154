package auth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

const endpoint = "https://id.example.com/token"

func oauth2Spec(edit func(*api.OAuth2Spec)) api.AuthSpec {
	o := &api.OAuth2Spec{Fields: []string{"oauth"}, GrantType: "refresh_token", TokenEndpoint: endpoint}
	if edit != nil {
		edit(o)
	}
	return api.AuthSpec{Type: "oauth2", OAuth2: o}
}

func exchangeSpec(edit func(*api.TokenExchangeSpec)) api.AuthSpec {
	x := &api.TokenExchangeSpec{TokenEndpoint: endpoint, BodyFormat: "json", Body: map[string]string{"user": "{{user}}", "secret": "{{secret}}"}, TokenField: "token"}
	if edit != nil {
		edit(x)
	}
	return api.AuthSpec{Type: "token-exchange", TokenExchange: x}
}

func oauth2Suites() []suite {
	field := func(name, value string) []api.AuthField { return []api.AuthField{{Name: name, ValueTemplate: value}} }
	bad := map[string]func(*api.OAuth2Spec){
		"oauth2.grantType":             func(o *api.OAuth2Spec) { o.GrantType = "password" },
		"oauth2.tokenEndpoint":         func(o *api.OAuth2Spec) { o.TokenEndpoint = "id.example.com/token" },
		"oauth2.codeEndpoint":          func(o *api.OAuth2Spec) { o.CodeEndpoint = "ftp://id.example.com/" },
		"oauth2.authorizationEndpoint": func(o *api.OAuth2Spec) { o.AuthorizationEndpoint = "https://u:p@id.example.com/" },
		"oauth2.deviceEndpoint":        func(o *api.OAuth2Spec) { o.DeviceEndpoint = "https://id.example.com/#x" },
		"oauth2.revocationEndpoint":    func(o *api.OAuth2Spec) { o.RevocationEndpoint = "https://ID.example.com/" },
		"oauth2.clientAuth":            func(o *api.OAuth2Spec) { o.ClientAuth = "both" },
		"oauth2.bodyFormat":            func(o *api.OAuth2Spec) { o.BodyFormat = "xml" },
		"oauth2.scopeSeparator":        func(o *api.OAuth2Spec) { o.ScopeSeparator = "\n" },
		"oauth2.scopes":                func(o *api.OAuth2Spec) { o.Scopes = []string{"a", ""} },
		"oauth2.fields":                func(o *api.OAuth2Spec) { o.Fields = nil },
		"oauth2.tokenParams.a":         func(o *api.OAuth2Spec) { o.TokenParams = map[string]string{"a": "{{b"} },
		"oauth2.tokenParams":           func(o *api.OAuth2Spec) { o.TokenParams = map[string]string{"": "b"} },
		"oauth2.yields":                func(o *api.OAuth2Spec) { o.Yields = []string{"a b"} },
		"oauth2.headers":               func(o *api.OAuth2Spec) { o.Headers = field("X-Key", "{{oauth}}") },
		"oauth2.headers ":              func(o *api.OAuth2Spec) { o.Headers = field("X-Key", "{{access_token}}{{other}}") },
		"oauth2.headers[0].name":       func(o *api.OAuth2Spec) { o.Headers = field("Host", "{{access_token}}") },
	}
	first := suite{
		spec:   oauth2Spec(nil),
		fields: map[string]string{"access_token": "at-0123456789"},
		wire:   []string{"Authorization: Bearer at-0123456789"},
		bad:    []api.AuthSpec{{Type: "oauth2"}, {Type: "oauth2", OAuth2: oauth2Spec(nil).OAuth2, HeaderName: "X"}, {Type: "oauth2", TokenExchange: exchangeSpec(nil).TokenExchange}},
		badFor: []string{"oauth2", "headerName", "tokenExchange"},
	}
	for name, edit := range bad {
		first.bad, first.badFor = append(first.bad, oauth2Spec(edit)), append(first.badFor, strings.TrimSpace(name))
	}
	return []suite{first, {
		spec: oauth2Spec(func(o *api.OAuth2Spec) {
			o.Fields, o.Headers = []string{"client_id", "oauth"}, append(field("Authorization", "Zoho-oauthtoken {{access_token}}"), field("client-id", "{{client_id}}")...)
		}),
		fields: map[string]string{"access_token": "at-0123456789", "client_id": "id-0123456789"},
		wire:   []string{"Authorization: Zoho-oauthtoken at-0123456789", "Client-Id: id-0123456789"},
	}, {
		spec: oauth2Spec(func(o *api.OAuth2Spec) {
			o.TokenEndpoint, o.TokenParams = "https://{tenant}.example.com/token", map[string]string{"audience": "https://{tenant}.example.com/{{oauth}}"}
		}),
		fields: map[string]string{"access_token": "at-0123456789"},
		wire:   []string{"Authorization: Bearer at-0123456789"},
	}}
}

func tokenExchangeSuites() []suite {
	bad := map[string]func(*api.TokenExchangeSpec){
		"tokenExchange.tokenEndpoint": func(x *api.TokenExchangeSpec) { x.TokenEndpoint = "" },
		"tokenExchange.bodyFormat":    func(x *api.TokenExchangeSpec) { x.BodyFormat = "" },
		"tokenExchange.body":          func(x *api.TokenExchangeSpec) { x.Body = map[string]string{"a": "b"} },
		"tokenExchange.body.a":        func(x *api.TokenExchangeSpec) { x.Body = map[string]string{"a": "{{b c}}"} },
		"tokenExchange.tokenField":    func(x *api.TokenExchangeSpec) { x.TokenField = "" },
		"tokenExchange.headers":       func(x *api.TokenExchangeSpec) { x.Headers = []api.AuthField{{Name: "X", ValueTemplate: "{{token}}"}} },
	}
	one := suite{
		spec:   exchangeSpec(nil),
		fields: map[string]string{"access_token": "at-0123456789"},
		wire:   []string{"Authorization: Bearer at-0123456789"},
		bad:    []api.AuthSpec{{Type: "token-exchange"}},
		badFor: []string{"tokenExchange"},
	}
	for name, edit := range bad {
		one.bad, one.badFor = append(one.bad, exchangeSpec(edit)), append(one.badFor, name)
	}
	return []suite{one}
}

// A credential needs secrets for what the endpoint is asked with, and not for
// what it gives.
func TestSecretFields(t *testing.T) {
	for _, c := range []struct {
		spec api.AuthSpec
		want []string
	}{
		{api.AuthSpec{Type: "header"}, []string{"secret"}},
		{oauth2Spec(nil), []string{"oauth"}},
		{oauth2Spec(func(o *api.OAuth2Spec) { o.Fields = []string{"client_id", "client_secret"} }), []string{"client_id", "client_secret"}},
		{exchangeSpec(nil), []string{"secret", "user"}},
		{oauth2Spec(func(o *api.OAuth2Spec) { o.Fields = nil }), nil},
	} {
		if got := SecretFields(c.spec); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
	}
}

// What the endpoint would miss is found when it is stored.
func TestTryOfTokens(t *testing.T) {
	value := func(s string) map[string]secret.Value { return map[string]secret.Value{"oauth": secret.FromString(s)} }
	good := `{"client_id":"i","client_secret":"s","refresh_token":"r"}`
	if err := Try(oauth2Spec(nil), value(good), time.Now()); err != nil {
		t.Error(err)
	}
	if err := Try(oauth2Spec(nil), nil, time.Now()); err != nil {
		t.Error(err) // nothing is known yet
	}
	for _, bad := range []string{`{"client_id":"i","client_secret":"s"}`, `{"refresh_token":"r"}`, "{", "text"} {
		if err := Try(oauth2Spec(nil), value(bad), time.Now()); api.CodeOf(err) != api.AuthFailed {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPartsOfTokens(t *testing.T) {
	s, err := New(oauth2Spec(nil))
	if err != nil {
		t.Fatal(err)
	}
	parts := Parts(s, map[string]secret.Value{
		"oauth": secret.FromString(`{"clientId":"client-0123456789","refreshToken":"refresh-0123456789"}`), "other": secret.FromString(`{"x":"other-0123456789"}`)})
	if len(parts) != 1 || string(parts[0].Expose()) != "refresh-0123456789" {
		t.Errorf("%d parts", len(parts))
	}
}
