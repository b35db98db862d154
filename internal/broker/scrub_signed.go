package broker

import (
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/redact"
)

// A signed scrubs the signature of one call: who had it back could send the
// same request past us, and again.
type signed struct{ *redact.Set }

// newSigned is nil where a login sends the same each time, which the set for
// the host has.
func newSigned(s auth.Strategy, add egress.Additions) *signed {
	if !auth.Fresh(s) {
		return nil
	}
	rendered := auth.Signatures(add)
	defer wipeValues(rendered)
	return &signed{Set: redact.NewSet(rendered)}
}

// text scrubs a header's value.
func (s *signed) text(v string) (string, int) {
	if s == nil {
		return v, 0
	}
	return s.String(v)
}

// end lets go of it: nothing is looked for any more.
func (s *signed) end() {
	if s != nil {
		s.Close()
	}
}
