package auth

import (
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
)

// OptionalFields lists the fields that spec uses where the credential has
// them, and does without elsewhere; of a spec that New refuses, none.
func OptionalFields(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	return optionalOf(p)
}

// optionals is a plan that has fields which may be missing.
type optionals interface{ optional() []string }

func optionalOf(p plan) []string {
	if o, ok := p.(optionals); ok {
		return o.optional()
	}
	return nil
}

// LeavesLong says whether a body that is longer than may be held in memory can
// go out to a destination all the same, by a strategy that signs those that
// are not.
func LeavesLong(s Strategy, r *policy.Request, to egress.Destination) bool {
	l, ok := s.(leaver)
	return ok && l.leavesLong(r, to)
}

// leaver is a Strategy that signs a body only where that is in memory.
type leaver interface {
	leavesLong(r *policy.Request, to egress.Destination) bool
}

// FitsHost says why no request to a host can be authenticated: the host does
// not say what it has to (invalid_request). Of a spec that New refuses it says
// nothing.
func FitsHost(spec api.AuthSpec, host string) error {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	if m, ok := p.(mtls); ok && m.plus != nil {
		p = m.plus
	}
	if s, ok := p.(*sigV4); ok {
		if _, _, err := s.scope(egress.Destination{Host: host}); err != nil {
			e := api.AsError(err)
			return api.Errorf(api.InvalidRequest, "%s", strings.TrimPrefix(e.Message, "auth: ")).WithHint("%s", e.Hint)
		}
	}
	return nil
}

// What stands beside a client certificate is as it would be alone.

func (m mtls) optional() []string { return optionalOf(m.plus) }

func (m mtls) leavesLong(r *policy.Request, to egress.Destination) bool {
	return m.plus != nil && LeavesLong(m.plus, r, to)
}
