package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
)

// A route is how one host is reached: resolved, vetted, dialled, and known by
// its certificate.
type route struct {
	cfg          *Config
	name         string // host[:port], for error texts
	host         string
	port         uint16
	allowPrivate bool
	plain        bool           // without TLS, to loopback and private addresses alone
	fixed        netip.AddrPort // dev builds: where it goes instead, without the guard
	tls          *tls.Config
	inUse        func() bool // whether a call is made there just now; may be nil
}

func (c *Client) newRoute(to Destination, host string, port uint16, certificate *tls.Certificate) (route, error) {
	roots, err := c.roots(to)
	if err != nil {
		return route{}, err
	}
	r := route{
		cfg: &c.cfg, name: to.Host, host: host, port: port, allowPrivate: to.AllowPrivate, plain: to.AllowHTTP,
		tls: &tls.Config{
			MinVersion: tls.VersionTLS12,
			ServerName: host,
			RootCAs:    roots,
			NextProtos: []string{"h2", "http/1.1"},
			// Of this route alone, so that a session is shared no further
			// than a connection.
			ClientSessionCache: tls.NewLRUClientSessionCache(8),
		},
	}
	if certificate != nil {
		r.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	for _, key := range []string{to.Host, net.JoinHostPort(host, strconv.Itoa(int(port))), host} {
		if target, ok := c.cfg.Dial[key]; ok {
			r.fixed = target
			break
		}
	}
	return r, nil
}

// roots is whom a destination's certificate may be signed by; nil is the
// system's.
func (c *Client) roots(to Destination) (*x509.CertPool, error) {
	if len(to.Roots) == 0 {
		return c.cfg.Roots, nil
	}
	var roots *x509.CertPool
	if c.cfg.Roots != nil {
		roots = c.cfg.Roots.Clone()
	} else {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, api.Errorf(api.Internal, "%s: the system's certificate authorities cannot be read", to.Host)
		}
	}
	for rest := to.Roots; len(strings.TrimSpace(string(rest))) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, badRoots(to)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badRoots(to)
		}
		roots.AddCert(certificate)
	}
	return roots, nil
}

func badRoots(to Destination) error {
	return api.Errorf(api.PolicyViolation, "%s: the credential's certificate authorities are not PEM certificates", to.Host).
		WithHint("give the file again: aivault credential create ... --ca-file FILE")
}

// systemResolver asks the system's name servers in Go's own code, which no
// library on the system can steer.
func systemResolver() func(context.Context, string) ([]netip.Addr, error) {
	resolver := &net.Resolver{PreferGo: true, StrictErrors: true}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		if strings.Contains(host, ".") {
			host += "." // a full name: no search domain is tried
		}
		return resolver.LookupNetIP(ctx, "ip", host)
	}
}

// connect makes one connection, with TLS unless the route is plain. It is
// http.Transport's DialTLSContext or DialContext: what the transport believes
// to be the address is not used.
func (r *route) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ConnectTimeout)
	defer cancel()
	targets, err := r.resolve(ctx)
	if err != nil {
		return nil, r.fault(ctx, err)
	}
	conn, err := r.dial(ctx, targets)
	if err != nil {
		return nil, r.fault(ctx, err)
	}
	if r.inUse != nil {
		conn = &listened{Conn: conn, inUse: r.inUse}
	}
	if r.plain {
		return conn, nil
	}
	secured := tls.Client(conn, r.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, r.fault(ctx, err)
	}
	return secured, nil
}

func (r *route) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return describe(r.name, err)
}

// resolve returns the addresses to dial, all of them vetted: one that may not
// be dialled refuses the name, since whoever answers for it is not to be
// believed.
func (r *route) resolve(ctx context.Context) ([]netip.AddrPort, error) {
	if r.fixed.IsValid() {
		return []netip.AddrPort{r.fixed}, r.vet(r.fixed)
	}
	addrs, err := r.addresses(ctx)
	if err != nil {
		return nil, err
	}
	targets := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		targets[i] = netip.AddrPortFrom(a.Unmap(), r.port)
		if err := r.vet(netip.AddrPortFrom(a, r.port)); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

func (r *route) addresses(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(r.host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := r.cfg.Resolve(ctx, r.host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{IsNotFound: true}
	}
	return addrs, nil
}

// vet says whether one address may be dialled.
func (r *route) vet(target netip.AddrPort) error {
	if r.cfg.OwnListeners != nil && listens(r.cfg.OwnListeners(), target) {
		return api.Errorf(api.PolicyViolation, "%s leads back to aivault itself", r.name)
	}
	check := func(a netip.Addr) error { return CheckAddr(a, r.allowPrivate) }
	switch {
	case r.plain:
		check = checkPlain
	case r.fixed.IsValid() && target == r.fixed:
		return nil
	}
	if err := check(target.Addr()); err != nil {
		e := api.AsError(err)
		refused := api.Errorf(e.Code, "%s leads elsewhere: %s", r.name, e.Message)
		refused.Hint = e.Hint
		return refused
	}
	return nil
}

// listens says whether target is one of own, whose addresses may be
// unspecified.
func listens(own []netip.AddrPort, target netip.AddrPort) bool {
	addr := target.Addr().Unmap()
	for _, l := range own {
		if l.Port() != target.Port() {
			continue
		}
		if l.Addr().Unmap() == addr || l.Addr().Unmap().IsUnspecified() && isLocal(addr) {
			return true
		}
	}
	return false
}

// isLocal says whether addr is this machine; when that cannot be told it is
// taken to be.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, i := range interfaces {
		if p, err := netip.ParsePrefix(i.String()); err != nil || p.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}

// dial tries the targets in order and shares the time that is left among
// them.
func (r *route) dial(ctx context.Context, targets []netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{Control: r.control}
	var failed error
	for i, target := range targets {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(targets)-1 {
			share := time.Until(deadline) / time.Duration(len(targets)-i)
			attempt, cancel = context.WithTimeout(ctx, max(share, min(2*time.Second, r.cfg.ConnectTimeout/2)))
		}
		conn, err := dialer.DialContext(attempt, "tcp", target.String())
		cancel()
		if err == nil {
			return conn, nil
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// control has the last word, on the address that the kernel is about to be
// given.
func (r *route) control(network, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return errors.New("not an address")
	}
	return r.vet(target)
}
