package api

import "moldable.sh/aivault/internal/secret"

// OAuthStart is the body of POST /aivault/oauth/logins: a person is about to
// log in at a provider, for the vault to hold the tokens.
type OAuthStart struct {
	Provider     string       `json:"provider"`
	Flow         string       `json:"flow"`                  // FlowCode or FlowDevice
	ClientID     string       `json:"clientId,omitzero"`     // default: that of the login which is replaced, with its secret
	ClientSecret secret.Value `json:"clientSecret,omitzero"` // of a public client: none
	RedirectURI  string       `json:"redirectUri,omitzero"`  // code: where the browser comes back to, on this machine
	OAuthScopes  []string     `json:"oauthScopes,omitzero"`  // in place of the registry's
	Scope        string       `json:"scope,omitzero"`        // global, workspace:W or group:W:G; default global
	Host         string       `json:"host,omitzero"`         // of a provider that has one for each account
	Replace      bool         `json:"replace,omitzero"`      // a secret of the provider's name that is there already
}

// Ways to log in.
const (
	FlowCode   = "code"   // authorization code with PKCE, RFC 6749 and 7636
	FlowDevice = "device" // RFC 8628
)

// OAuthLogin is a login under way, or what came of it. It holds no token.
type OAuthLogin struct {
	ID          string `json:"id"`
	Done        bool   `json:"done"`
	ExpiresAtMs int64  `json:"expiresAtMs"`
	// Code: the page of the provider to open, with state and challenge in it.
	AuthorizationURL string `json:"authorizationUrl,omitzero"`
	// Device: what the person types, where, and how long to wait before
	// asking again.
	UserCode        string `json:"userCode,omitzero"`
	VerificationURI string `json:"verificationUri,omitzero"`
	PollAfterMs     int64  `json:"pollAfterMs,omitzero"`
	// Done:
	Account string  `json:"account,omitzero"` // who logged in, where the provider tells
	Secret  *Secret `json:"secret,omitzero"`  // with what it put to work
	Rotated bool    `json:"rotated,omitzero"` // the secret was there, and has another value now
	Notice  string  `json:"notice,omitzero"`  // what a person should know, e.g. that nothing can be renewed
}

// OAuthAnswer is the body of POST /aivault/oauth/logins/ID: what the browser
// brought back, or nothing to ask how a device login stands. A login takes one
// answer with a code, whatever it is.
type OAuthAnswer struct {
	Code        secret.Value `json:"code,omitzero"`
	State       secret.Value `json:"state,omitzero"`
	RedirectURI string       `json:"redirectUri,omitzero"` // that the browser really came to
	Error       string       `json:"error,omitzero"`       // the provider's, in place of a code; alone: the person gave up
}

// OAuthSetup is the body of POST /aivault/oauth/setup, and OAuthConsent its
// answer: the page where consent is given, for those who exchange the code
// themselves.
type OAuthSetup struct {
	Provider    string   `json:"provider"`
	ClientID    string   `json:"clientId"`
	RedirectURI string   `json:"redirectUri"`
	OAuthScopes []string `json:"oauthScopes,omitzero"`
	Host        string   `json:"host,omitzero"`
}

// OAuthConsent is where consent is given.
type OAuthConsent struct {
	URL           string `json:"url"`
	State         string `json:"state"`
	TokenEndpoint string `json:"tokenEndpoint"` // where the code is exchanged
	Secret        string `json:"secret"`        // the name to store the result under
}

// OAuthToken is one line of GET /aivault/oauth: a token, without what it is.
type OAuthToken struct {
	Provider     string   `json:"provider"`
	Credentials  []string `json:"credentials"` // that use it
	Secrets      []string `json:"secrets"`     // ids of those that it was had with
	GrantType    string   `json:"grantType"`
	Account      string   `json:"account,omitzero"`
	OAuthScopes  []string `json:"oauthScopes,omitzero"`
	FirstAtMs    int64    `json:"firstAtMs,omitzero"`
	ObtainedAtMs int64    `json:"obtainedAtMs,omitzero"` // 0: none was asked for yet
	ExpiresAtMs  int64    `json:"expiresAtMs,omitzero"`
	State        string   `json:"state"` // none yet, good, expired, needs login
	Why          string   `json:"why,omitzero"`
}

// OAuthList is the answer of GET /aivault/oauth.
type OAuthList struct {
	Tokens []OAuthToken `json:"tokens"`
}

// OAuthLogout is the answer of DELETE /aivault/oauth/REF: REF is a provider, a
// credential or a secret.
type OAuthLogout struct {
	Secret      Secret   `json:"secret"`
	Credentials []string `json:"credentials"`     // that are gone with it
	Revoked     bool     `json:"revoked"`         // the provider has taken the tokens back
	Why         string   `json:"why,omitzero"`    // it has not
	Notice      string   `json:"notice,omitzero"` // e.g. that bindings are left
}
