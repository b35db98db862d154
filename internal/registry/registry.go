// Package registry knows the API providers that are compiled into the binary:
// the names of their keys, how they authenticate, their hosts and what can be
// asked of them. Nothing at run time can change it.
package registry

import "moldable.sh/aivault/internal/api"

// Provider is one upstream service: one file under registry/.
type Provider struct {
	SchemaVersion int                `json:"schemaVersion"` // 1
	ID            string             `json:"provider"`
	Title         string             `json:"title"`
	Category      string             `json:"category"`
	Docs          string             `json:"docs"`
	GetKey        GetKey             `json:"getKey"`
	Secrets       []SecretName       `json:"secrets"`
	Hosts         []string           `json:"hosts"` // names in braces are filled per credential
	HostParams    []HostParam        `json:"hostParams,omitzero"`
	HostPattern   string             `json:"hostPattern,omitzero"` // the widest host that filling HostParams may give
	SelfHosted    bool               `json:"selfHosted,omitzero"`
	StaticHeaders []StaticHeader     `json:"staticHeaders,omitzero"`
	CallerHeaders []string           `json:"callerHeaders,omitzero"` // auth-class by name, yet the caller's to set
	CallerQuery   []string           `json:"callerQuery,omitzero"`
	Logins        []Login            `json:"logins"`
	Capabilities  []Capability       `json:"capabilities"`
	Client        *ClientEnvironment `json:"client,omitzero"`
	Notes         []string           `json:"notes,omitzero"`
}

// GetKey tells a person where the key comes from.
type GetKey struct {
	Text string `json:"text"`
	URL  string `json:"url"`
}

// SecretName is a canonical secret name that a provider claims, with its
// aliases. Field is the placeholder that the value fills in templates; it is
// unique in the provider.
type SecretName struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitzero"`
	Field   string   `json:"field"`
	Public  bool     `json:"public,omitzero"` // an e-mail or account id: not scrubbed from answers
	About   string   `json:"about,omitzero"`
}

// HostParam is a part of a host that differs from account to account.
type HostParam struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"` // tenant or region
	Pattern string   `json:"pattern,omitzero"`
	Values  []string `json:"values,omitzero"` // regions
	About   string   `json:"about,omitzero"`
}

// StaticHeader is a header that the API wants with every request. The
// caller's own value stands in its place unless Fixed.
type StaticHeader struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitzero"`
	Caller bool   `json:"caller,omitzero"` // no default: the caller must or may set it
	Fixed  bool   `json:"fixed,omitzero"`
}

// Login is one way to authenticate. A credential that has all its fields can
// use it. A capability uses the first of its logins that the credential
// satisfies; a capability that names none uses those that are not dedicated.
type Login struct {
	ID                 string       `json:"id"`
	Auth               api.AuthSpec `json:"auth"`
	Dedicated          bool         `json:"dedicated,omitzero"`          // only for capabilities that name it
	Hosts              []string     `json:"hosts,omitzero"`              // default: the provider's
	UpstreamPathPrefix string       `json:"upstreamPathPrefix,omitzero"` // put before the path, after policy
	NotYet             string       `json:"notYet,omitzero"`             // the strategy that is still missing, e.g. oauth2
}

// Capability is one named operation of a provider.
type Capability struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Access      string   `json:"access"` // read, write, admin, mixed; admin starts off
	Methods     []string `json:"methods"`
	Paths       []string `json:"paths"` // rules: /p covers p and below, =/p is p alone, * is one segment or part of one
	Hosts       []string `json:"hosts,omitzero"`
	Logins      []string `json:"logins,omitzero"`
	Default     *Default `json:"default,omitzero"`
	Example     string   `json:"example,omitzero"` // arguments after `aivault invoke ID`
	Sensitive   bool     `json:"sensitive,omitzero"`
	WebSocket   bool     `json:"websocket,omitzero"`
	IssuesToken []string `json:"issuesToken,omitzero"` // JSON pointers to new tokens in answers
	MatchHeader []string `json:"matchHeader,omitzero"` // "Name: value" that the request must carry
	Note        string   `json:"note,omitzero"`
}

// Default is the call that leaving out method and path means.
type Default struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// ClientEnvironment names the variables by which a provider's own SDK or CLI
// takes a base URL and a key.
type ClientEnvironment struct {
	BaseURL string `json:"baseUrl,omitzero"`
	Key     string `json:"key,omitzero"`
}

// Claim is what the registry says of a secret's name.
type Claim struct {
	Provider string
	Secret   SecretName
}

// Registry is an immutable set of providers with its indexes.
type Registry struct{}

// Load decodes the providers that are compiled into the binary. It fails only
// when the binary was built wrong.
func Load() (*Registry, error) { panic("contract") }

// New checks providers and indexes them (for tests and for lint).
func New(providers ...*Provider) (*Registry, error) { panic("contract") }

// Parse decodes and checks one provider file.
func Parse(file []byte) (*Provider, error) { panic("contract") }

// Providers lists the ids in alphabetical order.
func (r *Registry) Providers() []string { panic("contract") }

// Provider returns nil for an id that is not in the registry.
func (r *Registry) Provider(id string) *Provider { panic("contract") }

// Capability returns nil, nil for an id that is not in the registry.
func (r *Registry) Capability(id string) (*Provider, *Capability) { panic("contract") }

// Claims says which provider a secret's name or alias belongs to. Names are
// compared without case, spaces and look-alike letters.
func (r *Registry) Claims(name string) (Claim, bool) { panic("contract") }

// IsAuthHeader says whether any provider authenticates with this header
// (canonical form: lower case, '_' read as '-').
func (r *Registry) IsAuthHeader(canonical string) bool { panic("contract") }

// HostProvider returns the provider that a host belongs to, if any.
func (r *Registry) HostProvider(host string) (string, bool) { panic("contract") }

// Fields lists the fields that the login's templates name.
func (l *Login) Fields() []string { panic("contract") }

// LoginsOf lists the logins that a capability may use, in order.
func (p *Provider) LoginsOf(c *Capability) []*Login { panic("contract") }

// HostsOf lists a capability's hosts.
func (p *Provider) HostsOf(c *Capability) []string { panic("contract") }
