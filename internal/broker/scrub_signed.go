package broker

import (
	"io"

	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/redact"
)

// A signed scrubs the signature of one call: who had it back could send the
// same request past us, and again.
type signed struct {
	*redact.Set
	reader *redact.Reader
}

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

// read scrubs an answer's body.
func (s *signed) read(r io.Reader, scrub func(*redact.Set, io.Reader) *redact.Reader) io.Reader {
	if s == nil {
		return r
	}
	s.reader = scrub(s.Set, r)
	return s.reader
}

// with is other and the call's own set, if it has one.
func (s *signed) with(other *redact.Set) []*redact.Set {
	if s == nil {
		return []*redact.Set{other}
	}
	return []*redact.Set{s.Set, other}
}

// text scrubs a header's value.
func (s *signed) text(v string) (string, int) {
	if s == nil {
		return v, 0
	}
	return s.String(v)
}

// end is how much was found in the body; nothing is looked for any more.
func (s *signed) end() int {
	if s == nil {
		return 0
	}
	n := 0
	if s.reader != nil {
		n = s.reader.Redactions()
	}
	s.Close()
	return n
}
