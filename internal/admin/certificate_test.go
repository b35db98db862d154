package admin_test

import (
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

type pair struct{ cert, key string }

func issuePair(t testing.TB, end time.Time) pair {
	t.Helper()
	ca, err := standin.NewClientCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("someone", end)
	if err != nil {
		t.Fatal(err)
	}
	return pair{string(cert), string(key)}
}

// What cannot serve as a client certificate is refused when it is stored, and
// nothing of it is repeated.
func TestClientCertificateIsCheckedWhenStored(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	good, other, ended := issuePair(t, time.Now().Add(time.Hour)), issuePair(t, time.Now().Add(time.Hour)), issuePair(t, time.Now().Add(-time.Hour))
	create := func(name, value string) error {
		_, err := v.Admin.CreateSecret(background, op, api.SecretCreate{Name: name, Value: secret.FromString(value)})
		return err
	}
	refused := func(what string, err error, text string) {
		t.Helper()
		if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want invalid_request, %q", what, err, text)
		}
		if err != nil && strings.Contains(err.Error()+api.AsError(err).Hint, "MI") {
			t.Errorf("%s: the error repeats what it is about: %v", what, err)
		}
	}
	encrypted := strings.ReplaceAll(good.key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
	refused("no certificate", create("TELLER_CLIENT_CERT", "MIIBxyz"), "is not PEM")
	refused("an ended certificate", create("TELLER_CLIENT_CERT", ended.cert), "ended on 20")
	refused("a key for a certificate", create("TELLER_CLIENT_CERT", good.key), "holds a private key")
	refused("an encrypted key", create("TELLER_CLIENT_KEY", encrypted), "is encrypted")
	refused("a certificate for a key", create("TELLER_CLIENT_KEY", good.cert), "holds a certificate")
	for _, err := range []error{create("TELLER_ACCESS_TOKEN", "tok-0123456789"), create("TELLER_CLIENT_CERT", good.cert)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	refused("another's key", create("TELLER_CLIENT_KEY", other.key), "is not that of the certificate")
	if err := create("TELLER_CLIENT_KEY", good.key); err != nil {
		t.Fatal(err)
	}
	_, err := v.Admin.RotateSecret(background, op, "TELLER_CLIENT_CERT", api.SecretRotate{Value: secret.FromString(ended.cert)})
	refused("rotating to an ended one", err, "ended on 20")
	_, err = v.Admin.RotateSecret(background, op, "TELLER_CLIENT_KEY", api.SecretRotate{Value: secret.FromString(encrypted)})
	refused("rotating to an encrypted one", err, "is encrypted")
	if list, err := v.Admin.Credentials(background, op); err != nil || len(list.Credentials) != 1 || !list.Credentials[0].Ready || list.Credentials[0].Auth != "mtls" {
		t.Errorf("%+v, %v", list, err)
	}
	// A new pair, one after the other.
	s, err := v.Admin.RotateSecret(background, op, "TELLER_CLIENT_KEY", api.SecretRotate{Value: secret.FromString(other.key)})
	if err != nil || len(s.Waiting) != 1 || s.Waiting[0] != "TELLER_CLIENT_CERT" {
		t.Errorf("waiting for %q, %v", s.Waiting, err)
	}
	if list, err := v.Admin.Credentials(background, op); err != nil || list.Credentials[0].Ready || !strings.Contains(list.Credentials[0].Problem, "is not that of") {
		t.Errorf("%+v, %v", list, err)
	}
	if s, err = v.Admin.RotateSecret(background, op, "TELLER_CLIENT_CERT", api.SecretRotate{Value: secret.FromString(other.cert)}); err != nil || len(s.Waiting) != 0 {
		t.Errorf("waiting for %q, %v", s.Waiting, err)
	}
}

func TestClientCertificateOfACredential(t *testing.T) {
	v := aivaulttest.Start(t, aivaulttest.Options{})
	good, other, ended := issuePair(t, time.Now().Add(time.Hour)), issuePair(t, time.Now().Add(time.Hour)), issuePair(t, time.Now().Add(-time.Hour))
	for name, value := range map[string]string{
		"CERT": good.cert, "KEY": good.key, "OTHER_KEY": other.key, "ENDED": ended.cert + ended.key, "BOTH": good.cert + good.key, "MAC": "not base64!",
	} {
		v.Create(t, name, value)
	}
	mtls := func(cert, key string) *api.AuthSpec {
		return &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: cert, KeyField: key}}
	}
	mac := &api.AuthSpec{Type: "hmac", HMAC: &api.HMACSpec{Algorithm: "sha256", KeyEncoding: "base64", Output: api.AuthPlace{In: "header", Name: "X-S"}}}
	for _, c := range []struct {
		what   string
		auth   *api.AuthSpec
		refs   map[string]string
		public []string
		text   string // "" is let through
	}{
		{"a pair", mtls("cert", "key"), map[string]string{"cert": "CERT", "key": "KEY"}, nil, ""},
		{"both in one", mtls("pem", "pem"), map[string]string{"": "BOTH"}, nil, ""},
		{"a public certificate", mtls("cert", "key"), map[string]string{"cert": "CERT", "key": "KEY"}, []string{"cert"}, ""},
		{"another's key", mtls("cert", "key"), map[string]string{"cert": "CERT", "key": "OTHER_KEY"}, nil, "is not that of the certificate"},
		{"an ended one", mtls("pem", "pem"), map[string]string{"": "ENDED"}, nil, "ended on 20"},
		{"no key", mtls("cert", "key"), map[string]string{"cert": "CERT"}, nil, "needs a secret for its field"},
		{"a public key", mtls("cert", "key"), map[string]string{"cert": "CERT", "key": "KEY"}, []string{"key"}, "is a key that signs"},
		{"a key that is not base64", mac, map[string]string{"": "MAC"}, nil, "is not base64"},
		{"a spec that sends the key", &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "key", Plus: &api.AuthSpec{Type: "header", ValueTemplate: "{{key}}"}}},
			map[string]string{"cert": "CERT", "key": "KEY"}, nil, "never sent"},
	} {
		made, err := v.Admin.CreateCredential(background, op, api.CredentialCreate{
			ID: "one", Provider: "acme", Auth: c.auth, SecretRefs: c.refs, PublicParts: c.public, Hosts: []string{aivaulttest.CustomHost},
		})
		if c.text != "" {
			if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v; want invalid_request, %q", c.what, err, c.text)
			}
			continue
		}
		if err != nil || !made.Ready || made.Auth != "mtls" {
			t.Errorf("%s: %+v, %v", c.what, made, err)
			continue
		}
		if _, err := v.Admin.DeleteCredential(background, op, "one"); err != nil {
			t.Fatal(err)
		}
	}
}

// An import brings certificate and key together, also where there is no vault
// yet, and refuses those that do not belong together.
func TestImportOfAClientCertificate(t *testing.T) {
	good, other := issuePair(t, time.Now().Add(time.Hour)), issuePair(t, time.Now().Add(time.Hour))
	for _, c := range []struct {
		key string
		ok  bool
	}{{good.key, true}, {other.key, false}} {
		v := aivaulttest.Start(t, aivaulttest.Options{})
		entries := func() []api.SecretEntry {
			return []api.SecretEntry{
				{Name: "TELLER_ACCESS_TOKEN", Value: secret.FromString("tok-0123456789")},
				{Name: "TELLER_CLIENT_CERT", Value: secret.FromString(good.cert)},
				{Name: "TELLER_CLIENT_KEY", Value: secret.FromString(c.key)},
			}
		}
		_, err := v.Admin.ImportSecrets(background, op, api.SecretImport{Entries: entries()})
		if c.ok && err != nil || !c.ok && (api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), "TELLER_CLIENT_KEY: ")) {
			t.Errorf("ok %t: %v", c.ok, err)
		}
	}
}
