package broker_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

func clientCA(t testing.TB) *standin.ClientCA {
	t.Helper()
	ca, err := standin.NewClientCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func clientPEM(t testing.TB, ca *standin.ClientCA, name string, end time.Time) (cert, key string) {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue(name, end)
	if err != nil {
		t.Fatal(err)
	}
	return string(certPEM), string(keyPEM)
}

func rotate(t testing.TB, v *aivaulttest.Aivault, name, value string) api.Secret {
	t.Helper()
	s, err := v.Admin.RotateSecret(background, aivaulttest.Operator(), name, api.SecretRotate{Value: secret.FromString(value)})
	if err != nil {
		t.Fatalf("rotate %s: %v", name, err)
	}
	return s
}

// A hint names the secret by what tells it from others: what another scope has
// under that name is another's.
func TestAHintNamesOneSecret(t *testing.T) {
	ca := clientCA(t)
	var ahead atomic.Int64
	v := start(t, aivaulttest.Options{ClientCAs: ca.Pool(), Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	cert, key := clientPEM(t, ca, "first", time.Now().Add(time.Hour))
	v.Create(t, "TELLER_ACCESS_TOKEN", "tok-0123456789")
	made := v.Create(t, "TELLER_CLIENT_CERT", cert)
	v.Create(t, "TELLER_CLIENT_KEY", key)
	if _, err := v.Admin.CreateSecret(background, aivaulttest.Operator(), api.SecretCreate{
		Name: "TELLER_CLIENT_CERT", Scope: "workspace:w", Value: secret.FromString(cert),
	}); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(2 * time.Hour))
	refused := mustRefuse(t, v, get("teller/accounts-read", "/accounts"), api.AuthFailed)
	ref, ok := strings.CutPrefix(refused.Hint, "aivault secrets rotate ")
	if !ok {
		t.Fatalf("hint %q", refused.Hint)
	}
	cert, _ = clientPEM(t, ca, "second", time.Now().Add(3*time.Hour))
	if s := rotate(t, v, ref, cert); s.ID != made.ID {
		t.Errorf("the hint is about %s", s.ID)
	}
}

// A certificate that has ended keeps its credential from making calls, which
// is told before one is made, and a new one with its key puts it right.
func TestClientCertificateEnds(t *testing.T) {
	ca := clientCA(t)
	var ahead atomic.Int64
	v := start(t, aivaulttest.Options{ClientCAs: ca.Pool(), Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	cert, key := clientPEM(t, ca, "first", time.Now().Add(time.Hour))
	v.Create(t, "TELLER_ACCESS_TOKEN", "tok-0123456789")
	v.Create(t, "TELLER_CLIENT_CERT", cert)
	if made := v.Create(t, "TELLER_CLIENT_KEY", key); len(made.Waiting) != 0 {
		t.Fatalf("waiting for %q", made.Waiting)
	}
	accounts := get("teller/accounts-read", "/accounts")
	mustInvoke(t, v, accounts)
	if s := v.API.Seen()[0]; s.Client == nil || s.Client.Subject.CommonName != "first" || !strings.HasPrefix(s.Header.Get("Authorization"), "Basic ") {
		t.Fatalf("seen %+v", s)
	}

	ahead.Store(int64(2 * time.Hour))
	v.API.Record(true)
	refused := mustRefuse(t, v, accounts, api.AuthFailed)
	if !strings.Contains(refused.Message, `field "cert_pem" ended on 20`) || refused.Hint != "aivault secrets rotate TELLER_CLIENT_CERT" {
		t.Errorf("refused with %q, hint %q", refused.Message, refused.Hint)
	}
	_, problems := v.Broker.Providers(background, aivaulttest.Operator())
	if len(problems) != 1 || problems[0].What != "credential teller" || !strings.Contains(problems[0].Why, "ended on") ||
		problems[0].Hint != "aivault secrets rotate TELLER_CLIENT_CERT" {
		t.Errorf("problems %+v", problems)
	}
	told, err := v.Broker.Explain(background, aivaulttest.Operator(), accounts, egress.Body{})
	if err != nil || told.Allowed {
		t.Errorf("explained as %+v, %v", told, err)
	}

	// The two come one after the other, and between them do not fit.
	cert, key = clientPEM(t, ca, "second", time.Now().Add(3*time.Hour))
	if s := rotate(t, v, "TELLER_CLIENT_CERT", cert); len(s.Waiting) != 1 || s.Waiting[0] != "TELLER_CLIENT_KEY" {
		t.Errorf("waiting for %q", s.Waiting)
	}
	if refused := mustRefuse(t, v, accounts, api.AuthFailed); !strings.Contains(refused.Message, "is not that of the certificate") {
		t.Errorf("refused with %q", refused.Message)
	}
	if n := len(v.API.Seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
	if s := rotate(t, v, "TELLER_CLIENT_KEY", key); len(s.Waiting) != 0 {
		t.Errorf("waiting for %q", s.Waiting)
	}
	mustInvoke(t, v, accounts)
	if s := v.API.Seen()[0]; s.Client.Subject.CommonName != "second" {
		t.Errorf("called as %s", s.Client.Subject.CommonName)
	}
}

// A certificate stands beside another strategy, or alone, or in one secret with
// its key; each account's calls come over its own.
func TestClientCertificates(t *testing.T) {
	ca := clientCA(t)
	v := start(t, aivaulttest.Options{ClientCAs: ca.Pool()})
	end := time.Now().Add(time.Hour)
	anna, annaKey := clientPEM(t, ca, "anna", end)
	boris, borisKey := clientPEM(t, ca, "boris", end)
	v.Create(t, "ANNA_CERT", anna)
	v.Create(t, "ANNA_KEY", annaKey)
	v.Create(t, "BORIS_PEM", borisKey+boris)
	v.Create(t, "TOKEN", "tok-0123456789")
	credential(t, v, api.CredentialCreate{
		ID: "anna", Provider: "acme", Hosts: []string{aivaulttest.CustomHost}, SecretRefs: map[string]string{"cert": "ANNA_CERT", "key": "ANNA_KEY"},
		Auth: &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "key"}},
	})
	credential(t, v, api.CredentialCreate{
		ID: "boris", Provider: "acme", Hosts: []string{aivaulttest.CustomHost}, SecretRefs: map[string]string{"cert": "BORIS_PEM", "secret": "TOKEN"},
		Auth: &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "cert", Plus: &api.AuthSpec{Type: "header", HeaderName: "X-Token"}}},
	})
	capability(t, v, api.CapabilityCreate{ID: "acme/all", Methods: []string{"GET"}, Paths: []string{"/"}})
	over := map[string]string{}
	for i := range 6 {
		id := []string{"anna", "boris"}[i%2]
		call := get("acme/all", "/x")
		call.Credential = id
		mustInvoke(t, v, call)
		s := v.API.Seen()[i]
		if s.Client.Subject.CommonName != id {
			t.Errorf("%s called as %s", id, s.Client.Subject.CommonName)
		}
		if had := over[s.Connection]; had != "" && had != id {
			t.Errorf("%s and %s share a connection", had, id)
		}
		over[s.Connection] = id
		if got, want := s.Header.Get("X-Token"), map[string]string{"anna": "", "boris": "tok-0123456789"}[id]; got != want {
			t.Errorf("%s: X-Token is %q", id, got)
		}
	}
	noneOnDisk(t, v, strings.Split(annaKey, "\n")[1], strings.Split(borisKey, "\n")[1])
	if got := v.Records(t); len(got) == 0 || strings.Contains(toText(got), strings.Split(annaKey, "\n")[1]) {
		t.Error("the audit log holds a key")
	}
}

func toText(records []aivaulttest.Record) string {
	var b strings.Builder
	for _, r := range records {
		for k, v := range r {
			b.WriteString(k)
			if s, ok := v.(string); ok {
				b.WriteString(s)
			}
		}
	}
	return b.String()
}

// No line of a private key comes back in an answer, nor the bytes of a key
// that is stored encoded.
func TestKeysAreScrubbed(t *testing.T) {
	ca := clientCA(t)
	cert, key := clientPEM(t, ca, "anna", time.Now().Add(time.Hour))
	block, _ := pem.Decode([]byte(key))
	lines := strings.Split(strings.TrimSpace(key), "\n")
	var echo string
	v := start(t, aivaulttest.Options{ClientCAs: ca.Pool(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.WriteString(w, echo)
	})})
	v.Create(t, "CERT", cert)
	v.Create(t, "KEY", key)
	v.Create(t, "MAC", "66726f6d2068657821212121") // "from hex!!!!"
	credential(t, v, api.CredentialCreate{
		ID: "acme", Provider: "acme", Hosts: []string{aivaulttest.CustomHost}, SecretRefs: map[string]string{"cert": "CERT", "key": "KEY", "mac": "MAC"},
		Auth: &api.AuthSpec{Type: "mtls", MTLS: &api.MTLSSpec{CertField: "cert", KeyField: "key", Plus: &api.AuthSpec{Type: "hmac", HMAC: &api.HMACSpec{
			Algorithm: "sha256", KeyField: "mac", KeyEncoding: "hex", Output: api.AuthPlace{In: "header", Name: "X-Signature"},
		}}}},
	})
	capability(t, v, api.CapabilityCreate{ID: "acme/all", Methods: []string{"GET"}, Paths: []string{"/"}})
	for name, text := range map[string]string{
		"the key as stored":      key,
		"its first line":         lines[1],
		"its last line":          lines[len(lines)-2],
		"its lines in JSON":      strings.Join(lines, `\n`),
		"its lines as one":       strings.Join(lines[1:len(lines)-1], ""),
		"its bytes":              string(block.Bytes),
		"the MAC's key, stored":  "66726f6d2068657821212121",
		"the MAC's key, decoded": "from hex!!!!",
		"the MAC's key, base64":  "ZnJvbSBoZXghISEh",
	} {
		echo = "<<" + text + ">>"
		if got := mustInvoke(t, v, get("acme/all", "/x")); strings.Contains(got, text) || !strings.Contains(got, secret.Redacted) {
			t.Errorf("%s comes back as %q", name, got)
		}
	}
}
