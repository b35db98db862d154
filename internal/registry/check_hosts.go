package registry

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

func checkURL(what, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || ValidHost(u.Hostname()) != nil {
		return fmt.Errorf("%s: %s is not an https URL", what, quote(s))
	}
	return nil
}

func (p *Provider) checkHosts() error {
	params := map[string]bool{}
	for _, h := range p.HostParams {
		if !validField(h.Name) || params[h.Name] {
			return fmt.Errorf("host parameter %s is invalid or there twice", quote(h.Name))
		}
		params[h.Name] = true
		switch {
		case h.Kind != "tenant" && h.Kind != "region":
			return fmt.Errorf("host parameter %s: kind is neither tenant nor region", h.Name)
		case h.Kind == "tenant" && len(h.Values) > 0:
			return fmt.Errorf("host parameter %s: a tenant has no list of values", h.Name)
		case h.Pattern == "" && len(h.Values) == 0 && !p.SelfHosted:
			return fmt.Errorf("host parameter %s: neither pattern nor values", h.Name)
		}
		if h.Pattern != "" && !(strings.HasPrefix(h.Pattern, "^") && strings.HasSuffix(h.Pattern, "$")) {
			return fmt.Errorf("host parameter %s: pattern is not anchored at both ends", h.Name)
		}
		if _, err := regexp.Compile(h.Pattern); err != nil {
			return fmt.Errorf("host parameter %s: pattern is no regular expression", h.Name)
		}
	}
	if len(p.Hosts) == 0 {
		return errors.New("no host is named")
	}
	used := map[string]bool{}
	for _, h := range p.allHosts() {
		if err := checkHostTemplate(h, params, used, p.SelfHosted); err != nil {
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

// checkHostPatterns wants patterns exactly where hosts have parameters, each
// '*' and a rest that tenants cannot choose, and each such host to be covered.
func (p *Provider) checkHostPatterns(templated bool) error {
	if templated != (len(p.HostPatterns) > 0) && !p.SelfHosted {
		return errors.New("hostPatterns belong to hosts with parameters, and these to them")
	}
	for _, pattern := range p.HostPatterns {
		rest, ok := strings.CutPrefix(pattern, "*")
		if !ok || !ownSuffix(rest) || ValidHost("x"+rest) != nil {
			return fmt.Errorf("hostPatterns: %s is not '*' and the rest of a host, of two whole labels or more", quote(pattern))
		}
	}
	for _, h := range p.Hosts {
		covered := func(pattern string) bool { return strings.HasSuffix(h, pattern[1:]) }
		if strings.Contains(h, "{") && !p.SelfHosted && !slices.ContainsFunc(p.HostPatterns, covered) {
			return fmt.Errorf("hostPatterns: none covers %s", h)
		}
	}
	return nil
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
func checkHostTemplate(h string, params, used map[string]bool, selfHosted bool) error {
	if err := checkHostParams(h, params, used); err != nil {
		return err
	}
	if err := ValidHost(fillBraces(h)); err != nil {
		return err
	}
	templated := strings.Contains(h, "{")
	if templated && !selfHosted && !ownSuffix(h[strings.LastIndexByte(h, '}')+1:]) {
		return fmt.Errorf("host %s leaves its registrable part to a parameter", quote(h))
	}
	if !templated && !strings.Contains(h, ".") {
		return fmt.Errorf("host %s is a single label", quote(h))
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
			return fmt.Errorf("host %s names an unknown parameter", quote(h))
		}
		used[name], rest = true, after
	}
}
