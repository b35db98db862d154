package oauth

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
)

// rsaKey reads an RSA private key from PEM, as PKCS#8 or PKCS#1. why says what
// is wrong with it, and repeats nothing of it.
func rsaKey(text []byte) (key *rsa.PrivateKey, why string) {
	block, rest := pem.Decode(text)
	if block == nil {
		if bytes.Contains(text, []byte("-----BEGIN ")) {
			return nil, "is PEM that is cut off or cannot be read"
		}
		return nil, "is not PEM: it has no line that reads -----BEGIN PRIVATE KEY-----"
	}
	defer clear(block.Bytes)
	if more, _ := pem.Decode(rest); more != nil {
		clear(more.Bytes)
		return nil, "holds more than one block of PEM"
	}
	var parsed any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || len(block.Headers) > 0:
		return nil, "is encrypted, and aivault cannot ask for its passphrase at each use"
	case block.Type == "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "PUBLIC KEY" || block.Type == "CERTIFICATE":
		return nil, "is a public key, and the private key is needed"
	case block.Type == "OPENSSH PRIVATE KEY":
		return nil, "is in OpenSSH's own form, and PKCS#8 or PKCS#1 is needed"
	default:
		return nil, "is PEM of another kind than a private key in PKCS#8 or PKCS#1"
	}
	if err != nil {
		return nil, "cannot be read"
	}
	key, ok := parsed.(*rsa.PrivateKey)
	switch {
	case !ok:
		return nil, "is not an RSA key"
	case key.N.BitLen() < 2048:
		return nil, "has fewer than 2048 bits"
	}
	return key, ""
}
