package admin

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// keepLogin stores what a login gave: the secret, its token, and the
// credential that uses them, in one change. What cannot be stored is given
// back to the provider.
func (a *Admin) keepLogin(ctx context.Context, who grant.Caller, p *pendingLogin, granted *oauth.Granted) (api.OAuthLogin, error) {
	defer granted.Wipe()
	value := p.client.Material(granted)
	defer value.Wipe()
	login := api.OAuthLogin{ID: p.id, Done: true, ExpiresAtMs: p.ends.UnixMilli(), Account: granted.Account, Notice: lasts(granted)}
	err := checkValue(value)
	if err == nil {
		rec := audit.Record{Event: audit.LoginFinished, RequestID: rand.Text(), Caller: audit.CallerOf(who)}
		_, err = a.change(ctx, rec, func(tx *vault.Tx) error {
			made, rotated, err := a.storeLogin(tx, p, value, granted)
			login.Secret, login.Rotated = &made, rotated
			return err
		})
	}
	if err != nil {
		_ = a.giveBack(ctx, &p.client, granted.Fields) // best effort: what failed is told
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, err)
	}
	return login, nil
}

// lasts says what a person should know of a token that nothing renews.
func lasts(g *oauth.Granted) string {
	if !g.Fields["refresh_token"].IsZero() || g.EndsAt.IsZero() {
		return ""
	}
	return "the provider gave no refresh token: calls fail after " + g.EndsAt.UTC().Format("2006-01-02T15:04:05Z") + ", until somebody logs in again"
}

// storeLogin makes the change.
func (a *Admin) storeLogin(tx *vault.Tx, p *pendingLogin, value secret.Value, granted *oauth.Granted) (made api.Secret, rotated bool, err error) {
	if err := p.free(tx.State, p.request.Replace); err != nil {
		return made, false, err
	}
	s, err := p.secretIn(tx.State)
	if err != nil {
		return made, false, err
	}
	if rotated = s != nil; rotated {
		s.Version++
		s.RotatedAtMs = tx.Now()
		if tenant := p.provider.Tenant(p.params); tenant != "" {
			s.PinTenant = tenant
		}
		if err := tx.Seal(s, value); err != nil {
			return made, rotated, err
		}
	} else {
		fresh := vault.Secret{
			ID: tx.NewID(), Name: p.name.Name, Scope: p.scope.String(), Version: 1, CreatedAtMs: tx.Now(),
			Pin: p.provider.ID, PinTenant: p.provider.Tenant(p.params), Field: p.name.Field,
		}
		if err := tx.Seal(&fresh, value); err != nil {
			return made, rotated, err
		}
		tx.State.Secrets = append(tx.State.Secrets, fresh)
	}
	id := p.idOf(tx.State)
	sources, err := a.sources(tx, p, id)
	if err != nil {
		return made, rotated, err
	}
	s, _ = find(tx.State, "vault:secret:"+id) // the list may have moved
	made = shown(s)
	made.Credential, made.Capabilities = new(string), []string{}
	if err := a.employ(tx, p, s, &made); err != nil {
		return made, rotated, err
	}
	name(tx, s)
	tx.Record.Credential = *made.Credential
	return made, rotated, sealLogin(tx, p, sources, granted)
}

func (p *pendingLogin) idOf(st *vault.State) string {
	s, _ := p.secretIn(st) // it is there: the caller has put it there
	return s.ID
}

// sources are the secrets of the login's fields. An app's id that a header
// needs has a name of its own: it is stored where it is not there yet.
func (a *Admin) sources(tx *vault.Tx, p *pendingLogin, id string) (map[string]string, error) {
	fields := map[string]string{}
	for _, f := range p.login.Fields() {
		if f == p.name.Field {
			fields[f] = id
			continue
		}
		i := slices.IndexFunc(tx.State.Secrets, func(s vault.Secret) bool {
			return s.Pin == p.provider.ID && s.Field == f && s.Scope == p.scope.String()
		})
		if i < 0 {
			if err := a.addClientID(tx, p, f); err != nil {
				return nil, err
			}
			i = len(tx.State.Secrets) - 1
		}
		s := &tx.State.Secrets[i]
		if f == "client_id" {
			if err := p.sameClient(tx, s); err != nil {
				return nil, err
			}
		}
		fields[f] = s.ID
	}
	return fields, nil
}

