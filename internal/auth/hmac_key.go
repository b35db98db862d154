package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// hmacKey decodes a key as it is stored. The slice is fresh.
func hmacKey(field, encoding string, in Input) ([]byte, error) {
	v := in.Fields[field]
	if v.IsZero() {
		return nil, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", field).
			WithHint("see what it lacks: aivault credential list")
	}
	if err := printable(field, v.Expose()); err != nil {
		return nil, err
	}
	key, ok := decodeKey(encoding, v)
	if !ok {
		clear(key)
		return nil, unfit(field, "is not "+encoding+", in which its key is said to be")
	}
	return key, nil
}

// decodeKey takes base64 in the standard or the URL alphabet, padded or not.
func decodeKey(encoding string, v secret.Value) (key []byte, ok bool) {
	b := v.Expose()
	switch encoding {
	case "hex":
		key = make([]byte, hex.DecodedLen(len(b)))
		n, err := hex.Decode(key, b)
		return key[:n], err == nil && n > 0
	case "base64":
		e := base64.StdEncoding
		if bytes.ContainsAny(b, "-_") {
			e = base64.URLEncoding
		}
		if len(b)%4 != 0 {
			e = e.WithPadding(base64.NoPadding)
		}
		key = make([]byte, e.DecodedLen(len(b)))
		n, err := e.Strict().Decode(key, b)
		return key[:n], err == nil && n > 0
	}
	return bytes.Clone(b), true
}
