package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/redact"
	"moldable.sh/aivault/internal/secret"
)

// issued is a client certificate with its key, as PEM.
type issued struct {
	cert, key string
	private   crypto.Signer
	der       []byte
}

// issue makes a self-signed certificate that is good around contractTime.
func issue(name string, private crypto.Signer, change ...func(*x509.Certificate)) issued {
	now := time.Unix(contractTime, 0)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err) // no test can go on
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return issued{cert: pemOf("CERTIFICATE", der), key: pemOf("PRIVATE KEY", pkcs8), private: private, der: der}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func mtlsSpec(cert, key string, plus *api.AuthSpec) api.AuthSpec {
	return api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: cert, KeyField: key, Plus: plus}}
}

func mtlsSuites() []suite {
	one := issue("client", newKey())
	two := map[string]string{"cert": one.cert, "key": one.key}
	with := func(more ...string) map[string]string {
		m := map[string]string{"cert": one.cert, "key": one.key}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	return []suite{{
		spec: mtlsSpec("cert", "key", nil), fields: two,
		wire: []string{"certificate: client"}, open: []string{"certificate: client"},
		bad: []api.AuthSpec{
			{Type: "mtls"},
			{Type: "mtls", HeaderName: "X", MTLS: &api.MTLSSpec{CertField: "a", KeyField: "b"}},
			mtlsSpec("", "key", nil),
			mtlsSpec("cert", "a b", nil),
			mtlsSpec("cert", "key", &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "a", KeyField: "b"}}),
			mtlsSpec("cert", "key", &api.AuthSpec{Type: "oauth2"}),
			mtlsSpec("cert", "key", &api.AuthSpec{Type: "header", HeaderName: "Host"}),
			mtlsSpec("cert", "key", &api.AuthSpec{Type: "header", ValueTemplate: "{{key}}"}),
			mtlsSpec("secret", "secret", &api.AuthSpec{Type: "basic"}),
			mtlsSpec("cert", "key", &api.AuthSpec{Type: "hmac", HMAC: signed(api.HMACSpec{KeyField: "key"}).HMAC}),
		},
		badFor: []string{"mtls", "headerName", "mtls.certField", "mtls.keyField", "mtls.plus.type", "mtls.plus.type", "mtls.plus.headerName",
			"mtls.plus", "mtls.plus", "mtls.plus"},
	}, {
		spec: mtlsSpec("secret", "secret", nil), fields: map[string]string{"secret": one.key + one.cert},
		wire: []string{"certificate: client"}, open: []string{"certificate: client"},
	}, {
		spec: mtlsSpec("cert", "key", &api.AuthSpec{Type: "basic", UsernameTemplate: "{{token}}"}), fields: with("token", "tok-0123456789"),
		wire: []string{"Authorization: Basic dG9rLTAxMjM0NTY3ODk6", "certificate: client"}, open: []string{"certificate: client"},
	}, {
		spec: mtlsSpec("cert", "key", &api.AuthSpec{Type: "query", ParamName: "k", ValueTemplate: "{{k}}"}), fields: with("k", "key-0123456789"), params: []string{"k"},
		wire: []string{"k=key-0123456789", "certificate: client"}, open: []string{"certificate: client"},
	}}
}

func certificateOf(t *testing.T, spec api.AuthSpec, fields map[string]string, now time.Time) (egress.Additions, error) {
	t.Helper()
	return additions(t, spec, Input{Fields: values(fields), Request: requestTo(t, "GET", "/"), Now: now})
}

