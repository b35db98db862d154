package broker

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

// A catalog is the registry prepared for calls: each provider and capability
// is compiled when it is first asked for and kept, because the registry never
// changes.
type catalog struct {
	registry     *registry.Registry
	clock        func() time.Time // for what ends by itself: a certificate
	providers    sync.Map         // id -> *provider
	capabilities sync.Map         // id -> *capability
}

func newCatalog(r *registry.Registry) *catalog { return &catalog{registry: r, clock: time.Now} }

// A provider is what canonicalising and authenticating depend on: a registry
// provider, or all that the custom credentials of one provider say.
type provider struct {
	id        string
	entry     *registry.Provider // nil for a custom provider
	hosts     map[string]bool    // registry: every host that a call may go to, as the registry writes it
	templated bool               // registry: some of them have parameters
	bareHosts []string           // registry: else those hosts and those of token endpoints, without ports, sorted
	rules     policy.Rules
	fields    map[string]registry.SecretName // registry: by field
	logins    map[*registry.Login]login      // registry
}

// A login is one way to authenticate, ready for use.
type login struct {
	fields     []string
	optional   []string // used where the credential has them
	strategy   auth.Strategy
	pathPrefix string
	want       *oauth.Want // the token that its calls are made with; nil: none
	renders    []string    // with a token: those of fields that are sent beside it
	err        error
}

// A capability is a registry or custom capability, compiled.
type capability struct {
	id       string
	provider *provider
	entry    *registry.Capability // nil for a custom capability
	only     string               // custom: the one credential that it is restricted to
	policy   *policy.Capability   // nil when err is set
	issued   *policy.Issued       // new tokens in its answers; nil: none
	hosts    []string             // registry provider: the policy's hosts, as the registry writes them
	logins   []*registry.Login    // registry provider: those that it may use, in order
	err      error                // why every call of it is refused
	// templated says that the policy's hosts have parameters yet, which each
	// credential fills.
	templated bool
	admin     bool    // off until it is turned on by its own id
	alone     *target // the capability as a call names it
}

func (c *catalog) provider(id string) *provider {
	if p, ok := c.providers.Load(id); ok {
		return p.(*provider)
	}
	entry := c.registry.Provider(id)
	if entry == nil {
		return nil
	}
	p, _ := c.providers.LoadOrStore(id, c.compileProvider(entry))
	return p.(*provider)
}

func (c *catalog) compileProvider(entry *registry.Provider) *provider {
	p := &provider{
		id: entry.ID, entry: entry,
		hosts:  map[string]bool{},
		fields: map[string]registry.SecretName{},
		logins: map[*registry.Login]login{},
	}
	for _, s := range entry.Secrets {
		p.fields[s.Field] = s
	}
	p.rules = policy.Rules{
		AuthHeader:    c.registry.IsAuthHeader,
		CallerHeaders: entry.CallerHeaders,
		CallerQuery:   entry.CallerQuery,
	}
	for i := range entry.Logins {
		l := &entry.Logins[i]
		p.rules.AuthQuery = append(p.rules.AuthQuery, auth.QueryParams(l.Spec())...)
		compiled := login{fields: l.Fields(), optional: auth.OptionalFields(l.Spec()), pathPrefix: l.UpstreamPathPrefix}
		if l.NotYet == "" {
			compiled.strategy, compiled.err = auth.New(l.Spec())
		}
		p.logins[l] = compiled
		p.addHosts(l.Hosts)
	}
	for _, h := range entry.StaticHeaders {
		field := api.Header{Name: h.Name, Value: h.Value}
		switch {
		case h.Fixed:
			p.rules.Fixed = append(p.rules.Fixed, field)
		case !h.Caller:
			p.rules.Defaults = append(p.rules.Defaults, field)
		}
	}
	p.addHosts(entry.Hosts)
	for i := range entry.Capabilities {
		p.addHosts(entry.HostsOf(&entry.Capabilities[i]))
	}
	p.templated = templated(slices.Collect(maps.Keys(p.hosts)))
	if !p.templated {
		known := slices.Collect(maps.Keys(p.hosts))
		for i := range entry.Logins {
			known = append(known, endpointHosts(entry.Logins[i].Spec())...)
		}
		p.bareHosts = bareHosts(slices.Values(known))
	}
	return p
}

