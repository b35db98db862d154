package auth

import (
	"context"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// defaultToken is how a token is sent where a spec does not say.
func defaultToken() []api.AuthField {
	return []api.AuthField{{Name: "Authorization", ValueTemplate: "Bearer {{access_token}}"}}
}

// token sends what a token endpoint gave, and fields of the credential, in
// header fields. It asks nothing: oauth does, and its token's fields are among
// those of Input.
type token struct {
	multiHeader
	spec    api.AuthSpec
	secrets []string // fields of the credential
}

func newToken(spec api.AuthSpec, at string, headers []api.AuthField, secrets, yields []string) (plan, error) {
	if len(headers) == 0 {
		headers = defaultToken()
	}
	m, err := parseHeaders(at+".headers", headers)
	if err != nil {
		return nil, err
	}
	sent := false
	for _, h := range m {
		for _, part := range h.value {
			switch {
			case part.field == "":
			case slices.Contains(yields, part.field):
				sent = true
			case !slices.Contains(secrets, part.field):
				return nil, invalid(at+".headers", "name the field %q, which neither the credential nor its token has", part.field)
			}
		}
	}
	if !sent {
		return nil, invalid(at+".headers", "send nothing of the token")
	}
	return token{m, spec, secrets}, nil
}

// SignsBody implements Strategy.
func (token) SignsBody(*policy.Request, egress.Destination) bool { return false }

// secretFields implements fielded.
func (t token) secretFields() []string { return t.secrets }

// try implements tryer: what can be told without the endpoint is that the
// secrets hold what it is asked with.
func (t token) try(in Input, have map[string]bool) error {
	fields := map[string]secret.Value{}
	for name, given := range have {
		if given {
			fields[name] = in.Fields[name]
		}
	}
	if err := oauth.CheckMaterial(t.spec, fields); err != nil {
		return err
	}
	if len(fields) == len(t.secrets) {
		if err := oauth.Check(t.spec, fields, in.Now); err != nil {
			return err
		}
	}
	add, err := t.Additions(context.Background(), in)
	if err != nil {
		return err
	}
	wipeFields(add.Headers)
	return nil
}

// parts implements partial.
func (t token) parts(fields map[string]secret.Value) []secret.Value {
	own := map[string]secret.Value{}
	for _, name := range t.secrets {
		if v := fields[name]; !v.IsZero() {
			own[name] = v
		}
	}
	return oauth.Parts(own)
}

// fielded is a plan whose templates name more than what secrets fill, or less.
type fielded interface{ secretFields() []string }

// SecretFields lists the fields that a credential with this spec needs secrets
// for; a spec that New refuses has none. It differs from Fields where a token
// stands between the secrets and the request.
func SecretFields(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	if f, ok := p.(fielded); ok {
		return slices.Clone(f.secretFields())
	}
	return Fields(spec)
}

// checkFields wants names of fields, each once.
func checkFields(at string, names []string) error {
	if len(names) == 0 || len(names) > maxFields {
		return invalid(at, "needs 1 to %d names", maxFields)
	}
	for i, n := range names {
		if !validFieldName(n) || slices.Contains(names[:i], n) {
			return invalid(at, "%q is not a field's name, or is there twice", n)
		}
	}
	return nil
}

// checkParams wants templates of printable text, whose fields it returns.
func checkParams(at string, params map[string]string) (fields []string, err error) {
	if len(params) > maxFields {
		return nil, invalid(at, "has more than %d entries", maxFields)
	}
	for _, name := range slices.Sorted(keys(params)) {
		t, err := parseParam(params[name])
		switch {
		case name == "" || len(name) > maxFieldName || !printableText(name):
			return nil, invalid(at, "%q is not a parameter's name", name)
		case err != nil:
			return nil, invalid(at+"."+name, "%v", err)
		case !t.literalFits(func(c byte) bool { return ' ' <= c && c <= '~' }):
			return nil, invalid(at+"."+name, "holds a character that is not printable ASCII")
		}
		for _, part := range t {
			if part.field != "" && !slices.Contains(fields, part.field) {
				fields = append(fields, part.field)
			}
		}
	}
	return fields, nil
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// parseParam reads a template in which {name} may stand for a part of the
// credential's host.
func parseParam(s string) (template, error) { return parseTemplate(oauth.WithoutHostParams(s)) }

func printableText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
