package registry

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// tokenYield is the one value that a token exchange gives, and what an OAuth
// grant gives where its entry does not say.
const tokenYield = "access_token"

// Fields lists the fields that the login's templates name, in order of first
// use.
func (l *Login) Fields() []string {
	var out []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	add(specFields(l.Auth)...)
	switch {
	case l.OAuth2 != nil:
		add(l.OAuth2.Fields...)
		for _, t := range l.OAuth2.TokenParams {
			add(placeholders(t)...)
		}
	case l.SigV4 != nil:
		for _, f := range l.SigV4.Fields {
			if !strings.HasSuffix(f, "?") {
				add(f)
			}
		}
	case l.HMAC != nil:
		add(l.HMAC.KeyField)
		add(placeholders(l.HMAC.Sign)...)
		add(fieldsOf(l.HMAC.Headers)...)
		for _, f := range placeholders(l.HMAC.Output.Template) {
			if f != "signature" && f != "timestamp" && f != "nonce" { // these are computed
				add(f)
			}
		}
	case l.MTLS != nil:
		add(l.MTLS.CertField, l.MTLS.KeyField)
		if l.MTLS.Plus != nil {
			add(specFields(*l.MTLS.Plus)...)
		}
	case l.TokenExchange != nil:
		for _, k := range slices.Sorted(keysOf(l.TokenExchange.Body)) {
			add(placeholders(l.TokenExchange.Body[k])...)
		}
	}
	return out
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func specFields(s api.AuthSpec) []string {
	var out []string
	for _, t := range []string{s.ValueTemplate, s.PrefixTemplate, s.UsernameTemplate, s.PasswordTemplate} {
		out = append(out, placeholders(t)...)
	}
	out = append(out, fieldsOf(s.Headers)...)
	return append(out, fieldsOf(s.Params)...)
}

func fieldsOf(list []api.AuthField) []string {
	var out []string
	for _, f := range list {
		out = append(out, placeholders(f.ValueTemplate)...)
	}
	return out
}

// placeholders lists the names in {{braces}}.
func placeholders(t string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(t, "{{")
		if !ok {
			return out
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return out
		}
		out, t = append(out, name), after
	}
}

// authHeaders lists, folded, the headers that the login sets.
func (l *Login) authHeaders() []string {
	names := specHeaders(l.Auth)
	switch {
	case l.OAuth2 != nil:
		names = append(names, namesOf(l.OAuth2.Headers)...)
	case l.SigV4 != nil:
		names = append(names, "Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256")
	case l.HMAC != nil:
		names = append(names, namesOf(l.HMAC.Headers)...)
		for _, p := range []*api.AuthPlace{&l.HMAC.Output, l.HMAC.Timestamp, l.HMAC.Nonce} {
			if p != nil && p.In == "header" {
				names = append(names, p.Name)
			}
		}
	case l.MTLS != nil && l.MTLS.Plus != nil:
		names = append(names, specHeaders(*l.MTLS.Plus)...)
	case l.TokenExchange != nil:
		names = append(names, namesOf(l.TokenExchange.Headers)...)
	}
	for i, n := range names {
		names[i] = foldHeader(n)
	}
	return names
}

func specHeaders(s api.AuthSpec) []string {
	switch s.Type {
	case "header":
		return []string{s.HeaderName}
	case "basic":
		return []string{"Authorization"}
	case "multi-header":
		return namesOf(s.Headers)
	}
	return nil
}

func namesOf(list []api.AuthField) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.Name)
	}
	return out
}

// foldHeader is the form in which policy asks for header names.
func foldHeader(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// Spec is the login's auth, complete: hosts in its endpoints have their
// parameters yet.
func (l *Login) Spec() api.AuthSpec {
	s := l.Auth
	s.OAuth2, s.SigV4, s.HMAC, s.MTLS, s.TokenExchange = l.OAuth2, l.SigV4, l.HMAC, l.MTLS, l.TokenExchange
	return s
}
