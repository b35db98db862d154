package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// Logout gives the tokens of a login back to the provider, where that takes
// them, and removes secret, tokens and credentials in one change. ref is a
// provider, a credential or a secret. That the provider does not take them is
// told, and they are removed all the same.
func (a *Admin) Logout(ctx context.Context, who grant.Caller, ref string) (api.OAuthLogout, error) {
	gone := api.OAuthLogout{Credentials: []string{}}
	if err := a.allow(ctx, who, "oauth logout"); err != nil {
		return gone, err
	}
	if _, err := a.existing(ctx); err != nil {
		return gone, err
	}
	snap, err := a.vault.Snapshot(ctx)
	if err != nil {
		return gone, err
	}
	s, err := a.loggedIn(snap.State(), ref)
	if err != nil {
		return gone, err
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	// Nobody may renew a token between its being revoked and its being
	// removed: what they got would be left at the provider.
	for _, key := range a.keysOf(snap, s) {
		lock, err := a.vault.LockToken(ctx, key)
		if err != nil {
			return gone, err
		}
		defer lock.Release()
	}
	if snap, err = a.vault.Snapshot(ctx); err != nil {
		return gone, err
	}
	if s = snap.Secret(s.ID); s == nil {
		return gone, api.Errorf(api.SecretNotFound, "the secret was deleted meanwhile").WithHint("aivault oauth status")
	}
	if err := a.revoke(ctx, snap, s); err != nil {
		gone.Why = api.AsError(err).Message
	} else {
		gone.Revoked = true
	}
	version := s.Version
	_, err = a.update(ctx, who, audit.LoggedOut, func(tx *vault.Tx) error {
		s, err := find(tx.State, "vault:secret:"+s.ID)
		if err != nil {
			return err
		}
		if s.Version != version {
			return api.Errorf(api.AlreadyExists, "somebody logged in again meanwhile").WithHint("aivault oauth status")
		}
		tx.Record.Reason = gone.Why
		d := a.removeSecret(tx, s)
		gone.Secret, gone.Credentials, gone.Notice = d.Secret, d.Credentials, d.Notice
		return nil
	})
	return gone, err
}

// loggedIn finds the secret that a login left, by what a person calls it.
func (a *Admin) loggedIn(st *vault.State, ref string) (*vault.Secret, error) {
	var found []*vault.Secret
	add := func(match func(*vault.Secret) bool) {
		for i := range st.Secrets {
			if s := &st.Secrets[i]; match(s) && a.loginOfSecret(s) != nil {
				found = append(found, s)
			}
		}
	}
	if i := credentialOf(st, ref); i >= 0 {
		add(func(s *vault.Secret) bool {
			for _, id := range st.Credentials[i].Secrets {
				if id == s.ID {
					return true
				}
			}
			return false
		})
	}
	if len(found) == 0 {
		add(func(s *vault.Secret) bool { return s.Pin == ref })
	}
	if len(found) == 0 {
		id, byID := strings.CutPrefix(ref, "vault:secret:")
		add(func(s *vault.Secret) bool { return s.ID == id || !byID && broker.Bears(s, ref) })
	}
	switch len(found) {
	case 0:
		if name := otherToken(a, st, ref); name != "" {
			return nil, api.Errorf(api.SecretNotFound, "%s has tokens that oauth login did not get: they go with the secret that they are had with", api.Quote(ref)).
				WithHint("aivault secrets delete %s", name)
		}
		return nil, api.Errorf(api.SecretNotFound, "nobody is logged in as %s: it names no provider, credential or secret with an OAuth login", api.Quote(ref)).
			WithHint("aivault oauth status")
	case 1:
		return found[0], nil
	}
	list := make([]string, len(found))
	for i, s := range found {
		list[i] = fmt.Sprintf("vault:secret:%s (%s, %s)", s.ID, s.Name, s.Scope)
	}
	return nil, api.Errorf(api.InvalidRequest, "%s names several logins, of which the reference tells one: %s", api.Quote(ref), strings.Join(list, ", ")).
		WithHint("aivault oauth logout vault:secret:ID")
}

// otherToken is a secret of a credential whose tokens come of another grant
// than a person's login, as oauth status lists them; "" where there is none.
func otherToken(a *Admin, st *vault.State, ref string) string {
	for i := range st.Credentials {
		c := &st.Credentials[i]
		for _, w := range a.wantsOf(c) {
			for _, id := range slices.Sorted(maps.Values(w.Secrets)) {
				s, err := find(st, "vault:secret:"+id)
				if err == nil && (c.ID == ref || c.Provider == ref || broker.Bears(s, ref)) {
					return broker.Reference(st, s)
				}
			}
		}
	}
	return ""
}

// loginOfSecret is the login that a secret is the result of; nil when its
// value has another use.
func (a *Admin) loginOfSecret(s *vault.Secret) *registry.Login {
	p := a.registry.Provider(s.Pin)
	if p == nil {
		return nil
	}
	return loginOf(p, s.Field)
}

// keysOf are the keys of the tokens that a secret's calls use or might ask
// for, in an order that all who lock several of them have.
func (a *Admin) keysOf(snap *vault.Snapshot, s *vault.Secret) []string {
	var keys []string
	for i := range snap.State().Tokens {
		if t := &snap.State().Tokens[i]; t.Sources[s.ID] != 0 {
			keys = append(keys, t.Key)
		}
	}
	for i := range snap.State().Credentials {
		for _, w := range a.wantsOf(&snap.State().Credentials[i]) {
			for _, id := range w.Secrets {
				if id == s.ID {
					keys = append(keys, oauth.KeyOf(&w))
				}
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// revoke gives back what the vault holds of a login: the tokens that it was
// last given, or those that its secret came with.
func (a *Admin) revoke(ctx context.Context, snap *vault.Snapshot, s *vault.Secret) error {
	p, login := a.registry.Provider(s.Pin), a.loginOfSecret(s)
	value, err := snap.Open(s.ID)
	if err != nil {
		return err
	}
	defer value.Wipe()
	spec, ok := p.SpecFor(login, a.paramsOf(snap.State(), s))
	if !ok {
		spec = login.Spec()
		spec.OAuth2 = &api.OAuth2Spec{GrantType: spec.OAuth2.GrantType} // an endpoint that no host fills takes nothing back
	}
	client, tokens, err := oauth.ClientOf(p.ID, spec.OAuth2, map[string]secret.Value{s.Field: value})
	if err != nil {
		return err
	}
	defer client.Secret.Wipe()
	defer func() { wipeAll(tokens) }()
	for i := range snap.State().Tokens {
		t := snap.Token(snap.State().Tokens[i].Key)
		if t == nil || t.Sources[s.ID] == 0 {
			continue
		}
		fields, err := snap.OpenToken(t.Key)
		if err != nil {
			return err
		}
		for name, v := range fields {
			tokens[name].Wipe()
			tokens[name] = v
		}
	}
	return a.giveBack(ctx, client, tokens)
}

// paramsOf are the host parameters of the credential that uses a secret.
func (a *Admin) paramsOf(st *vault.State, s *vault.Secret) map[string]string {
	for i := range st.Credentials {
		if c := &st.Credentials[i]; c.Secrets[s.Field] == s.ID && len(c.HostParams) > 0 {
			return c.HostParams
		}
	}
	return a.registry.Provider(s.Pin).Defaults()
}

func wipeAll(values map[string]secret.Value) {
	for _, v := range values {
		v.Wipe()
	}
}
