package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"

	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	formatVersion = 1
	maxHeader     = 16 << 10
	maxFile       = 256 << 20
)

// header is the first line of the document. All of it is authenticated by the
// state's AEAD; none of it is secret.
type header struct {
	Format     int              `json:"aivaultVault"`
	ID         string           `json:"id"`
	Generation uint64           `json:"generation"`
	Previous   string           `json:"previous"`
	Used       bool             `json:"used"`
	Dev        bool             `json:"dev,omitzero"`
	Key        keysource.Params `json:"key"`
	RootKey    string           `json:"rootKey"`
}

// noPrevious is what the first document has for its predecessor's hash.
var noPrevious = strings.Repeat("0", 2*sha256.Size)

var b64 = base64.RawURLEncoding.Strict()

// sealedRootKeySize is a nonce, the key and a tag.
const sealedRootKeySize = nonceSize + rootKeySize + tagSize

var (
	errDamaged = errors.New("is damaged")
	errNewer   = errors.New("is damaged, or was made by a newer aivault")
)

// Claimed is what the header of the document in a vault's directory says: whose
// it is, and the generation that Accept asks for. It needs no key and proves
// nothing.
func Claimed(dir string) (id string, generation uint64, err error) {
	from := NewFileStore(filepath.Join(dir, "vault.aiv"), "")
	defer from.Close()
	doc, _, err := from.Load()
	if err != nil {
		return "", 0, err
	}
	h, _, _, err := splitDocument(doc)
	return h.ID, h.Generation, err
}

// splitDocument takes a document apart: its header, the line that the state
// is bound to, and the sealed state.
func splitDocument(blob []byte) (h header, line, sealed []byte, err error) {
	end := bytes.IndexByte(blob[:min(len(blob), maxHeader+1)], '\n')
	if end < 0 {
		return h, nil, nil, errDamaged
	}
	line, sealed = blob[:end], blob[end+1:]
	if h, err = parseHeader(line); err != nil {
		return h, nil, nil, err
	}
	if len(sealed) < nonceSize+tagSize {
		return h, nil, nil, errDamaged
	}
	return h, line, sealed, nil
}

// parseHeader accepts exactly what encode writes.
func parseHeader(line []byte) (header, error) {
	var h header
	if len(line) > maxHeader {
		return h, errDamaged
	}
	if err := strictjson.Unmarshal(line, &h); err != nil {
		return h, errNewer
	}
	if h.Format != formatVersion {
		return h, errNewer
	}
	if !validID(h.ID) || h.Generation == 0 || !isHash(h.Previous) {
		return h, errDamaged
	}
	root, err := b64.DecodeString(h.RootKey)
	if err != nil || len(root) != sealedRootKeySize {
		return h, errDamaged
	}
	if err := h.Key.Check(); err != nil {
		return h, err
	}
	again, err := h.encode()
	if err != nil || !bytes.Equal(again, line) {
		return h, errDamaged
	}
	return h, nil
}

// encode returns the header's one encoding, without a newline.
func (h header) encode() ([]byte, error) { return strictjson.Marshal(h) }

func fileHash(blob []byte) string {
	sum := sha256.Sum256(blob)
	return hex.EncodeToString(sum[:])
}

func isHash(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const idSize = 26 // 128 bits in base32

func validID(s string) bool {
	if len(s) != idSize {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
