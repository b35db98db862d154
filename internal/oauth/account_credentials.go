package oauth

import "context"

// accountCredentials is Zoom's grant for an app that acts in one account: the
// account's id stands among the spec's token parameters.
func accountCredentials() kind {
	return kind{
		name:     "account_credentials",
		fits:     grant("account_credentials"),
		endpoint: tokenEndpoint,
		same:     clientSame,
		again:    true,
		build: func(_ context.Context, a *asking) (*ask, error) {
			if a.have.values["client_secret"].IsZero() {
				return nil, a.lacks("client_secret")
			}
			return a.tokenRequest("account_credentials", true)
		},
		read: readClientToken,
	}
}
