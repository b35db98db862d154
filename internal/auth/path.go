package auth

import (
	"bytes"
	"context"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// path sends the secret at the beginning of the request's path.
type path struct{ prefix template }

func newPath(spec api.AuthSpec) (plan, error) {
	const field = "prefixTemplate"
	s := spec.PrefixTemplate
	t, err := parseTemplate(s)
	switch {
	case s == "":
		return nil, invalid(field, "is empty: it reads like /bot{{secret}}")
	case err != nil:
		return nil, invalid(field, "%v", err)
	case !t.hasField():
		return nil, invalid(field, "names no field: it needs a placeholder such as {{secret}}")
	case !strings.HasPrefix(s, "/"):
		return nil, invalid(field, "does not begin with /")
	case strings.HasSuffix(s, "/"):
		return nil, invalid(field, "ends with /, and so would put an empty segment before the request's path")
	case !t.literalFits(func(c byte) bool { return unreserved(c) || c == '/' || c == ':' || c == '@' }):
		return nil, invalid(field, "holds a character that cannot stand in a path as it is")
	}
	for seg := range strings.SplitSeq(s[1:], "/") {
		if bent([]byte(seg)) {
			return nil, invalid(field, "has an empty segment, or one of dots")
		}
	}
	return path{t}, nil
}

// bent says whether a segment is one that servers resolve or drop.
func bent(segment []byte) bool {
	return len(segment) == 0 || string(segment) == "." || string(segment) == ".."
}

// escapeSegment writes c as a part of one segment, and refuses what some
// server would take for the end of it, or decode once more.
func escapeSegment(dst []byte, c byte) ([]byte, bool) {
	const digits = "0123456789ABCDEF"
	switch {
	case unreserved(c) || c == ':':
		return append(dst, c), true
	case c == '/' || c == '\\' || c == '%' || c == ';' || c <= ' ' || c >= 0x7f:
		return dst, false
	}
	return append(dst, '%', digits[c>>4], digits[c&15]), true
}

// Additions implements Strategy.
func (p path) Additions(_ context.Context, in Input) (egress.Additions, error) {
	b, err := p.prefix.render(in, escapeSegment)
	if err != nil {
		return egress.Additions{}, err
	}
	for seg := range bytes.SplitSeq(b[1:], []byte("/")) {
		if bent(seg) {
			clear(b)
			return egress.Additions{}, unfit(p.prefix.lastField(), "would make a segment of dots in the path")
		}
	}
	return egress.Additions{PathPrefix: secret.New(b)}, nil
}

func (t template) lastField() (name string) {
	for _, p := range t {
		if p.field != "" {
			name = p.field
		}
	}
	return name
}

func (p path) templates() []template { return []template{p.prefix} }
func (p path) queryParams() []string { return nil }
func (p path) headerNames() []string { return nil }
