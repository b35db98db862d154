package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

func checkURL(what, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || ValidHost(u.Hostname()) != nil {
		return fmt.Errorf("%s: %s is not an https URL", what, api.Quote(s))
	}
	return nil
}

func (p *Provider) checkHosts() error {
	params := map[string]bool{}
	for i := range p.HostParams {
		h := &p.HostParams[i]
		if !validField(h.Name) || params[h.Name] {
			return fmt.Errorf("host parameter %s is invalid or there twice", api.Quote(h.Name))
		}
		params[h.Name] = true
		if err := h.check(p.SelfHosted); err != nil {
			return fmt.Errorf("host parameter %s: %w", h.Name, err)
		}
	}
	if len(p.Hosts) == 0 {
		return errors.New("no host is named")
	}
	used := map[string]bool{}
	for _, h := range p.allHosts() {
		if err := p.checkHostTemplate(h, params, used); err != nil {
			return err
		}
	}
	if len(used) != len(params) {
		return errors.New("a host parameter is in no host")
	}
	for i, h := range p.Hosts {
		if slices.Contains(p.Hosts[:i], h) {
			return fmt.Errorf("host %s is there twice", h)
		}
	}
	return p.checkHostPatterns(len(params) > 0)
}

// check says what is wrong with a host parameter by itself.
func (h *HostParam) check(selfHosted bool) error {
	if h.About != "" {
		if err := checkLine("about", h.About); err != nil {
			return err
		}
	}
	if selfHosted {
		if h.Name != selfHost || h.Kind != "tenant" || h.Pattern != "" || len(h.Values) > 0 || h.Default != "" {
			return errors.New("a self-hosted provider has the tenant " + selfTemplate + " alone, which may be any host")
		}
		return nil
	}
	switch {
	case h.Kind != "tenant" && h.Kind != "region":
		return errors.New("kind is neither tenant nor region")
	case h.Kind == "tenant" && len(h.Values) > 0:
		return errors.New("a tenant has no list of values")
	case (h.Pattern == "") == (len(h.Values) == 0):
		return errors.New("wants either a pattern or values")
	case h.Default != "" && !slices.Contains(h.Values, h.Default):
		return errors.New("default is not one of the values")
	case h.Pattern != "" && !(strings.HasPrefix(h.Pattern, "^") && strings.HasSuffix(h.Pattern, "$")):
		return errors.New("pattern is not anchored at both ends")
	}
	if _, err := h.regexp(); h.Pattern != "" && err != nil {
		return errors.New("pattern is no regular expression")
	}
	for i, v := range h.Values {
		if ValidHost("x."+v+".x") != nil || slices.Contains(h.Values[:i], v) {
			return fmt.Errorf("value %s is no part of a host, or there twice", api.Quote(v))
		}
	}
	return nil
}

// checkHostPatterns wants patterns exactly where hosts have parameters, each
// '*' and a rest that tenants cannot choose, and each such host to be covered,
// whatever of their values its parameters have.
func (p *Provider) checkHostPatterns(templated bool) error {
	if (templated && !p.SelfHosted) != (len(p.HostPatterns) > 0) {
		return errors.New("hostPatterns belong to hosts with parameters that are not self-hosted, and these to them")
	}
	for _, pattern := range p.HostPatterns {
		rest, ok := strings.CutPrefix(pattern, "*")
		if !ok || !ownSuffix(rest) || ValidHost("x"+rest) != nil {
			return fmt.Errorf("hostPatterns: %s is not '*' and the rest of a host, of two whole labels or more", api.Quote(pattern))
		}
	}
	for _, h := range p.allHosts() {
		if !strings.Contains(h, "{") || p.SelfHosted {
			continue
		}
		for _, end := range p.ends(h) {
			covered := func(pattern string) bool { return strings.HasSuffix(end, pattern[1:]) }
			if !slices.ContainsFunc(p.HostPatterns, covered) {
				return fmt.Errorf("hostPatterns: none covers %s", api.Quote(h))
			}
		}
	}
	return nil
}

// ends lists what follows the part of a host that is free: its end after the
// last parameter, or, where that is the end, has listed values and begins a
// label, each of these after its '.'.
func (p *Provider) ends(host string) []string {
	at := strings.LastIndexByte(host, '{')
	h := p.hostParam(strings.TrimSuffix(host[at+1:], "}"))
	if h == nil || !strings.HasSuffix(host, "}") || len(h.Values) == 0 || at == 0 || host[at-1] != '.' {
		return []string{host[strings.LastIndexByte(host, '}')+1:]}
	}
	var out []string
	for _, v := range h.Values {
		out = append(out, "."+v)
	}
	return out
}

// ownSuffix says whether what stands after a tenant's part of a host is the
// provider's: two whole labels or more.
func ownSuffix(rest string) bool {
	if rest == "" || rest[0] != '.' && rest[0] != '-' {
		return false
	}
	_, labels, ok := strings.Cut(rest, ".")
	return ok && strings.Contains(labels, ".")
}

// checkHostTemplate checks a host whose {params} stand for (parts of) labels.
// The last one may be the host's end only when all it can be is listed, and
// each is a whole domain.
func (p *Provider) checkHostTemplate(h string, params, used map[string]bool) error {
	if err := checkHostParams(h, params, used); err != nil {
		return err
	}
	if err := ValidHost(fillBraces(h)); err != nil {
		return err
	}
	if p.SelfHosted {
		if h != selfTemplate {
			return fmt.Errorf("host %s: a self-hosted provider has the host %s alone", api.Quote(h), selfTemplate)
		}
		return nil
	}
	if !strings.Contains(h, "{") {
		if !strings.Contains(h, ".") {
			return fmt.Errorf("host %s is a single label", api.Quote(h))
		}
		return nil
	}
	for _, end := range p.ends(h) {
		if !ownSuffix(end) {
			return fmt.Errorf("host %s leaves its registrable part to a parameter", api.Quote(h))
		}
	}
	return nil
}

// checkHostParams wants every {name} to be a host parameter, and notes it.
func checkHostParams(h string, params, used map[string]bool) error {
	for rest := h; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return nil
		}
		name, after, ok := strings.Cut(after, "}")
		if !ok || !params[name] {
			return fmt.Errorf("host %s names an unknown parameter", api.Quote(h))
		}
		used[name], rest = true, after
	}
}