func (p *provider) addHosts(hosts []string) {
	for _, h := range hosts {
		p.hosts[h] = true
	}
}

// capability finds a capability of the registry, nil when there is none.
func (c *catalog) capability(id string) *capability {
	if found, ok := c.capabilities.Load(id); ok {
		return found.(*capability)
	}
	entry, def := c.registry.Capability(id)
	if def == nil {
		return nil
	}
	compiled := &capability{
		id: id, provider: c.provider(entry.ID), entry: def, logins: entry.LoginsOf(def),
		hosts: entry.HostsOf(def), templated: templated(entry.HostsOf(def)), admin: def.Access == "admin",
	}
	compiled.alone = &target{id: id, provider: compiled.provider, members: []*capability{compiled}}
	compiled.policy, compiled.err = policy.CompileTemplate(id, entry.ID, compiled.hosts, def.Methods, def.Paths)
	if compiled.err == nil {
		compiled.policy.Operation, compiled.err = policy.CompileOperation(def.Operation)
	}
	if compiled.err == nil {
		compiled.issued, compiled.err = policy.CompileIssued(id, def.IssuesToken)
	}
	if compiled.err != nil {
		compiled.policy = nil
	} else {
		compiled.policy.MatchHeader = def.MatchHeader
		if def.Default != nil {
			compiled.policy.DefaultMethod, compiled.policy.DefaultPath = def.Default.Method, def.Default.Path
		}
		setDefaultCall(compiled.policy)
	}
	found, _ := c.capabilities.LoadOrStore(id, compiled)
	return found.(*capability)
}

// setDefaultCall completes a capability's default call with its only method
// and its only path rule, where that stands for one path.
func setDefaultCall(c *policy.Capability) {
	if c.DefaultMethod == "" && len(c.Methods) == 1 {
		c.DefaultMethod = c.Methods[0]
	}
	if c.DefaultPath == "" && len(c.Paths) == 1 {
		c.DefaultPath, _ = c.Paths[0].Literal()
	}
}

// loginFor picks the first of a capability's logins whose every field is at
// hand and whose strategy this version has.
func (c *capability) loginFor(has func(field string) bool) *registry.Login {
	for _, l := range c.logins {
		if l.NotYet == "" && hasAll(l.Fields(), has) && c.mayUse(l) {
			return l
		}
	}
	return nil
}

// mayUse says whether every host of the capability is one of the login's.
func (c *capability) mayUse(l *registry.Login) bool {
	return c.policy == nil || c.provider.entry.Reaches(l, c.hosts)
}

func hasAll(fields []string, has func(string) bool) bool {
	for _, f := range fields {
		if !has(f) {
			return false
		}
	}
	return true
}

// notYet names what is missing when no login of the capability can work in
// this version, else "".
func (c *capability) notYet() string {
	missing := ""
	for _, l := range c.logins {
		if l.NotYet == "" {
			return ""
		}
		missing = l.NotYet
	}
	return missing
}

// Missing names the secrets that a credential with these fields still needs
// before the login it comes closest to is complete: none when one is.
func Missing(p *registry.Provider, fields map[string]string) []string {
	return missingOf(p, fields, "")
}

// MissingFor is Missing for the logins that use one field: what a secret that
// was just stored still waits for.
func MissingFor(p *registry.Provider, fields map[string]string, field string) []string {
	return missingOf(p, fields, field)
}

func missingOf(p *registry.Provider, fields map[string]string, with string) []string {
	var best []string
	for i := range p.Logins {
		l := &p.Logins[i]
		wanted := l.Fields()
		if l.NotYet != "" || with != "" && !slices.Contains(wanted, with) {
			continue
		}
		var missing []string
		for _, f := range wanted {
			if fields[f] == "" {
				missing = append(missing, secretName(p, f))
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if best == nil || len(missing) < len(best) {
			best = missing
		}
	}
	return best
}

func secretName(p *registry.Provider, field string) string {
	for _, s := range p.Secrets {
		if s.Field == field {
			return s.Name
		}
	}
	return field
}

// authHeaders are the header names that a custom strategy sets, in the form in
// which policy asks for them.
func authHeaders(spec api.AuthSpec) []string {
	names := auth.Headers(spec)
	for i, n := range names {
		names[i] = strings.ReplaceAll(strings.ToLower(n), "_", "-")
	}
	return names
}
