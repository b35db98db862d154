// Package egress sends canonical requests to upstreams, and nothing else. It
// checks where a connection goes after the name is resolved, keeps
// connections apart that may not be shared, follows no redirect and knows no
// proxy.
//
// net/http reports some faults of an upstream through the standard logger,
// and quotes what the upstream sent: a process that sends secrets must
// discard that logger's output.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"time"

	"moldable.sh/aivault/internal/api"
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
	Headers []Field
	Query   []Field
	// Form are members that are joined to a form-encoded body, behind the
	// caller's, which may hold none of these names. The body has to be in
	// memory: Body.Whole.
	Form        []Field
	PathPrefix  secret.Value // put before the request's path, already escaped
	Certificate *tls.Certificate
	// Signature is what of the fields signs the request, as it is written
	// there. It is not sent beside them.
	Signature secret.Value
}

// Destination is where policy sends a call, with the operator's exceptions
// for that very credential.
type Destination struct {
	Host         string // name[:port] as policy decided
	AllowPrivate bool   // loopback and private addresses
	AllowPorts   []int  // beside 443, and 80 with AllowHTTP
	AllowHTTP    bool   // plain http instead of TLS, to loopback and private addresses alone; without a port: 80
	Roots        []byte // PEM, beside the system's; a connection is shared only under equal Roots
	PathPrefix   string // the login's, put before the path and after Additions.PathPrefix; not secret
	Alone        bool   // over a connection that serves nothing else: none that the upstream is about to close loses what can be sent but once
}

// Body is what is sent. Length -1 is unknown (chunked); 0 with a nil Reader
// is none. A Reader that ends early or late of Length fails the call.
type Body struct {
	Reader io.Reader
	Length int64
	// Whole is all of it, where it is in memory; Reader then reads it. What
	// has it can be sent a second time.
	Whole []byte
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
	ConnectTimeout time.Duration                                                // 10 s: name, connection and TLS together
	IdleTimeout    time.Duration                                                // without a byte in either direction: 10 min
}

const (
	connectTimeout = 10 * time.Second
	idleTimeout    = 10 * time.Minute
)

// Client sends requests; it is safe for concurrent use.
type Client struct {
	cfg   Config
	pools pools
}

// New makes a Client.
func New(cfg Config) *Client {
	if cfg.Resolve == nil {
		cfg.Resolve = systemResolver()
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = idleTimeout
	}
	return &Client{cfg: cfg, pools: pools{byHost: make(map[string][]*pool)}}
}

// Send sends one request and returns when the answer's header is there.
// Errors are api errors: policy_violation (address, port, a field set twice),
// upstream_unreachable, upstream_timeout, invalid_request (body length),
// auth_failed (an addition that cannot be sent, a client certificate without
// TLS). Their text names the host
// and the cause, and nothing of the request. The answer's Body ends with
// io.EOF or with such an error too.
//
// A context that is cancelled with an *api.Error as its cause ends the call
// with that error. body.Reader is not read once Send has failed or the
// answer's Body is closed, but for a Read that is under way.
func (c *Client) Send(ctx context.Context, to Destination, r *policy.Request, add Additions, body Body) (*Response, error) {
	target, err := wireTarget(to, r, add)
	if err != nil {
		return nil, err
	}
	header, err := wireHeader(c.cfg.UserAgent, r, add)
	if err != nil {
		return nil, err
	}
	if body, err = joinForm(r, add, body, header); err != nil {
		return nil, err
	}
	p, err := c.acquire(to, add.Certificate)
	if err != nil {
		return nil, err
	}
	call := newCall(ctx, c, p)
	resp, err := call.roundTrip(r.Method(), target, header, body)
	if err != nil {
		call.close()
		return nil, err
	}
	return resp, nil
}

// CloseIdle closes idle connections.
func (c *Client) CloseIdle() {
	for _, p := range c.pools.all() {
		p.transport.CloseIdleConnections()
	}
}

// roundTrip sends the assembled request and takes the answer's header.
func (c *call) roundTrip(method string, target target, header http.Header, body Body) (*Response, error) {
	req := &http.Request{
		Method: method, URL: target.url(c.pool.scheme, c.pool.authority), Host: c.pool.authority, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	var count func() int64
	if whole := body.inOneWrite(); whole != nil {
		req.Body, req.ContentLength = whole, body.Length
		count = func() int64 { return body.Length } // it left with the header that was answered
	} else {
		sent, err := c.newSentBody(body)
		if err != nil {
			return nil, err
		}
		if sent != nil {
			req.Body, req.ContentLength = sent, body.Length
		}
		count = sent.count
	}
	resp, err := c.pool.transport.RoundTrip(req.WithContext(c.ctx))
	if err != nil {
		return nil, c.fault(err)
	}
	c.touch()
	if c.ctx.Err() != nil {
		// Ended meanwhile, by the request's body perhaps: what came back is
		// no answer to the request.
		_ = resp.Body.Close()
		return nil, c.fault(nil)
	}
	if resp.StatusCode < 200 {
		_ = resp.Body.Close()
		return nil, api.Errorf(api.UpstreamUnreachable, "%s changed to another protocol unasked", c.pool.name)
	}
	answer := &c.body
	*answer = answerBody{call: c, wire: resp.Body, length: resp.ContentLength}
	if err := answer.decode(method, resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	c.response = Response{
		Status: resp.StatusCode, Header: resp.Header, Length: answer.length, Body: answer,
		Trailer:   func() http.Header { return resp.Trailer },
		SentBytes: count,
	}
	return &c.response, nil
}
