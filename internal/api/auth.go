package api

// AuthSpec says how a credential authenticates. Templates name fields as
// {{field}}; {{secret}} is the field of a credential that has only one.
type AuthSpec struct {
	Type string `json:"type"` // header, query, path, basic, multi-header, multi-query, aws-sigv4, hmac, mtls, oauth2, token-exchange
	// header
	HeaderName    string `json:"headerName,omitzero"`    // default Authorization
	ValueTemplate string `json:"valueTemplate,omitzero"` // header: default "Bearer {{secret}}" under Authorization, else "{{secret}}"; query: "{{secret}}"
	// query
	ParamName string `json:"paramName,omitzero"`
	// path
	PrefixTemplate string `json:"prefixTemplate,omitzero"` // e.g. /bot{{secret}}
	// basic; both empty: one secret of the form user:pass or JSON {"username","password"}
	UsernameTemplate string `json:"usernameTemplate,omitzero"`
	PasswordTemplate string `json:"passwordTemplate,omitzero"`
	// multi-header
	Headers []AuthField `json:"headers,omitzero"`
	// multi-query
	Params []AuthField `json:"params,omitzero"`
	// aws-sigv4
	SigV4 *SigV4Spec `json:"sigv4,omitzero"`
	// hmac
	HMAC *HMACSpec `json:"hmac,omitzero"`
	// mtls: a client certificate, alone or beside another type
	MTLS *MTLSSpec `json:"mtls,omitzero"`
	// oauth2 and token-exchange: the type says how the token is had, and its
	// Headers how it is sent
	OAuth2        *OAuth2Spec        `json:"oauth2,omitzero"`
	TokenExchange *TokenExchangeSpec `json:"tokenExchange,omitzero"`
}

// AuthField is one header or query parameter of a multi strategy.
type AuthField struct {
	Name          string `json:"name"`
	ValueTemplate string `json:"valueTemplate"`
}

// SigV4Spec is a request signature of AWS, version 4. The fields are those of
// a credential: access_key_id, secret_access_key and, where there is one,
// session_token; or one field that holds a profile of ~/.aws/credentials or
// the same as JSON.
type SigV4Spec struct {
	Fields  []string `json:"fields"`  // a name that ends in '?' may be absent
	Service string   `json:"service"` // the signing name; "{by-host}": as the host says
	Region  string   `json:"region"`  // "{region}" and "{by-host}": as the credential's host says
}

// HMACSpec is a message authentication code over parts of a request. Sign is
// a template of what is signed, made of {method}, {path}, {query} (as sent,
// without '?'), {target} (path and query), {host}, {body}, {timestamp},
// {nonce} and {sha256:…} of any of these, and of text; {{field}} is a field of
// the credential. The default is {body}.
type HMACSpec struct {
	Algorithm   string      `json:"algorithm"`            // sha256, sha384, sha512
	Encoding    string      `json:"encoding,omitzero"`    // hex (default), base64
	KeyField    string      `json:"keyField,omitzero"`    // default secret
	KeyEncoding string      `json:"keyEncoding,omitzero"` // raw (default), hex, base64
	Sign        string      `json:"sign,omitzero"`
	Output      AuthPlace   `json:"output"`
	Headers     []AuthField `json:"headers,omitzero"` // others, e.g. the key's id
	Timestamp   *AuthPlace  `json:"timestamp,omitzero"`
	Nonce       *AuthPlace  `json:"nonce,omitzero"`
}

// AuthPlace is where a computed value goes.
type AuthPlace struct {
	In       string `json:"in"` // header, query, body (a member of a form)
	Name     string `json:"name"`
	Template string `json:"template,omitzero"` // of a header; default {{signature}}, {{timestamp}}, {{nonce}}
	Unit     string `json:"unit,omitzero"`     // of a timestamp: s (default), ms
	Last     bool   `json:"last,omitzero"`     // query: after all others
}

// MTLSSpec is a client certificate with its key, as PEM. Both fields may be
// the same, which then holds both.
type MTLSSpec struct {
	CertField string    `json:"certField"`
	KeyField  string    `json:"keyField"`
	Plus      *AuthSpec `json:"plus,omitzero"` // how requests authenticate beside it
}

// Grant types of an OAuth2Spec that are not RFC 6749's own names.
const (
	GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523
	GrantGitHubApp = "github-app"                                  // an installation token for an app's JWT
)

// OAuth2Spec says how an access token is had (RFC 6749) and sent.
type OAuth2Spec struct {
	// Fields are what the credential holds: one field with everything as JSON
	// (client id, client secret, refresh token; a service account's file), or
	// client_id, client_secret and others by themselves.
	Fields                []string          `json:"fields"`
	Yields                []string          `json:"yields,omitzero"` // what the token answer gives to Headers; default access_token
	GrantType             string            `json:"grantType"`       // refresh_token, client_credentials, account_credentials, authorization_code (no refresh token), GrantJWTBearer, GrantGitHubApp
	TokenEndpoint         string            `json:"tokenEndpoint"`
	CodeEndpoint          string            `json:"codeEndpoint,omitzero"` // where a code is exchanged; default TokenEndpoint
	AuthorizationEndpoint string            `json:"authorizationEndpoint,omitzero"`
	DeviceEndpoint        string            `json:"deviceEndpoint,omitzero"`     // RFC 8628
	RevocationEndpoint    string            `json:"revocationEndpoint,omitzero"` // RFC 7009
	AuthorizationParams   map[string]string `json:"authorizationParams,omitzero"`
	RedirectHost          string            `json:"redirectHost,omitzero"`  // where a login's browser comes back to: 127.0.0.1 (default), localhost
	AccountMember         string            `json:"accountMember,omitzero"` // of the answer to a code: who logged in; a name, or a JSON pointer
	Scopes                []string          `json:"scopes,omitzero"`
	ScopeSeparator        string            `json:"scopeSeparator,omitzero"` // default: a space
	ClientAuth            string            `json:"clientAuth,omitzero"`     // body (default), basic, none
	BodyFormat            string            `json:"bodyFormat,omitzero"`     // form (default), json
	TokenParams           map[string]string `json:"tokenParams,omitzero"`
	Assertion             string            `json:"assertion,omitzero"` // jwt-bearer: what is signed, in words
	Headers               []AuthField       `json:"headers"`            // default: Authorization: Bearer {{access_token}}
}

// TokenExchangeSpec says how one request buys a short-lived token.
type TokenExchangeSpec struct {
	TokenEndpoint string            `json:"tokenEndpoint"`
	BodyFormat    string            `json:"bodyFormat"` // form, json
	Body          map[string]string `json:"body"`
	TokenField    string            `json:"tokenField"`
	Headers       []AuthField       `json:"headers"`
}

// TokenOptions narrow or direct the tokens of one credential.
type TokenOptions struct {
	Scopes  []string `json:"scopes,omitzero"`  // OAuth scopes in place of the entry's
	Subject string   `json:"subject,omitzero"` // jwt-bearer: on whose behalf, an e-mail address
	// STS: the role that is assumed with the credential's keys.
	RoleARN     string `json:"roleArn,omitzero"`
	ExternalID  string `json:"externalId,omitzero"`
	SessionName string `json:"sessionName,omitzero"` // default aivault
	// github-app: what the installation token is for; none: all that the
	// installation has.
	Repositories []string          `json:"repositories,omitzero"`
	Permissions  map[string]string `json:"permissions,omitzero"` // e.g. contents: read
}
