package oauth

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// Revoke gives a token back (RFC 7009). kind is access_token or refresh_token.
func (s *Source) Revoke(ctx context.Context, c *Client, kind string, token secret.Value) error {
	a := c.asking(s)
	defer a.wipe()
	list, basic, err := a.authenticate([]param{{"token", token.Expose()}, {"token_type_hint", []byte(kind)}})
	if err != nil {
		return err
	}
	r := newAsk(c.Spec.RevocationEndpoint, "form", list)
	if !basic.IsZero() {
		r.add.Headers = []egress.Field{{Name: "Authorization", Value: basic}}
	}
	said, err := s.askOnce(ctx, a, r)
	if err != nil {
		return err
	}
	defer clear(said.body)
	if said.status < 200 || said.status > 299 {
		return api.Errorf(api.AuthFailed, "%s did not take the token back: %s (status %d)", said.host, ErrorCode(said.errorCode()), said.status)
	}
	return nil
}

// ClientOf is the client that a secret holds, with its tokens: access_token
// and refresh_token, where there are any. The caller wipes both.
func ClientOf(provider string, spec *api.OAuth2Spec, fields map[string]secret.Value) (*Client, map[string]secret.Value, error) {
	m, err := materialOf(fields)
	if err != nil {
		return nil, nil, err
	}
	defer m.wipe()
	c := &Client{Provider: provider, Spec: *spec, ID: string(m.values["client_id"].Expose()), Secret: m.values["client_secret"].Clone()}
	tokens := map[string]secret.Value{}
	for _, name := range []string{"access_token", "refresh_token"} {
		if v := m.values[name]; !v.IsZero() {
			tokens[name] = v.Clone()
		}
	}
	return c, tokens, nil
}
