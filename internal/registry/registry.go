// Package registry knows the API providers that are compiled into the binary:
// the names of their keys, how they authenticate, their hosts and what can be
// asked of them. Nothing at run time can change it.
package registry

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
	files "moldable.sh/aivault/registry"
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
	NotYet             string       `json:"notYet,omitzero"`             // what is still missing, e.g. oauth2
	Note               string       `json:"note,omitzero"`

	// Parameters of the strategies that are declared, and not built yet.
	OAuth2        *OAuth2        `json:"oauth2,omitzero"`
	SigV4         *SigV4         `json:"sigv4,omitzero"`
	HMAC          *HMAC          `json:"hmac,omitzero"`
	MTLS          *MTLS          `json:"mtls,omitzero"`
	TokenExchange *TokenExchange `json:"tokenExchange,omitzero"`
	Postgres      *Postgres      `json:"postgres,omitzero"`
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
	MatchHeader []string `json:"matchHeader,omitzero"` // "Name: value" that the request must carry; of one name, any
	Note        string   `json:"note,omitzero"`
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

// Registry is an immutable set of providers with its indexes.
type Registry struct {
	ids          []string // sorted
	providers    map[string]*Provider
	capabilities map[string]capabilityAt
	claims       map[string]Claim // by folded name
	authHeaders  map[string]bool
	hosts        map[string]string
	patterns     []hostPattern
}

type capabilityAt struct {
	provider   *Provider
	capability *Capability
}

type hostPattern struct {
	suffix   string // after '*'
	provider string
}

// Load decodes the providers that are compiled into the binary. It fails only
// when the binary was built wrong: that each file passes Parse is a test's to
// prove once, not every start's.
func Load() (*Registry, error) {
	names, err := fs.Glob(files.Files, "*.json")
	if err != nil {
		return nil, fmt.Errorf("registry: list providers: %w", err)
	}
	providers := make([]*Provider, 0, len(names))
	for _, name := range names {
		data, err := fs.ReadFile(files.Files, name)
		if err != nil {
			return nil, fmt.Errorf("registry: read %s: %w", name, err)
		}
		p := new(Provider)
		if err := strictjson.Unmarshal(data, p); err != nil {
			return nil, fmt.Errorf("registry: %s: %w", name, err)
		}
		if p.ID+".json" != name {
			return nil, fmt.Errorf("registry: %s holds provider %q", name, p.ID)
		}
		providers = append(providers, p)
	}
	return index(providers)
}

// New checks providers and indexes them (for tests and for lint).
func New(providers ...*Provider) (*Registry, error) {
	for _, p := range providers {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("registry: %s: %w", quote(p.ID), err)
		}
	}
	return index(providers)
}

// index joins checked providers, and refuses what two of them both claim.
func index(providers []*Provider) (*Registry, error) {
	r := &Registry{
		providers:    make(map[string]*Provider, len(providers)),
		capabilities: map[string]capabilityAt{},
		claims:       map[string]Claim{},
		authHeaders:  map[string]bool{},
		hosts:        map[string]string{},
	}
	for _, p := range providers {
		if r.providers[p.ID] != nil {
			return nil, fmt.Errorf("registry: provider %s is there twice", p.ID)
		}
		r.providers[p.ID] = p
		r.ids = append(r.ids, p.ID)
		for i := range p.Capabilities {
			r.capabilities[p.Capabilities[i].ID] = capabilityAt{p, &p.Capabilities[i]}
		}
		for _, s := range p.Secrets {
			for _, name := range append([]string{s.Name}, s.Aliases...) {
				key := FoldName(name)
				if other, taken := r.claims[key]; taken {
					return nil, fmt.Errorf("registry: %s and %s both claim the secret name %s", other.Provider, p.ID, name)
				}
				r.claims[key] = Claim{Provider: p.ID, Secret: s}
			}
		}
		for i := range p.Logins {
			for _, h := range p.Logins[i].authHeaders() {
				r.authHeaders[h] = true
			}
		}
		r.indexHosts(p)
	}
	slices.Sort(r.ids)
	return r, nil
}

func (r *Registry) indexHosts(p *Provider) {
	for _, h := range p.allHosts() {
		if strings.Contains(h, "{") {
			continue
		}
		// Several providers may share a host (www.googleapis.com): the first
		// names it.
		if _, taken := r.hosts[h]; !taken {
			r.hosts[h] = p.ID
		}
	}
	for _, pattern := range p.HostPatterns {
		r.patterns = append(r.patterns, hostPattern{suffix: pattern[1:], provider: p.ID})
	}
}

// Providers lists the ids in alphabetical order.
func (r *Registry) Providers() []string { return slices.Clone(r.ids) }

// Provider returns nil for an id that is not in the registry. What it points
// to must not be changed.
func (r *Registry) Provider(id string) *Provider { return r.providers[id] }

// Capability returns nil, nil for an id that is not in the registry.
func (r *Registry) Capability(id string) (*Provider, *Capability) {
	at := r.capabilities[id]
	return at.provider, at.capability
}

// Claims says which provider a secret's name or alias belongs to. Names are
// compared without case, spaces and look-alike letters.
func (r *Registry) Claims(name string) (Claim, bool) {
	c, ok := r.claims[FoldName(name)]
	return c, ok
}

// IsAuthHeader says whether any provider authenticates with this header
// (canonical form: lower case, '_' read as '-').
func (r *Registry) IsAuthHeader(canonical string) bool { return r.authHeaders[canonical] }

// HostProvider returns the provider that a host belongs to, if any. The host
// may be in any case, with a port and a trailing dot.
func (r *Registry) HostProvider(host string) (string, bool) {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[:i], ":") {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if id, ok := r.hosts[host]; ok {
		return id, true
	}
	for _, p := range r.patterns {
		if len(host) > len(p.suffix) && strings.HasSuffix(host, p.suffix) {
			return p.provider, true
		}
	}
	return "", false
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

// allHosts lists every host that a secret of this provider may be sent to.
func (p *Provider) allHosts() []string {
	out := slices.Clone(p.Hosts)
	for i := range p.Logins {
		out = append(out, p.Logins[i].Hosts...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
