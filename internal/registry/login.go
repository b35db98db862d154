package registry

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// OAuth2 declares a login whose token is fetched and refreshed.
type OAuth2 struct {
	Fields                []string          `json:"fields"` // what the credential holds
	Yields                []string          `json:"yields"` // what the token answer gives to Headers
	GrantType             string            `json:"grantType"`
	TokenEndpoint         string            `json:"tokenEndpoint"`
	AuthorizationEndpoint string            `json:"authorizationEndpoint,omitzero"`
	Scopes                []string          `json:"scopes,omitzero"`
	ScopeSeparator        string            `json:"scopeSeparator,omitzero"` // default: a space
	ClientAuth            string            `json:"clientAuth"`              // body, basic, none
	BodyFormat            string            `json:"bodyFormat"`              // form, json
	TokenParams           map[string]string `json:"tokenParams,omitzero"`    // {name} is a host parameter, as in endpoints
	Assertion             string            `json:"assertion,omitzero"`      // jwt-bearer: what is signed, in words
	Headers               []api.AuthField   `json:"headers"`
}

// SigV4 declares a request signature of the AWS kind.
type SigV4 struct {
	Fields  []string `json:"fields"` // a name that ends in '?' may be absent
	Service string   `json:"service"`
	Region  string   `json:"region"`
}

// HMAC declares a signature over parts of the request.
type HMAC struct {
	Algorithm     string          `json:"algorithm"` // sha256, sha384, sha512
	Encoding      string          `json:"encoding"`  // hex, base64
	KeyField      string          `json:"keyField"`
	KeyEncoding   string          `json:"keyEncoding,omitzero"` // raw (default), base64, hex
	SignedContent string          `json:"signedContent"`        // in words
	Output        Place           `json:"output"`
	Headers       []api.AuthField `json:"headers,omitzero"`
	Timestamp     *Place          `json:"timestamp,omitzero"`
	Nonce         *Place          `json:"nonce,omitzero"`
}

// Place is where a computed value goes.
type Place struct {
	In         string `json:"in"` // header, query, body
	Name       string `json:"name"`
	Unit       string `json:"unit,omitzero"`       // timestamps: s, ms
	Last       bool   `json:"last,omitzero"`       // query: after all others
	Increasing bool   `json:"increasing,omitzero"` // nonces
}

// MTLS declares a client certificate, alone or beside another login.
type MTLS struct {
	CertField string        `json:"certField"`
	KeyField  string        `json:"keyField"`
	Plus      *api.AuthSpec `json:"plus,omitzero"`
}

// TokenExchange declares a login that buys a short-lived token with one call.
type TokenExchange struct {
	TokenEndpoint string            `json:"tokenEndpoint"`
	BodyFormat    string            `json:"bodyFormat"` // form, json
	Body          map[string]string `json:"body"`
	TokenField    string            `json:"tokenField"`
	Headers       []api.AuthField   `json:"headers"`
}

// Postgres declares a database connection.
type Postgres struct {
	Fields []string `json:"fields"`
}

// tokenYield is the one value that a token exchange gives.
const tokenYield = "access_token"

// Fields lists the fields that the login's templates name, in order of first
// use.
func (l *Login) Fields() []string {
	var out []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	add(specFields(l.Auth)...)
	switch {
	case l.OAuth2 != nil:
		add(l.OAuth2.Fields...)
		for _, t := range l.OAuth2.TokenParams {
			add(placeholders(t)...)
		}
	case l.SigV4 != nil:
		for _, f := range l.SigV4.Fields {
			if !strings.HasSuffix(f, "?") {
				add(f)
			}
		}
	case l.HMAC != nil:
		add(l.HMAC.KeyField)
		add(fieldsOf(l.HMAC.Headers)...)
	case l.MTLS != nil:
		add(l.MTLS.CertField, l.MTLS.KeyField)
		if l.MTLS.Plus != nil {
			add(specFields(*l.MTLS.Plus)...)
		}
	case l.TokenExchange != nil:
		for _, k := range slices.Sorted(keysOf(l.TokenExchange.Body)) {
			add(placeholders(l.TokenExchange.Body[k])...)
		}
	case l.Postgres != nil:
		add(l.Postgres.Fields...)
	}
	return out
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func specFields(s api.AuthSpec) []string {
	var out []string
	for _, t := range []string{s.ValueTemplate, s.PrefixTemplate, s.UsernameTemplate, s.PasswordTemplate} {
		out = append(out, placeholders(t)...)
	}
	out = append(out, fieldsOf(s.Headers)...)
	return append(out, fieldsOf(s.Params)...)
}

func fieldsOf(list []api.AuthField) []string {
	var out []string
	for _, f := range list {
		out = append(out, placeholders(f.ValueTemplate)...)
	}
	return out
}

// placeholders lists the names in {{braces}}.
func placeholders(t string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(t, "{{")
		if !ok {
			return out
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return out
		}
		out, t = append(out, name), after
	}
}

// authHeaders lists, folded, the headers that the login sets.
func (l *Login) authHeaders() []string {
	names := specHeaders(l.Auth)
	switch {
	case l.OAuth2 != nil:
		names = append(names, namesOf(l.OAuth2.Headers)...)
	case l.SigV4 != nil:
		names = append(names, "Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256")
	case l.HMAC != nil:
		names = append(names, namesOf(l.HMAC.Headers)...)
		for _, p := range []*Place{&l.HMAC.Output, l.HMAC.Timestamp, l.HMAC.Nonce} {
			if p != nil && p.In == "header" {
				names = append(names, p.Name)
			}
		}
	case l.MTLS != nil && l.MTLS.Plus != nil:
		names = append(names, specHeaders(*l.MTLS.Plus)...)
	case l.TokenExchange != nil:
		names = append(names, namesOf(l.TokenExchange.Headers)...)
	}
	for i, n := range names {
		names[i] = foldHeader(n)
	}
	return names
}

func specHeaders(s api.AuthSpec) []string {
	switch s.Type {
	case "header":
		return []string{s.HeaderName}
	case "basic":
		return []string{"Authorization"}
	case "multi-header":
		return namesOf(s.Headers)
	}
	return nil
}

func namesOf(list []api.AuthField) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.Name)
	}
	return out
}

// foldHeader is the form in which policy asks for header names.
func foldHeader(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}
