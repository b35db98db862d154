package auth

import (
	"context"
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
)

// multiQuery sends secrets in several query parameters.
type multiQuery []query

func newMultiQuery(spec api.AuthSpec) (plan, error) {
	if n := len(spec.Params); n == 0 || n > maxFields {
		return nil, invalid("params", "needs 1 to %d entries", maxFields)
	}
	var m multiQuery
	seen := make(map[string]bool)
	for i, f := range spec.Params {
		at := fmt.Sprintf("params[%d]", i)
		q, err := parseQuery(at+".name", at+".valueTemplate", f.Name, f.ValueTemplate)
		if err != nil {
			return nil, err
		}
		// Upstreams disagree on whether case counts: two that differ in
		// nothing else would be read in two ways.
		if lower := strings.ToLower(q.name); seen[lower] {
			return nil, invalid(at+".name", "%q is there twice", f.Name)
		} else {
			seen[lower] = true
		}
		m = append(m, q)
	}
	return m, nil
}

// Additions implements Strategy.
func (m multiQuery) Additions(_ context.Context, in Input) (egress.Additions, error) {
	fields := make([]egress.Field, 0, len(m))
	for _, q := range m {
		f, err := q.field(in)
		if err != nil {
			wipeFields(fields)
			return egress.Additions{}, err
		}
		fields = append(fields, f)
	}
	return egress.Additions{Query: fields}, nil
}

func (m multiQuery) templates() []template {
	ts := make([]template, len(m))
	for i, q := range m {
		ts[i] = q.value
	}
	return ts
}

func (m multiQuery) queryParams() []string {
	names := make([]string, len(m))
	for i, q := range m {
		names[i] = q.name
	}
	return names
}

func (m multiQuery) headerNames() []string { return nil }
