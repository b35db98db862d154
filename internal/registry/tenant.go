package registry

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// MatchHost says which parameters make one of the provider's hosts out of
// host (a name without port, lower case). ok is false when none can, when more
// than one choice of them could, and for a provider whose hosts have no
// parameters. Of a self-hosted provider every valid host matches, with or
// without a port, with the parameter "host".
//
// The parameters are complete: what host itself does not say has its default.
func (p *Provider) MatchHost(host string) (params map[string]string, ok bool) {
	if p.SelfHosted {
		address, ok := address(host)
		if !ok {
			return nil, false
		}
		return map[string]string{selfHost: address}, true
	}
	if ValidHost(host) != nil || !p.covers(host) {
		return nil, false
	}
	for template := range p.templates {
		if template == host { // a host of everyone's is no tenant's
			return nil, false
		}
		for found := range p.match(template, host) {
			for _, h := range p.HostParams {
				if _, there := found[h.Name]; !there && h.Default != "" {
					found[h.Name] = h.Default
				}
			}
			if len(found) != len(p.HostParams) {
				continue
			}
			if ok && !maps.Equal(found, params) {
				return nil, false
			}
			params, ok = found, true
		}
	}
	return params, ok
}

// FillHost puts parameters into a host of the provider. ok is false when one
// is missing, unknown, is not of its pattern or values, or when they do not
// give a valid host of that provider's tenants. The host of a self-hosted
// provider carries the port that it was matched with.
func (p *Provider) FillHost(host string, params map[string]string) (filled string, ok bool) {
	for name, value := range params {
		if h := p.hostParam(name); h == nil || !p.admits(h, value) {
			return "", false
		}
	}
	if !strings.Contains(host, "{") {
		if !p.hasHost(host) {
			return "", false
		}
		return host, true
	}
	var b strings.Builder
	for rest := host; rest != ""; {
		literal, name, after, templated := cutParam(rest)
		b.WriteString(literal)
		if templated {
			value, there := params[name]
			if !there {
				return "", false
			}
			b.WriteString(value)
		}
		rest = after
	}
	filled = b.String()
	if p.SelfHosted {
		return filled, host == selfTemplate
	}
	if ValidHost(filled) != nil || !p.covers(filled) || p.hasHost(filled) {
		return "", false
	}
	return filled, true
}

// Defaults are the parameters that a credential has when its maker names no
// host: nil when one has to be named, as for every tenant. A provider whose
// hosts have no parameters has an empty map.
func (p *Provider) Defaults() map[string]string {
	params := make(map[string]string, len(p.HostParams))
	for _, h := range p.HostParams {
		if h.Default == "" {
			return nil
		}
		params[h.Name] = h.Default
	}
	return params
}

// Tenant is the part of the parameters that names a tenant, in the form in
// which it is sealed with a value (shop=my-store), "" when there is none: a
// region is no tenant. Several are in the order of their names, with ','
// between them; no value can hold a ',' or a '='.
func (p *Provider) Tenant(params map[string]string) string {
	var parts []string
	for _, h := range p.HostParams {
		if value, there := params[h.Name]; there && h.Kind == "tenant" {
			parts = append(parts, h.Name+"="+value)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// A self-hosted provider has one host, this one, and one parameter.
const (
	selfHost     = "host"
	selfTemplate = "{" + selfHost + "}"
)

// templates yields every host of the provider, its logins' included.
func (p *Provider) templates(yield func(string) bool) {
	for _, h := range p.Hosts {
		if !yield(h) {
			return
		}
	}
	for i := range p.Logins {
		for _, h := range p.Logins[i].Hosts {
			if !yield(h) {
				return
			}
		}
	}
}

func (p *Provider) hasHost(host string) bool {
	for h := range p.templates {
		if h == host {
			return true
		}
	}
	return false
}

func (p *Provider) hostParam(name string) *HostParam {
	for i := range p.HostParams {
		if p.HostParams[i].Name == name {
			return &p.HostParams[i]
		}
	}
	return nil
}

// covers says whether a host is within hostPatterns, which are all that
// parameters may lead to.
func (p *Provider) covers(host string) bool {
	for _, pattern := range p.HostPatterns {
		if suffix := pattern[1:]; len(host) > len(suffix) && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// admits says whether a parameter may have a value.
func (p *Provider) admits(h *HostParam, value string) bool {
	if p.SelfHosted {
		address, ok := address(value)
		return h.Name == selfHost && ok && address == value
	}
	for v := range h.prefixes(value) {
		if v == value {
			return true
		}
	}
	return false
}

// prefixes yields the values that the parameter may have and that s starts
// with: those listed, or those of its pattern, which stay within a label
// whatever the pattern says.
func (h *HostParam) prefixes(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range h.Values {
			if strings.HasPrefix(s, v) && !yield(v) {
				return
			}
		}
		re, err := h.regexp()
		if err != nil || len(h.Values) > 0 {
			return
		}
		for end := 1; end <= len(s) && strings.IndexByte(lowerCase+digits+"-", s[end-1]) >= 0; end++ {
			if re.MatchString(s[:end]) && !yield(s[:end]) {
				return
			}
		}
	}
}

// regexp is the pattern, anchored as a whole: of ^a|b$ each half is not.
func (h *HostParam) regexp() (*regexp.Regexp, error) {
	if h.Pattern == "" {
		return nil, errors.New("no pattern")
	}
	return regexp.Compile(`\A(?:` + h.Pattern + `)\z`)
}

// match yields every choice of parameters that makes host out of template.
func (p *Provider) match(template, host string) func(yield func(map[string]string) bool) {
	return func(yield func(map[string]string) bool) {
		p.matchRest(template, host, map[string]string{}, yield)
	}
}

// matchRest goes on where the start of a host has been matched. A parameter
// that stands in a host twice has one value. It returns false to end.
func (p *Provider) matchRest(template, host string, params map[string]string, yield func(map[string]string) bool) bool {
	literal, name, after, templated := cutParam(template)
	rest, ok := strings.CutPrefix(host, literal)
	if !ok {
		return true
	}
	if !templated {
		return rest != "" || len(params) == 0 || yield(maps.Clone(params))
	}
	h := p.hostParam(name)
	if h == nil {
		return true
	}
	before, twice := params[name]
	for value := range h.prefixes(rest) {
		if twice && value != before {
			continue
		}
		params[name] = value
		goOn := p.matchRest(after, rest[len(value):], params, yield)
		if !twice {
			delete(params, name)
		}
		if !goOn {
			return false
		}
	}
	return true
}

// cutParam cuts a host at its first {name}.
func cutParam(host string) (literal, name, after string, templated bool) {
	literal, rest, ok := strings.Cut(host, "{")
	if !ok {
		return host, "", "", false
	}
	name, after, ok = strings.Cut(rest, "}")
	return literal, name, after, ok
}
