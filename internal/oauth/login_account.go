package oauth

import (
	"bytes"
	"encoding/base64"
	"unicode"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

// maxAccount bounds the name of who logged in.
const maxAccount = 128

// account is who logged in, where the answer tells: in the member that the
// registry names, or in the claims of an id_token. Its signature is not looked
// at, because it came over TLS from the endpoint that the login is pinned to
// (OpenID Connect Core 1.0, section 3.1.3.7), and nothing is decided by it.
func (a *answer) account(o *api.OAuth2Spec) string {
	m, ok := a.parse()
	if !ok {
		return ""
	}
	defer m.wipe()
	if o.AccountMember != "" {
		if name := m.at(o.AccountMember); printable(name, maxAccount) {
			return string(name)
		}
	}
	token := m.text("id_token")
	defer clear(token)
	claims := claimsOf(token)
	defer claims.wipe()
	for _, claim := range []string{"email", "preferred_username", "name", "sub"} {
		if name := claims.text(claim); printable(name, maxAccount) {
			return string(name)
		}
	}
	return ""
}

// claimsOf reads the claims of a JWT; nil when it is none.
func claimsOf(token []byte) members {
	parts := bytes.Split(token, []byte("."))
	if len(parts) != 3 {
		return nil
	}
	payload := make([]byte, base64.RawURLEncoding.DecodedLen(len(parts[1])))
	defer clear(payload)
	n, err := base64.RawURLEncoding.Decode(payload, parts[1])
	var m members
	if err != nil || strictjson.Unmarshal(payload[:n], &m) != nil {
		m.wipe()
		return nil
	}
	return m
}

func unprintable(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }
