package main_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/standin"
)

// cmdMutual starts an HTTPS API that takes no connection without a client
// certificate of its CA, and writes some to files: NAME.crt and NAME.key. The
// one called stranger is another CA's, and the one called ended has ended.
func cmdMutual(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: mutual [HOST…]")
	}
	ca, err := standin.NewClientCA()
	ts.Check(err)
	other, err := standin.NewClientCA()
	ts.Check(err)
	api, err := standin.StartWith(standin.Options{Hosts: args, ClientCAs: ca.Pool()})
	ts.Check(err)
	ts.Defer(api.Close)
	apis(ts).api = api
	for name, end := range map[string]time.Duration{"anna": time.Hour, "boris": time.Hour, "stranger": time.Hour, "ended": -time.Hour} {
		from := ca
		if name == "stranger" {
			from = other
		}
		ts.Check(writeClient(ts.MkAbs(name), from, name, time.Now().Add(end)))
	}
	path := ts.MkAbs("mutual-ca.pem")
	ts.Check(os.WriteFile(path, api.CAPEM(), 0o600))
	ts.Setenv("MUTUAL_PORT", strconv.Itoa(int(api.Addr().Port())))
	ts.Setenv("MUTUAL_CA", path)
	if len(args) > 0 {
		ts.Setenv("AIVAULT_DEV_RESOLVE", strings.Join(args, "="+api.Addr().String()+",")+"="+api.Addr().String())
		ts.Setenv("AIVAULT_DEV_CA_CERT_PATH", path)
	}
}

// clientFiles are client certificates and their keys, by file name.
func clientFiles(names ...string) (map[string]string, error) {
	ca, err := standin.NewClientCA()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		certPEM, keyPEM, err := ca.Issue(name, time.Now().Add(time.Hour))
		if err != nil {
			return nil, err
		}
		files[name+".crt"], files[name+".key"] = string(certPEM), string(keyPEM)
	}
	return files, nil
}

// clientOnce is the one certificate of every provider's that wants one.
var clientOnce = sync.OnceValues(func() (map[string]string, error) { return clientFiles("client") })

// exampleValue is a value that a secret of the provider may have, as a line of
// an env file writes it.
func exampleValue(t *testing.T, p *registry.Provider, field string) string {
	t.Helper()
	for i := range p.Logins {
		if value := tokenValue(t, &p.Logins[i], field); value != "" {
			return value
		}
	}
	for i := range p.Logins {
		switch l := &p.Logins[i]; {
		case l.HMAC != nil && l.HMAC.KeyField == field && l.HMAC.KeyEncoding == "base64":
			return "YS1rZXkgdGhhdCBzaWducw=="
		case l.SigV4 != nil && slices.Equal(l.SigV4.Fields, []string{field}):
			return `'{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"a-value"}'`
		case l.MTLS != nil && (l.MTLS.CertField == field || l.MTLS.KeyField == field):
			files, err := clientOnce()
			if err != nil {
				t.Fatal(err)
			}
			file := files["client.crt"]
			if l.MTLS.KeyField == field {
				file = files["client.key"]
			}
			return `"` + strings.ReplaceAll(file, "\n", `\n`) + `"`
		}
	}
	return "a-value"
}

// writeClient writes a client certificate and its key beside each other.
func writeClient(path string, ca *standin.ClientCA, name string, end time.Time) error {
	certPEM, keyPEM, err := ca.Issue(name, end)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".crt", certPEM, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".key", keyPEM, 0o600)
}
