package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// maxChain bounds the certificates of one client.
const maxChain = 10

// tlsKey is a private key that TLS can sign with.
type tlsKey interface {
	crypto.Signer
	Equal(crypto.PrivateKey) bool
}

// publicKey is how the standard library's public keys compare.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// pemBlocks reads a secret that holds PEM (RFC 7468). Text around the blocks
// is left alone, as tools write it there; a block that cannot be read is an
// error, since the decoder would pass over it.
func pemBlocks(field string, v secret.Value) ([]*pem.Block, error) {
	text := v.Expose()
	if len(text) == 0 {
		return nil, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", field).
			WithHint("see what it lacks: aivault credential list")
	}
	for _, c := range text {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return nil, unfit(field, "holds a control character")
		}
	}
	var blocks []*pem.Block
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	switch begun := bytes.Count(text, []byte("-----BEGIN ")); {
	case begun == 0:
		return nil, unfit(field, "is not PEM: it has no line that reads -----BEGIN …-----")
	case begun != len(blocks):
		wipeBlocks(blocks)
		return nil, unfit(field, "holds PEM that is cut off or cannot be read")
	}
	return blocks, nil
}

func wipeBlocks(blocks []*pem.Block) {
	for _, b := range blocks {
		clear(b.Bytes)
	}
}

const pemCertificate = "CERTIFICATE"

// parseChain reads certificates, the client's own first. A private key beside
// them is passed over where the field is to hold both.
func parseChain(field string, v secret.Value, both bool) ([]*x509.Certificate, error) {
	blocks, err := pemBlocks(field, v)
	if err != nil {
		return nil, err
	}
	defer wipeBlocks(blocks)
	var chain []*x509.Certificate
	for _, b := range blocks {
		switch {
		case b.Type == pemCertificate:
			c, err := x509.ParseCertificate(bytes.Clone(b.Bytes))
			if err != nil {
				return nil, unfit(field, "holds a certificate that cannot be read")
			}
			chain = append(chain, c)
		case both && isKeyBlock(b.Type):
		case isKeyBlock(b.Type):
			return nil, unfit(field, "holds a private key, too, and is to hold certificates alone")
		default:
			return nil, unfit(field, "holds PEM of another kind than CERTIFICATE")
		}
	}
	switch {
	case len(chain) == 0:
		return nil, unfit(field, "holds no certificate")
	case len(chain) > maxChain:
		return nil, unfit(field, "holds more certificates than a chain has")
	}
	return chain, nil
}

// isKeyBlock says whether PEM of this kind belongs to a private key.
func isKeyBlock(kind string) bool {
	switch kind {
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "DSA PRIVATE KEY":
		return true
	}
	return false
}

// parseKey reads one private key: PKCS#8, PKCS#1 or SEC 1, not encrypted.
// Certificates beside it are passed over where the field is to hold both.
func parseKey(field string, v secret.Value, both bool) (tlsKey, error) {
	blocks, err := pemBlocks(field, v)
	if err != nil {
		return nil, err
	}
	defer wipeBlocks(blocks)
	var key tlsKey
	for _, b := range blocks {
		switch {
		case b.Type == "EC PARAMETERS" || both && b.Type == pemCertificate:
			continue
		case b.Type == pemCertificate:
			return nil, unfit(field, "holds a certificate, and is to hold a private key alone")
		case key != nil:
			return nil, unfit(field, "holds more than one private key")
		}
		if key, err = parseKeyBlock(field, b); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, unfit(field, "holds no private key")
	}
	return key, nil
}

func parseKeyBlock(field string, b *pem.Block) (tlsKey, error) {
	var key any
	var err error
	switch b.Type {
	case "ENCRYPTED PRIVATE KEY":
		return nil, encrypted(field, "PKCS#8")
	case "OPENSSH PRIVATE KEY":
		return nil, unfit(field, "holds a private key in OpenSSH's own form, where PKCS#8, PKCS#1 or SEC 1 is needed")
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		if encryptedBlock(b) {
			return nil, encrypted(field, "PKCS#1")
		}
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		if encryptedBlock(b) {
			return nil, encrypted(field, "SEC 1")
		}
		key, err = x509.ParseECPrivateKey(b.Bytes)
	default:
		return nil, unfit(field, "holds PEM of another kind than a private key in PKCS#8, PKCS#1 or SEC 1")
	}
	if err != nil {
		return nil, unfit(field, "holds a private key that cannot be read")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, unfit(field, "holds a private key of a kind that TLS cannot sign with: RSA, ECDSA and Ed25519 can")
}

// encryptedBlock says whether a block is encrypted in the way of RFC 1421.
func encryptedBlock(b *pem.Block) bool {
	return b.Headers["DEK-Info"] != "" || b.Headers["Proc-Type"] != ""
}

func encrypted(field, form string) error {
	return api.Errorf(api.AuthFailed, "auth: the private key (%s) in field %q is encrypted, and no call can ask for its passphrase: store what openssl pkey makes of it", form, field).
		WithHint("store it decrypted: aivault secrets rotate NAME")
}

// PEMParts lists what of a value that is PEM tells the private key in it: the
// bytes of each line and of the whole, which scrubbing finds in base64, too.
// Of a value that is not, there is nothing. The values are fresh; the caller
// wipes them.
func PEMParts(v secret.Value) []secret.Value {
	var parts []secret.Value
	add := func(b []byte) { parts = append(parts, secret.New(bytes.Clone(b))) }
	inside := false
	for line := range bytes.Lines(v.Expose()) {
		line = bytes.TrimSpace(line)
		switch {
		case bytes.HasPrefix(line, []byte("-----BEGIN ")):
			inside = bytes.HasSuffix(line, []byte("PRIVATE KEY-----"))
		case bytes.HasPrefix(line, []byte("-----END ")):
			inside = false
		case inside && len(line) > 0:
			raw := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
			if n, err := base64.StdEncoding.Decode(raw, line); err == nil {
				add(raw[:n])
			} else {
				add(line) // not a multiple of four long: found as it stands
			}
			clear(raw)
		}
	}
	for rest := v.Expose(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return parts
		}
		if isKeyBlock(block.Type) {
			add(block.Bytes)
		}
		clear(block.Bytes)
	}
}
