package oauth

import (
	"crypto/rsa"
	"encoding/base64"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"moldable.sh/aivault/internal/api"
)

// clockSkew is by how much an endpoint's clock may be behind ours: a JWT that
// is issued in the future is refused.
const clockSkew = time.Minute

// signJWT makes a JWT in its compact form (RFC 7515, section 3.1) that RS256
// signs. It is as good as what it asks for: the caller wipes it.
func signJWT(claims jwt.MapClaims, kid string, key *rsa.PrivateKey) ([]byte, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SigningString()
	if err != nil {
		return nil, err
	}
	return signCompact(text, key)
}

// signCompact appends its signature to what a JWS signs.
func signCompact(text string, key *rsa.PrivateKey) ([]byte, error) {
	signature, err := jwt.SigningMethodRS256.Sign(text, key)
	if err != nil {
		return nil, err
	}
	defer clear(signature)
	out := make([]byte, 0, len(text)+1+base64.RawURLEncoding.EncodedLen(len(signature)))
	out = append(append(out, text...), '.')
	return base64.RawURLEncoding.AppendEncode(out, signature), nil
}

// signed makes the JWT with the private key among the credential's secrets.
func (a *asking) signed(claims jwt.MapClaims, kid string) ([]byte, error) {
	text := a.have.values["private_key"]
	if text.IsZero() {
		return nil, a.lacks("private_key")
	}
	key, why := rsaKey(text.Expose())
	if why != "" {
		return nil, a.want.renew(api.Errorf(api.AuthFailed, "the private key of %s %s", a.want.Provider, why))
	}
	token, err := signJWT(claims, kid, key)
	if err != nil {
		// The library's error is about the key.
		return nil, a.want.renew(api.Errorf(api.AuthFailed, "the private key of %s cannot sign", a.want.Provider))
	}
	return token, nil
}
