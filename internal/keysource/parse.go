package keysource

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// ParseKey reads a 32-byte key written in base64 (standard or URL, padded or
// not) or hex. White space around it is dropped: files and variables end in
// newlines.
func ParseKey(v secret.Value) (secret.Value, error) {
	text := bytes.TrimSpace(v.Expose())
	out := make([]byte, KeySize+1)
	n := 0
	switch len(text) {
	case hex.EncodedLen(KeySize):
		if m, err := hex.Decode(out, text); err == nil {
			n = m
		}
	case base64.RawStdEncoding.EncodedLen(KeySize), base64.StdEncoding.EncodedLen(KeySize):
		n = decodeBase64(out, text)
	}
	if n != KeySize {
		clear(out)
		return secret.Value{}, api.Errorf(api.InvalidRequest, "a key is %d bytes, written in base64 or hex", KeySize).
			WithHint("openssl rand -base64 %d", KeySize)
	}
	return secret.New(out[:KeySize]), nil
}

func decodeBase64(out, text []byte) int {
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding, base64.StdEncoding, base64.URLEncoding} {
		// The decoder skips line breaks; a key that holds one is malformed.
		if bytes.ContainsAny(text, "\r\n") || e.DecodedLen(len(text)) > len(out) {
			continue
		}
		if n, err := e.Strict().Decode(out, text); err == nil {
			return n
		}
	}
	return 0
}
