package oauth

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Knows says whether there is a way to get the tokens of a spec.
func Knows(spec api.AuthSpec) bool {
	_, err := kindOf(&Want{Spec: spec})
	return err == nil
}

// Check says why a token endpoint could not be asked with these fields; the
// error (auth_failed) names what is missing and repeats nothing. It sends
// nothing, and knows nothing of tokens that are there already.
func Check(spec api.AuthSpec, fields map[string]secret.Value, now time.Time) error {
	w := Want{Spec: spec, Provider: "the credential"}
	k, err := kindOf(&w)
	if err != nil {
		return err
	}
	have, err := materialOf(fields)
	if err != nil {
		return err
	}
	a := &asking{want: &w, now: now, have: have}
	defer have.wipe()
	if k.own != nil {
		if own, ok := k.own(a); ok {
			wipe(own)
			return nil
		}
	}
	request, err := k.build(context.Background(), a)
	if err != nil {
		return err
	}
	request.wipe()
	return nil
}

// CheckEndpoint says why text is not the URL of an endpoint: https, or http
// for what stands in a private network, a host name with or without a port, and
// a path. Names in braces stand for parts of the credential's host.
func CheckEndpoint(text string) error {
	u, err := url.Parse(WithoutHostParams(text))
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "":
		return errors.New("is not a URL such as https://id.example.com/oauth/token")
	case u.User != nil || u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("has more than host, path and query")
	case len(text) > policy.MaxTarget:
		return errors.New("is too long")
	}
	if _, _, err := policy.ParseHost(u.Host); err != nil {
		return err
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	_, err = policy.Canonicalise("POST", path, nil, policy.Rules{})
	return err
}

// WithoutHostParams puts a letter in place of each {name}, which stands for a
// part of a credential's host, and leaves {{field}} as it is.
func WithoutHostParams(text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		if strings.HasPrefix(rest, "{") {
			inside, after, closed := strings.Cut(rest[1:], "}}")
			if !closed {
				b.WriteString("{" + rest)
				return b.String()
			}
			b.WriteString("{{" + inside + "}}")
			text = after
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !validParam(name) {
			b.WriteString("{" + rest)
			return b.String()
		}
		b.WriteByte('x')
		text = after
	}
}

func validParam(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return name != ""
}
