package policy

import (
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// PathRule is one compiled path rule. The zero PathRule admits nothing.
type PathRule struct {
	text     string
	segments []pattern
	exact    bool
	open     bool // ends in '/': what lies below, not the path without it
	slashes  bool // a segment declares an escaped '/'
	literal  string
	rank     int
	pivot    int // the last literal segment: most rules that don't match differ there
}

// pattern matches one decoded segment: its parts in order, with one or more
// characters between each two. One part is a literal.
type pattern []string

// ParsePathRule reads a rule: /p admits p and what lies below it by whole
// segments, =/p admits p alone, * is one segment or part of one. A prefix
// that ends in '/' admits what lies below it; "/" admits everything. A
// segment may hold an escaped '/' only where the rule writes %2F in it, never
// by a '*' alone nor below a prefix.
func ParsePathRule(s string) (PathRule, error) {
	path, exact := strings.CutPrefix(s, "=")
	switch {
	case len(s) > MaxRule:
		return PathRule{}, badRule(s, fmt.Sprintf("is longer than %d bytes", MaxRule))
	case !strings.HasPrefix(path, "/"):
		return PathRule{}, badRule(s, "does not start with '/' or '=/'")
	case strings.Contains(path, "?"):
		return PathRule{}, badRule(s, "holds a '?': rules are about the path")
	case strings.Contains(path, "**"):
		return PathRule{}, badRule(s, "holds '**': one '*' is any text within a segment").
			WithHint("a prefix already admits what lies below it")
	}
	// A rule is a path: what no request could carry is a mistake in it.
	var r Request
	if err := r.setPath(path, true); err != nil {
		return PathRule{}, badRule(s, "cannot match: "+err.Error())
	}
	p := PathRule{text: s, exact: exact, slashes: r.slashed}
	for seg := range strings.SplitSeq(r.path[1:], "/") {
		p.segments = append(p.segments, parsePattern(seg))
	}
	if last := len(p.segments) - 1; !exact && len(p.segments[last]) == 1 && p.segments[last][0] == "" {
		p.open, p.segments = true, p.segments[:last]
	}
	if !strings.Contains(r.path, "*") {
		p.literal = r.path
	}
	for i, pat := range p.segments {
		if len(pat) == 1 {
			p.pivot = i
		}
	}
	p.rank = p.specificity()
	return p, nil
}

func badRule(s, why string) *api.Error {
	return api.Errorf(api.InvalidRequest, "path rule %s %s", api.Quote(s), why)
}

// parsePattern splits an escaped segment at its '*' before the escapes are
// undone, so that %2A stays a plain character.
func parsePattern(seg string) pattern {
	parts := strings.Split(seg, "*")
	for i, p := range parts {
		if strings.Contains(p, "%") {
			b := make([]byte, 0, len(p))
			for j := 0; j < len(p); j++ {
				c := p[j]
				if c == '%' {
					c, _ = unescape(p, j) // canonical: cannot fail
					j += 2
				}
				b = append(b, c)
			}
			parts[i] = string(b)
		}
	}
	return parts
}

// String is the rule as written.
func (p PathRule) String() string { return p.text }

// Match says whether the rule admits a request's path.
func (p PathRule) Match(r *Request) bool { return p.match(r) }

func (p *PathRule) match(r *Request) bool {
	segs, n := r.segments, len(p.segments)
	switch {
	case p.text == "" || len(segs) < n:
		return false
	case p.exact && len(segs) != n:
		return false
	case p.open && len(segs) == n:
		return false
	case r.slashed && !p.declares(segs):
		return false
	}
	if n > 0 && !p.segments[p.pivot].match(segs[p.pivot]) {
		return false
	}
	for i, pat := range p.segments {
		if i != p.pivot && !pat.match(segs[i]) {
			return false
		}
	}
	return true
}

// declares says whether the rule writes %2F in each of the segments that hold
// one.
func (p *PathRule) declares(segs []string) bool {
	for i, s := range segs {
		if strings.IndexByte(s, '/') >= 0 && (i >= len(p.segments) || !p.segments[i].escapesSlash()) {
			return false
		}
	}
	return true
}

// escapesSlash says whether the pattern declares an escaped '/'.
func (pat pattern) escapesSlash() bool {
	for _, part := range pat {
		if strings.IndexByte(part, '/') >= 0 {
			return true
		}
	}
	return false
}

// match is linear in s: each part is looked for once, from left to right,
// and the leftmost place is as good as any other.
func (pat pattern) match(s string) bool {
	first := pat[0]
	if len(pat) == 1 {
		return s == first
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	last := pat[len(pat)-1]
	for _, part := range pat[1 : len(pat)-1] {
		if s == "" {
			return false
		}
		i := strings.Index(s[1:], part)
		if i < 0 {
			return false
		}
		s = s[1+i+len(part):]
	}
	return len(s) > len(last) && strings.HasSuffix(s, last)
}

// Specificity orders rules that admit the same path: the greater the more
// specific. More segments come first, then more literal ones, then more
// literal text beside a '*', then an exact rule.
func (p PathRule) Specificity() int { return p.rank }

func (p *PathRule) specificity() int {
	literal, text := 0, 0
	for _, pat := range p.segments {
		if len(pat) == 1 {
			literal++
			continue
		}
		for _, part := range pat {
			text += len(part)
		}
	}
	rank := len(p.segments)<<21 | literal<<11 | min(text, 1023)<<1 // MaxRule keeps each below 1024
	if p.exact || p.open {
		rank++ // narrower than the same prefix
	}
	return rank
}

// Literal returns the path that the rule stands for when it has no '*'.
func (p PathRule) Literal() (string, bool) { return p.literal, p.literal != "" }

// Capability is what Decide judges by: a registry or custom capability,
// compiled.
type Capability struct {
	ID       string
	Provider string
	Hosts    []string // name or name:port
	Methods  []string
	Paths    []PathRule
	Off      bool // refused to everyone
	slashes  bool // a rule declares an escaped '/'
	// MatchHeader are "Name: value" lines that the request must carry: one of
	// each name that is listed here, and that name once.
	MatchHeader []string
	// Operation is what the body has to ask for, nil where nothing of it is
	// read. Decide and Admits see no body: who asks them has to ask it, too.
	Operation *OperationRule
	// Default call; empty where there is none.
	DefaultMethod, DefaultPath string
}

// Compile checks a capability's parts and parses its rules. An empty list of
// hosts, methods or paths is an error: it never means "any". The default call
// is the only method and the only path without '*'; a registry entry may name
// another.
func Compile(id, provider string, hosts, methods, paths []string) (*Capability, error) {
	bad := func(format string, args ...any) error {
		return api.Errorf(api.InvalidRequest, "capability %s: "+format, append([]any{api.Quote(id)}, args...)...)
	}
	switch {
	case !ValidCapabilityID(id):
		return nil, bad("id is not of the form provider/name in a-z, 0-9, '-', '_' and '.'")
	case provider == "":
		return nil, bad("no provider")
	case len(hosts) == 0:
		return nil, bad("no host")
	case len(methods) == 0:
		return nil, bad("no method")
	case len(paths) == 0:
		return nil, bad("no path")
	}
	c := &Capability{ID: id, Provider: provider, Hosts: slices.Clone(hosts), Methods: slices.Clone(methods)}
	for _, h := range hosts {
		if _, _, err := ParseHost(h); err != nil {
			return nil, bad("%w", err)
		}
	}
	for i, m := range methods {
		switch {
		case !validMethod(m):
			return nil, bad("method %s is not one of %s", api.Quote(m), methodList)
		case slices.Contains(methods[:i], m):
			return nil, bad("method %s is named twice", api.Quote(m))
		}
	}
	for i, s := range paths {
		p, err := ParsePathRule(s)
		if err != nil {
			return nil, bad("%w", err)
		}
		if slices.Contains(paths[:i], s) {
			return nil, bad("path rule %s is named twice", api.Quote(s))
		}
		c.Paths = append(c.Paths, p)
		c.slashes = c.slashes || p.slashes
	}
	if len(methods) == 1 {
		c.DefaultMethod = methods[0]
	}
	if len(paths) == 1 {
		c.DefaultPath, _ = c.Paths[0].Literal()
	}
	return c, nil
}

// Slashes says whether one of the path rules declares an escaped '/': what
// Rules.Slashes has to be for a call of the capability.
func (c *Capability) Slashes() bool { return c.slashes }
