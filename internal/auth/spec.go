package auth

import (
	"slices"

	"moldable.sh/aivault/internal/api"
)

// invalid makes the error for a field of a spec.
func invalid(field, format string, args ...any) *api.Error {
	return api.Errorf(api.InvalidRequest, "auth."+field+": "+format, args...)
}

// onlyParams refuses parameters of another type: whoever wrote them meant
// something that would not happen.
func onlyParams(spec api.AuthSpec, allowed []string) error {
	for _, p := range []struct {
		name  string
		given bool
	}{
		{"headerName", spec.HeaderName != ""},
		{"valueTemplate", spec.ValueTemplate != ""},
		{"paramName", spec.ParamName != ""},
		{"prefixTemplate", spec.PrefixTemplate != ""},
		{"usernameTemplate", spec.UsernameTemplate != ""},
		{"passwordTemplate", spec.PasswordTemplate != ""},
		{"headers", len(spec.Headers) > 0},
		{"params", len(spec.Params) > 0},
		{"sigv4", spec.SigV4 != nil},
		{"hmac", spec.HMAC != nil},
		{"mtls", spec.MTLS != nil},
		{"oauth2", spec.OAuth2 != nil},
		{"tokenExchange", spec.TokenExchange != nil},
	} {
		if p.given && !slices.Contains(allowed, p.name) {
			return invalid(p.name, "does not belong to type %q", spec.Type)
		}
	}
	return nil
}
