package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/vault"
)

// templated says whether a host of the list has a part that differs from
// account to account.
func templated(hosts []string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool { return strings.Contains(h, "{") })
}

// template finds the host of a registry provider that a capability's host
// stands for: itself, or the one with parameters that it is made of. "" when
// there is none.
func (p *provider) template(host string) string {
	if p.hosts[host] {
		return host
	}
	params, ok := p.entry.MatchHost(host)
	if !ok {
		return ""
	}
	for _, h := range slices.Sorted(maps.Keys(p.hosts)) {
		if filled, ok := p.entry.FillHost(h, params); ok && filled == host {
			return h
		}
	}
	return ""
}

// fillHosts settles which hosts the calls of a registry provider's credential
// may go to.
func (c *credential) fillHosts() {
	p := c.provider
	if !p.templated {
		c.hosts = p.bareHosts
		return
	}
	if c.params = c.HostParams; len(c.params) == 0 {
		c.params = p.entry.Defaults()
	}
	c.filled = make(map[string]string, len(p.hosts))
	for h := range p.hosts {
		if filled, ok := p.entry.FillHost(h, c.params); ok {
			c.filled[h] = filled
		}
	}
	known := slices.Collect(maps.Values(c.filled))
	for i := range p.entry.Logins {
		if spec, ok := p.entry.SpecFor(&p.entry.Logins[i], c.params); ok {
			known = append(known, endpointHosts(spec)...)
		}
	}
	c.hosts = bareHosts(slices.Values(known))
}

// checkHosts says why the credential's host parameters don't fit its
// provider.
func (c *credential) checkHosts() error {
	p := c.provider
	if !p.templated {
		if len(c.HostParams) > 0 {
			return c.broken("the hosts of " + c.Provider + " have no parameters")
		}
		return nil
	}
	if len(c.filled) < len(p.hosts) {
		return c.broken("its host is none of " + c.Provider + "'s")
	}
	for _, h := range c.filled {
		if err := c.checkPort(h); err != nil {
			return err
		}
	}
	return nil
}

// checkTenant says why the credential may not take a secret to its host: a
// value belongs to one tenant of its provider for good.
func (c *credential) checkTenant(s *vault.Secret) error {
	tenant := ""
	if p := c.provider.entry; p != nil {
		tenant = p.Tenant(c.params)
	}
	switch {
	case s.PinTenant == tenant:
		return nil
	case s.PinTenant == "":
		return c.broken(fmt.Sprintf("secret %q is not pinned to %s of %s", s.Name, tenant, c.Provider))
	}
	to := c.Provider
	if tenant != "" {
		to = tenant + " of " + to
	}
	return api.Errorf(api.PolicyViolation, "credential %q may not take secret %q to %s: it is pinned to %s of %s and goes nowhere else", c.ID, s.Name, to, s.PinTenant, s.Pin)
}

// rules are the capability's, with the hosts of this credential.
func (c *credential) rules(one *capability) (*policy.Capability, error) {
	if !one.templated {
		return one.policy, nil
	}
	hosts := make([]string, len(one.policy.Hosts))
	for i, h := range one.policy.Hosts {
		if hosts[i] = h; !strings.Contains(h, "{") {
			continue
		}
		if hosts[i] = c.filled[h]; hosts[i] == "" {
			return nil, c.broken("its host is none of " + c.Provider + "'s")
		}
	}
	return one.policy.WithHosts(hosts)
}
