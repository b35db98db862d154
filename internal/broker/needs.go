package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
)

// needs are what is missing before a capability can be called: names of
// secrets, and a host for a provider that has one for each of its tenants.
type needs struct {
	secrets []string
	host    string // as the flag that names it
}

// needs tells what is missing beside a credential with these fields.
func (c *capability) needs(fields map[string]string) needs {
	n := needs{secrets: c.missing(fields)}
	if p := c.provider.entry; p != nil {
		n.host = HostFlag(p)
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
	var list []string
	for _, name := range n.secrets {
		list = append(list, "aivault secrets create --name "+name+scopeFlags(in))
	}
	if n.host != "" {
		list = append(list, "aivault credential create "+p.ID+" --provider "+p.ID+" --secret NAME "+n.host+scopeFlags(in))
	}
	return list
}

// scopeFlags are the flags that name a scope, each after a space.
func scopeFlags(s grant.Scope) string {
	flags := ""
	if s.Workspace != "" {
		flags += " --workspace-id " + s.Workspace
	}
	if s.Group != "" {
		flags += " --group-id " + s.Group
	}
	return flags
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
