package broker

import (
	"iter"
	"slices"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// An index answers what a call asks of one snapshot, each question in
// constant time. It is immutable but for what is compiled on first use. An
// entry that does not compile keeps its error and breaks its own calls only.
type index struct {
	*catalog
	snapshot     *vault.Snapshot // nil without an open vault
	credentials  map[string]*credential
	byProvider   map[place][]*credential
	byHost       map[place][]*credential
	capabilities map[string]*customCapability
	custom       map[string][]*vault.Credential // of custom providers, by provider
	reserved     sync.Map                       // custom provider -> *provider, when first asked for
	unknown      *provider                      // what credentials of custom providers have for one
}

// A place is something (a provider, a host) within one scope.
type place struct {
	name  string
	scope grant.Scope
}

// A customCapability is compiled when it is first asked for.
type customCapability struct {
	entry   *vault.Capability
	compile func() *capability
}

func newIndex(c *catalog, snap *vault.Snapshot) *index {
	state := &vault.State{}
	if snap != nil {
		state = snap.State()
	}
	n := len(state.Credentials)
	ix := &index{
		catalog: c, snapshot: snap,
		credentials:  make(map[string]*credential, n),
		byProvider:   make(map[place][]*credential, n),
		byHost:       make(map[place][]*credential, n),
		capabilities: make(map[string]*customCapability, len(state.Capabilities)),
		custom:       map[string][]*vault.Credential{},
		unknown:      &provider{},
	}
	for i := range state.Credentials {
		ix.addCredential(&state.Credentials[i])
	}
	for i := range state.Capabilities {
		entry := &state.Capabilities[i]
		ix.capabilities[entry.ID] = &customCapability{
			entry:   entry,
			compile: sync.OnceValue(func() *capability { return ix.compileCustom(entry) }),
		}
	}
	return ix
}

func (ix *index) addCredential(entry *vault.Credential) {
	c := &credential{Credential: entry, index: ix}
	c.scope, c.visible = grant.ParseScope(entry.Scope)
	if c.provider = ix.catalog.provider(entry.Provider); c.provider == nil {
		c.provider = ix.unknown
		c.hosts = bareHosts(slices.Values(entry.Hosts))
		ix.custom[entry.Provider] = append(ix.custom[entry.Provider], entry)
	} else {
		c.hosts = c.provider.bareHosts
	}
	ix.credentials[entry.ID] = c
	if !c.visible {
		return
	}
	at := place{entry.Provider, c.scope}
	ix.byProvider[at] = append(ix.byProvider[at], c)
	for _, host := range c.hosts {
		at := place{host, c.scope}
		ix.byHost[at] = append(ix.byHost[at], c)
	}
}

// customProvider collects what the credentials of a custom provider reserve
// for themselves: no caller of that provider may set their headers and
// parameters.
func (ix *index) customProvider(id string) *provider {
	if p, ok := ix.reserved.Load(id); ok {
		return p.(*provider)
	}
	p := &provider{id: id}
	taken := map[string]bool{}
	for _, entry := range ix.custom[id] {
		if entry.Auth == nil {
			continue
		}
		for _, name := range authHeaders(*entry.Auth) {
			taken[name] = true
		}
		p.rules.AuthQuery = append(p.rules.AuthQuery, auth.QueryParams(*entry.Auth)...)
	}
	p.rules.AuthHeader = func(name string) bool { return taken[name] || ix.registry.IsAuthHeader(name) }
	found, _ := ix.reserved.LoadOrStore(id, p)
	return found.(*provider)
}

// capability finds a capability; the registry's own cannot be replaced. Nil
// means that there is none.
func (ix *index) capability(id string) *capability {
	if c := ix.catalog.capability(id); c != nil {
		return c
	}
	if c := ix.capabilities[id]; c != nil {
		return c.compile()
	}
	return nil
}

func (ix *index) compileCustom(entry *vault.Capability) *capability {
	c := &capability{id: entry.ID, only: entry.Credential}
	if c.provider = ix.catalog.provider(entry.Provider); c.provider == nil {
		c.provider = ix.customProvider(entry.Provider)
	}
	fail := func(why string) *capability {
		c.policy, c.err = nil, api.Errorf(api.PolicyViolation, "capability %q is broken: %s", entry.ID, why)
		return c
	}
	if _, claimed := ix.registry.Capability(entry.ID); claimed != nil {
		return fail("the registry has one of this id")
	}
	compiled, err := policy.Compile(entry.ID, entry.Provider, entry.Hosts, entry.Methods, entry.Paths)
	if err != nil {
		return fail(err.Error())
	}
	if p := c.provider.entry; p != nil {
		for _, h := range entry.Hosts {
			if !c.provider.hosts[h] {
				return fail("its host is none of " + p.ID + "'s")
			}
		}
		c.logins = p.LoginsOf(&registry.Capability{ID: entry.ID, Hosts: entry.Hosts, Methods: entry.Methods, Paths: entry.Paths})
	}
	setDefaultCall(compiled)
	c.policy = compiled
	return c
}

func bareHosts(hosts iter.Seq[string]) []string {
	var names []string
	for h := range hosts {
		names = append(names, bareHost(h))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// levels are the scopes that a call made in context s may use, the most
// specific first.
func levels(s grant.Scope) []grant.Scope {
	switch {
	case s.Workspace == "":
		return []grant.Scope{grant.Global}
	case s.Group == "":
		return []grant.Scope{s, grant.Global}
	}
	return []grant.Scope{s, {Workspace: s.Workspace}, grant.Global}
}

// sortedIDs lists every capability's id, registry and custom.
func (ix *index) sortedIDs() []string {
	var ids []string
	for _, p := range ix.registry.Providers() {
		for _, c := range ix.registry.Provider(p).Capabilities {
			ids = append(ids, c.ID)
		}
	}
	for id := range ix.capabilities {
		if _, claimed := ix.registry.Capability(id); claimed == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
