package auth

import (
	"bytes"
	"slices"

	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// minSignature is shorter than any signature is written, and longer than what
// stands beside one in a header.
const minSignature = 32

// Signatures lists what additions put on the wire that signs a request: what
// Rendered does, and the signature within it ("Signature=…", or wherever a
// template has it). The values are fresh; the caller wipes them.
func Signatures(a egress.Additions) []secret.Value {
	out := Rendered(a)
	for _, v := range slices.Clone(out) {
		for piece := range bytes.FieldsFuncSeq(v.Expose(), func(r rune) bool { return r == ' ' || r == ',' || r == ';' || r == ':' || r == '=' }) {
			if len(piece) >= minSignature && len(piece) < v.Len() {
				out = append(out, secret.New(bytes.Clone(piece)))
			}
		}
	}
	if !a.Signature.IsZero() {
		out = append(out, a.Signature.Clone())
	}
	return out
}

// Fresh says whether what a strategy renders is another with each request: a
// signature, which serves for that very request, and is a secret as long as
// it does.
func Fresh(s Strategy) bool {
	switch s := s.(type) {
	case *hmacSigner, *sigV4:
		return true
	case mtls:
		return s.plus != nil && Fresh(s.plus)
	}
	return false
}
