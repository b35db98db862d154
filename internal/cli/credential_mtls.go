package cli

import (
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// Fields of a client certificate on the command line.
const (
	certField = "cert"
	keyField  = "key"
)

// mtlsFlags is the flag of a client certificate beside another strategy.
type mtlsFlags struct{ beside bool }

func (m *mtlsFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&m.beside, "client-certificate", false, "beside another --auth: show the client certificate of the fields cert and key, too")
}

func (m *mtlsFlags) check(kind string) error {
	switch {
	case m.beside && kind == "":
		return api.Errorf(api.InvalidRequest, "--client-certificate stands beside --auth KIND").
			WithHint("for a certificate alone: --auth mtls")
	case m.beside && kind == "mtls":
		return api.Errorf(api.InvalidRequest, "--client-certificate stands beside another --auth than mtls, which has a certificate already")
	}
	return nil
}

// spec adds the certificate. A field cert without a field key holds both, as
// does the one secret of a credential that has no more.
func (m *mtlsFlags) spec(given api.AuthSpec, secrets map[string]string) api.AuthSpec {
	both := &api.MTLSSpec{CertField: certField, KeyField: certField}
	if secrets[keyField] != "" {
		both.KeyField = keyField
	}
	switch {
	case given.Type == "mtls":
		given.MTLS = both
		return given
	case m.beside:
		both.Plus = &given
		return api.AuthSpec{Type: "mtls", MTLS: both}
	}
	return given
}
