package main_test

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

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
