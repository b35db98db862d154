package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"

	"moldable.sh/aivault/internal/api"
)

// describe says in words of our own why an upstream could not be called.
// err's text is never used: it may quote the request, or the upstream's
// bytes, which may repeat the request.
func describe(name string, err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return api.Errorf(api.UpstreamTimeout, "%s did not answer in time", name)
	}
	if why := certificateFault(err); why != "" {
		return api.Errorf(api.UpstreamUnreachable, "%s: %s", name, why)
	}
	return api.Errorf(api.UpstreamUnreachable, "%s %s", name, networkFault(err))
}

func networkFault(err error) string {
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "cannot be resolved: no such host"
		}
		return "cannot be resolved: the name server failed"
	case errors.As(err, &record):
		return "does not speak TLS"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "cannot be reached: there is no way through the network"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset the connection"
	case errors.As(err, &op) && op.Op == "remote error" && certificateAlert(op.Err):
		return "does not take the client certificate, or wants one and was shown none"
	case errors.As(err, &op) && op.Op == "remote error":
		return "refused the TLS handshake"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed the connection early"
	case errors.Is(err, context.Canceled):
		return "was not called to the end: the call was cancelled"
	}
	return "broke the call off, or does not answer in valid HTTP"
}

// certificateAlert says whether an upstream ended the handshake over the
// client's certificate. crypto/tls has no other name for an alert than its
// text, which is its own and nothing that the upstream wrote.
func certificateAlert(err error) bool {
	switch err.Error() {
	case "tls: bad certificate", "tls: unsupported certificate", "tls: revoked certificate", "tls: expired certificate",
		"tls: unknown certificate", "tls: unknown certificate authority", "tls: certificate required":
		return true
	}
	return false
}

func certificateFault(err error) string {
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by an authority that is not trusted"
	case errors.As(err, &other):
		return "its certificate is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &verification):
		return "its certificate is not valid"
	}
	return ""
}
