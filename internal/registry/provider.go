package registry

import (
	"slices"

	"moldable.sh/aivault/internal/api"
)

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
	HostPatterns  []string           `json:"hostPatterns,omitzero"` // the widest hosts that filling HostParams may give
	SelfHosted    bool               `json:"selfHosted,omitzero"`
	StaticHeaders []StaticHeader     `json:"staticHeaders,omitzero"`
	CallerHeaders []string           `json:"callerHeaders,omitzero"` // auth-class by name, yet the caller's to set
	CallerQuery   []string           `json:"callerQuery,omitzero"`
	Logins        []Login            `json:"logins"`
	Capabilities  []Capability       `json:"capabilities"`
	Sets          []Set              `json:"sets,omitzero"`
	Client        *ClientEnvironment `json:"client,omitzero"`
	Notes         []string           `json:"notes,omitzero"`

	broken error
}

// Broken is why the provider's compiled-in file cannot be used; nil for every
// provider that was checked.
func (p *Provider) Broken() error { return p.broken }

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
	Values  []string `json:"values,omitzero"`  // regions
	Default string   `json:"default,omitzero"` // region: when none is named
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
//
// A dedicated login that no capability names is never used: it is there
// because the API would accept it, so that its headers and parameters are
// not the caller's to set.
type Login struct {
	ID                 string       `json:"id"`
	Auth               api.AuthSpec `json:"auth"`
	Dedicated          bool         `json:"dedicated,omitzero"`          // only for capabilities that name it
	Hosts              []string     `json:"hosts,omitzero"`              // default: the provider's
	UpstreamPathPrefix string       `json:"upstreamPathPrefix,omitzero"` // put before the path, after policy
	NotYet             string       `json:"notYet,omitzero"`             // what is still missing: websocket
	Note               string       `json:"note,omitzero"`

	// Parameters of the strategy that Auth names, for those that have a
	// member of their own in api.AuthSpec: Spec puts them there.
	OAuth2        *api.OAuth2Spec        `json:"oauth2,omitzero"`
	SigV4         *api.SigV4Spec         `json:"sigv4,omitzero"`
	HMAC          *api.HMACSpec          `json:"hmac,omitzero"`
	MTLS          *api.MTLSSpec          `json:"mtls,omitzero"`
	TokenExchange *api.TokenExchangeSpec `json:"tokenExchange,omitzero"`
}

// Capability is one named operation of a provider.
type Capability struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Access      string   `json:"access"` // read, write, admin, mixed; admin starts off
	Methods     []string `json:"methods"`
	Paths       []string `json:"paths"` // rules: /p covers p and below, =/p is p alone, * is one segment or part of one, %2F is an escaped slash
	Hosts       []string `json:"hosts,omitzero"`
	Logins      []string `json:"logins,omitzero"`
	Default     *Default `json:"default,omitzero"`
	Example     string   `json:"example,omitzero"` // arguments after `aivault invoke ID`
	Sensitive   bool     `json:"sensitive,omitzero"`
	WebSocket   bool     `json:"websocket,omitzero"`
	IssuesToken []string `json:"issuesToken,omitzero"` // JSON pointers to new tokens in answers
	MatchHeader []string `json:"matchHeader,omitzero"` // "Name: value" that the request must carry; of one name, any
	// Operation splits an endpoint that several capabilities share: each
	// admits the bodies that ask for what it names.
	Operation *Operation `json:"operation,omitzero"`
	// Overlaps are capabilities that admit some of this one's calls, too, and
	// by narrower rules: of two that overlap, the broader one says so.
	Overlaps []string `json:"overlaps,omitzero"`
	Note     string   `json:"note,omitzero"`
}

// Operation is what a capability's bodies may ask for, in one of its two
// forms.
type Operation struct {
	GraphQL []string `json:"graphql,omitzero"` // of query, mutation, subscription: what each operation of a document is
	JSONRPC []string `json:"jsonrpc,omitzero"` // names of methods; one that ends in '*' is what begins so, and goes on
}

// Set is a name for several capabilities of a provider. Its id may be one of
// its members': a call on it then goes to whichever member admits it.
type Set struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Members     []string `json:"members"`
	// Default is the member whose default call is the set's; when absent it is
	// the member that bears the set's id, if one does.
	Default string `json:"default,omitzero"`
}

// Default is the call that leaving out method and path means. An empty part
// is left to the caller.
type Default struct {
	Method string `json:"method,omitzero"`
	Path   string `json:"path,omitzero"`
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

// LoginsOf lists the logins that a capability may use, in order.
func (p *Provider) LoginsOf(c *Capability) []*Login {
	var out []*Login
	if len(c.Logins) == 0 {
		for i := range p.Logins {
			if !p.Logins[i].Dedicated {
				out = append(out, &p.Logins[i])
			}
		}
		return out
	}
	for _, id := range c.Logins {
		if l := p.login(id); l != nil {
			out = append(out, l)
		}
	}
	return out
}

// Place is what the login puts before the path of a call.
func (l *Login) Place() string { return l.UpstreamPathPrefix + l.Auth.PrefixTemplate }

func (p *Provider) login(id string) *Login {
	for i := range p.Logins {
		if p.Logins[i].ID == id {
			return &p.Logins[i]
		}
	}
	return nil
}

// HostsOf lists a capability's hosts.
func (p *Provider) HostsOf(c *Capability) []string {
	if len(c.Hosts) > 0 {
		return c.Hosts
	}
	return p.Hosts
}

// Reaches says whether a login may go to every one of hosts.
func (p *Provider) Reaches(l *Login, hosts []string) bool {
	own := l.Hosts
	if len(own) == 0 {
		own = p.Hosts
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(own, h) })
}

// allHosts lists every host that a secret of this provider may be sent to.
func (p *Provider) allHosts() []string {
	out := slices.Clone(p.Hosts)
	for i := range p.Logins {
		out = append(out, p.Logins[i].Hosts...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
