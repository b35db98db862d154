package oauth

import (
	"context"
	"errors"

	"moldable.sh/aivault/internal/api"
)

// renew adds the command by which a person starts over.
func (w *Want) renew(e *api.Error) *api.Error {
	if w.Renew == "" {
		return e
	}
	return e.WithHint("%s", w.Renew)
}

// lacks says what the credential's secrets do not hold.
func (a *asking) lacks(name string) error {
	return a.want.renew(api.Errorf(api.AuthFailed, "the secrets of %s hold no %s, which its token endpoint wants", a.want.Provider, name))
}

// errUsedUp says that the refresh token may have been used by an ask whose
// outcome nobody learned.
func errUsedUp(w *Want, host string) error {
	return w.renew(api.Errorf(api.OAuthRefreshFailed, "an answer of %s was lost, or could not be read, so whether the refresh token was used up is not known: it is not sent again", host))
}

// cancelled is why a caller waits no longer.
func cancelled(ctx context.Context) error {
	var known *api.Error
	if errors.As(context.Cause(ctx), &known) {
		return known
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return api.Errorf(api.UpstreamTimeout, "no token within the call's time")
	}
	return api.Errorf(api.UpstreamUnreachable, "the call was cancelled while it waited for a token")
}
