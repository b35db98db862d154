package policy

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// CompileTemplate is Compile for a capability whose hosts may hold parameters
// in braces ({shop}.myshopify.com), which differ from account to account.
// Decide refuses every call of such a one until WithHosts has filled them.
func CompileTemplate(id, provider string, hosts, methods, paths []string) (*Capability, error) {
	examples := slices.Clone(hosts)
	for i, h := range hosts {
		var ok bool
		if examples[i], ok = fillParams(h, "a"); !ok {
			return nil, api.Errorf(api.InvalidRequest, "capability %s: %w", api.Quote(id), badHost(h, "has braces that don't hold the name of a parameter"))
		}
	}
	c, err := Compile(id, provider, examples, methods, paths)
	if err != nil {
		return nil, err
	}
	c.Hosts = slices.Clone(hosts)
	return c, nil
}

// WithHosts returns a copy of the capability for one account: with the hosts
// that its templates stand for there.
func (c *Capability) WithHosts(hosts []string) (*Capability, error) {
	if len(hosts) == 0 {
		return nil, api.Errorf(api.InvalidRequest, "capability %s: no host", api.Quote(c.ID))
	}
	for _, h := range hosts {
		if _, _, err := ParseHost(h); err != nil {
			return nil, api.Errorf(api.InvalidRequest, "capability %s: %w", api.Quote(c.ID), err)
		}
	}
	filled := *c
	filled.Hosts = slices.Clone(hosts)
	return &filled, nil
}

// fillParams puts the same text in place of each parameter of a host. Braces
// that are left over are for ParseHost to refuse.
func fillParams(host, text string) (string, bool) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(host, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !paramName(name) {
			return "", false
		}
		b.WriteString(text)
		host = after
	}
}

func paramName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return s != ""
}

// isTemplate says whether a host still has parameters. No host that
// ParseHost accepts does.
func isTemplate(host string) bool { return strings.ContainsAny(host, "{}") }
