// Package registry knows the API providers that are compiled into the binary:
// the names of their keys, how they authenticate, their hosts and what can be
// asked of them. Nothing at run time can change it.
package registry

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/strictjson"
	files "moldable.sh/aivault/registry"
)

// Registry is an immutable set of providers with its indexes.
type Registry struct {
	ids          []string // sorted
	providers    map[string]*Provider
	capabilities map[string]capabilityAt
	sets         map[string]setAt
	claims       map[string]Claim // by folded name
	authHeaders  map[string]bool
	hosts        map[string]string
	patterns     []hostPattern
}

type capabilityAt struct {
	provider   *Provider
	capability *Capability
}

type setAt struct {
	provider *Provider
	set      *Set
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
		sets:         map[string]setAt{},
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
		for i := range p.Sets {
			r.sets[p.Sets[i].ID] = setAt{p, &p.Sets[i]}
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

// Set returns nil, nil for an id that is no set of the registry. An id may be
// a set's and a capability's at once.
func (r *Registry) Set(id string) (*Provider, *Set) {
	at := r.sets[id]
	return at.provider, at.set
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
