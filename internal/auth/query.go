package auth

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// query sends the secret in one query parameter.
type query struct {
	name  string
	value template
}

func newQuery(spec api.AuthSpec) (plan, error) {
	value := spec.ValueTemplate
	if value == "" {
		value = "{{secret}}"
	}
	return parseQuery("paramName", "valueTemplate", spec.ParamName, value)
}

func parseQuery(nameField, valueField, name, value string) (query, error) {
	if name == "" {
		return query{}, invalid(nameField, "is empty")
	}
	for i := range len(name) {
		if !unreserved(name[i]) {
			return query{}, invalid(nameField, "%q is not a parameter's name: letters, digits, - . _ and ~ are", name)
		}
	}
	t, err := parseTemplate(value)
	switch {
	case err != nil:
		return query{}, invalid(valueField, "%v", err)
	case !t.hasField():
		return query{}, invalid(valueField, "names no field: it needs a placeholder such as {{secret}}")
	case !t.literalFits(func(c byte) bool { return ' ' <= c && c <= '~' }):
		return query{}, invalid(valueField, "holds a character that is not printable ASCII")
	}
	return query{name, t}, nil
}

// unreserved are the characters that stand for themselves everywhere in a URL.
func unreserved(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

func (q query) field(in Input) (egress.Field, error) {
	b, err := q.value.render(in, nil)
	if err != nil {
		return egress.Field{}, err
	}
	return egress.Field{Name: q.name, Value: secret.New(b), Public: q.value.public(in)}, nil
}

// Additions implements Strategy.
func (q query) Additions(_ context.Context, in Input) (egress.Additions, error) {
	f, err := q.field(in)
	if err != nil {
		return egress.Additions{}, err
	}
	return egress.Additions{Query: []egress.Field{f}}, nil
}

func (q query) templates() []template { return []template{q.value} }
func (q query) queryParams() []string { return []string{q.name} }
func (q query) headerNames() []string { return nil }