// Every form in which a private key comes is read, and the certificate's chain
// goes along as it was given.
func TestMTLSForms(t *testing.T) {
	now := time.Unix(contractTime, 0)
	ec := newKey()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ofEC, ofRSA, ofEd, ca := issue("ec", ec), issue("rsa", rsaKey), issue("ed", ed), issue("ca", newKey())
	for name, c := range map[string]struct {
		cert, key string
		chain     int
	}{
		"PKCS#8 ECDSA":         {ofEC.cert, ofEC.key, 1},
		"PKCS#8 RSA":           {ofRSA.cert, ofRSA.key, 1},
		"PKCS#8 Ed25519":       {ofEd.cert, ofEd.key, 1},
		"PKCS#1":               {ofRSA.cert, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), 1},
		"SEC 1":                {ofEC.cert, pemOf("EC PRIVATE KEY", sec1), 1},
		"SEC 1 and parameters": {ofEC.cert, pemOf("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + pemOf("EC PRIVATE KEY", sec1), 1},
		"a chain":              {ofEC.cert + ca.cert, ofEC.key, 2},
		"text around, CRLF":    {"Bag Attributes\n  friendlyName: Zoë\n" + strings.ReplaceAll(ofEC.cert, "\n", "\r\n") + "\r\n", "Key Attributes: <none>\n" + ofEC.key, 1},
	} {
		a, err := certificateOf(t, mtlsSpec("cert", "key", nil), map[string]string{"cert": c.cert, "key": c.key}, now)
		if err != nil || len(a.Certificate.Certificate) != c.chain {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Certificate.Leaf == nil || !bytes.Equal(a.Certificate.Leaf.Raw, a.Certificate.Certificate[0]) {
			t.Errorf("%s: the leaf is not the first of the chain", name)
		}
		a, err = certificateOf(t, mtlsSpec("pem", "pem", nil), map[string]string{"pem": c.cert + c.key}, now)
		if err != nil || len(a.Certificate.Certificate) != c.chain {
			t.Errorf("%s in one field: %v", name, err)
		}
	}
}

func TestMTLSRefuses(t *testing.T) {
	now := time.Unix(contractTime, 0)
	one, other := issue("one", newKey()), issue("other", newKey())
	key, err := x509.MarshalECPrivateKey(one.private.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	legacy := func(kind string) string {
		b := &pem.Block{Type: kind, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00112233445566778899AABBCCDDEEFF"}, Bytes: key}
		return string(pem.EncodeToMemory(b))
	}
	cutOff := one.key[:len(one.key)/2]
	for name, c := range map[string]struct {
		cert, key string
		field     string
		text      string
	}{
		"another's key":          {one.cert, other.key, "key", "is not that of the certificate"},
		"the key's is second":    {other.cert + one.cert, one.key, "cert", "has to be the first"},
		"no PEM for certificate": {"MIIB", one.key, "cert", "is not PEM"},
		"no PEM for key":         {one.cert, "MIIB", "key", "is not PEM"},
		"a key for certificate":  {one.key, one.key, "cert", "holds a private key, too"},
		"both for certificate":   {one.cert + one.key, one.key, "cert", "holds a private key, too"},
		"a certificate for key":  {one.cert, one.cert, "key", "holds a certificate"},
		"two keys":               {one.cert, one.key + other.key, "key", "more than one private key"},
		"encrypted PKCS#8":       {one.cert, pemOf("ENCRYPTED PRIVATE KEY", key), "key", "(PKCS#8) in field \"key\" is encrypted"},
		"encrypted PKCS#1":       {one.cert, legacy("RSA PRIVATE KEY"), "key", "(PKCS#1) in field \"key\" is encrypted"},
		"encrypted SEC 1":        {one.cert, legacy("EC PRIVATE KEY"), "key", "(SEC 1) in field \"key\" is encrypted"},
		"OpenSSH":                {one.cert, pemOf("OPENSSH PRIVATE KEY", key), "key", "OpenSSH"},
		"DSA":                    {one.cert, pemOf("DSA PRIVATE KEY", key), "key", "another kind than a private key"},
		"a public key":           {one.cert, pemOf("PUBLIC KEY", key), "key", "another kind than a private key"},
		"a request":              {pemOf("CERTIFICATE REQUEST", one.der), one.key, "cert", "another kind than CERTIFICATE"},
		"a broken key":           {one.cert, pemOf("PRIVATE KEY", key[:20]), "key", "cannot be read"},
		"a broken certificate":   {pemOf("CERTIFICATE", one.der[:20]), one.key, "cert", "cannot be read"},
		"a cut-off key":          {one.cert, cutOff, "key", "cut off"},
		"a good and a cut-off":   {one.cert, one.key + cutOff, "key", "cut off"},
		"only parameters":        {one.cert, pemOf("EC PARAMETERS", []byte{5, 0}), "key", "holds no private key"},
		"a long chain":           {strings.Repeat(one.cert, maxChain+1), one.key, "cert", "more certificates than"},
		"a NUL":                  {one.cert + "\x00", one.key, "cert", "control character"},
		"an empty key":           {one.cert, "", "key", "no value for its field"},
	} {
		a, err := certificateOf(t, mtlsSpec("cert", "key", nil), map[string]string{"cert": c.cert, "key": c.key}, now)
		if api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `"`+c.field+`"`) {
			t.Errorf("%s: %v; want auth_failed, %q, field %q", name, err, c.text, c.field)
		}
		if a.Certificate != nil || err != nil && api.AsError(err).Hint == "" {
			t.Errorf("%s: a certificate or no hint: %v", name, err)
		}
		text := ""
		if err != nil {
			text = err.Error() + api.AsError(err).Hint
		}
		for line := range strings.Lines(one.key + other.key) {
			if line = strings.TrimSpace(line); len(line) > 8 && line[0] != '-' && strings.Contains(text, line[:8]) {
				t.Errorf("%s: the error repeats the key: %s", name, text)
			}
		}
	}
}

func TestMTLSValidity(t *testing.T) {
	one := issue("one", newKey())
	fields := map[string]string{"cert": one.cert, "key": one.key}
	spec := mtlsSpec("cert", "key", nil)
	start := time.Unix(contractTime, 0)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{start.Add(-time.Hour), ""},
		{start.Add(time.Hour), ""},
		{start.Add(time.Hour + time.Second), "ended on 2023-11-14T23:13:20Z"},
		{start.Add(-time.Hour - time.Second), "is not valid before 2023-11-14T21:13:20Z"},
	} {
		_, err := certificateOf(t, spec, fields, c.at)
		tried := Try(spec, values(fields), c.at)
		for _, err := range []error{err, tried} {
			if c.want == "" && err != nil || c.want != "" && (api.CodeOf(err) != api.AuthFailed || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("at %s: %v, want %q", c.at.UTC(), err, c.want)
			}
		}
	}
	s, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	// Whether it could be used is one question, and when another.
	v, err := ClientCertificate(s, values(fields))
	if err != nil || v.Field != "cert" || !v.NotAfter.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := ClientCertificate(s, values(map[string]string{"cert": one.cert, "key": issue("x", newKey()).key})); err == nil {
		t.Error("another's key fits")
	}
	if got := CertificateFields(s); !slices.Equal(got, []string{"cert", "key"}) {
		t.Errorf("fields %q", got)
	}
	plain, err := New(api.AuthSpec{Type: "header"})
	if err != nil {
		t.Fatal(err)
	}
	if got := CertificateFields(plain); got != nil {
		t.Errorf("of a header: %q", got)
	}
}

// What is stored alone is looked at alone, and together with what it belongs
// to.
func TestTry(t *testing.T) {
	now := time.Unix(contractTime, 0)
	one, other := issue("one", newKey()), issue("other", newKey())
	spec := mtlsSpec("cert", "key", &api.AuthSpec{Type: "basic", UsernameTemplate: "{{token}}"})
	encoded := signed(api.HMACSpec{KeyEncoding: "base64", Headers: []api.AuthField{{Name: "X-Id", ValueTemplate: "{{id}}"}}})
	for _, c := range []struct {
		spec   api.AuthSpec
		fields map[string]string
		ok     bool
	}{
		{spec, nil, true},
		{spec, map[string]string{"cert": one.cert}, true},
		{spec, map[string]string{"key": one.key}, true},
		{spec, map[string]string{"token": "t"}, true},
		{spec, map[string]string{"token": "t\n"}, false},
		{spec, map[string]string{"cert": "x"}, false},
		{spec, map[string]string{"key": "x"}, false},
		{spec, map[string]string{"cert": one.cert, "key": one.key, "token": "t"}, true},
		{spec, map[string]string{"cert": one.cert, "key": other.key}, false},
		{encoded, map[string]string{"id": "i"}, true},
		{encoded, map[string]string{"secret": "aGVsbG8="}, true},
		{encoded, map[string]string{"secret": "a value"}, false},
		{signed(api.HMACSpec{KeyEncoding: "hex"}), nil, true},
		{api.AuthSpec{Type: "path", PrefixTemplate: "/{{a}}/{{b}}"}, map[string]string{"a": "x"}, true},
		{api.AuthSpec{Type: "nothing"}, nil, false},
	} {
		if err := Try(c.spec, values(c.fields), now); (err == nil) != c.ok {
			t.Errorf("%+v with %d values: %v", c.spec, len(c.fields), err)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		spec api.AuthSpec
		want []string
	}{
		{mtlsSpec("c", "k", nil), []string{"k"}},
		{mtlsSpec("c", "k", &api.AuthSpec{Type: "hmac", HMAC: signed(api.HMACSpec{KeyField: "h"}).HMAC}), []string{"k", "h"}},
		{api.AuthSpec{Type: "header"}, nil},
		{api.AuthSpec{Type: "nothing"}, nil},
	} {
		if got := Keys(c.spec); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", c.spec, got)
		}
	}
}

// Any line of a private key that an upstream repeats is found, in the PEM and
// in base64 of another width, and so is the whole in one line or in binary.
func TestPEMPartsAreFound(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	one := issue("one", rsaKey)
	stored := one.cert + one.key
	v := secret.FromString(stored)
	set := redact.NewSet(append(PEMParts(v), v))
	defer set.Close()
	hidden := func(what, text string) {
		if got, n := set.String("<<" + text + ">>"); n == 0 || strings.Contains(got, text) {
			t.Errorf("%s is not found: %q", what, text)
		}
	}
	hidden("the whole", stored)
	hidden("the key alone", one.key)
	hidden("the key with CRLF", strings.ReplaceAll(one.key, "\n", "\r\n"))
	hidden("the key in JSON", strings.ReplaceAll(one.key, "\n", `\n`))
	block, _ := pem.Decode([]byte(one.key))
	hidden("the key in binary", string(block.Bytes))
	lines := strings.Split(strings.TrimSpace(one.key), "\n")
	for i, line := range lines[1 : len(lines)-1] {
		if len(line) >= 16 {
			hidden("a line", line)
			hidden("a line of JSON", strings.ReplaceAll(line, "/", `\/`))
		} else if i != len(lines)-3 {
			t.Errorf("line %d is short", i)
		}
	}
	hidden("the key in one line", strings.Join(lines[1:len(lines)-1], ""))
	// A certificate is shown to whoever asks, and its lines are no secret.
	certLines := strings.Split(one.cert, "\n")
	if got, n := set.String(certLines[2]); n != 0 {
		t.Errorf("a line of the certificate becomes %q", got)
	}
	if parts := PEMParts(secret.FromString("sk-no-pem")); parts != nil {
		t.Errorf("%d parts of what is no PEM", len(parts))
	}
	if got := v.Expose(); string(got) != stored {
		t.Error("the value was changed")
	}
}

func FuzzPEM(f *testing.F) {
	one := issue("one", newKey())
	f.Add(one.cert, one.key)
	f.Add(one.cert+one.key, one.key)
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n")
	now := time.Unix(contractTime, 0)
	f.Fuzz(func(t *testing.T, cert, key string) {
		fields := map[string]string{"cert": cert, "key": key}
		a, err := certificateOf(t, mtlsSpec("cert", "key", nil), fields, now)
		if err != nil {
			if code := api.CodeOf(err); code != api.AuthFailed || a.Certificate != nil {
				t.Fatalf("%s: %v", code, err)
			}
		} else if !belongs(a.Certificate.Leaf, a.Certificate.PrivateKey.(tlsKey)) {
			t.Fatal("certificate and key do not belong together")
		}
		PEMParts(secret.FromString(key))
	})
}

func BenchmarkMTLS(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for name, one := range map[string]issued{"ECDSA": issue("a", newKey()), "RSA": issue("b", rsaKey)} {
		b.Run(name, func(b *testing.B) {
			s, err := New(mtlsSpec("cert", "key", nil))
			if err != nil {
				b.Fatal(err)
			}
			in := Input{Fields: values(map[string]string{"cert": one.cert, "key": one.key}), Now: time.Unix(contractTime, 0)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Additions(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
