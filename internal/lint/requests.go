package lint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

// What a line of requests says of its request.
const (
	allow  = "allow"  // exactly these capabilities admit it
	admin  = "admin"  // the same, and all of them start off
	refuse = "refuse" // none does
)

// A Result is one line of requests, and whether it is true.
type Result struct {
	Line     int      `json:"line"`
	Verb     string   `json:"verb"`
	Method   string   `json:"method"`
	Host     string   `json:"host"`
	Path     string   `json:"path"`
	Want     []string `json:"want"` // capabilities, sorted
	Admitted []string `json:"admitted"`
	OK       bool     `json:"ok"`
	Body     string   `json:"body,omitzero"`
	Why      string   `json:"why,omitzero"` // why it is not
	headers  []api.Header
}

// Requests holds the requests of a text against a provider: a line each, of
// the form VERB METHOD HOST PATH [Name:value] [capabilities] [body:TEXT], where
// TEXT goes on to the end of the line. Empty lines and those that begin with
// '#' say nothing. It fails where a line cannot be read.
func Requests(p *registry.Provider, beside *registry.Registry, text string) ([]Result, error) {
	all, broken := compile(p, beside)
	if len(broken) > 0 {
		return nil, fmt.Errorf("%s: %s", broken[0].Where, broken[0].Why)
	}
	var results []Result
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, body, has := strings.Cut(strings.TrimRight(line, "\r\n"), " body:")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		r, err := parseRequest(words)
		if err == nil && has && strings.TrimSpace(body) == "" {
			err = errors.New("its body is empty: leave body: out")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		r.Line, r.Body = number, body
		r.judge(p, all)
		results = append(results, r)
	}
	return results, nil
}

func parseRequest(words []string) (Result, error) {
	if len(words) < 4 {
		return Result{}, fmt.Errorf("it is not VERB METHOD HOST PATH [Name:value] [capabilities] [body:TEXT]")
	}
	r := Result{Verb: words[0], Method: words[1], Host: words[2], Path: words[3], Want: []string{}, Admitted: []string{}}
	for _, w := range words[4:] {
		if name, value, ok := strings.Cut(w, ":"); ok {
			r.headers = append(r.headers, api.Header{Name: name, Value: value})
			continue
		}
		r.Want = append(r.Want, w)
	}
	slices.Sort(r.Want)
	switch r.Verb {
	case allow, admin:
		if len(r.Want) == 0 {
			return Result{}, fmt.Errorf("%s needs the capabilities that admit the request", r.Verb)
		}
	case refuse:
		if len(r.Want) > 0 {
			return Result{}, fmt.Errorf("refuse means that no capability admits the request: it names none")
		}
	default:
		return Result{}, fmt.Errorf("%+q is none of allow, admin and refuse", r.Verb)
	}
	return r, nil
}

// judge asks every capability on the request's host.
func (r *Result) judge(p *registry.Provider, all []capability) {
	params, templated := p.MatchHost(r.Host)
	on := func(template string) bool {
		if !strings.Contains(template, "{") {
			return template == r.Host
		}
		filled, ok := p.FillHost(template, params)
		return templated && ok && filled == r.Host
	}
	var refused string
	for _, c := range all {
		if !on(c.hosts[0]) { // the first is where calls go
			continue
		}
		q, err := policy.Canonicalise(r.Method, r.Path, typed(r.headers, r.Body), *c.rules)
		if err != nil {
			refused = api.AsError(err).Message
			continue
		}
		if _, ok := c.policy.Admits(q); ok {
			if err := c.asks(q, r.Body); err != nil {
				refused = api.AsError(err).Message
				continue
			}
			r.Admitted = append(r.Admitted, c.ID)
			if (c.Access == "admin") != (r.Verb == admin) && r.Verb != refuse {
				r.Why = fmt.Sprintf("the access of %s is %s", c.ID, c.Access)
			}
		}
	}
	slices.Sort(r.Admitted)
	switch {
	case !slices.Equal(r.Admitted, r.Want) && len(r.Admitted) > 0:
		r.Why = "it is admitted by " + strings.Join(r.Admitted, ", ")
	case !slices.Equal(r.Admitted, r.Want):
		if r.Why = "no capability admits it"; refused != "" {
			r.Why += ": " + refused
		}
	}
	r.OK = r.Why == ""
}
