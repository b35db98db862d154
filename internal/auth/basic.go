package auth

import (
	"bytes"
	"context"
	"encoding/base64"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

const basicScheme = "Basic "

// basic is HTTP Basic authentication (RFC 7617). Without templates it takes
// both halves from one secret.
type basic struct {
	user, password template
	single         bool
}

func newBasic(spec api.AuthSpec) (plan, error) {
	if spec.UsernameTemplate == "" && spec.PasswordTemplate == "" {
		return basic{single: true, password: template{{field: "secret"}}}, nil
	}
	user, err := parseTemplate(spec.UsernameTemplate)
	switch {
	case err != nil:
		return nil, invalid("usernameTemplate", "%v", err)
	case !user.literalFits(func(c byte) bool { return ' ' <= c && c <= '~' && c != ':' }):
		return nil, invalid("usernameTemplate", "holds a colon, or a character that is not printable ASCII")
	}
	password, err := parseTemplate(spec.PasswordTemplate)
	switch {
	case err != nil:
		return nil, invalid("passwordTemplate", "%v", err)
	case !password.literalFits(func(c byte) bool { return ' ' <= c && c <= '~' }):
		return nil, invalid("passwordTemplate", "holds a character that is not printable ASCII")
	case !user.hasField() && !password.hasField():
		return nil, invalid("passwordTemplate", "neither it nor usernameTemplate names a field such as {{secret}}")
	}
	return basic{user: user, password: password}, nil
}

// Additions implements Strategy.
func (s basic) Additions(_ context.Context, in Input) (egress.Additions, error) {
	user, password, err := s.halves(in)
	defer wipeAll(user, password)
	if err != nil {
		return egress.Additions{}, err
	}
	pair := make([]byte, 0, user.Len()+1+password.Len())
	pair = append(append(append(pair, user.Expose()...), ':'), password.Expose()...)
	defer clear(pair)
	value := make([]byte, len(basicScheme)+base64.StdEncoding.EncodedLen(len(pair)))
	base64.StdEncoding.Encode(value[copy(value, basicScheme):], pair)
	public := !s.single && s.user.public(in) && s.password.public(in)
	return egress.Additions{Headers: []egress.Field{{Name: "Authorization", Value: secret.New(value), Public: public}}}, nil
}

// halves returns fresh values, to be wiped also when there is an error.
func (s basic) halves(in Input) (user, password secret.Value, err error) {
	if s.single {
		return splitPair(in.Fields["secret"])
	}
	u, err := s.user.render(in, nil)
	if err != nil {
		return user, password, err
	}
	user = secret.New(u)
	if bytes.IndexByte(u, ':') >= 0 {
		return user, password, unfit(s.user.lastField(), "holds a colon, which a user name may not")
	}
	p, err := s.password.render(in, nil)
	return user, secret.New(p), err
}

// splitPair reads user:pass or {"username","password"}.
func splitPair(v secret.Value) (user, password secret.Value, err error) {
	const field = "secret"
	b := v.Expose()
	if len(b) == 0 {
		return user, password, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", field)
	}
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		var pair struct {
			Username *secret.Value `json:"username"`
			Password *secret.Value `json:"password"`
		}
		err := strictjson.Unmarshal(b, &pair)
		if pair.Username != nil {
			user = *pair.Username
		}
		if pair.Password != nil {
			password = *pair.Password
		}
		// The decoder's own error could repeat a name that is really a part
		// of the secret.
		if err != nil || pair.Username == nil || pair.Password == nil {
			return user, password, unfit(field, `is not JSON of the form {"username":"…","password":"…"}`)
		}
		if bytes.IndexByte(user.Expose(), ':') >= 0 {
			return user, password, unfit(field, "has a colon in its user name")
		}
	} else {
		u, p, ok := bytes.Cut(b, []byte(":"))
		if !ok {
			return user, password, unfit(field, `is neither user:password nor JSON with "username" and "password"`)
		}
		user, password = secret.New(bytes.Clone(u)), secret.New(bytes.Clone(p))
	}
	if user.IsZero() && password.IsZero() {
		return user, password, unfit(field, "has neither a user name nor a password")
	}
	if err := printable(field, user.Expose()); err != nil {
		return user, password, err
	}
	return user, password, printable(field, password.Expose())
}

func (s basic) templates() []template { return []template{s.user, s.password} }
func (s basic) queryParams() []string { return nil }
func (s basic) headerNames() []string { return []string{"Authorization"} }
