package auth

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"slices"

	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// Rendered lists what additions put on the wire that holds a secret, each as
// a value to be scrubbed from answers: rendered templates, what follows a
// scheme ("Bearer", "Basic"), the pair in a Basic value and its password, a
// query value as it is escaped. What is public is not listed. The values are
// fresh; the caller wipes them.
func Rendered(a egress.Additions) []secret.Value {
	var out []secret.Value
	add := func(b []byte) {
		for _, have := range out {
			if bytes.Equal(have.Expose(), b) {
				return
			}
		}
		if len(b) > 0 {
			out = append(out, secret.New(bytes.Clone(b)))
		}
	}
	for _, f := range a.Headers {
		if f.Public {
			continue
		}
		v := f.Value.Expose()
		add(v)
		scheme, rest, ok := bytes.Cut(v, []byte(" "))
		if !ok {
			continue
		}
		add(rest)
		if !bytes.EqualFold(scheme, []byte("Basic")) {
			continue
		}
		pair := make([]byte, base64.StdEncoding.DecodedLen(len(rest)))
		if n, err := base64.StdEncoding.Decode(pair, rest); err == nil {
			add(pair[:n])
			if _, password, ok := bytes.Cut(pair[:n], []byte(":")); ok {
				add(password)
			}
		}
		clear(pair)
	}
	for _, f := range slices.Concat(a.Query, a.Form) {
		if !f.Public {
			add(f.Value.Expose())
			add([]byte(url.QueryEscape(string(f.Value.Expose()))))
		}
	}
	add(a.PathPrefix.Expose())
	return out
}
