// Package registry knows the API providers that are compiled into the binary:
// the names of their keys, how they authenticate, their hosts and what can be
// asked of them. Nothing at run time can change it.
package registry

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
	files "moldable.sh/aivault/registry"
)

// Registry is an immutable set of providers with its indexes. What it knows
// without decoding a provider's file is in the index that is compiled in
// beside the files; a provider is decoded once, when it is first asked for.
// Its methods may be called concurrently.
type Registry struct {
	entries     []*entry // in the order of their ids
	byID        map[string]*entry
	claims      func() map[string]Claim // by folded name
	authHeaders map[string]bool
	hosts       map[string]string
	patterns    []hostPattern
}

type hostPattern struct {
	suffix   string // after '*'
	provider string
}

// Load reads the index of the providers that are compiled into the binary. It
// fails only when the binary was built wrong: that the index is of these files
// and that each of them passes Parse is a test's to prove once, not every
// start's.
func Load() (*Registry, error) {
	entries, err := parseIndex(files.Index)
	if err != nil {
		return nil, fmt.Errorf("registry: index: %w", err)
	}
	return index(entries)
}

// New checks providers and indexes them (for tests and for lint).
func New(providers ...*Provider) (*Registry, error) {
	entries := make([]*entry, len(providers))
	for i, p := range providers {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("registry: %s: %w", api.Quote(p.ID), err)
		}
		entries[i] = &entry{Summary: p.summary(), made: true}
		entries[i].once.Do(func() { entries[i].take(p) })
	}
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.ID, b.ID) })
	r, err := index(entries)
	if err == nil {
		_, err = claimsOf(entries)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// index joins the entries.
func index(entries []*entry) (*Registry, error) {
	r := &Registry{
		entries:     entries,
		byID:        make(map[string]*entry, len(entries)),
		authHeaders: make(map[string]bool, 64),
		hosts:       make(map[string]string, 2*len(entries)),
	}
	// Few starts ask whose a name is. That no two providers claim one is
	// proved when the index is made.
	r.claims = sync.OnceValue(func() map[string]Claim {
		claims, _ := claimsOf(entries)
		return claims
	})
	for i, e := range entries {
		if r.byID[e.ID] != nil {
			return nil, fmt.Errorf("registry: provider %s is there twice", e.ID)
		}
		if i > 0 && e.ID < entries[i-1].ID {
			return nil, fmt.Errorf("registry: provider %s is out of order", e.ID)
		}
		r.byID[e.ID] = e
		for _, h := range e.AuthHeaders {
			r.authHeaders[h] = true
		}
		for _, h := range e.Hosts {
			// Several providers may share a host (www.googleapis.com): the first
			// names it.
			if _, taken := r.hosts[h]; !taken {
				r.hosts[h] = e.ID
			}
		}
		for _, pattern := range e.HostPatterns {
			r.patterns = append(r.patterns, hostPattern{suffix: pattern[1:], provider: e.ID})
		}
	}
	return r, nil
}

// claimsOf folds every name that is claimed. Of two providers that claim one
// name, the first has it, and the error says so.
func claimsOf(entries []*entry) (claims map[string]Claim, err error) {
	claims = make(map[string]Claim, 4*len(entries))
	for _, e := range entries {
		for _, s := range e.Secrets {
			for _, name := range append([]string{s.Name}, s.Aliases...) {
				key := FoldName(name)
				if other, taken := claims[key]; taken {
					err = fmt.Errorf("registry: %s and %s both claim the secret name %s", other.Provider, e.ID, name)
					continue
				}
				claims[key] = Claim{Provider: e.ID, Secret: s}
			}
		}
	}
	return claims, err
}

// Providers lists the ids in alphabetical order.
func (r *Registry) Providers() []string {
	ids := make([]string, len(r.entries))
	for i, e := range r.entries {
		ids[i] = e.ID
	}
	return ids
}

// Hosts lists every host without parameters, in alphabetical order.
func (r *Registry) Hosts() []string {
	hosts := make([]string, 0, len(r.hosts))
	for h := range r.hosts {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	return hosts
}

// Summary is what the index says of a provider: its file is not decoded for
// it. Nil is the answer for an id that is not in the registry.
func (r *Registry) Summary(id string) *Summary {
	if e := r.byID[id]; e != nil {
		return &e.Summary
	}
	return nil
}

// Provider returns nil for an id that is not in the registry. What it points
// to must not be changed. A provider whose file cannot be decoded has Broken
// set, and nothing to call.
func (r *Registry) Provider(id string) *Provider {
	if e := r.byID[id]; e != nil {
		return e.decoded()
	}
	return nil
}

// File is a provider's file; nil for an id that is not in the registry.
func (r *Registry) File(id string) ([]byte, error) {
	e := r.byID[id]
	switch {
	case e == nil:
		return nil, nil
	case e.made:
		return strictjson.Marshal(e.provider)
	}
	return files.Files.ReadFile(e.file())
}

// Decoded is how many providers have been asked for, and so decoded.
func (r *Registry) Decoded() int {
	n := 0
	for _, e := range r.entries {
		if e.there.Load() {
			n++
		}
	}
	return n
}

// of finds the entry to whose provider an id of a capability or a set belongs.
func (r *Registry) of(id string) *entry {
	provider, _, _ := strings.Cut(id, "/")
	e := r.byID[provider]
	if e != nil {
		e.decoded()
	}
	return e
}

// Capability returns nil, nil for an id that is not in the registry.
func (r *Registry) Capability(id string) (*Provider, *Capability) {
	if e := r.of(id); e != nil {
		if c := e.capabilities[id]; c != nil {
			return e.provider, c
		}
	}
	return nil, nil
}

// Set returns nil, nil for an id that is no set of the registry. An id may be
// a set's and a capability's at once.
func (r *Registry) Set(id string) (*Provider, *Set) {
	if e := r.of(id); e != nil {
		if s := e.sets[id]; s != nil {
			return e.provider, s
		}
	}
	return nil, nil
}

// Claims says which provider a secret's name or alias belongs to. Names are
// compared without case, spaces and look-alike letters.
func (r *Registry) Claims(name string) (Claim, bool) {
	c, ok := r.claims()[FoldName(name)]
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
