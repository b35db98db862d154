package oauth

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// An ask is a request for a token.
type ask struct {
	method   string
	endpoint string
	headers  []api.Header
	add      egress.Additions
	body     []byte // wiped once it is sent
	// pinned says that the endpoint is nobody's choice, so that no exception
	// of the credential's is for it.
	pinned bool
}

// wipe overwrites what the request holds of secrets.
func (r *ask) wipe() {
	clear(r.body)
	for _, f := range r.add.Headers {
		f.Value.Wipe()
	}
}

// A param is a member of a request's body.
type param struct {
	name  string
	value []byte
}

func wipeParams(list []param) {
	for _, p := range list {
		clear(p.value)
	}
}

// newAsk makes a POST with a form or a JSON object as its body.
func newAsk(endpoint, format string, list []param) *ask {
	r := &ask{method: "POST", endpoint: endpoint, headers: []api.Header{{Name: "Accept", Value: "application/json"}}}
	kind := "application/x-www-form-urlencoded"
	if format == "json" {
		kind, r.body = "application/json", jsonBody(list)
	} else {
		r.body = formBody(list)
	}
	r.headers = append(r.headers, api.Header{Name: "Content-Type", Value: kind})
	return r
}

// tokenRequest makes the request of an OAuth grant, in the spec's dialect.
func (a *asking) tokenRequest(grant string, scoped bool, more ...param) (*ask, error) {
	o := a.want.Spec.OAuth2
	list := append([]param{{"grant_type", []byte(grant)}}, more...)
	var extra []param // fresh values
	defer func() { wipeParams(extra) }()
	for _, name := range slices.Sorted(maps.Keys(o.TokenParams)) {
		value, err := a.fill(o.TokenParams[name])
		if err != nil {
			return nil, err
		}
		extra = append(extra, param{name, value})
	}
	if scopes := scopesOf(a.want); scoped && len(scopes) > 0 {
		separator := o.ScopeSeparator
		if separator == "" {
			separator = " "
		}
		list = append(list, param{"scope", []byte(strings.Join(scopes, separator))})
	}
	list, basic, err := a.authenticate(list)
	if err != nil {
		return nil, err
	}
	r := newAsk(o.TokenEndpoint, o.BodyFormat, append(list, extra...))
	if !basic.IsZero() {
		r.add.Headers = []egress.Field{{Name: "Authorization", Value: basic}}
	}
	return r, nil
}

// authenticate adds who the client is, and its proof, to a request's body; or
// gives the Authorization header that says so.
func (a *asking) authenticate(list []param) (_ []param, basic secret.Value, err error) {
	o := a.want.Spec.OAuth2
	id, password := a.have.values["client_id"], a.have.values["client_secret"]
	if o.GrantType == api.GrantJWTBearer && password.IsZero() {
		return list, basic, nil // the assertion says who asks (RFC 7521, section 4.1)
	}
	_, named := o.TokenParams["client_id"]
	if id.IsZero() && !named && o.ClientAuth != "none" {
		return nil, basic, a.lacks("client_id")
	}
	if named {
		id = secret.Value{}
	}
	switch {
	case o.ClientAuth == "basic" && !password.IsZero():
		basic = basicValue(a.have.values["client_id"], password)
	case o.ClientAuth == "basic", o.ClientAuth == "none":
		// A public client says who it is, and has nothing to prove it with.
		list = appendGiven(list, "client_id", id)
	default:
		list = appendGiven(list, "client_id", id)
		list = appendGiven(list, "client_secret", password)
	}
	return list, basic, nil
}

func appendGiven(list []param, name string, v secret.Value) []param {
	if v.IsZero() {
		return list
	}
	return append(list, param{name, v.Expose()})
}

// basicValue is a client's Basic authentication, both halves form-encoded as
// RFC 6749, section 2.3.1, has it.
func basicValue(id, password secret.Value) secret.Value {
	const scheme = "Basic "
	pair := make([]byte, 0, 3*(id.Len()+password.Len())+1)
	pair = appendFormEscaped(pair, id.Expose())
	pair = appendFormEscaped(append(pair, ':'), password.Expose())
	defer clear(pair)
	out := make([]byte, len(scheme)+base64.StdEncoding.EncodedLen(len(pair)))
	base64.StdEncoding.Encode(out[copy(out, scheme):], pair)
	return secret.New(out)
}

// fill renders a template over the credential's fields and what they hold, as
// fresh bytes.
func (a *asking) fill(template string) ([]byte, error) {
	var out []byte
	for {
		literal, rest, ok := strings.Cut(template, "{{")
		out = appendGrown(out, []byte(literal))
		if !ok {
			return out, nil
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			clear(out)
			return nil, api.Errorf(api.Internal, "oauth: a parameter of %s has a brace that is not closed", a.want.Provider)
		}
		v := a.have.values[name]
		if v.IsZero() {
			clear(out)
			return nil, a.lacks(name)
		}
		out, template = appendGrown(out, v.Expose()), after
	}
}

// appendGrown appends and leaves no copy behind when it has to grow.
func appendGrown(to, more []byte) []byte {
	if cap(to)-len(to) >= len(more) {
		return append(to, more...)
	}
	grown := append(make([]byte, 0, 2*(len(to)+len(more))), to...)
	clear(to)
	return append(grown, more...)
}

// formBody encodes a form into one slice that is large enough at once.
func formBody(list []param) []byte {
	size := 0
	for _, p := range list {
		size += 3*(len(p.name)+len(p.value)) + 2
	}
	out := make([]byte, 0, size)
	for i, p := range list {
		if i > 0 {
			out = append(out, '&')
		}
		out = appendFormEscaped(out, []byte(p.name))
		out = appendFormEscaped(append(out, '='), p.value)
	}
	return out
}

func appendFormEscaped(out, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			out = append(out, c)
		case c == ' ':
			out = append(out, '+')
		default:
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return out
}

// jsonBody encodes an object of strings into one slice that is large enough at
// once. What is no UTF-8 is replaced: no endpoint takes it.
func jsonBody(list []param) []byte {
	size := 2
	for _, p := range list {
		size += 6*(len(p.name)+len(p.value)) + 6
	}
	out := append(make([]byte, 0, size), '{')
	for i, p := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out, _ = jsontext.AppendQuote(out, p.name)
		out, _ = jsontext.AppendQuote(append(out, ':'), p.value)
	}
	return append(out, '}')
}
