// Package oauth gets tokens and keeps them: it asks the token endpoint that a
// login is pinned to, through egress, and writes what it is given into the
// vault before anyone uses it.
//
// What it promises: of all processes and calls one asks at a time, and whoever
// waited takes what it was given; a refresh token that may have been used up
// is never sent again; no error repeats what an endpoint said, but for the
// error code of RFC 6749.
package oauth

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// Config is what a Source needs.
type Config struct {
	Vault  *vault.Vault
	Egress *egress.Client
	Clock  func() time.Time // default time.Now
	Rand   io.Reader        // default crypto/rand
	// Sign signs a request to STS with a credential's own AWS keys.
	Sign func(ctx context.Context, fields map[string]secret.Value, r *policy.Request, to egress.Destination, body []byte, now time.Time) (egress.Additions, error)
}

// Want says which token a call needs.
type Want struct {
	Spec    api.AuthSpec // of type oauth2, token-exchange, or aws-sigv4 with Options.RoleARN; hosts filled
	Options api.TokenOptions
	Secrets map[string]string // field -> secret id
	// Pins are the places that the secrets were pinned to when the want was
	// found to be in order, as PinOf has them, by id. A secret that is pinned
	// to another by now is not sent. nil: nothing is compared.
	Pins     map[string]string
	Provider string // whose it is, for records and hints
	// Renew is the command by which a person starts over, for hints: aivault
	// oauth login PROVIDER, or aivault secrets rotate NAME.
	Renew string
	// Exceptions are those of the credential, for its own endpoint. Host is
	// not looked at.
	Exceptions egress.Destination
	// Refused is the version of the token that the API has just answered 401
	// to: another one is wanted. 0: any that is good for now.
	Refused uint64

	key string // KeyOf, once it was asked for
}

// Token is what a strategy renders.
type Token struct {
	Fields map[string]secret.Value // access_token and what else the spec yields; the caller wipes them
	// Key, Of and Version tell it from others. Version is OwnVersion of a token
	// that the secret itself holds, which is of nothing.
	Key     string
	Of      string // Origin of what it was had with
	Version uint64
}

// Origin names the secrets, with their versions, that a token was had with:
// after another secret the versions of its tokens begin anew.
func Origin(sources map[string]uint64) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(&b, "%q@%d ", id, sources[id])
	}
	return b.String()
}

// PinOf is where a secret's value belongs to.
func PinOf(s *vault.Secret) string { return s.Pin + " " + s.PinTenant }

// OwnVersion is the Version of a token that a secret holds itself, as its
// owner stored it.
const OwnVersion = ^uint64(0)

// NeedsToken says whether calls with this auth are made with a token that has
// to be asked for. Both may be nil.
func NeedsToken(spec *api.AuthSpec, options *api.TokenOptions) bool {
	if spec == nil {
		return false
	}
	switch spec.Type {
	case "oauth2":
		return spec.OAuth2 != nil
	case "token-exchange":
		return spec.TokenExchange != nil
	case "aws-sigv4":
		return options != nil && options.RoleARN != ""
	}
	return false
}

// Wipe overwrites the token's values.
func (t Token) Wipe() { wipe(t.Fields) }

func wipe(fields map[string]secret.Value) {
	for _, v := range fields {
		v.Wipe()
	}
}
