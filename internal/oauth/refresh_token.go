package oauth

import (
	"context"
	"slices"

	"moldable.sh/aivault/internal/secret"
)

// refreshToken renews an access token by a refresh token (RFC 6749, section
// 6): the one that the last answer brought, else the one in the secret. No
// scope is sent: the answer is for what the refresh token was given for.
//
// The key leaves out by which field names the secrets are known and which
// scopes are wanted, because neither is asked: two tokens would be two who use
// one refresh token, and a provider that rotates takes the second for a thief.
func refreshToken() kind {
	return kind{
		name:     "refresh_token",
		fits:     grant("refresh_token"),
		endpoint: tokenEndpoint,
		same: func(w *Want) []string {
			return slices.Concat(pairs(w.Spec.OAuth2.TokenParams), listed(secretIDs(w)))
		},
		build: buildRefresh,
		read: func(a *asking, answer *answer) (*obtained, error) {
			got, err := readToken(a, answer, "access_token")
			if err == nil {
				keepRefreshToken(a, got)
			}
			return got, err
		},
		own: ownUntilItEnds,
	}
}

func buildRefresh(_ context.Context, a *asking) (*ask, error) {
	token := a.refreshToken()
	if token.IsZero() {
		return nil, a.lacks("refresh_token")
	}
	return a.tokenRequest("refresh_token", false, param{"refresh_token", token.Expose()})
}

// refreshToken is the one to send.
func (a *asking) refreshToken() secret.Value {
	if last := a.token["refresh_token"]; !last.IsZero() {
		return last
	}
	return a.have.values["refresh_token"]
}

// keepRefreshToken settles which refresh token the next attempt sends.
func keepRefreshToken(a *asking, got *obtained) {
	sent, brought := a.refreshToken(), got.fields["refresh_token"]
	got.rotated = !brought.IsZero() && !brought.Equal(sent)
	got.kept = !got.rotated
	if last := a.token["refresh_token"]; brought.IsZero() && !last.IsZero() {
		got.fields["refresh_token"] = last.Clone()
	}
}

// ownUntilItEnds is the access token that came with the refresh token when the
// secret was stored, while it is known to be good.
func ownUntilItEnds(a *asking) (map[string]secret.Value, bool) {
	if a.have.endsAt.IsZero() || !a.now.Before(a.have.endsAt.Add(-margin)) {
		return nil, false
	}
	return ownToken(a)
}

// ownToken is the access token in the secret, with what else the spec yields.
func ownToken(a *asking) (map[string]secret.Value, bool) {
	if a.have.values["access_token"].IsZero() {
		return nil, false
	}
	fields := map[string]secret.Value{}
	for _, name := range yields(a.want) {
		if v := a.have.values[name]; !v.IsZero() {
			fields[name] = v.Clone()
		}
	}
	return fields, true
}
