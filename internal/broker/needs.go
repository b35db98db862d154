package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
)

// needs are what is missing before a capability can be called: names of
// secrets, and a host for a provider that has one for each of its tenants.
type needs struct {
	secrets []string
	host    string   // as the flag that names it
	names   []string // of all secrets that a credential takes, missing or not

	closest *credential // the account that they would complete; nil for none
	create  bool        // the secrets are stored, and their credential is missing
	replace string      // id of an account without some of its secrets, though they are stored
}

// needs tells what is missing beside a credential with these fields.
func (c *capability) needs(fields map[string]string) needs {
	n := needs{secrets: c.missing(fields)}
	if p := c.provider.entry; p != nil {
		n.host, n.names = HostFlag(p), c.missing(nil)
	}
	return n
}

// HostFlag is the flag by which the tenant of a provider is named, such as
// --host {shop}.myshopify.com, and "" for a provider that has none.
func HostFlag(p *registry.Provider) string {
	if p.Defaults() != nil {
		return ""
	}
	for _, h := range p.Hosts {
		if strings.Contains(h, "{") {
			return "--host " + h
		}
	}
	return ""
}

func (n needs) list() []string {
	list := slices.Clone(n.secrets)
	if n.host != "" {
		list = append(list, "a host: "+n.host)
	}
	return list
}

// commands are what would fill the needs, in order.
func (n needs) commands(p *registry.Provider, in grant.Scope) []string {
	if n.replace != "" {
		return []string{"aivault credential delete " + n.replace, n.createCommand(p, in)}
	}
	var list []string
	for _, name := range n.secrets {
		if p != nil && p.ByLogin(name) && len(n.secrets) == 1 {
			return []string{loginCommand(p, n.host, in)} // which names the host, too
		}
		list = append(list, storeCommand(p, name, in))
	}
	if n.host != "" || n.create {
		list = append(list, n.createCommand(p, in))
	}
	return list
}

// createCommand makes a credential of a provider's secrets.
func (n needs) createCommand(p *registry.Provider, in grant.Scope) string {
	cmd := "aivault credential create " + accountID(p.ID, in) + " --provider " + p.ID
	for _, name := range n.names {
		cmd += " --secret " + name
	}
	if n.host != "" {
		cmd += " " + n.host
	}
	return cmd + in.Flags()
}

// storeCommand stores a secret of a provider by its name: what a person's
// login leaves, by logging in.
func storeCommand(p *registry.Provider, name string, in grant.Scope) string {
	if p != nil && p.ByLogin(name) {
		return loginCommand(p, HostFlag(p), in)
	}
	return "aivault secrets create --name " + name + in.Flags()
}

func loginCommand(p *registry.Provider, host string, in grant.Scope) string {
	cmd := "aivault oauth login " + p.ID + " --client-id ID"
	if host != "" {
		cmd += " " + host
	}
	return cmd + in.Flags()
}

// accountID is an id for a scope's account at a provider. It tells nothing of
// the accounts that there are: whoever may not know them is shown it, too.
func accountID(provider string, in grant.Scope) string {
	id := provider
	for _, part := range []string{in.Workspace, in.Group} {
		if part != "" {
			id += "-" + part
		}
	}
	if !api.ValidID(id) {
		return provider
	}
	return id
}

// missing names the secrets that a credential with these fields lacks for the
// capability's closest login.
func (c *capability) missing(fields map[string]string) []string {
	var best []string
	for _, l := range c.logins {
		if l.NotYet != "" || !c.mayUse(l) {
			continue
		}
		var names []string
		for _, f := range l.Fields() {
			if fields[f] == "" {
				names = append(names, secretName(c.provider.entry, f))
			}
		}
		if best == nil || len(names) < len(best) {
			best = names
		}
		if len(names) == 0 {
			return nil
		}
	}
	return best
}
