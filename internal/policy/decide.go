package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

// Decision is an allowed call.
type Decision struct {
	Host string // name or name:port
	Rule string // the path rule that admitted it, as written: what the audit log records
}

// Decide says whether capability c admits r; if not, the error is
// policy_violation and says which part did not fit.
func Decide(c *Capability, r *Request) (Decision, error) {
	if c.Off {
		return Decision{}, api.Errorf(api.PolicyViolation, "capability %s is off", c.ID)
	}
	if len(c.Hosts) == 0 {
		return Decision{}, api.Errorf(api.PolicyViolation, "capability %s has no host", c.ID)
	}
	if isTemplate(c.Hosts[0]) {
		return Decision{}, api.Errorf(api.PolicyViolation, "the host of capability %s is not known: it differs from account to account", c.ID)
	}
	if !slices.Contains(c.Methods, r.method) {
		return Decision{}, api.Errorf(api.PolicyViolation, "%s allows the methods %s, not %s", c.ID, strings.Join(c.Methods, ", "), r.method)
	}
	best := c.bestRule(r)
	if best == nil {
		return Decision{}, api.Errorf(api.PolicyViolation, "%s allows the paths %s, not %s", c.ID, someRules(c.Paths), api.Quote(r.path)).
			WithHint("aivault capability describe %s", c.ID)
	}
	if err := matchHeaders(c, r); err != nil {
		return Decision{}, err
	}
	return Decision{Host: c.Hosts[0], Rule: best.text}, nil
}

// Admits says whether the capability's methods, paths and headers admit r,
// whatever its hosts and whether it is off, and how specific the path rule is
// that does: PathRule.Specificity of the best one.
func (c *Capability) Admits(r *Request) (rank int, ok bool) {
	if !slices.Contains(c.Methods, r.method) {
		return 0, false
	}
	best := c.bestRule(r)
	if best == nil || matchHeaders(c, r) != nil {
		return 0, false
	}
	return best.rank, true
}

// bestRule is the most specific rule that admits the request's path, nil when
// none does.
func (c *Capability) bestRule(r *Request) *PathRule {
	var best *PathRule
	for i := range c.Paths {
		if p := &c.Paths[i]; p.match(r) && (best == nil || p.rank > best.rank) {
			best = p
		}
	}
	return best
}

// matchHeaders checks the headers that tell one operation from another where
// all share a path. A name given twice is refused: which of the two counts is
// the upstream's to say.
func matchHeaders(c *Capability, r *Request) error {
	for _, line := range c.MatchHeader {
		name, _, _ := strings.Cut(line, ": ")
		var given []string
		for i := range r.headers {
			if SameHeader(r.headers[i].Name, name) {
				given = append(given, r.headers[i].Value)
			}
		}
		allowed := func(l string) bool {
			n, value, ok := strings.Cut(l, ": ")
			return ok && SameHeader(n, name) && len(given) == 1 && given[0] == value
		}
		if !slices.ContainsFunc(c.MatchHeader, allowed) {
			return api.Errorf(api.PolicyViolation, "%s allows only certain values of the header %s, given once", c.ID, plain(name)).
				WithHint("aivault capability describe %s", c.ID)
		}
	}
	return nil
}

// someRules lists rules for an error text, the first few of many.
func someRules(rules []PathRule) string {
	const most = 6
	var b strings.Builder
	for i := range rules {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(rules)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(plain(rules[i].text))
	}
	return b.String()
}

// ParseHost checks a host of the form name[:port]: lower-case A-labels or an
// IP literal, no trailing dot, no userinfo, no path; port 0 means the default.
// An IPv6 address stands in brackets when a port follows; host is without
// them.
func ParseHost(s string) (host string, port int, err error) {
	host, digits, hasPort := s, "", false
	switch {
	case strings.Contains(s, "://"):
		return "", 0, badHost(s, "is a URL: give the name of the host alone")
	case strings.HasPrefix(s, "["):
		var rest string
		var closed bool
		if host, rest, closed = strings.Cut(s[1:], "]"); !closed {
			return "", 0, badHost(s, "lacks a ']'")
		}
		if !strings.Contains(host, ":") {
			return "", 0, badHost(s, "has brackets around what is no IPv6 address")
		}
		if digits, hasPort = strings.CutPrefix(rest, ":"); !hasPort && rest != "" {
			return "", 0, badHost(s, "has more than a port after its ']'")
		}
	case strings.Count(s, ":") == 1:
		host, digits, hasPort = strings.Cut(s, ":")
	}
	if hasPort {
		if port = parsePort(digits); port == 0 {
			return "", 0, badHost(s, "has a port that is no plain number from 1 to 65535")
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		// One spelling an address, and none that wraps another address.
		if a.Zone() != "" || a.Is4In6() || a.String() != host {
			return "", 0, badHost(s, "is an address in another form than the usual one")
		}
		return host, port, nil
	}
	if err := registry.ValidHost(host); err != nil {
		return "", 0, api.Errorf(api.InvalidRequest, "%w", err)
	}
	return host, port, nil
}

func badHost(s, why string) *api.Error {
	return api.Errorf(api.InvalidRequest, "host %s %s", api.Quote(s), why)
}

// parsePort returns 0 for what is no port.
func parsePort(s string) int {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > 65535 {
		return 0
	}
	return n
}

// plain is s when it is short and printable, else quoted.
func plain(s string) string {
	if q := api.Quote(s); len(q) != len(s)+2 {
		return q
	}
	return s
}
