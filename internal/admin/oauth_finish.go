package admin

import (
	"context"
	"errors"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
)

// slower is what a provider that asks for patience adds to the time between
// two questions (RFC 8628, section 3.5).
const slower = 5 * time.Second

// FinishLogin takes what the browser brought, once, or asks how a device login
// stands.
func (a *Admin) FinishLogin(ctx context.Context, who grant.Caller, id string, r api.OAuthAnswer) (api.OAuthLogin, error) {
	defer r.Code.Wipe()
	defer r.State.Wipe()
	if err := a.allow(ctx, who, "oauth login"); err != nil {
		return api.OAuthLogin{}, err
	}
	p, done := a.logins.take(id, who, a.clock())
	switch {
	case p == nil:
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, "", api.Errorf(api.PolicyViolation,
			"no such login is pending: each takes one answer, within five minutes").WithHint("start again: aivault oauth login PROVIDER"))
	case done == nil:
		return p.shown(a.clock()), nil // another asks just now
	case p.device != nil:
		return a.pollDevice(ctx, who, p, r, done)
	}
	defer done(true)
	return a.finishCode(ctx, who, p, r)
}

// finishCode exchanges a code for tokens. Whatever does not fit the login that
// was begun ends it.
func (a *Admin) finishCode(ctx context.Context, who grant.Caller, p *pendingLogin, r api.OAuthAnswer) (api.OAuthLogin, error) {
	refused := func(err *api.Error) (api.OAuthLogin, error) {
		if err.Hint == "" {
			err = err.WithHint("start again: aivault oauth login %s", p.provider.ID)
		}
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, err)
	}
	switch {
	case r.Error != "" && r.State.IsZero() && r.RedirectURI == "":
		return refused(api.Errorf(api.AuthFailed, "the login was given up: %s", oauth.ErrorCode(r.Error)))
	case !p.state.Equal(r.State):
		return refused(api.Errorf(api.PolicyViolation, "what came back to the login does not belong to it: its state is another"))
	case r.RedirectURI != p.request.RedirectURI:
		return refused(api.Errorf(api.PolicyViolation, "what came back to the login came to another address than the one it was sent to: %s", api.Quote(r.RedirectURI)))
	case r.Error != "":
		return refused(api.Errorf(api.AuthFailed, "%s let nobody log in: %s", p.provider.ID, oauth.ErrorCode(r.Error)))
	case r.Code.IsZero() || r.Code.Len() > maxCode:
		return refused(api.Errorf(api.PolicyViolation, "what came back to the login holds no code"))
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	granted, err := a.oauth.Exchange(ctx, &p.client, r.Code, p.verifier, r.RedirectURI)
	if err != nil {
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, err)
	}
	return a.keepLogin(ctx, who, p, granted)
}

// maxCode bounds an authorization code.
const maxCode = 16 << 10

// pollDevice asks the provider whether the person has given consent, no more
// often than it wants to be asked.
func (a *Admin) pollDevice(ctx context.Context, who grant.Caller, p *pendingLogin, r api.OAuthAnswer, done func(ended bool)) (_ api.OAuthLogin, err error) {
	ended := true
	defer func() { done(ended) }()
	switch {
	case r.Error != "":
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, api.Errorf(api.AuthFailed, "the login was given up: %s", oauth.ErrorCode(r.Error)))
	case !r.Code.IsZero() || !r.State.IsZero() || r.RedirectURI != "":
		ended = false
		return api.OAuthLogin{}, api.Errorf(api.InvalidRequest, "a login by device takes no code: its answer is empty")
	case a.clock().Before(p.next):
		ended = false
		return p.shown(a.clock()), nil
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	granted, err := a.oauth.DeviceToken(ctx, &p.client, p.device.Code)
	switch {
	case errors.Is(err, oauth.ErrSlowDown):
		p.device.Interval += slower
		fallthrough
	case errors.Is(err, oauth.ErrPending):
		ended = false
		a.logins.later(p, a.clock().Add(p.device.Interval))
		return p.shown(a.clock()), nil
	case err != nil:
		return api.OAuthLogin{}, a.refuseLogin(ctx, who, p.provider.ID, err)
	}
	return a.keepLogin(ctx, who, p, granted)
}
