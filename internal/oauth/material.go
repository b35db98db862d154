package oauth

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// material is what a credential's fields hold, by the names that OAuth has for
// it: client_id, client_secret, refresh_token, access_token, and whatever else
// is there.
type material struct {
	values map[string]secret.Value
	plain  map[string]bool // values that are a field of their own
	endsAt time.Time       // of the access token; zero: not known
}

func (m *material) wipe() {
	if m != nil {
		wipe(m.values)
	}
}

// materialOf reads a credential's fields: each is what its name says, or a
// JSON object with members in camelCase or snake_case. A field of its own
// stands in place of a member. Its values are fresh. An error names the field,
// and never repeats any of it.
func materialOf(fields map[string]secret.Value) (*material, error) {
	m := &material{values: make(map[string]secret.Value, len(fields)+4), plain: map[string]bool{}}
	var objects []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if isObject(name, fields[name]) {
			objects = append(objects, name)
			continue
		}
		m.values[name], m.plain[name] = fields[name].Clone(), true
	}
	for _, name := range objects {
		if err := m.take(name, fields[name]); err != nil {
			m.wipe()
			return nil, err
		}
	}
	m.endsAt = endOf(m.values)
	return m, nil
}

func (m *material) take(field string, v secret.Value) error {
	var members map[string]jsontext.Value
	err := strictjson.Unmarshal(v.Expose(), &members)
	defer func() {
		for _, raw := range members {
			clear(raw)
		}
	}()
	if err != nil || !m.takeMembers(members, 2) {
		return api.Errorf(api.AuthFailed, "the secret for field %q is not one JSON object with each member once", field).
			WithHint("store it anew, as {\"client_id\":…,\"client_secret\":…,\"refresh_token\":…}: aivault secrets rotate NAME")
	}
	return nil
}

// takeMembers takes the strings and numbers of an object, and of objects in
// it: a client's file has everything within "installed" or "web". It is false
// when two members have the same meaning.
func (m *material) takeMembers(members map[string]jsontext.Value, depth int) bool {
	for _, member := range slices.Sorted(maps.Keys(members)) {
		raw, name := members[member], snakeCase(member)
		switch raw.Kind() {
		case '"':
			text, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
			if err != nil || !m.set(name, text) {
				clear(text)
				return false
			}
		case '0':
			if !m.set(name, bytes.Clone(raw)) {
				return false
			}
		case '{':
			var inner map[string]jsontext.Value
			if strictjson.Unmarshal(raw, &inner) != nil {
				return false
			}
			ok := depth == 1 || m.takeMembers(inner, depth-1)
			for _, r := range inner {
				clear(r)
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

func (m *material) set(name string, text []byte) bool {
	if len(text) == 0 || m.plain[name] {
		clear(text)
		return true
	}
	if _, twice := m.values[name]; twice {
		return false
	}
	m.values[name] = secret.New(text)
	return true
}

// isObject says whether a field's value is JSON to be taken apart: not what is
// a plain text by the field's very name, and might begin with a brace.
func isObject(field string, v secret.Value) bool {
	switch field {
	case "client_id", "client_secret", "refresh_token", "access_token":
		return false
	}
	text := bytes.TrimLeft(v.Expose(), " \t\r\n")
	return len(text) > 0 && text[0] == '{'
}

// snakeCase writes refreshToken as refresh_token.
func snakeCase(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 && !('A' <= name[i-1] && name[i-1] <= 'Z') && name[i-1] != '_' {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// endOf reads when the access token ends, as people's files have it: seconds
// or milliseconds since 1970, or RFC 3339.
func endOf(values map[string]secret.Value) time.Time {
	for _, name := range []string{"expires_at", "expiry", "expiry_date", "expires_at_ms", "expires"} {
		text := string(values[name].Expose())
		if text == "" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			return t
		}
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || n <= 0 || n > 1e15:
		case n > 1e11: // in seconds that would be beyond the year 5000
			return time.UnixMilli(int64(n))
		default:
			return time.Unix(int64(n), 0)
		}
	}
	return time.Time{}
}

// public are the members of people's files that are no secrets: names, dates
// and addresses. It is a constant table.
var public = map[string]bool{
	"client_id": true, "client_email": true, "project_id": true, "token_uri": true, "auth_uri": true, "redirect_uri": true, "type": true,
	"token_type": true, "scope": true, "scopes": true, "expires_at": true, "expiry": true, "expiry_date": true, "expires_at_ms": true,
	"expires": true, "expires_in": true, "universe_domain": true, "auth_provider_x509_cert_url": true, "client_x509_cert_url": true,
	"last_refresh": true, "issuer": true, "audience": true, "tenant": true, "region": true,
}

// Parts lists the secrets that fields hold within JSON, which an upstream may
// know by themselves. The values are fresh; the caller wipes them. What cannot
// be read has none.
func Parts(fields map[string]secret.Value) []secret.Value {
	m, err := materialOf(fields)
	if err != nil {
		return nil
	}
	defer m.wipe()
	var out []secret.Value
	for name, v := range m.values {
		if _, whole := fields[name]; !whole && !public[name] {
			out = append(out, v.Clone())
		}
	}
	return out
}