func (a *Admin) addClientID(tx *vault.Tx, p *pendingLogin, field string) error {
	i := slices.IndexFunc(p.provider.Secrets, func(n registry.SecretName) bool { return n.Field == field })
	if field != "client_id" || i < 0 {
		return api.Errorf(api.InvalidRequest, "the login of %s needs another secret first: %s", p.provider.ID, api.Quote(field))
	}
	n := p.provider.Secrets[i]
	if err := taken(tx.State, p.scope.String(), "", n.Name, nil); err != nil {
		return err
	}
	s := vault.Secret{
		ID: tx.NewID(), Name: n.Name, Scope: p.scope.String(), Version: 1, CreatedAtMs: tx.Now(), Pin: p.provider.ID, Field: field,
		PinTenant: p.provider.Tenant(p.params),
	}
	value := secret.FromString(p.client.ID)
	defer value.Wipe()
	if err := tx.Seal(&s, value); err != nil {
		return err
	}
	tx.State.Secrets = append(tx.State.Secrets, s)
	if p.params != nil {
		return nil // employ makes the credential
	}
	return a.provision(tx, &tx.State.Secrets[len(tx.State.Secrets)-1], nil, &api.Secret{})
}

// sameClient refuses a login by another app than the one that the provider's
// other secrets are for: its calls would name the wrong one.
func (p *pendingLogin) sameClient(tx *vault.Tx, s *vault.Secret) error {
	value, err := tx.Open(s)
	if err != nil {
		return err
	}
	defer value.Wipe()
	given := secret.FromString(p.client.ID)
	defer given.Wipe()
	if !value.Equal(given) {
		return api.Errorf(api.InvalidRequest, "the secret %s holds the id of another app than the one that logged in", s.Name).
			WithHint("aivault secrets rotate %s", broker.Reference(tx.State, s))
	}
	return nil
}

// employ puts the login's secret to work: where a host was named in a
// credential for that host, as an operator would make it; else as any secret
// of its name.
func (a *Admin) employ(tx *vault.Tx, p *pendingLogin, s *vault.Secret, made *api.Secret) error {
	using := func(c *vault.Credential) bool { return c.Provider == p.provider.ID && c.Secrets[p.name.Field] == s.ID }
	i := slices.IndexFunc(tx.State.Credentials, func(c vault.Credential) bool {
		return using(&c) && (p.params == nil || maps.Equal(c.HostParams, p.params))
	})
	switch {
	case i >= 0:
		c := &tx.State.Credentials[i]
		made.Credential, made.Capabilities = new(c.ID), append([]string{}, a.enabled(tx.State, c)...)
		return nil
	case p.params == nil:
		return a.provision(tx, s, nil, made)
	}
	c := vault.Credential{
		ID: freeID(tx.State, p.provider.ID), Provider: p.provider.ID, Scope: p.scope.String(),
		HostParams: maps.Clone(p.params), Secrets: map[string]string{}, CreatedAtMs: tx.Now(),
	}
	for _, f := range p.login.Fields() {
		for _, other := range tx.State.Secrets {
			if other.Pin == p.provider.ID && other.Field == f && other.Scope == c.Scope {
				c.Secrets[f] = other.ID
			}
		}
	}
	tx.State.Credentials = append(tx.State.Credentials, c)
	made.Credential, made.Capabilities = new(c.ID), append([]string{}, a.enabled(tx.State, &c)...)
	return nil
}

// sealLogin puts the token into the state that the secret's calls will look
// for.
func sealLogin(tx *vault.Tx, p *pendingLogin, fields map[string]string, granted *oauth.Granted) error {
	spec, ok := p.provider.SpecFor(p.login, p.paramsOr())
	if !ok {
		return nil // planLogin has filled the same
	}
	key := oauth.KeyOf(&oauth.Want{Spec: spec, Secrets: fields, Provider: p.provider.ID})
	if key == "" {
		return api.Errorf(api.Internal, "the login of %s has no token", p.provider.ID)
	}
	sources := map[string]uint64{}
	for _, id := range fields {
		s, err := find(tx.State, "vault:secret:"+id)
		if err != nil {
			return err
		}
		sources[id] = s.Version
	}
	var before *vault.Token
	if i := slices.IndexFunc(tx.State.Tokens, func(t vault.Token) bool { return t.Key == key }); i >= 0 {
		before = &tx.State.Tokens[i]
	}
	t := granted.Token(key, sources, before, time.UnixMilli(tx.Now()))
	return tx.SealToken(&t, granted.Fields)
}

// giveBack revokes tokens that nobody keeps, where the provider takes them
// back; that it fails changes nothing.
func (a *Admin) giveBack(ctx context.Context, c *oauth.Client, tokens map[string]secret.Value) error {
	if c.Spec.RevocationEndpoint == "" {
		return api.Errorf(api.AuthFailed, "%s has no way to take tokens back that aivault knows: end the app's access on its own pages", c.Provider)
	}
	var first error
	for _, kind := range []string{"refresh_token", "access_token"} {
		if token := tokens[kind]; !token.IsZero() {
			if err := a.oauth.Revoke(ctx, c, kind, token); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}
