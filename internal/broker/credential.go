package broker

import (
	"slices"
	"strings"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// A credential is the vault's entry with what was compiled from it.
type credential struct {
	*vault.Credential
	scope    grant.Scope
	visible  bool          // its scope can be read; no call sees it otherwise
	attached []grant.Scope // groups that it is attached to
	provider *provider     // without an entry: a custom provider
	checked  sync.Once
	problem  error                     // after checked
	own      login                     // a custom provider's, after checked
	tokens   map[*registry.Login]login // a registry provider's logins that have tokens, after checked
	publics  map[string]bool           // fields whose values are no secrets, after check
	// certificates are the client certificates of its logins, by their fields:
	// func() certificate, when first asked for.
	certificates sync.Map
	roots        []byte
	// hosts are those that the secrets may go to, without ports, sorted: what
	// else runs there may know them too.
	hosts  []string
	params map[string]string // a templated provider's: what fills its hosts
	filled map[string]string // a templated provider's: its hosts, filled
	index  *index
}

func (c *credential) broken(why string) error {
	return api.Errorf(api.PolicyViolation, "credential %q is broken: %s", c.ID, why)
}

// check says why the credential can make no call.
func (c *credential) check() error {
	c.checked.Do(func() { c.problem = c.compile() })
	return c.problem
}

// compile checks the entry against what the operator's commands would have
// let in. It runs for every credential before its first use under a snapshot,
// so that a state that came about in another way is judged alike: above all,
// a pinned secret is never in the hands of another provider's credential.
func (c *credential) compile() error {
	if !c.visible {
		return c.broken("its scope cannot be read")
	}
	for field, id := range c.Secrets {
		s := c.index.snapshot.Secret(id)
		switch {
		case s == nil:
			return c.broken("the secret of its field " + field + " is gone")
		case s.Pin != "" && (c.provider.entry == nil || s.Pin != c.Provider):
			return api.Errorf(api.PolicyViolation, "credential %q may not use secret %q, which is pinned to %s and goes nowhere else", c.ID, s.Name, s.Pin)
		case !mayHold(c.scope, s):
			return c.broken("the secret of its field " + field + " belongs to another scope")
		}
		if err := c.checkTenant(s); err != nil {
			return err
		}
	}
	if c.provider.entry != nil {
		return c.compileRegistry()
	}
	return c.compileCustom()
}

func (c *credential) compileRegistry() error {
	if why := c.provider.entry.Broken(); why != nil {
		return c.broken("the entry of " + c.Provider + " in this version's registry cannot be used: " + why.Error())
	}
	exceptions := c.CAPEM != "" || c.AllowPrivateNetwork || c.AllowHTTP || len(c.AllowPorts) > 0
	if c.Auth != nil || len(c.Hosts) > 0 || len(c.PublicParts) > 0 || exceptions && !c.provider.entry.SelfHosted {
		return api.Errorf(api.PolicyViolation, "credential %q has hosts, auth or exceptions of its own, but is pinned to %s, whose registry entry alone decides them", c.ID, c.Provider)
	}
	if err := c.checkHosts(); err != nil {
		return err
	}
	for field := range c.Secrets {
		if _, ok := c.provider.fields[field]; !ok {
			return c.broken(c.Provider + " has no field of this name: " + field)
		}
		c.notePublic(field)
	}
	c.roots = []byte(c.CAPEM)
	return c.wantTokens()
}

// notePublic keeps in mind that a field's value is no secret.
func (c *credential) notePublic(field string) {
	if !c.public(field, c.index.snapshot.Secret(c.Secrets[field])) {
		return
	}
	if c.publics == nil {
		c.publics = map[string]bool{}
	}
	c.publics[field] = true
}

func (c *credential) compileCustom() error {
	if c.Auth == nil || len(c.Hosts) == 0 {
		return c.broken("it has no auth or no host")
	}
	for _, h := range c.Hosts {
		if err := c.checkPort(h); err != nil {
			return err
		}
	}
	strategy, err := auth.New(*c.Auth)
	if err != nil {
		return c.broken(err.Error())
	}
	c.roots = []byte(c.CAPEM)
	c.own = login{fields: auth.SecretFields(*c.Auth), optional: auth.OptionalFields(*c.Auth), strategy: strategy}
	for _, f := range c.own.fields {
		if c.Secrets[f] == "" {
			return c.broken("it has no secret for its field " + f)
		}
	}
	for _, f := range c.PublicParts {
		if !slices.Contains(c.own.fields, f) && !slices.Contains(c.own.optional, f) {
			return c.broken("its auth has no field that is called " + f)
		}
		c.notePublic(f)
	}
	return c.wantOwnToken()
}

// checkPort says why the credential's calls may not go to a host with its
// port.
func (c *credential) checkPort(host string) error {
	_, port, err := policy.ParseHost(host)
	switch {
	case err != nil:
		return c.broken(err.Error())
	case port == 0 || port == 443 || port == 80 && c.AllowHTTP || slices.Contains(c.AllowPorts, port):
		return nil
	}
	return c.broken("the port of " + host + " is not allowed")
}

// has says whether the credential fills a field.
func (c *credential) has(field string) bool { return c.Secrets[field] != "" }

// loginFor is how the credential authenticates calls of one capability; ok is
// false when it cannot.
func (c *credential) loginFor(one *capability) (l login, ok bool) {
	_ = c.check() // what it is made of is known then
	if one.only != "" && one.only != c.ID {
		return login{}, false
	}
	if !one.templated && !slices.ContainsFunc(one.policy.Hosts, c.mayReach) {
		return login{}, false
	}
	if c.provider.entry == nil {
		return c.own, true
	}
	found := one.loginFor(c.has)
	if found == nil {
		return login{}, false
	}
	if l, ok := c.tokens[found]; ok {
		return l, true
	}
	return c.provider.logins[found], true
}

// mayReach says whether calls of this credential may go to host at all.
func (c *credential) mayReach(host string) bool {
	switch p := c.provider; {
	case p.entry == nil:
		return slices.Contains(c.Hosts, host)
	case !p.templated:
		return p.hosts[host]
	}
	for _, h := range c.filled {
		if h == host {
			return true
		}
	}
	return false
}

func bareHost(host string) string {
	if !strings.Contains(host, ":") {
		return host // as nearly all are
	}
	name, _, err := policy.ParseHost(host)
	if err != nil {
		return host
	}
	return name
}

// public says whether a field's value is no secret: only where the registry
// says so of the very field that the value is pinned to, or, of what is pinned
// to no provider, where the operator did.
func (c *credential) public(field string, s *vault.Secret) bool {
	if c.provider.entry == nil {
		return s.Pin == "" && slices.Contains(c.PublicParts, field)
	}
	return c.provider.fields[field].Public && s.Field == field
}

// destination is where the call goes, with this credential's exceptions.
func (c *credential) destination(host string, l login) egress.Destination {
	to := egress.Destination{Host: host, PathPrefix: l.pathPrefix}
	if p := c.provider.entry; p == nil || p.SelfHosted {
		to.AllowPrivate, to.AllowPorts, to.AllowHTTP = c.AllowPrivateNetwork, c.AllowPorts, c.AllowHTTP
		if len(c.roots) > 0 {
			to.Roots = c.roots
		}
	}
	return to
}

// allowed says whether the operator left the capability on for this
// credential.
func (c *credential) allowed(one *capability) error {
	if len(c.Only) == 0 || grant.Covers(c.Only, one.id) {
		return nil
	}
	return api.Errorf(api.PolicyViolation, "capability %s is %w for credential %q", one.id, errOff, c.ID).
		WithHint("aivault capability enable %s", one.id)
}

// used are the fields whose values a login uses.
func (c *credential) used(l login) []string {
	if len(l.optional) == 0 {
		return l.fields
	}
	all := slices.Clone(l.fields)
	for _, f := range l.optional {
		if c.has(f) {
			all = append(all, f)
		}
	}
	return all
}

// open opens the values of the login's fields. The caller wipes them.
func (c *credential) open(l login) (map[string]secret.Value, error) {
	used := c.used(l)
	if l.want != nil {
		used = l.renders
	}
	fields := make(map[string]secret.Value, len(used))
	for _, f := range used {
		v, err := c.index.snapshot.Open(c.Secrets[f])
		if err != nil {
			wipe(fields)
			return nil, err
		}
		fields[f] = v
	}
	return fields, nil
}

func wipe(fields map[string]secret.Value) {
	for _, v := range fields {
		v.Wipe()
	}
}

func wipeAdditions(a egress.Additions) {
	for _, f := range a.Headers {
		f.Value.Wipe()
	}
	for _, f := range a.Query {
		f.Value.Wipe()
	}
	for _, f := range a.Form {
		f.Value.Wipe()
	}
	a.PathPrefix.Wipe()
	a.Signature.Wipe()
}
