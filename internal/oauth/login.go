package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// A Client is an app that is registered at a provider, as a person's login
// uses it.
type Client struct {
	Provider string
	Spec     api.OAuth2Spec // hosts filled
	ID       string
	Secret   secret.Value // of a public client: none
	Scopes   []string     // to ask for, in place of the spec's
}

// Granted is what a login gave.
type Granted struct {
	Fields  map[string]secret.Value // access_token, refresh_token and what else the spec yields
	EndsAt  time.Time               // of the access token; zero: the answer did not say
	Scopes  []string                // nil: the answer did not say
	Account string                  // who logged in, "" where the provider does not tell
}

// Wipe overwrites the values.
func (g *Granted) Wipe() { wipe(g.Fields) }

func (c *Client) scopes() []string {
	if len(c.Scopes) > 0 {
		return c.Scopes
	}
	return c.Spec.Scopes
}

func (c *Client) joinedScopes() string {
	separator := c.Spec.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	return strings.Join(c.scopes(), separator)
}

// asking is an attempt in the client's own name.
func (c *Client) asking(s *Source) *asking {
	spec := c.Spec
	have := &material{values: map[string]secret.Value{"client_id": secret.FromString(c.ID)}, plain: map[string]bool{}}
	if !c.Secret.IsZero() {
		have.values["client_secret"] = c.Secret.Clone()
	}
	return &asking{
		source: s, now: s.now(), have: have,
		want: &Want{Spec: api.AuthSpec{Type: "oauth2", OAuth2: &spec}, Provider: c.Provider},
	}
}

// Challenge is what stands for a verifier in an authorization URL (RFC 7636,
// method S256).
func Challenge(verifier secret.Value) string {
	sum := sha256.Sum256(verifier.Expose())
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// AuthorizationURL is the page on which a person gives consent (RFC 6749,
// section 4.1.1). challenge is "" without PKCE.
func (c *Client) AuthorizationURL(redirectURI string, state secret.Value, challenge string) (string, error) {
	u, err := url.Parse(c.Spec.AuthorizationEndpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", api.Errorf(api.Internal, "oauth: the authorization endpoint of %s is no https URL of host and path", c.Provider)
	}
	q := url.Values{}
	for name, value := range c.Spec.AuthorizationParams {
		q.Set(name, value)
	}
	q.Set("response_type", "code")
	q.Set("client_id", c.ID)
	q.Set("redirect_uri", redirectURI)
	q.Set("state", string(state.Expose()))
	if scopes := c.joinedScopes(); scopes != "" {
		q.Set("scope", scopes)
	}
	if challenge != "" {
		q.Set("code_challenge", challenge)
		q.Set("code_challenge_method", "S256")
	}
	// A blank as %20: not every provider takes '+' for one.
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String(), nil
}

// Exchange buys tokens for the code that the browser brought (RFC 6749,
// section 4.1.3). Errors are auth_failed, with the endpoint's error code and
// nothing else of its answer, and those of the way there.
func (s *Source) Exchange(ctx context.Context, c *Client, code, verifier secret.Value, redirectURI string) (*Granted, error) {
	a := c.asking(s)
	defer a.wipe()
	if code := c.Spec.CodeEndpoint; code != "" {
		a.want.Spec.OAuth2.TokenEndpoint = code
	}
	more := []param{{"code", code.Expose()}, {"redirect_uri", []byte(redirectURI)}}
	if !verifier.IsZero() {
		more = append(more, param{"code_verifier", verifier.Expose()})
	}
	r, err := a.tokenRequest("authorization_code", false, more...)
	if err != nil {
		return nil, err
	}
	said, err := s.askOnce(ctx, a, r)
	if err != nil {
		return nil, err
	}
	defer clear(said.body)
	return s.granted(a, said)
}

// askOnce sends a request of a login, which no lock guards: what it sends is
// good once, and nobody else has it.
func (s *Source) askOnce(ctx context.Context, a *asking, r *ask) (*answer, error) {
	defer r.wipe()
	ctx, cancel := context.WithTimeout(ctx, s.askTime)
	defer cancel()
	said, _, err := s.send(ctx, a.want, r)
	return said, err
}

// granted reads an answer with tokens, or the error that it is.
func (s *Source) granted(a *asking, said *answer) (*Granted, error) {
	if err := said.failure(a.want); err != nil {
		return nil, loginError(err)
	}
	got, err := readToken(a, said, "access_token")
	if err != nil {
		return nil, loginError(err)
	}
	return &Granted{Fields: got.fields, EndsAt: got.endsAt, Scopes: got.scopes, Account: said.account(a.want.Spec.OAuth2)}, nil
}

// loginError is an error of the token endpoint as one of a login, which has
// nothing to refresh yet.
func loginError(err error) error {
	e := api.AsError(err)
	if e.Code != api.OAuthRefreshFailed {
		return err
	}
	return api.Errorf(api.AuthFailed, "%s", e.Message)
}

// ErrorCode is a provider's error code where it can be repeated, and words in
// its place where it cannot.
func ErrorCode(code string) string {
	if validCode(code) {
		return code
	}
	return "an unknown error"
}

// Material is what a login leaves as the secret's value: the client, and what
// renews its tokens, or where nothing does, the access token itself.
func (c *Client) Material(g *Granted) secret.Value {
	list := []param{{"client_id", []byte(c.ID)}}
	list = appendGiven(list, "client_secret", c.Secret)
	if refresh := g.Fields["refresh_token"]; !refresh.IsZero() {
		return secret.New(jsonBody(appendGiven(list, "refresh_token", refresh)))
	}
	list = appendGiven(list, "access_token", g.Fields["access_token"])
	if !g.EndsAt.IsZero() {
		list = append(list, param{"expires_at", g.EndsAt.UTC().AppendFormat(nil, time.RFC3339)})
	}
	return secret.New(jsonBody(list))
}

// Token is the entry for what a login gave, for vault.Tx.SealToken. before is
// the token of the same key that it replaces, nil for none: versions rise, so
// that a call under way does not take the new one for the old.
func (g *Granted) Token(key string, sources map[string]uint64, before *vault.Token, now time.Time) vault.Token {
	t := vault.Token{
		Key: key, Sources: sources, Version: 1, FirstAtMs: now.UnixMilli(), ObtainedAtMs: now.UnixMilli(),
		Scopes: g.Scopes, Account: g.Account,
	}
	if before != nil {
		t.Version = before.Version + 1
	}
	if !g.EndsAt.IsZero() {
		t.ExpiresAtMs = g.EndsAt.UnixMilli()
	}
	return t
}

// printable says whether a text of a provider's can be shown on one line.
func printable(text []byte, most int) bool {
	if len(text) == 0 || len(text) > most {
		return false
	}
	return !bytes.ContainsFunc(text, unprintable)
}
