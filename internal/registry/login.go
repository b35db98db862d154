package registry

import (
	"errors"
	"fmt"
	"net/url"
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
	TokenParams           map[string]string `json:"tokenParams,omitzero"`
	Assertion             string            `json:"assertion,omitzero"` // jwt-bearer: what is signed, in words
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

// check says what is wrong with the login by itself.
func (l *Login) check(fields map[string]bool) error {
	if !ValidID(l.ID) {
		return fmt.Errorf("login %s: not a valid id", quote(l.ID))
	}
	if err := l.checkStrategy(fields); err != nil {
		return fmt.Errorf("login %s: %w", l.ID, err)
	}
	if p := l.UpstreamPathPrefix; p != "" && (p[0] != '/' || strings.HasSuffix(p, "/") || checkRule(p) != nil || strings.Contains(p, "*")) {
		return fmt.Errorf("login %s: upstreamPathPrefix %s is not a plain path without a '/' at its end", l.ID, quote(p))
	}
	for _, f := range l.Fields() {
		if !fields[f] {
			return fmt.Errorf("login %s: field %s is not one of the provider's secrets", l.ID, quote(f))
		}
	}
	if len(l.Fields()) == 0 {
		return fmt.Errorf("login %s: uses no secret", l.ID)
	}
	return nil
}

func (l *Login) checkStrategy(fields map[string]bool) error {
	declared := map[string]bool{ // strategy -> its parameters are there
		"oauth2": l.OAuth2 != nil, "aws-sigv4": l.SigV4 != nil, "hmac": l.HMAC != nil, "mtls": l.MTLS != nil,
		"token-exchange": l.TokenExchange != nil, "postgres-connection": l.Postgres != nil,
	}
	for name, there := range declared {
		if there != (name == l.Auth.Type) {
			return fmt.Errorf("auth type %s and the parameters given do not belong together", quote(l.Auth.Type))
		}
	}
	if _, late := declared[l.Auth.Type]; !late {
		if l.NotYet != "" && l.NotYet != "websocket" {
			return fmt.Errorf("notYet %s, but auth type %s is built", quote(l.NotYet), l.Auth.Type)
		}
		return checkSpec(l.Auth, fields)
	}
	if l.NotYet != l.Auth.Type {
		return fmt.Errorf("auth type %s is not built: notYet must say so", l.Auth.Type)
	}
	if rest := l.Auth; rest.HeaderName+rest.ValueTemplate+rest.ParamName+rest.PrefixTemplate+rest.UsernameTemplate+rest.PasswordTemplate != "" ||
		len(rest.Headers)+len(rest.Params) != 0 {
		return errors.New("auth holds more than the type of a strategy that has its own parameters")
	}
	switch {
	case l.OAuth2 != nil:
		return l.OAuth2.check(fields)
	case l.SigV4 != nil:
		return oneOf("service and region", l.SigV4.Service != "" && l.SigV4.Region != "" && len(l.SigV4.Fields) > 0)
	case l.HMAC != nil:
		return l.HMAC.check(fields)
	case l.MTLS != nil:
		if l.MTLS.Plus != nil {
			return checkSpec(*l.MTLS.Plus, fields)
		}
	case l.TokenExchange != nil:
		return l.TokenExchange.check(fields)
	}
	return nil
}

func oneOf(what string, ok bool) error {
	if ok {
		return nil
	}
	return errors.New(what + ": missing or not one of the values that the schema lists")
}

func (o *OAuth2) check(fields map[string]bool) error {
	if err := oneOf("grantType", slices.Contains([]string{"refresh_token", "authorization_code", "client_credentials",
		"account_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"}, o.GrantType)); err != nil {
		return err
	}
	if err := oneOf("clientAuth", slices.Contains([]string{"body", "basic", "none"}, o.ClientAuth)); err != nil {
		return err
	}
	if err := oneOf("bodyFormat", o.BodyFormat == "form" || o.BodyFormat == "json"); err != nil {
		return err
	}
	if err := checkEndpoint(o.TokenEndpoint); err != nil {
		return err
	}
	if o.AuthorizationEndpoint != "" {
		if err := checkEndpoint(o.AuthorizationEndpoint); err != nil {
			return err
		}
	}
	if len(o.Fields) == 0 {
		return errors.New("oauth2 names no field")
	}
	for k, t := range o.TokenParams {
		if err := checkTemplate("tokenParams "+k, t, fields, false); err != nil {
			return err
		}
	}
	return checkHeaders(o.Headers, fields, o.Yields...)
}

func (h *HMAC) check(fields map[string]bool) error {
	switch {
	case !slices.Contains([]string{"sha256", "sha384", "sha512"}, h.Algorithm):
		return oneOf("algorithm", false)
	case h.Encoding != "hex" && h.Encoding != "base64":
		return oneOf("encoding", false)
	case !slices.Contains([]string{"", "raw", "base64", "hex"}, h.KeyEncoding):
		return oneOf("keyEncoding", false)
	case h.SignedContent == "":
		return oneOf("signedContent", false)
	}
	for _, p := range []*Place{&h.Output, h.Timestamp, h.Nonce} {
		if p != nil && (p.Name == "" || !slices.Contains([]string{"header", "query", "body"}, p.In)) {
			return oneOf("place", false)
		}
	}
	if len(h.Headers) == 0 {
		return nil
	}
	return checkHeaders(h.Headers, fields)
}

func (x *TokenExchange) check(fields map[string]bool) error {
	if err := checkEndpoint(x.TokenEndpoint); err != nil {
		return err
	}
	if err := oneOf("bodyFormat", x.BodyFormat == "form" || x.BodyFormat == "json"); err != nil {
		return err
	}
	for k, t := range x.Body {
		if err := checkTemplate("body "+k, t, fields, false); err != nil {
			return err
		}
	}
	if x.TokenField == "" {
		return oneOf("tokenField", false)
	}
	return checkHeaders(x.Headers, fields, tokenYield)
}

// checkEndpoint accepts an https URL whose host is a plain name.
func checkEndpoint(s string) error {
	u, err := url.Parse(fillBraces(s))
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Port() != "" || u.Path == "" {
		return fmt.Errorf("%s is not an https URL of host and path", quote(s))
	}
	return ValidHost(u.Host)
}

// endpoints lists the addresses that the login asks for tokens.
func (l *Login) endpoints() []string {
	switch {
	case l.OAuth2 != nil:
		return []string{l.OAuth2.TokenEndpoint, l.OAuth2.AuthorizationEndpoint}
	case l.TokenExchange != nil:
		return []string{l.TokenExchange.TokenEndpoint}
	}
	return nil
}

// fillBraces puts a letter in place of every {param} of a host.
func fillBraces(host string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(host, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		_, after, ok := strings.Cut(rest, "}")
		if !ok {
			return host
		}
		b.WriteByte('x')
		host = after
	}
}

// checkSpec says whether a spec of a built strategy is complete, and holds
// nothing that its strategy would ignore.
func checkSpec(s api.AuthSpec, fields map[string]bool) error {
	left := s
	var err error
	switch s.Type {
	case "header":
		left.HeaderName, left.ValueTemplate = "", ""
		err = checkHeaders([]api.AuthField{{Name: s.HeaderName, ValueTemplate: s.ValueTemplate}}, fields)
	case "multi-header":
		left.Headers = nil
		err = checkHeaders(s.Headers, fields)
	case "query":
		left.ParamName, left.ValueTemplate = "", ""
		err = checkParams([]api.AuthField{{Name: s.ParamName, ValueTemplate: s.ValueTemplate}}, fields)
	case "multi-query":
		left.Params = nil
		err = checkParams(s.Params, fields)
	case "path":
		left.PrefixTemplate = ""
		if !strings.HasPrefix(s.PrefixTemplate, "/") || strings.HasSuffix(s.PrefixTemplate, "/") {
			return errors.New("prefixTemplate must start with '/' and not end in one")
		}
		err = checkTemplate("prefixTemplate", s.PrefixTemplate, fields, true)
	case "basic":
		left.UsernameTemplate, left.PasswordTemplate = "", ""
		if len(placeholders(s.UsernameTemplate+s.PasswordTemplate)) == 0 {
			return errors.New("basic names no field")
		}
		err = checkTemplate("usernameTemplate", s.UsernameTemplate, fields, false)
		if err == nil {
			err = checkTemplate("passwordTemplate", s.PasswordTemplate, fields, false)
		}
	default:
		return fmt.Errorf("auth type %s is not known", quote(s.Type))
	}
	if err != nil {
		return err
	}
	if left.HeaderName+left.ValueTemplate+left.ParamName+left.PrefixTemplate+left.UsernameTemplate+left.PasswordTemplate != "" ||
		len(left.Headers)+len(left.Params) != 0 {
		return fmt.Errorf("auth type %s does not take all that is given", s.Type)
	}
	return nil
}

func checkHeaders(list []api.AuthField, fields map[string]bool, yields ...string) error {
	if len(list) == 0 {
		return errors.New("no header is named")
	}
	known := fields
	if len(yields) > 0 {
		known = map[string]bool{}
		for f := range fields {
			known[f] = true
		}
		for _, y := range yields {
			known[y] = true
		}
	}
	seen := map[string]bool{}
	for _, f := range list {
		name := foldHeader(f.Name)
		if !validToken(f.Name) || strings.Contains(f.Name, "_") || seen[name] {
			return fmt.Errorf("header name %s is no token, holds '_', or is there twice", quote(f.Name))
		}
		seen[name] = true
		if err := checkTemplate("header "+f.Name, f.ValueTemplate, known, true); err != nil {
			return err
		}
	}
	return nil
}

func checkParams(list []api.AuthField, fields map[string]bool) error {
	if len(list) == 0 {
		return errors.New("no query parameter is named")
	}
	seen := map[string]bool{}
	for _, f := range list {
		if !validToken(f.Name) || seen[f.Name] {
			return fmt.Errorf("query parameter %s is no plain name, or is there twice", quote(f.Name))
		}
		seen[f.Name] = true
		if err := checkTemplate("query parameter "+f.Name, f.ValueTemplate, fields, true); err != nil {
			return err
		}
	}
	return nil
}

// checkTemplate wants printable ASCII whose braces name known fields.
func checkTemplate(what, t string, fields map[string]bool, needField bool) error {
	for i := range len(t) {
		if t[i] < 0x20 || t[i] >= 0x7f {
			return fmt.Errorf("%s: template holds more than printable ASCII", what)
		}
	}
	names := placeholders(t)
	if needField && len(names) == 0 {
		return fmt.Errorf("%s: template names no field", what)
	}
	for _, n := range names {
		if !fields[n] {
			return fmt.Errorf("%s: field %s is not one of the provider's secrets", what, quote(n))
		}
	}
	plain := t
	for _, n := range names {
		plain = strings.ReplaceAll(plain, "{{"+n+"}}", "")
	}
	if strings.ContainsAny(plain, "{}") {
		return fmt.Errorf("%s: template has a brace that is not part of a {{field}}", what)
	}
	return nil
}

func validToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
