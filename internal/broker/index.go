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
	rules        *grant.Rules
	switches     []api.Switch
	credentials  map[string]*credential
	byProvider   map[place][]*credential
	byHost       map[place][]*credential
	capabilities map[string]*customCapability
	byOwner      map[string][]*customCapability // by provider
	bindings     bindings
	policies     map[string]*capabilityPolicy
	custom       map[string][]*vault.Credential // of custom providers, by provider
	reserved     sync.Map                       // custom provider -> *provider, when first asked for
	accountsOnce sync.Once
	ofProvider   map[string][]*credential // after accountsOnce
	pinsOnce     sync.Once
	pinned       map[string]bool // after pinsOnce
	unknown      *provider       // what credentials of custom providers have for one
}

// A place is where the credentials of something (a provider, a host) are.
type place struct {
	name string
	level
}

// A customCapability is compiled when it is first asked for.
type customCapability struct {
	entry   *vault.Capability
	compile func() *capability
}

func newIndex(c *catalog, snap *vault.Snapshot) *index {
	// Without an open vault there is what everyone may read in the registry.
	state := &vault.State{GrantDefault: api.GrantAllow}
	if snap != nil {
		state = snap.State()
	}
	n := len(state.Credentials)
	ix := &index{
		catalog: c, snapshot: snap,
		rules:        grant.NewRules(state.GrantDefault, state.Grants),
		switches:     state.Switches,
		bindings:     newBindings(state.Bindings),
		policies:     newPolicies(state.Policies),
		credentials:  make(map[string]*credential, n),
		byProvider:   make(map[place][]*credential, n),
		byHost:       make(map[place][]*credential, n),
		capabilities: make(map[string]*customCapability, len(state.Capabilities)),
		byOwner:      map[string][]*customCapability{},
		custom:       map[string][]*vault.Credential{},
		unknown:      &provider{},
	}
	for i := range state.Credentials {
		ix.addCredential(&state.Credentials[i])
	}
	for i := range state.Capabilities {
		entry := &state.Capabilities[i]
		one := &customCapability{
			entry:   entry,
			compile: sync.OnceValue(func() *capability { return ix.compileCustom(entry) }),
		}
		ix.capabilities[entry.ID] = one
		ix.byOwner[entry.Provider] = append(ix.byOwner[entry.Provider], one)
	}
	return ix
}

func (ix *index) addCredential(entry *vault.Credential) {
	c := &credential{Credential: entry, index: ix}
	c.scope, c.visible = grant.ParseScope(entry.Scope)
	if c.provider = ix.catalog.provider(entry.Provider); c.provider == nil {
		c.provider = ix.unknown
		c.hosts = entry.Hosts
		if entry.Auth != nil {
			c.hosts = slices.Concat(entry.Hosts, endpointHosts(*entry.Auth))
		}
		c.hosts = bareHosts(slices.Values(c.hosts))
		ix.custom[entry.Provider] = append(ix.custom[entry.Provider], entry)
	} else {
		c.fillHosts()
	}
	ix.credentials[entry.ID] = c
	if !c.visible {
		return
	}
	ix.put(c, level{scope: c.scope})
	c.attach()
	for _, group := range c.attached {
		ix.put(c, level{scope: group, attached: true})
	}
}

// put makes a credential be found at a level.
func (ix *index) put(c *credential, l level) {
	at := place{c.Provider, l}
	ix.byProvider[at] = append(ix.byProvider[at], c)
	for _, host := range c.hosts {
		at := place{host, l}
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
	c.alone = &target{id: c.id, members: []*capability{c}}
	if c.provider = ix.catalog.provider(entry.Provider); c.provider == nil {
		c.provider = ix.customProvider(entry.Provider)
	}
	c.alone.provider = c.provider
	fail := func(why string) *capability {
		c.policy, c.err = nil, api.Errorf(api.PolicyViolation, "capability %q is broken: %s", entry.ID, why)
		return c
	}
	if _, claimed := ix.registry.Capability(entry.ID); claimed != nil {
		return fail("the registry has one of this id")
	}
	if _, claimed := ix.registry.Set(entry.ID); claimed != nil {
		return fail("the registry has a set of this id")
	}
	compile := policy.Compile
	if c.provider.entry != nil {
		compile = policy.CompileTemplate
	}
	compiled, err := compile(entry.ID, entry.Provider, entry.Hosts, entry.Methods, entry.Paths)
	if err != nil {
		return fail(err.Error())
	}
	if c.issued, err = policy.CompileIssued(entry.ID, entry.IssuesToken); err != nil {
		return fail(err.Error())
	}
	c.hosts = compiled.Hosts
	if p := c.provider.entry; p != nil {
		c.hosts = make([]string, len(entry.Hosts))
		for i, h := range entry.Hosts {
			if c.hosts[i] = c.provider.template(h); c.hosts[i] == "" {
				return fail("its host is none of " + p.ID + "'s")
			}
		}
		c.logins = p.LoginsOf(&registry.Capability{ID: entry.ID, Hosts: entry.Hosts, Methods: entry.Methods, Paths: entry.Paths})
	}
	setDefaultCall(compiled)
	c.policy, c.templated = compiled, templated(compiled.Hosts)
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
