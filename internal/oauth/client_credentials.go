package oauth

import "context"

// clientGrant is a token for the client itself: by client_credentials (RFC
// 6749, section 4.4), or by account_credentials, Zoom's grant for an app that
// acts in one account, whose id stands among the spec's token parameters.
func clientGrant(name string) kind {
	return kind{
		name:     name,
		fits:     grant(name),
		endpoint: tokenEndpoint,
		same:     clientSame,
		again:    true,
		build: func(_ context.Context, a *asking) (*ask, error) {
			if a.have.values["client_secret"].IsZero() {
				return nil, a.lacks("client_secret")
			}
			return a.tokenRequest(name, true)
		},
		read: readClientToken,
	}
}

// readClientToken leaves out a refresh token, which nobody would use.
func readClientToken(a *asking, answer *answer) (*obtained, error) {
	got, err := readToken(a, answer, "access_token")
	if err == nil {
		got.fields["refresh_token"].Wipe()
		delete(got.fields, "refresh_token")
	}
	return got, err
}
