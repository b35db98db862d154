// Package auth turns a credential's secrets into what a request must carry.
// A strategy never touches a request: it returns egress.Additions.
//
// Strategies are one table, one file each, and one contract suite.
package auth

import (
	"context"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Input is what a strategy may look at.
type Input struct {
	Fields  map[string]secret.Value // by field name
	Request *policy.Request
	Host    string
	Now     time.Time
}

// Strategy is one way to authenticate, with its parameters checked.
type Strategy interface {
	// Additions renders the auth of one request. What it returns are fresh
	// values that the caller wipes. An error (auth_failed) says which field
	// does not fit and never repeats it.
	Additions(ctx context.Context, in Input) (egress.Additions, error)
}

// New checks spec and builds its strategy; the error (invalid_request) names
// the field of spec that is wrong.
func New(spec api.AuthSpec) (Strategy, error) { panic("contract") }

// Fields lists the field names that spec's templates use, in order of first
// use. A basic spec without templates uses the single field "secret".
func Fields(spec api.AuthSpec) []string { panic("contract") }

// Supported says whether a strategy of this name is built.
func Supported(name string) bool { panic("contract") }

// QueryParams lists the query parameters that spec sets.
func QueryParams(spec api.AuthSpec) []string { panic("contract") }

// Rendered lists what additions put on the wire that holds a secret, each as
// a value to be scrubbed from answers: "Basic …" parts, rendered templates.
func Rendered(a egress.Additions) []secret.Value { panic("contract") }
