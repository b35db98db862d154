package oauth

import "context"

// clientCredentials is a token for the client itself (RFC 6749, section 4.4).
func clientCredentials() kind {
	return kind{
		name:     "client_credentials",
		fits:     grant("client_credentials"),
		endpoint: tokenEndpoint,
		same:     clientSame,
		again:    true,
		build: func(_ context.Context, a *asking) (*ask, error) {
			if a.have.values["client_secret"].IsZero() {
				return nil, a.lacks("client_secret")
			}
			return a.tokenRequest("client_credentials", true)
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
