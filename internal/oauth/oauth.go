// Package oauth gets tokens and keeps them: it asks the token endpoint that a
// login is pinned to, through egress, and writes what it is given into the
// vault before anyone uses it.
package oauth

import (
	"context"
	"io"
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

// Source gets tokens. Its methods may be called concurrently.
type Source struct{ cfg Config }

// New makes a Source.
func New(cfg Config) *Source { return &Source{cfg: cfg} }

// Want says which token a call needs.
type Want struct {
	Spec     api.AuthSpec // of type oauth2, token-exchange, or aws-sigv4 with Options.RoleARN; hosts filled
	Options  api.TokenOptions
	Secrets  map[string]string // field -> secret id
	Provider string            // whose it is, for records and hints
	// Exceptions are those of the credential, for its own endpoint. Host is
	// not looked at.
	Exceptions egress.Destination
	// Refused is the version of the token that the API has just answered 401
	// to: one of a later version is wanted. 0: any that is good for now.
	Refused uint64
}

// Token is what a strategy renders.
type Token struct {
	Fields  map[string]secret.Value // access_token and what else the spec yields; the caller wipes them
	Version uint64
}

// KeyOf names what a Want asks of whom with which secrets, "" when it asks for
// nothing: 64 hex digits of a SHA-256 over grant type, endpoint, parameters,
// options, and the ids of the secrets.
func KeyOf(w *Want) string { panic("contract") }

// NeedsToken says whether calls with this auth are made with a token that has
// to be asked for.
func NeedsToken(spec *api.AuthSpec, options *api.TokenOptions) bool { panic("contract") }

// Token gives a token that is good for now: the vault's, or, when that ends
// within its last minute (or is Refused), one that it asks for, alone of all
// processes and calls. What it asks for is in the vault when it returns. Errors are
// oauth_refresh_failed (with the endpoint's error code, and never more of its
// answer), upstream_unreachable and upstream_timeout, vault_locked and
// vault_unavailable, secret's shape: auth_failed.
func (s *Source) Token(ctx context.Context, w Want) (Token, error) { panic("contract") }
