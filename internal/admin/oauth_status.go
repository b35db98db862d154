package admin

import (
	"context"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/vault"
)

// States of a token, as a list shows them.
const (
	tokenNone    = "none yet"    // the first call asks for one
	tokenGood    = "good"        // it is sent as it is
	tokenExpired = "expired"     // the next call asks for another
	tokenLost    = "needs login" // nothing but a person can renew it
)

// OAuth lists the tokens that credentials call with, without what they are.
func (a *Admin) OAuth(ctx context.Context, who grant.Caller) (api.OAuthList, error) {
	list := api.OAuthList{Tokens: []api.OAuthToken{}}
	snap, err := a.look(ctx, who, "oauth status")
	if err != nil {
		return list, err
	}
	lines := map[string]int{} // by key
	for i := range snap.State().Credentials {
		c := &snap.State().Credentials[i]
		for _, w := range a.wantsOf(c) {
			key := oauth.KeyOf(&w)
			if key == "" {
				continue
			}
			at, seen := lines[key]
			if !seen {
				at = len(list.Tokens)
				lines[key] = at
				list.Tokens = append(list.Tokens, a.shownToken(snap, key, &w))
			}
			if line := &list.Tokens[at]; !slices.Contains(line.Credentials, c.ID) {
				line.Credentials = append(line.Credentials, c.ID)
			}
		}
	}
	return list, nil
}

// wantsOf are the tokens that calls of a credential may ask for, with the
// region and the optional fields that they ask with: what is left out would
// make it another token.
func (a *Admin) wantsOf(c *vault.Credential) []oauth.Want {
	var options api.TokenOptions
	if c.Token != nil {
		options = *c.Token
	}
	want := func(spec api.AuthSpec, fields []string) (oauth.Want, bool) {
		w := oauth.Want{Spec: spec, Options: options, Provider: c.Provider, Secrets: map[string]string{}}
		for _, f := range fields {
			if w.Secrets[f] = c.Secrets[f]; w.Secrets[f] == "" {
				return w, false
			}
		}
		for _, f := range auth.OptionalFields(spec) {
			if id := c.Secrets[f]; id != "" {
				w.Secrets[f] = id
			}
		}
		return w, oauth.NeedsToken(&spec, &options)
	}
	if c.Auth != nil {
		spec, ok := auth.WithRegion(*c.Auth, c.Hosts)
		if !ok {
			return nil // no call could ask
		}
		if w, ok := want(spec, auth.SecretFields(spec)); ok {
			return []oauth.Want{w}
		}
		return nil
	}
	p := a.registry.Provider(c.Provider)
	if p == nil {
		return nil
	}
	params := c.HostParams
	if len(params) == 0 {
		params = p.Defaults()
	}
	var all []oauth.Want
	for i := range p.Logins {
		spec, ok := p.SpecFor(&p.Logins[i], params)
		if !ok {
			continue
		}
		if w, ok := want(spec, p.Logins[i].Fields()); ok {
			all = append(all, w)
		}
	}
	return all
}

func (a *Admin) shownToken(snap *vault.Snapshot, key string, w *oauth.Want) api.OAuthToken {
	line := api.OAuthToken{Provider: w.Provider, Credentials: []string{}, Secrets: slices.Compact(slices.Sorted(maps.Values(w.Secrets))), GrantType: grantOf(&w.Spec), State: tokenNone}
	t := snap.Token(key)
	if t != nil {
		line.Account, line.OAuthScopes = t.Account, t.Scopes
		line.FirstAtMs, line.ObtainedAtMs, line.ExpiresAtMs = t.FirstAtMs, t.ObtainedAtMs, t.ExpiresAtMs
		if line.State = tokenGood; t.ExpiresAtMs != 0 && a.clock().UnixMilli() >= t.ExpiresAtMs {
			line.State = tokenExpired
		}
	}
	lost := a.oauth.Lost(snap, w)
	const why = "an answer of the token endpoint was lost, or could not be read, and with it, maybe, the refresh token"
	switch {
	case line.State == tokenGood && lost:
		line.Why = "it is sent until it ends or is refused, and then somebody has to log in: " + why
	case line.State == tokenGood:
	case line.GrantType == "authorization_code" && t != nil:
		line.State, line.Why = tokenLost, "the provider gives no refresh token"
	case lost:
		line.State, line.Why = tokenLost, why
	}
	return line
}

func grantOf(s *api.AuthSpec) string {
	switch {
	case s.OAuth2 != nil:
		return s.OAuth2.GrantType
	case s.TokenExchange != nil:
		return "token-exchange"
	}
	return "assume-role"
}
