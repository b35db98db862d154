//go:build aivault_dev

// Package devenv reads the development variables (AIVAULT_DEV_…) in builds
// with the tag aivault_dev, and in no others.
package devenv

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// Read parses the development variables of an environment. Without any the
// result has no exceptions, and still marks a development build.
func Read(environ []string) (*daemon.Dev, error) {
	d := &daemon.Dev{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "AIVAULT_DEV_") || value == "" {
			continue
		}
		if err := set(d, name, value); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func set(d *daemon.Dev, name, value string) (err error) {
	switch name {
	case "AIVAULT_DEV_RESOLVE":
		d.Resolve, err = resolve(value)
	case "AIVAULT_DEV_DNS":
		var at netip.AddrPort
		if at, err = netip.ParseAddrPort(value); err != nil {
			return api.Errorf(api.InvalidRequest, "%s is %q; it is ip:port", name, value)
		}
		d.DNS, d.Lookup = at.String(), lookup(at)
	case "AIVAULT_DEV_CA_CERT_PATH":
		d.Roots, err = roots(value)
	case "AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS":
		switch value {
		case "1", "true":
			d.AnyPort = true
		case "0", "false":
		default:
			return api.Errorf(api.InvalidRequest, "%s is %q; it can be 0 or 1", name, value)
		}
	default:
		return api.Errorf(api.InvalidRequest, "%s is no development variable", name)
	}
	return err
}

// resolve parses host=ip:port,….
func resolve(value string) (map[string]netip.AddrPort, error) {
	m := map[string]netip.AddrPort{}
	for pair := range strings.SplitSeq(value, ",") {
		host, target, _ := strings.Cut(pair, "=")
		at, err := netip.ParseAddrPort(target)
		if host == "" || err != nil {
			return nil, api.Errorf(api.InvalidRequest, "AIVAULT_DEV_RESOLVE has %q; it is host=ip:port,…", pair)
		}
		m[strings.ToLower(host)] = at
	}
	return m, nil
}

// roots are the system's with those of a file.
func roots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "AIVAULT_DEV_CA_CERT_PATH: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, api.Errorf(api.InvalidRequest, "AIVAULT_DEV_CA_CERT_PATH: no certificate in %q", path)
	}
	return pool, nil
}

// lookup asks the resolver at a given address and no other.
func lookup(at netip.AddrPort) func(context.Context, string) ([]netip.Addr, error) {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, at.String())
	}}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return r.LookupNetIP(ctx, "ip", host)
	}
}
