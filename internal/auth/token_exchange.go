package auth

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/oauth"
)

// newTokenExchange sends a token that one request of the provider's own making
// buys.
func newTokenExchange(spec api.AuthSpec) (plan, error) {
	x := spec.TokenExchange
	if x == nil {
		return nil, invalid("tokenExchange", "is missing: it says where the token is had")
	}
	if err := oauth.CheckEndpoint(x.TokenEndpoint); err != nil {
		return nil, invalid("tokenExchange.tokenEndpoint", "%v", err)
	}
	if !slices.Contains([]string{"form", "json"}, x.BodyFormat) {
		return nil, invalid("tokenExchange.bodyFormat", "is neither form nor json")
	}
	fields, err := checkParams("tokenExchange.body", x.Body)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, invalid("tokenExchange.body", "names no field: it needs a placeholder such as {{secret}}")
	}
	if f := x.TokenField; f == "" || len(f) > maxTemplate || !printableText(f) || strings.HasSuffix(f, "/") {
		return nil, invalid("tokenExchange.tokenField", "is neither a member's name nor a JSON pointer")
	}
	return newToken(spec, "tokenExchange", x.Headers, fields, []string{"access_token"})
}
