// Package lint judges a provider file as the whole registry is judged: by what
// the format says, by the rules that calls are decided by, and by requests that
// were written down beside it. Nothing is called, and no file is compiled in
// for it.
package lint

import (
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

// A Problem is something that keeps a provider out of the registry.
type Problem struct {
	Where string `json:"where"` // a capability's id, a secret's name, or file
	Why   string `json:"why"`
}

// File judges a provider file beside the providers that there are. The
// provider is nil when it cannot be read as one.
func File(file []byte, beside *registry.Registry) (*registry.Provider, []Problem) {
	p, err := registry.Parse(file)
	if err != nil {
		return nil, []Problem{{Where: "file", Why: err.Error()}}
	}
	return p, Provider(p, beside)
}

// Provider judges a provider that Parse made.
func Provider(p *registry.Provider, beside *registry.Registry) []Problem {
	problems := claimed(p, beside)
	all, broken := compile(p, beside)
	problems = append(problems, broken...)
	for _, c := range all {
		problems = append(problems, c.calls()...)
	}
	return append(problems, overlaps(all)...)
}

// claimed names what belongs to another provider already.
func claimed(p *registry.Provider, beside *registry.Registry) []Problem {
	var problems []Problem
	for _, s := range p.Secrets {
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if c, taken := beside.Claims(name); taken && c.Provider != p.ID {
				problems = append(problems, Problem{name, fmt.Sprintf("is claimed by %s (%s)", c.Provider, c.Secret.Name)})
			}
		}
	}
	return problems
}

// A capability is an entry with what requests of it are judged by.
type capability struct {
	*registry.Capability
	policy *policy.Capability
	rules  *policy.Rules
	hosts  []string
	places []string // what logins put before the path
}

func compile(p *registry.Provider, beside *registry.Registry) ([]capability, []Problem) {
	rules := rulesOf(p, beside)
	var all []capability
	var problems []Problem
	for i := range p.Capabilities {
		c := capability{Capability: &p.Capabilities[i], rules: rules, hosts: p.HostsOf(&p.Capabilities[i])}
		for _, l := range p.LoginsOf(c.Capability) {
			c.places = append(c.places, l.Place())
		}
		var err error
		if c.policy, err = policy.CompileTemplate(c.ID, p.ID, c.hosts, c.Methods, c.Paths); err != nil {
			problems = append(problems, Problem{c.ID, api.AsError(err).Message})
			continue
		}
		if c.policy.Slashes() {
			own := *rules
			own.Slashes = true
			c.rules = &own
		}
		c.policy.MatchHeader = c.MatchHeader
		if c.policy.Operation, err = policy.CompileOperation(c.Operation); err != nil {
			problems = append(problems, Problem{c.ID, api.AsError(err).Message})
			continue
		}
		all = append(all, c)
	}
	return all, problems
}

// rulesOf is what canonicalising a request to the provider depends on.
func rulesOf(p *registry.Provider, beside *registry.Registry) *policy.Rules {
	own := p.AuthHeaders()
	rules := &policy.Rules{
		AuthHeader:    func(name string) bool { return slices.Contains(own, name) || beside.IsAuthHeader(name) },
		CallerHeaders: p.CallerHeaders, CallerQuery: p.CallerQuery,
	}
	for i := range p.Logins {
		a := &p.Logins[i].Auth
		if a.ParamName != "" {
			rules.AuthQuery = append(rules.AuthQuery, a.ParamName)
		}
		for _, f := range a.Params {
			rules.AuthQuery = append(rules.AuthQuery, f.Name)
		}
	}
	for _, h := range p.StaticHeaders {
		switch f := (api.Header{Name: h.Name, Value: h.Value}); {
		case h.Fixed:
			rules.Fixed = append(rules.Fixed, f)
		case !h.Caller:
			rules.Defaults = append(rules.Defaults, f)
		}
	}
	return rules
}

// admits says whether the capability lets a request through, whatever the
// host and the body.
func (c capability) admits(method, target string, headers []api.Header) error {
	r, err := policy.Canonicalise(method, target, headers, *c.rules)
	if err != nil {
		return err
	}
	if _, ok := c.policy.Admits(r); !ok {
		return fmt.Errorf("%s %s is not what it admits", method, target)
	}
	return nil
}

// asks says whether a request that the capability lets through asks in its
// body for what it admits.
func (c capability) asks(r *policy.Request, body string) error {
	rule := c.policy.Operation
	if rule == nil {
		return nil
	}
	o, err := rule.Read(r, []byte(body))
	if err == nil && !rule.Admits(o) {
		err = rule.Refuse(c.ID, o)
	}
	return err
}

// typed are a request's headers with the content type that a body of JSON has
// where the caller gives none.
func typed(headers []api.Header, body string) []api.Header {
	given := func(h api.Header) bool { return policy.SameHeader(h.Name, "Content-Type") }
	if body == "" || slices.ContainsFunc(headers, given) || !policy.LooksLikeJSON(body) {
		return headers
	}
	return append(slices.Clone(headers), api.Header{Name: "Content-Type", Value: "application/json"})
}

// calls judges the default call and the worked example: both have to be the
// capability's own.
func (c capability) calls() []Problem {
	var problems []Problem
	bad := func(format string, args ...any) {
		problems = append(problems, Problem{c.ID, fmt.Sprintf(format, args...)})
	}
	method, path := c.DefaultCall()
	headers := c.matching()
	if method != "" && path != "" {
		if err := c.admits(method, path, headers); err != nil {
			bad("its default call is refused: %s", api.AsError(err).Message)
		}
	}
	e, err := parseExample(c.Example)
	if err != nil {
		bad("example: %s", err)
		return problems
	}
	if e.method == "" {
		e.method = method
	}
	if e.path == "" {
		e.path = path
	}
	if e.method == "" || e.path == "" {
		bad("example: the method or the path is missing, and there is no default")
		return problems
	}
	if len(e.query) > 0 {
		e.path += "?" + strings.Join(e.query, "&")
	}
	if err := c.admits(e.method, e.path, e.headers); err != nil {
		bad("example: %s", api.AsError(err).Message)
		return problems
	}
	if c.policy.Operation == nil {
		return problems
	}
	r, err := policy.Canonicalise(e.method, e.path, typed(e.headers, e.body), *c.rules)
	if err == nil {
		err = c.asks(r, e.body)
	}
	if err != nil {
		bad("example: %s", api.AsError(err).Message)
	}
	return problems
}

// matching are headers that satisfy matchHeader.
func (c capability) matching() []api.Header {
	var headers []api.Header
	for _, m := range c.MatchHeader {
		name, value, _ := strings.Cut(m, ": ")
		if !slices.ContainsFunc(headers, func(h api.Header) bool { return h.Name == name }) {
			headers = append(headers, api.Header{Name: name, Value: value})
		}
	}
	return headers
}
