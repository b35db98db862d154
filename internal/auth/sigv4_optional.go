package auth

import (
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

// What stands beside a client certificate is as it would be alone.

func (m mtls) optional() []string { return optionalOf(m.plus) }

func (m mtls) leavesLong(r *policy.Request, to egress.Destination) bool {
	return m.plus != nil && LeavesLong(m.plus, r, to)
}
