package daemon

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
)

// Options assemble one aivault: vault, registry, egress, broker, admin and
// the API's handler. The daemon and the in-process CLI build the same one.
type Options struct {
	Env      Env
	Build    Build
	Daemon   *api.DaemonStatus // nil in-process
	Clock    func() time.Time
	Argon2id keysource.Argon2Params // zero: the product's; tests use less
}

// Build is what the binary knows about itself.
type Build struct {
	Version string // e.g. 0.1.0 or a commit
	Dev     *Dev   // nil unless built with the tag aivault_dev
}

// Dev are the development exceptions of a build with the tag aivault_dev.
type Dev struct {
	Resolve map[string]netip.AddrPort // AIVAULT_DEV_RESOLVE
	DNS     string                    // AIVAULT_DEV_DNS: ip:port of a resolver
	Roots   *x509.CertPool            // AIVAULT_DEV_CA_CERT_PATH
	AnyPort bool                      // AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS
}

// Instance is one assembled aivault.
type Instance struct {
	Handler http.Handler
}

// New assembles an Instance; it opens nothing yet.
func New(o Options) (*Instance, error) { panic("contract") }

// Close forgets keys, closes connections and the log.
func (i *Instance) Close() error { panic("contract") }
