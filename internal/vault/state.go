package vault

import (
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
)

// StateVersion is the version of the sealed state's format.
const StateVersion = 3

// State is everything that the vault seals. docs/vault-format.md specifies
// its encoding. A State reached through a Snapshot must not be changed.
type State struct {
	Version      int           `json:"version"`
	Secrets      []Secret      `json:"secrets"`
	Credentials  []Credential  `json:"credentials"`
	Capabilities []Capability  `json:"capabilities"` // custom ones
	Switches     []api.Switch  `json:"switches"`     // capabilities turned on and off, in order
	Policies     []api.Policy  `json:"policies"`
	Bindings     []api.Binding `json:"bindings"`
	Grants       []api.Grant   `json:"grants"`
	Tokens       []Token       `json:"tokens"`
	GrantDefault string        `json:"grantDefault"` // api.GrantAllow or api.GrantDeny
	AuditKey     string        `json:"auditKey"`     // Ed25519 seed, base64url, that signs the log's checkpoints
	AuditHead    audit.Head    `json:"auditHead"`    // where the log stood when this state was sealed
}

// Secret is a secret's description with its sealed value.
type Secret struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Aliases     []string `json:"aliases,omitzero"`
	Scope       string   `json:"scope"`              // as grant.Scope writes it
	Groups      []string `json:"groups,omitzero"`    // scopes of the groups that it is attached to
	Pin         string   `json:"pin,omitzero"`       // provider that the value belongs to
	PinTenant   string   `json:"pinTenant,omitzero"` // and the tenant, where its host has one
	Field       string   `json:"field,omitzero"`     // the pinned provider's field that the value fills
	Version     uint64   `json:"version"`            // of the value, from 1
	CreatedAtMs int64    `json:"createdAtMs"`
	RotatedAtMs int64    `json:"rotatedAtMs,omitzero"`
	DEK         string   `json:"dek"`   // data key, wrapped
	Value       string   `json:"value"` // sealed under the data key
}

// ScopeOf is the parsed scope; the state holds only scopes that parse.
func (s *Secret) ScopeOf() grant.Scope { sc, _ := grant.ParseScope(s.Scope); return sc }

// Credential is one account at one provider.
type Credential struct {
	ID                  string            `json:"id"`
	Provider            string            `json:"provider"`
	Scope               string            `json:"scope"`
	Auto                bool              `json:"auto,omitzero"`  // made by secrets create
	Secrets             map[string]string `json:"secrets"`        // field -> secret id
	Auth                *api.AuthSpec     `json:"auth,omitzero"`  // custom providers
	Hosts               []string          `json:"hosts,omitzero"` // custom providers: name[:port]
	CAPEM               string            `json:"caPem,omitzero"` // the operator's exceptions
	AllowPrivateNetwork bool              `json:"allowPrivateNetwork,omitzero"`
	AllowPorts          []int             `json:"allowPorts,omitzero"`
	AllowHTTP           bool              `json:"allowHttp,omitzero"`
	PublicParts         []string          `json:"publicParts,omitzero"` // custom providers: fields that are no secrets
	HostParams          map[string]string `json:"hostParams,omitzero"`  // registry providers: what fills the braces of their hosts
	Only                []string          `json:"only,omitzero"`        // patterns of the capabilities that it may be used for; none: all
	Token               *api.TokenOptions `json:"token,omitzero"`       // of what its tokens are
	CreatedAtMs         int64             `json:"createdAtMs"`
}

// Capability is a custom capability.
type Capability struct {
	ID          string   `json:"id"`
	Provider    string   `json:"provider"`
	Credential  string   `json:"credential,omitzero"`
	Hosts       []string `json:"hosts"`
	Methods     []string `json:"methods"`
	Paths       []string `json:"paths"`
	IssuesToken []string `json:"issuesToken,omitzero"` // JSON pointers to new tokens in answers
	CreatedAtMs int64    `json:"createdAtMs"`
}

// Token is what a token endpoint gave for a set of secrets, sealed. One token
// serves every login that would have asked for the same one with the same
// secrets: a refresh token is never in the hands of two.
type Token struct {
	// Key says what was asked of whom with which secrets: oauth.KeyOf.
	Key string `json:"key"`
	// Sources are the secrets that it was had with, and their versions then.
	// With another version it is stale, and is dropped.
	Sources      map[string]uint64 `json:"sources"`
	Version      uint64            `json:"version"` // counts the answers, from 1
	ObtainedAtMs int64             `json:"obtainedAtMs"`
	ExpiresAtMs  int64             `json:"expiresAtMs,omitzero"` // 0: the answer did not say
	FirstAtMs    int64             `json:"firstAtMs"`
	// What is known of the refresh token: Rotates, once an answer has brought
	// another one; Reusable, once it was used and left as it was.
	Rotates  bool     `json:"rotates,omitzero"`
	Reusable bool     `json:"reusable,omitzero"`
	Scopes   []string `json:"scopes,omitzero"`  // as granted, where the answer said
	Account  string   `json:"account,omitzero"` // who logged in, where the provider told
	DEK      string   `json:"dek"`
	Value    string   `json:"value"` // sealed: a JSON object of strings, e.g. access_token, refresh_token
}
