package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
)

// decoys makes values of the shapes that credentials are made of: what a
// vault takes in place of a certificate has to be one. The keys, which take
// time to make, are the same for every value.
type decoys struct {
	registry        *registry.Registry
	rsa, cert, pair string // PEM, once made
}

// use is a field that a secret fills: at least one of the specs has to take
// its value.
type use struct {
	specs []api.AuthSpec
	field string
}

// uses are the fields that each secret fills, by its id: in credentials, and
// in what the registry would make of its name.
func (d *decoys) uses(secrets []api.Secret, credentials []api.Credential) map[string][]use {
	all := map[string][]use{}
	for _, c := range credentials {
		for field, id := range c.Secrets {
			if c.AuthSpec != nil {
				all[id] = append(all[id], use{[]api.AuthSpec{*c.AuthSpec}, field})
			} else {
				all[id] = append(all[id], d.usedBy(c.Provider, field))
			}
		}
	}
	for _, s := range secrets {
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if claim, ok := d.registry.Claims(name); ok {
				all[s.ID] = append(all[s.ID], d.usedBy(claim.Provider, claim.Secret.Field))
			}
		}
	}
	return all
}

// usedBy is a field of a provider's that the registry knows.
func (d *decoys) usedBy(provider, field string) use {
	u := use{field: field}
	if p := d.registry.Provider(provider); p != nil {
		for i := range p.Logins {
			l := &p.Logins[i]
			if l.NotYet == "" && (slices.Contains(l.Fields(), field) || slices.Contains(auth.OptionalFields(l.Spec()), field)) {
				u.specs = append(u.specs, l.Spec())
			}
		}
	}
	return u
}

func (u use) takes(value string) bool {
	return len(u.specs) == 0 || slices.ContainsFunc(u.specs, func(spec api.AuthSpec) bool {
		return auth.Try(spec, map[string]secret.Value{u.field: secret.FromString(value)}, time.Now()) == nil
	})
}

// value is a decoy that can fill all these fields, the simplest that can.
func (d *decoys) value(uses []use) (string, error) {
	plain := "decoy-" + rand.Text()
	for _, shape := range []func() (string, error){
		func() (string, error) { return plain, nil },
		func() (string, error) { return hex.EncodeToString([]byte(rand.Text()[:24])), nil }, // base64, too
		func() (string, error) { return "decoy:" + rand.Text(), nil },
		func() (string, error) {
			n, err := rand.Int(rand.Reader, big.NewInt(1e9))
			return fmt.Sprint("1", n), err
		},
		func() (string, error) {
			return `{"client_id":"decoy","client_secret":"` + plain + `","refresh_token":"` + plain + `","access_token":"` + plain + `"}`, nil
		},
		func() (string, error) {
			return "[default]\naws_access_key_id = AKIA" + rand.Text()[:16] + "\naws_secret_access_key = " + rand.Text() + rand.Text()[:14] + "\n", nil
		},
		d.certificate, d.certificateAndKey, d.certificatesKey, d.rsaKey,
		func() (string, error) { return d.account(plain, "client_email") },
		func() (string, error) { return d.account(plain, "app_id") },
	} {
		v, err := shape()
		if err != nil {
			return "", err
		}
		if !slices.ContainsFunc(uses, func(u use) bool { return !u.takes(v) }) {
			return v, nil
		}
	}
	return plain, nil // which is refused, and named as what the copy lacks
}

// account is a key in JSON, as providers hand it out: a service account's, or
// an app's.
func (d *decoys) account(plain, kind string) (string, error) {
	key, err := d.rsaKey()
	key = strings.ReplaceAll(key, "\n", `\n`)
	if kind == "app_id" {
		return `{"app_id":"1","installation_id":"2","private_key":"` + key + `"}`, err
	}
	return `{"type":"service_account","client_email":"decoy@decoy.test","client_id":"1","private_key_id":"` + plain + `","private_key":"` + key + `"}`, err
}

func (d *decoys) rsaKey() (string, error) {
	if d.rsa == "" {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", err
		}
		if d.rsa, err = keyPEM(key); err != nil {
			return "", err
		}
	}
	return d.rsa, nil
}

func keyPEM(key any) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// certificate is one of a client's; certificatesKey is its key.
func (d *decoys) certificate() (string, error) {
	if d.cert != "" {
		return d.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "decoy"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return "", err
	}
	if d.pair, err = keyPEM(key); err != nil {
		return "", err
	}
	d.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return d.cert, nil
}

func (d *decoys) certificatesKey() (string, error) {
	_, err := d.certificate()
	return d.pair, err
}

func (d *decoys) certificateAndKey() (string, error) {
	cert, err := d.certificate()
	return cert + d.pair, err
}
