// Package auth turns a credential's secrets into what a request must carry.
// A strategy never touches a request: it returns egress.Additions.
//
// Strategies are one table (strategies), one file each, and one contract
// suite, which fails for a strategy that it has no data for.
package auth

import (
	"context"
	"io"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Input is what a strategy may look at.
type Input struct {
	Fields  map[string]secret.Value // by field name
	Public  map[string]bool         // fields that hold no secret: an e-mail, an account id
	Request *policy.Request
	// Destination is where the request goes, with the login's path prefix.
	Destination egress.Destination
	// Body is the request's, whole, for a strategy that signs it; nil for one
	// that does not, and for a body that is not read (see SignsBody).
	Body []byte
	// BodyLength is how long the body is that goes out; -1 is unknown. Of one
	// that is in Body it need not be given.
	BodyLength int64
	Now        time.Time
	// Rand makes random parts; nil is crypto/rand.
	Rand io.Reader
	// Nonces makes numbers that rise over all calls; nil: from Now alone.
	Nonces *Nonces
}

// Strategy is one way to authenticate, with its parameters checked.
type Strategy interface {
	// Additions renders the auth of one request. What it returns are fresh
	// values that the caller wipes. An error (auth_failed) says which field
	// does not fit and never repeats it.
	Additions(ctx context.Context, in Input) (egress.Additions, error)
	// SignsBody says whether Additions has to be given the body of a request
	// to this destination.
	SignsBody(r *policy.Request, to egress.Destination) bool
}

// plan is a Strategy that also says what it needs and sets.
type plan interface {
	Strategy
	templates() []template // in the order in which they are rendered
	queryParams() []string
	headerNames() []string
}

// strategy is one row of the table.
type strategy struct {
	name   string
	params []string // the fields of api.AuthSpec that it takes, beside type
	make   func(api.AuthSpec) (plan, error)
}

// strategies is the one table of them.
func strategies() []strategy {
	return []strategy{
		{"header", []string{"headerName", "valueTemplate"}, newHeader},
		{"query", []string{"paramName", "valueTemplate"}, newQuery},
		{"path", []string{"prefixTemplate"}, newPath},
		{"basic", []string{"usernameTemplate", "passwordTemplate"}, newBasic},
		{"multi-header", []string{"headers"}, newMultiHeader},
		{"multi-query", []string{"params"}, newMultiQuery},
		{"hmac", []string{"hmac"}, newHMAC},
		{"aws-sigv4", []string{"sigv4"}, newSigV4},
		{"mtls", []string{"mtls"}, newMTLS},
		{"oauth2", []string{"oauth2"}, newOAuth2},
		{"token-exchange", []string{"tokenExchange"}, newTokenExchange},
	}
}

func lookUp(name string) (strategy, bool) {
	for _, s := range strategies() {
		if s.name == name {
			return s, true
		}
	}
	return strategy{}, false
}

// New checks spec and builds its strategy; the error (invalid_request) names
// the field of spec that is wrong.
func New(spec api.AuthSpec) (Strategy, error) {
	p, err := newPlan(spec)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func newPlan(spec api.AuthSpec) (plan, error) {
	s, ok := lookUp(spec.Type)
	if !ok {
		return nil, invalid("type", "%q is not a way to authenticate that aivault knows", spec.Type)
	}
	if err := onlyParams(spec, s.params); err != nil {
		return nil, err
	}
	return s.make(spec)
}

// Fields lists the field names that spec's templates use, in order of first
// use. A basic spec without templates uses the single field "secret". A spec
// that New refuses has none.
func Fields(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	var names []string
	seen := make(map[string]bool)
	for _, t := range p.templates() {
		for _, part := range t {
			if part.field != "" && !seen[part.field] {
				seen[part.field] = true
				names = append(names, part.field)
			}
		}
	}
	return names
}

// QueryParams lists the query parameters that spec sets; of a spec that New
// refuses, none.
func QueryParams(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	return p.queryParams()
}

// Headers lists the header fields that spec sets; of a spec that New refuses,
// none.
func Headers(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	return p.headerNames()
}

// Parts lists what a strategy makes of a credential's values without sending
// it, which an upstream may know all the same: the bytes of a key that is
// stored encoded. Fields may be missing. The values are fresh; the caller
// wipes them.
func Parts(s Strategy, fields map[string]secret.Value) []secret.Value {
	if p, ok := s.(partial); ok {
		return p.parts(fields)
	}
	return nil
}

// partial is a Strategy whose values have parts.
type partial interface {
	parts(fields map[string]secret.Value) []secret.Value
}
