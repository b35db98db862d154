package auth

import (
	"context"
	"net/textproto"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// header sends the secret in one header field.
type header struct {
	name  string // canonical
	value template
}

func newHeader(spec api.AuthSpec) (plan, error) {
	name, value := spec.HeaderName, spec.ValueTemplate
	if name == "" {
		name = "Authorization"
	}
	if value == "" {
		value = "{{secret}}"
		if strings.EqualFold(name, "Authorization") {
			value = "Bearer {{secret}}"
		}
	}
	return parseHeader("headerName", "valueTemplate", name, value)
}

func parseHeader(nameField, valueField, name, value string) (header, error) {
	if err := checkHeaderName(nameField, name); err != nil {
		return header{}, err
	}
	t, err := parseTemplate(value)
	switch {
	case err != nil:
		return header{}, invalid(valueField, "%v", err)
	case !t.hasField():
		return header{}, invalid(valueField, "names no field: it needs a placeholder such as {{secret}}")
	case !t.literalFits(func(c byte) bool { return ' ' <= c && c <= '~' }):
		return header{}, invalid(valueField, "holds a character that cannot stand in a header")
	case strings.Trim(value, " ") != value:
		return header{}, invalid(valueField, "begins or ends with a space")
	}
	return header{textproto.CanonicalMIMEHeaderKey(name), t}, nil
}

// checkHeaderName refuses what is no name, what frames the message or steers
// how it is read, and the daemon's own headers.
func checkHeaderName(field, name string) error {
	if name == "" {
		return invalid(field, "is empty")
	}
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && !isDigit(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return invalid(field, "%q is not a header's name", name)
		}
	}
	lower := strings.ToLower(name)
	switch lower {
	case "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding",
		"connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate",
		"te", "trailer", "upgrade", "expect", "http2-settings":
		return invalid(field, "%q cannot carry a secret: it frames the request", name)
	}
	if strings.HasPrefix(lower, "aivault-") {
		return invalid(field, "%q is one of aivault's own", name)
	}
	return nil
}

func (h header) field(in Input) (egress.Field, error) {
	b, err := h.value.render(in, nil)
	if err != nil {
		return egress.Field{}, err
	}
	if first, last := b[0], b[len(b)-1]; first == ' ' || last == ' ' {
		clear(b)
		return egress.Field{}, unfit(h.value.spaced(in), "begins or ends with a space")
	}
	return egress.Field{Name: h.name, Value: secret.New(b), Public: h.value.public(in)}, nil
}

// spaced is the field whose value begins or ends with a space.
func (t template) spaced(in Input) string {
	for _, p := range t {
		if v := in.Fields[p.field].Expose(); len(v) > 0 && (v[0] == ' ' || v[len(v)-1] == ' ') {
			return p.field
		}
	}
	return ""
}

// Additions implements Strategy.
func (h header) Additions(_ context.Context, in Input) (egress.Additions, error) {
	f, err := h.field(in)
	if err != nil {
		return egress.Additions{}, err
	}
	return egress.Additions{Headers: []egress.Field{f}}, nil
}

func (h header) templates() []template { return []template{h.value} }
func (h header) queryParams() []string { return nil }
func (h header) headerNames() []string { return []string{h.name} }
