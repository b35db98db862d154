package oauth

import (
	"context"

	"moldable.sh/aivault/internal/api"
)

// authorizationCode is a login whose provider gives no refresh token: what was
// given for the code is good until somebody revokes it, and nothing can be
// asked for but by logging in again.
func authorizationCode() kind {
	return kind{
		name:     "authorization_code",
		fits:     grant("authorization_code"),
		endpoint: tokenEndpoint,
		same:     func(w *Want) []string { return listed(secretIDs(w)) },
		build: func(_ context.Context, a *asking) (*ask, error) {
			if a.want.Refused != 0 || len(a.token) > 0 {
				return nil, a.want.renew(api.Errorf(api.OAuthRefreshFailed, "the token of %s is no longer good, and there is no way to renew it", a.want.Provider))
			}
			return nil, a.lacks("access_token")
		},
		own: ownToken,
	}
}
