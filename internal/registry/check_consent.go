package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// ownParams are the parameters of an authorization URL that belong to the login
// itself: an entry that set one could take its protection away.
var ownParams = []string{"response_type", "response_mode", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method", "request", "request_uri"}

// checkConsent checks what a person's login goes by.
func checkConsent(o *api.OAuth2Spec) error {
	if o.AuthorizationEndpoint == "" {
		if len(o.AuthorizationParams) > 0 || o.RedirectHost != "" {
			return errors.New("authorizationParams and redirectHost are of an authorizationEndpoint, which is not there")
		}
		if o.AccountMember != "" && o.DeviceEndpoint == "" {
			return errors.New("accountMember is of a login, and there is none")
		}
	}
	for name, value := range o.AuthorizationParams {
		if slices.Contains(ownParams, strings.ToLower(name)) || !validToken(name) || value == "" {
			return fmt.Errorf("authorizationParams %s is the login's own, or no parameter", api.Quote(name))
		}
	}
	return oneOf("redirectHost", o.RedirectHost == "" || o.RedirectHost == "127.0.0.1" || o.RedirectHost == "localhost")
}
