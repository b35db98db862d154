// Package egress sends canonical requests to upstreams, and nothing else. It
// checks where a connection goes after the name is resolved, keeps
// connections apart that may not be shared, follows no redirect and knows no
// proxy.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"time"

	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Field is a header field or query parameter that auth adds.
type Field struct {
	Name   string
	Value  secret.Value // query values are encoded by egress
	Public bool         // not a secret: an account id, a date
}

// Additions is everything that auth adds to a request. egress refuses
// (policy_violation) what the caller had set itself.
type Additions struct {
	Headers     []Field
	Query       []Field
	PathPrefix  secret.Value // put before the request's path, already escaped
	Certificate *tls.Certificate
}

// Destination is where policy sends a call, with the operator's exceptions
// for that very credential.
type Destination struct {
	Host         string // name[:port] as policy decided
	AllowPrivate bool   // loopback and private addresses
	AllowPorts   []int  // beside 443
	Roots        []byte // PEM, beside the system's; a connection is shared only under equal Roots
	PathPrefix   string // the login's, put before the path and after Additions.PathPrefix; not secret
}

// Body is what is sent. Length -1 is unknown (chunked); 0 with a nil Reader
// is none. A Reader that ends early or late of Length fails the call.
type Body struct {
	Reader io.Reader
	Length int64
}

// Response is an upstream's answer. Its body must be closed, which aborts
// the call when it is not read to the end. Header and Trailer are raw: the
// broker passes few of them on. gzip and deflate are undone (Content-Encoding
// and Content-Length are then absent); another encoding is refused.
type Response struct {
	Status    int
	Header    http.Header
	Trailer   func() http.Header // after Body's io.EOF
	Length    int64              // -1 unknown
	Body      io.ReadCloser
	SentBytes func() int64 // of the request's body
}

// Config is what a Client needs. The zero Config is the product's.
type Config struct {
	Resolve        func(ctx context.Context, host string) ([]netip.Addr, error) // default: the system's resolver
	Roots          *x509.CertPool                                               // default: the system's roots
	Dial           map[string]netip.AddrPort                                    // dev builds: host -> target, exempt from the address guard
	AnyPort        bool                                                         // dev builds
	OwnListeners   func() []netip.AddrPort                                      // never dialled
	UserAgent      string                                                       // sent where the caller gives none
	ConnectTimeout time.Duration                                                // 10 s
	IdleTimeout    time.Duration                                                // without a byte in either direction: 10 min
}

// Client sends requests; it is safe for concurrent use.
type Client struct{}

// New makes a Client.
func New(cfg Config) *Client { panic("contract") }

// Send sends one request and returns when the answer's header is there.
// Errors are api errors: policy_violation (address, port, a field set twice),
// upstream_unreachable, upstream_timeout, invalid_request (body length).
// Their text names the host and the cause, and nothing of the request.
func (c *Client) Send(ctx context.Context, to Destination, r *policy.Request, add Additions, body Body) (*Response, error) {
	panic("contract")
}

// CheckAddr says whether a may be dialled. Private and loopback addresses
// need allowPrivate; link-local, metadata, multicast and unspecified ones are
// refused always.
func CheckAddr(a netip.Addr, allowPrivate bool) error { panic("contract") }

// CloseIdle closes idle connections.
func (c *Client) CloseIdle() { panic("contract") }
