package oauth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"moldable.sh/aivault/internal/api"
)

// assertionLife is how long an assertion is good: the most that Google takes,
// from its iat on.
const assertionLife = time.Hour

// jwtBearer is a token for a JWT that a key of the account signs (RFC 7523,
// section 2.1), as service accounts have one: a Google service account's file,
// or the same members from another provider.
func jwtBearer() kind {
	return kind{
		name:     api.GrantJWTBearer,
		fits:     grant(api.GrantJWTBearer),
		endpoint: tokenEndpoint,
		same: func(w *Want) []string {
			return slices.Concat(clientSame(w), listed([]string{w.Options.Subject}))
		},
		again:   true,
		build:   buildAssertion,
		read:    readClientToken,
		explain: explainAssertion,
	}
}

func buildAssertion(_ context.Context, a *asking) (*ask, error) {
	issuer, err := a.issuer()
	if err != nil {
		return nil, err
	}
	claims := assertionClaims(a.want, issuer, a.now)
	assertion, err := a.signed(claims, string(a.have.values["private_key_id"].Expose()))
	if err != nil {
		return nil, err
	}
	defer clear(assertion)
	return a.tokenRequest(api.GrantJWTBearer, false, param{"assertion", assertion})
}

// issuer is who signs, and says why the secret cannot be used: it is another
// thing than a service account's key, or made for another endpoint.
func (a *asking) issuer() (string, error) {
	values := a.have.values
	if why := badAccount(values, a.want.Spec.OAuth2.TokenEndpoint); why != "" {
		return "", a.want.renew(api.Errorf(api.AuthFailed, "the service account's key for %s %s", a.want.Provider, why))
	}
	for _, name := range [...]string{"client_email", "client_id"} {
		if v := values[name]; !v.IsZero() {
			return string(v.Expose()), nil
		}
	}
	return "", a.lacks("client_email")
}

// assertionClaims are those of RFC 7523, section 3, with Google's scope.
func assertionClaims(w *Want, issuer string, now time.Time) jwt.MapClaims {
	o := w.Spec.OAuth2
	issued := now.Add(-clockSkew)
	claims := jwt.MapClaims{
		"iss": issuer, "aud": o.TokenEndpoint,
		"iat": issued.Unix(), "exp": issued.Add(assertionLife).Unix(),
	}
	if scopes := scopesOf(w); len(scopes) > 0 {
		separator := o.ScopeSeparator
		if separator == "" {
			separator = " "
		}
		claims["scope"] = strings.Join(scopes, separator)
	}
	if w.Options.Subject != "" {
		claims["sub"] = w.Options.Subject
	}
	return claims
}

// explainAssertion says what people usually find behind an error code.
func explainAssertion(code string, _ int) string {
	switch code {
	case "invalid_grant":
		return "the key was deleted, the subject does not exist, or this machine's clock is wrong"
	case "unauthorized_client", "access_denied":
		return "the account may not act for the subject, or not with these scopes"
	case "invalid_scope":
		return "there is no such scope, or the account may not have it"
	}
	return ""
}
