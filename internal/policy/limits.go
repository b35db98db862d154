package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
)

// MaxInspected bounds a request's body that a policy has to read whole, in
// bytes.
const MaxInspected = 16 << 20

// Bounds of a policy. What is longer is a mistake: every call pays for it.
const (
	MaxRate       = 60_000  // calls a minute: as many as quota counts
	maxLimitNames = 256     // of one list
	maxLimitName  = 256     // bytes of a field's or a parameter's name
	maxRequired   = 64      // fields that a body must have
	maxValues     = 256     // of one such field
	maxValue      = 1 << 10 // bytes of one
	maxPointer    = 1 << 10 // bytes
	maxTokens     = 32      // of a pointer
)

// Limits are a capability's policy, compiled. A nil Limits limits nothing.
type Limits struct {
	policy  api.Policy
	block   map[string]bool // folded names
	allow   map[string]bool // names as they are read; nil: all
	deny    denied
	require []required
}

// LimitsNothing says whether a policy has no limit at all.
func LimitsNothing(p *api.Policy) bool {
	return p.RatePerMinute == 0 && p.RatePerCallerPerMinute == 0 && p.MaxRequestBodyBytes == 0 && p.MaxResponseBodyBytes == 0 &&
		len(p.ResponseBlock) == 0 && len(p.AllowQuery) == 0 && len(p.DenyQuery) == 0 && len(p.RequireJSON) == 0
}

// CompileLimits checks a policy and compiles it. An error is invalid_request
// and says which limit is wrong.
func CompileLimits(p api.Policy) (*Limits, error) {
	l := &Limits{policy: clonePolicy(p)}
	for _, n := range []struct {
		what  string
		value int64
		most  int64
	}{
		{"the rate limit per minute", int64(p.RatePerMinute), MaxRate},
		{"the rate limit per minute and caller", int64(p.RatePerCallerPerMinute), MaxRate},
		{"the limit of the request body", p.MaxRequestBodyBytes, 0},
		{"the limit of the response body", p.MaxResponseBodyBytes, 0},
	} {
		switch {
		case n.value < 0:
			return nil, badLimit("%s is negative", n.what)
		case n.most > 0 && n.value > n.most:
			return nil, badLimit("%s is greater than %d", n.what, n.most)
		}
	}
	if err := checkNames("fields to remove", "field", p.ResponseBlock); err != nil {
		return nil, err
	}
	if len(p.ResponseBlock) > 0 {
		l.block = map[string]bool{}
		for _, name := range p.ResponseBlock {
			l.block[string(appendFolded(nil, name))] = true
		}
	}
	var err error
	if l.allow, l.deny, err = compileQuery(p.AllowQuery, p.DenyQuery); err != nil {
		return nil, err
	}
	if l.require, err = compileRequired(p.RequireJSON); err != nil {
		return nil, err
	}
	return l, nil
}

func badLimit(format string, args ...any) *api.Error {
	return api.Errorf(api.InvalidRequest, "policy: "+format, args...)
}

// refuse is a violation of the policy.
func (l *Limits) refuse(format string, args ...any) *api.Error {
	err := api.Errorf(api.PolicyViolation, format, args...)
	if l.policy.Capability == "" {
		return err
	}
	return err.WithHint("aivault capability describe %s", l.policy.Capability)
}

func checkNames(list, what string, names []string) error {
	if len(names) > maxLimitNames {
		return badLimit("more than %d %s", maxLimitNames, list)
	}
	for _, n := range names {
		switch {
		case n == "":
			return badLimit("the name of a %s is empty", what)
		case len(n) > maxLimitName:
			return badLimit("the name %s of a %s is longer than %d bytes", api.Quote(n), what, maxLimitName)
		case !utf8.ValidString(n):
			return badLimit("the name %s of a %s is not valid UTF-8", api.Quote(n), what)
		case strings.ContainsFunc(n, unicode.IsControl):
			return badLimit("the name %s of a %s holds a control character", api.Quote(n), what)
		}
	}
	return nil
}

// Policy is what the Limits were compiled from.
func (l *Limits) Policy() api.Policy {
	if l == nil {
		return api.Policy{}
	}
	return clonePolicy(l.policy)
}

func clonePolicy(p api.Policy) api.Policy {
	p.ResponseBlock = slices.Clone(p.ResponseBlock)
	p.AllowQuery, p.DenyQuery = slices.Clone(p.AllowQuery), slices.Clone(p.DenyQuery)
	p.RequireJSON = slices.Clone(p.RequireJSON)
	for i := range p.RequireJSON {
		p.RequireJSON[i].Values = slices.Clone(p.RequireJSON[i].Values)
	}
	return p
}

// MaxRequest bounds the body of a request, in bytes; -1 is no bound.
func (l *Limits) MaxRequest() int64 {
	if l == nil || l.policy.MaxRequestBodyBytes == 0 {
		return -1
	}
	return l.policy.MaxRequestBodyBytes
}

// MaxResponse bounds the body of an answer, in bytes; -1 is no bound.
func (l *Limits) MaxResponse() int64 {
	if l == nil || l.policy.MaxResponseBodyBytes == 0 {
		return -1
	}
	return l.policy.MaxResponseBodyBytes
}

// MaxInspected bounds a body that has to be read whole, in bytes.
func (l *Limits) MaxInspected() int64 {
	if n := l.MaxRequest(); n >= 0 && n < MaxInspected {
		return n
	}
	return MaxInspected
}

// InspectsBody says whether CheckBody has to see the request's body.
func (l *Limits) InspectsBody() bool { return l != nil && len(l.require) > 0 }

// BlocksFields says whether answers have to go through Block.
func (l *Limits) BlocksFields() bool { return l != nil && len(l.block) > 0 }

// listNames names a few of many, for an error text.
func listNames(names []string) string {
	const most = 6
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(plain(n))
	}
	return b.String()
}
