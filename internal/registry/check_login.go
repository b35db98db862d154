package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// check says what is wrong with the login by itself: fields are what secrets
// fill, params what a host does.
func (l *Login) check(fields, params map[string]bool) error {
	if !api.ValidID(l.ID) {
		return fmt.Errorf("login %s: not a valid id", api.Quote(l.ID))
	}
	if err := l.checkStrategy(fields, params); err != nil {
		return fmt.Errorf("login %s: %w", l.ID, err)
	}
	if p := l.UpstreamPathPrefix; p != "" && (p[0] != '/' || strings.HasSuffix(p, "/") || checkRule(p) != nil || strings.Contains(p, "*")) {
		return fmt.Errorf("login %s: upstreamPathPrefix %s is not a plain path without a '/' at its end", l.ID, api.Quote(p))
	}
	for _, f := range l.Fields() {
		if !fields[f] {
			return fmt.Errorf("login %s: field %s is not one of the provider's secrets", l.ID, api.Quote(f))
		}
	}
	if len(l.Fields()) == 0 {
		return fmt.Errorf("login %s: uses no secret", l.ID)
	}
	return nil
}

func (l *Login) checkStrategy(fields, params map[string]bool) error {
	declared := map[string]bool{ // strategy -> its parameters are there
		"oauth2": l.OAuth2 != nil, "aws-sigv4": l.SigV4 != nil, "hmac": l.HMAC != nil, "mtls": l.MTLS != nil,
		"token-exchange": l.TokenExchange != nil,
	}
	for name, there := range declared {
		if there != (name == l.Auth.Type) {
			return fmt.Errorf("auth type %s and the parameters given do not belong together", api.Quote(l.Auth.Type))
		}
	}
	if hasOwn(&l.Auth) {
		return fmt.Errorf("auth holds the parameters of %s, which stand beside it", api.Quote(l.Auth.Type))
	}
	if l.NotYet != "" && l.NotYet != "websocket" {
		return fmt.Errorf("notYet %s is not known", api.Quote(l.NotYet))
	}
	if _, own := declared[l.Auth.Type]; !own {
		return checkSpec(l.Auth, fields)
	}
	if rest := l.Auth; rest.HeaderName+rest.ValueTemplate+rest.ParamName+rest.PrefixTemplate+rest.UsernameTemplate+rest.PasswordTemplate != "" ||
		len(rest.Headers)+len(rest.Params) != 0 {
		return errors.New("auth holds more than the type of a strategy that has its own parameters")
	}
	switch {
	case l.OAuth2 != nil:
		return checkOAuth2(l.OAuth2, fields, params)
	case l.SigV4 != nil:
		return checkSigV4(l.SigV4, fields)
	case l.HMAC != nil:
		return checkHMAC(l.HMAC, fields)
	case l.MTLS != nil:
		if l.MTLS.Plus != nil {
			return checkSpec(*l.MTLS.Plus, fields)
		}
	case l.TokenExchange != nil:
		return checkExchange(l.TokenExchange, fields)
	}
	return nil
}

// hasOwn says whether parameters of a strategy stand within its spec; in a
// provider file they stand beside it.
func hasOwn(s *api.AuthSpec) bool {
	return s.SigV4 != nil || s.HMAC != nil || s.MTLS != nil || s.OAuth2 != nil || s.TokenExchange != nil
}

func oneOf(what string, ok bool) error {
	if ok {
		return nil
	}
	return errors.New(what + ": missing or not one of the values that the schema lists")
}

func checkOAuth2(o *api.OAuth2Spec, fields, params map[string]bool) error {
	if err := oneOf("grantType", slices.Contains([]string{"refresh_token", "authorization_code", "client_credentials",
		"account_credentials", api.GrantJWTBearer, api.GrantGitHubApp}, o.GrantType)); err != nil {
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
	for _, e := range []string{o.CodeEndpoint, o.AuthorizationEndpoint, o.DeviceEndpoint, o.RevocationEndpoint} {
		if e == "" {
			continue
		}
		if err := checkEndpoint(e); err != nil {
			return err
		}
	}
	if err := checkConsent(o); err != nil {
		return err
	}
	if len(o.Fields) == 0 {
		return errors.New("oauth2 names no field")
	}
	for k, t := range o.TokenParams {
		for p := range params {
			t = strings.ReplaceAll(t, "{"+p+"}", "x")
		}
		if err := checkTemplate("tokenParams "+k, t, fields, false); err != nil {
			return err
		}
	}
	yields := o.Yields
	if len(yields) == 0 {
		yields = []string{tokenYield}
	}
	return checkHeaders(o.Headers, fields, yields...)
}

// checkSigV4 leaves the names of the fields to the strategy, but for those that
// may be absent.
func checkSigV4(v *api.SigV4Spec, fields map[string]bool) error {
	plain := lowerCase + digits + "-."
	switch {
	case len(v.Fields) == 0 || len(v.Fields) > 3:
		return oneOf("fields", false)
	case v.Service != "{by-host}" && !shaped(v.Service, upperCase+plain, "", 64):
		return oneOf("service", false)
	case v.Region != "{by-host}" && v.Region != "{region}" && !shaped(v.Region, plain, "", 64):
		return oneOf("region", false)
	}
	for _, f := range v.Fields {
		if name, absent := strings.CutSuffix(f, "?"); absent && !fields[name] {
			return fmt.Errorf("field %s is not one of the provider's secrets", api.Quote(name))
		}
	}
	return nil
}

func checkHMAC(h *api.HMACSpec, fields map[string]bool) error {
	switch {
	case !slices.Contains([]string{"sha256", "sha384", "sha512"}, h.Algorithm):
		return oneOf("algorithm", false)
	case h.Encoding != "hex" && h.Encoding != "base64":
		return oneOf("encoding", false)
	case !slices.Contains([]string{"", "raw", "base64", "hex"}, h.KeyEncoding):
		return oneOf("keyEncoding", false)
	case h.Output.Last && h.Output.In != "query":
		return errors.New("output: last is about a query")
	}
	for _, p := range []*api.AuthPlace{&h.Output, h.Timestamp, h.Nonce} {
		if p != nil && (p.Name == "" || !slices.Contains([]string{"header", "query", "body"}, p.In)) {
			return oneOf("place", false)
		}
	}
	if len(h.Headers) == 0 {
		return nil
	}
	return checkHeaders(h.Headers, fields)
}

func checkExchange(x *api.TokenExchangeSpec, fields map[string]bool) error {
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
		return fmt.Errorf("%s is not an https URL of host and path", api.Quote(s))
	}
	return ValidHost(u.Host)
}

// endpoints lists the addresses that the login asks for tokens.
func (l *Login) endpoints() []string {
	switch {
	case l.OAuth2 != nil:
		o := l.OAuth2
		return []string{o.TokenEndpoint, o.CodeEndpoint, o.AuthorizationEndpoint, o.DeviceEndpoint, o.RevocationEndpoint}
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
		return fmt.Errorf("auth type %s is not known", api.Quote(s.Type))
	}
	if err != nil {
		return err
	}
	if left.HeaderName+left.ValueTemplate+left.ParamName+left.PrefixTemplate+left.UsernameTemplate+left.PasswordTemplate != "" ||
		len(left.Headers)+len(left.Params) != 0 || hasOwn(&left) {
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
			return fmt.Errorf("header name %s is no token, holds '_', or is there twice", api.Quote(f.Name))
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
			return fmt.Errorf("query parameter %s is no plain name, or is there twice", api.Quote(f.Name))
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
			return fmt.Errorf("%s: field %s is not one of the provider's secrets", what, api.Quote(n))
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
