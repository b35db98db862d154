package admin

import (
	"context"
	"crypto/rand"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// StartLogin begins a login: it gives the page where the person says yes, or
// asks the provider for the code that they type on another device. The client
// secret is wiped, and waits in memory for the person.
func (a *Admin) StartLogin(ctx context.Context, who grant.Caller, r api.OAuthStart) (api.OAuthLogin, error) {
	defer r.ClientSecret.Wipe()
	if err := a.allow(ctx, who, "oauth login"); err != nil {
		return api.OAuthLogin{}, err
	}
	if r.Flow != api.FlowCode && r.Flow != api.FlowDevice {
		return api.OAuthLogin{}, api.Errorf(api.InvalidRequest, "the flow %s is none: it is %s or %s", api.Quote(r.Flow), api.FlowCode, api.FlowDevice)
	}
	plan, err := a.planLogin(&r)
	if err != nil {
		return api.OAuthLogin{}, err
	}
	if !r.ClientSecret.IsZero() && r.ClientSecret.Len() > secret.MaxSize/4 {
		return api.OAuthLogin{}, api.Errorf(api.InvalidRequest, "the client secret is longer than %d bytes", secret.MaxSize/4)
	}
	switch {
	case r.Flow == api.FlowCode:
		err = plan.checkLoopback(r.RedirectURI)
	case r.RedirectURI != "":
		err = api.Errorf(api.InvalidRequest, "a login by device has no redirect URI")
	}
	if err != nil {
		return api.OAuthLogin{}, err
	}
	again := "aivault oauth login " + plan.provider.ID + " --client-id ID" + plan.scope.Flags()
	known := func(*vault.State) error { return checkClientID(r.ClientID, again) }
	if err := a.readyFor(ctx, who, known); err != nil {
		return api.OAuthLogin{}, err
	}
	snap, err := a.vault.Snapshot(ctx) // a locked vault is told before anyone logs in
	if err != nil {
		return api.OAuthLogin{}, err
	}
	if err := plan.free(snap.State(), r.Replace); err != nil {
		return api.OAuthLogin{}, err
	}
	p := &pendingLogin{oauthPlan: plan, id: rand.Text(), uid: who.UID, request: r, ends: a.clock().Add(loginFor)}
	p.request.ClientSecret = secret.Value{}
	if r.ClientID == "" {
		err = p.sameAsBefore(snap)
	} else {
		p.client.Secret = r.ClientSecret.Clone()
	}
	if err == nil {
		err = checkClientID(p.client.ID, again)
	}
	if err != nil {
		p.wipe()
		return api.OAuthLogin{}, err
	}
	return a.begin(ctx, who, p)
}

// sameAsBefore takes the client of the login that this one replaces.
func (p *pendingLogin) sameAsBefore(snap *vault.Snapshot) error {
	s, err := p.secretIn(snap.State())
	if err != nil || s == nil {
		return err
	}
	value, err := snap.Open(s.ID)
	if err != nil {
		return err
	}
	defer value.Wipe()
	before, tokens, err := oauth.ClientOf(p.provider.ID, &p.client.Spec, map[string]secret.Value{s.Field: value})
	if err != nil {
		return nil // what cannot be read names no client
	}
	wipeAll(tokens)
	p.client.ID, p.client.Secret = before.ID, before.Secret
	return nil
}

// begin records a login, starts it at the provider, and lets it wait.
func (a *Admin) begin(ctx context.Context, who grant.Caller, p *pendingLogin) (_ api.OAuthLogin, err error) {
	defer func() {
		if err != nil {
			p.wipe()
		}
	}()
	rec := audit.Record{Event: audit.LoginStarted, Provider: p.provider.ID, Name: p.name.Name, Scope: p.scope.String(), Object: p.request.Flow}
	if err := a.recordLogin(ctx, who, rec); err != nil {
		return api.OAuthLogin{}, err
	}
	var page string
	if p.request.Flow == api.FlowDevice {
		err = a.beginDevice(ctx, p)
	} else {
		p.state, p.verifier = secret.FromString(rand.Text()), newVerifier()
		page, err = p.authorizationURL()
	}
	if err == nil {
		err = a.logins.add(p, a.clock())
	}
	if err != nil {
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, err)
	}
	shown := p.shown(a.clock())
	shown.AuthorizationURL = page
	return shown, nil
}

func (p *pendingLogin) authorizationURL() (string, error) {
	return p.client.AuthorizationURL(p.request.RedirectURI, p.state, oauth.Challenge(p.verifier))
}

func (a *Admin) beginDevice(ctx context.Context, p *pendingLogin) error {
	d, err := a.oauth.Device(ctx, &p.client)
	if err != nil {
		return err
	}
	p.device, p.ends = d, d.EndsAt
	p.next = a.clock().Add(d.Interval)
	return nil
}

// refuseLogin records that a login came to nothing.
func (a *Admin) refuseLogin(ctx context.Context, who grant.Caller, provider string, why error) error {
	e := api.AsError(why)
	if err := a.recordLogin(ctx, who, audit.Record{Event: audit.LoginRefused, Provider: provider, Code: string(e.Code), Reason: e.Message}); err != nil {
		return err
	}
	return why
}

// free says whether the login's result has a place: its secret is not there
// yet, or may be replaced.
func (plan *oauthPlan) free(st *vault.State, replace bool) error {
	s, err := plan.secretIn(st)
	switch {
	case err != nil || s == nil:
		return err
	case !replace:
		return api.Errorf(api.AlreadyExists, "a secret %s exists already in scope %s", s.Name, s.Scope).
			WithHint("aivault oauth login %s%s --force", plan.provider.ID, plan.scope.Flags())
	}
	if tenant := plan.provider.Tenant(plan.params); tenant != "" && s.PinTenant != "" && s.PinTenant != tenant {
		return api.Errorf(api.PolicyViolation, "secret %s is pinned to %s and to its tenant %s, and goes to no other: %s", s.Name, s.Pin, s.PinTenant, tenant).
			WithHint("aivault secrets delete %s, and log in again", broker.Reference(st, s))
	}
	return nil
}

// secretIn is the secret of the scope that bears the name of the login's
// result; nil when there is none.
func (plan *oauthPlan) secretIn(st *vault.State) (*vault.Secret, error) {
	i := slices.IndexFunc(st.Secrets, func(s vault.Secret) bool {
		return s.Scope == plan.scope.String() && broker.Bears(&s, plan.name.Name)
	})
	if i < 0 {
		return nil, nil
	}
	s := &st.Secrets[i]
	if s.Pin != plan.provider.ID || s.Field != plan.name.Field {
		return nil, api.Errorf(api.AlreadyExists, "the secret %s in scope %s has that name, and is no login of %s", s.Name, s.Scope, plan.provider.ID).
			WithHint("aivault secrets update %s --new-name NAME", broker.Reference(st, s))
	}
	return s, nil
}
