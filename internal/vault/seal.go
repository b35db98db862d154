package vault

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	rootKeySize = 32
	dekSize     = chacha20poly1305.KeySize
	nonceSize   = chacha20poly1305.NonceSizeX
	tagSize     = chacha20poly1305.Overhead
)

// The purposes that keys are derived for and that sealings are bound to.
// docs/vault-format.md lists them; a new meaning takes a new name.
const (
	infoStateKey  = "aivault v1 state key"
	infoWrapKey   = "aivault v1 data key wrapping"
	infoBackupKey = "aivault v1 backup"
	forRootKey    = "aivault root key"
	forDataKey    = "aivault data key v1"
	forValue      = "aivault value v1"
	forTokenKey   = "aivault token data key v1"
	forToken      = "aivault token v1"
	forBackupLog  = "aivault backup log v1"
)

var errWrongKey = errors.New("wrong key, or changed since it was sealed")

// aad encodes the fields of a context so that no two lists of fields have
// the same bytes: each is preceded by its length.
func aad(fields ...[]byte) []byte {
	n := 0
	for _, f := range fields {
		n += 4 + len(f)
	}
	out := make([]byte, 0, n)
	for _, f := range fields {
		out = binary.BigEndian.AppendUint32(out, uint32(len(f)))
		out = append(out, f...)
	}
	return out
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func rootKeyContext(vaultID, keyID string) []byte {
	return aad([]byte(forRootKey), number(formatVersion), []byte(vaultID), []byte(keyID))
}

func dataKeyContext(vaultID string, s *Secret) []byte {
	return aad([]byte(forDataKey), []byte(vaultID), []byte(s.ID))
}

func valueContext(vaultID string, s *Secret) []byte {
	return aad([]byte(forValue), []byte(vaultID), []byte(s.ID), []byte(s.Scope),
		[]byte(s.Pin), []byte(s.PinTenant), number(s.Version))
}

func tokenDataKeyContext(vaultID string, t *Token) []byte {
	return aad([]byte(forTokenKey), []byte(vaultID), []byte(t.Key))
}

// tokenContext names the secrets that a token was had with and their versions,
// sorted by id.
func tokenContext(vaultID string, t *Token) []byte {
	fields := [][]byte{[]byte(forToken), []byte(vaultID), []byte(t.Key)}
	for _, id := range slices.Sorted(maps.Keys(t.Sources)) {
		fields = append(fields, []byte(id), number(t.Sources[id]))
	}
	return aad(append(fields, number(t.Version))...)
}

// seal returns nonce, ciphertext and tag.
func seal(rand io.Reader, key, plain, context []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	if _, err := io.ReadFull(rand, out); err != nil {
		return nil, err
	}
	return aead.Seal(out, out, plain, context), nil
}

// unseal opens what seal made.
func unseal(key, sealed, context []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, errWrongKey
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], context)
	if err != nil {
		return nil, errWrongKey
	}
	return plain, nil
}

// derive makes one of the keys that a root key stands for.
func derive(root []byte, info string) ([]byte, error) {
	return hkdf.Key(sha256.New, root, nil, info, chacha20poly1305.KeySize)
}

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// newID returns 128 random bits as 26 lower-case letters and digits.
func newID(rand io.Reader) (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(rand, b); err != nil {
		return "", err
	}
	return strings.ToLower(idEncoding.EncodeToString(b)), nil
}
