package auth

import (
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/oauth"
)

// Bounds of what a spec asks an endpoint for.
const (
	maxScopes = 128
	maxScope  = 256
)

// newOAuth2 sends an access token (RFC 6749).
func newOAuth2(spec api.AuthSpec) (plan, error) {
	o := spec.OAuth2
	if o == nil {
		return nil, invalid("oauth2", "is missing: it says where the token is had")
	}
	if !oauth.Knows(spec) {
		return nil, invalid("oauth2.grantType", "%q is not a grant that aivault knows", o.GrantType)
	}
	for _, e := range []struct {
		name, url string
		needed    bool
	}{
		{"tokenEndpoint", o.TokenEndpoint, true}, {"codeEndpoint", o.CodeEndpoint, false},
		{"authorizationEndpoint", o.AuthorizationEndpoint, false}, {"deviceEndpoint", o.DeviceEndpoint, false},
		{"revocationEndpoint", o.RevocationEndpoint, false},
	} {
		if e.url == "" && !e.needed {
			continue
		}
		if err := oauth.CheckEndpoint(e.url); err != nil {
			return nil, invalid("oauth2."+e.name, "%v", err)
		}
	}
	if !slices.Contains([]string{"", "body", "basic", "none"}, o.ClientAuth) {
		return nil, invalid("oauth2.clientAuth", "is neither body, basic nor none")
	}
	if !slices.Contains([]string{"", "form", "json"}, o.BodyFormat) {
		return nil, invalid("oauth2.bodyFormat", "is neither form nor json")
	}
	if len(o.ScopeSeparator) > 1 || !printableText(o.ScopeSeparator) {
		return nil, invalid("oauth2.scopeSeparator", "is not one character")
	}
	if len(o.Scopes) > maxScopes || slices.ContainsFunc(o.Scopes, func(s string) bool { return s == "" || len(s) > maxScope || !printableText(s) }) {
		return nil, invalid("oauth2.scopes", "are more than %d, or one of them is empty, too long or not printable", maxScopes)
	}
	if err := checkFields("oauth2.fields", o.Fields); err != nil {
		return nil, err
	}
	if _, err := checkParams("oauth2.tokenParams", o.TokenParams); err != nil {
		return nil, err
	}
	for _, own := range [...]string{"grant_type", "assertion", "refresh_token", "client_secret"} {
		if _, twice := o.TokenParams[own]; twice {
			return nil, invalid("oauth2.tokenParams", "name %q, which the grant sends itself", own)
		}
	}
	if _, twice := o.TokenParams["scope"]; twice && len(o.Scopes) > 0 {
		return nil, invalid("oauth2.tokenParams", "name %q, which stands beside scopes", "scope")
	}
	yields := o.Yields
	if len(yields) == 0 {
		yields = []string{"access_token"}
	}
	if err := checkFields("oauth2.yields", yields); err != nil {
		return nil, err
	}
	return newToken(spec, "oauth2", o.Headers, o.Fields, yields)
}
