package auth

import (
	"context"
	"fmt"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
)

// maxFields bounds the headers or parameters of one spec.
const maxFields = 16

// multiHeader sends secrets in several header fields.
type multiHeader []header

func newMultiHeader(spec api.AuthSpec) (plan, error) {
	m, err := parseHeaders("headers", spec.Headers)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// parseHeaders checks the headers of a spec, which has them in field.
func parseHeaders(field string, list []api.AuthField) (multiHeader, error) {
	if n := len(list); n == 0 || n > maxFields {
		return nil, invalid(field, "needs 1 to %d entries", maxFields)
	}
	var m multiHeader
	seen := make(map[string]bool)
	for i, f := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		h, err := parseHeader(at+".name", at+".valueTemplate", f.Name, f.ValueTemplate)
		if err != nil {
			return nil, err
		}
		if seen[h.name] {
			return nil, invalid(at+".name", "%q is there twice", f.Name)
		}
		seen[h.name] = true
		m = append(m, h)
	}
	return m, nil
}

// Additions implements Strategy.
func (m multiHeader) Additions(_ context.Context, in Input) (egress.Additions, error) {
	fields := make([]egress.Field, 0, len(m))
	for _, h := range m {
		f, err := h.field(in)
		if err != nil {
			wipeFields(fields)
			return egress.Additions{}, err
		}
		fields = append(fields, f)
	}
	return egress.Additions{Headers: fields}, nil
}

func wipeFields(fields []egress.Field) {
	for _, f := range fields {
		f.Value.Wipe()
	}
}

func (m multiHeader) templates() []template {
	ts := make([]template, len(m))
	for i, h := range m {
		ts[i] = h.value
	}
	return ts
}

func (m multiHeader) queryParams() []string { return nil }

func (m multiHeader) headerNames() []string {
	names := make([]string, len(m))
	for i, h := range m {
		names[i] = h.name
	}
	return names
}
