package oauth

import (
	"context"
	"io"
	"net"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
)

// An outcome is what is known of an ask.
type outcome int

const (
	answered  outcome = iota // the endpoint answered, whatever it said
	notAsked                 // nothing of the request can have reached it
	uncertain                // it may have acted on the request
)

// send asks, and reads the answer whole.
func (s *Source) send(ctx context.Context, w *Want, r *ask) (*answer, outcome, error) {
	to, request, err := target(w, r)
	if err != nil {
		return nil, notAsked, err
	}
	// A connection that was never had can have carried nothing.
	var left atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { left.Store(true) }})
	body := &onceReader{data: r.body}
	defer body.wipe()
	said := &answer{host: to.Host, askedAt: s.now()}
	response, err := s.cfg.Egress.Send(ctx, to, request, r.add, egress.Body{Reader: body, Length: int64(len(r.body))})
	if err != nil {
		if left.Load() {
			return nil, uncertain, err
		}
		return nil, notAsked, err
	}
	defer response.Body.Close()
	said.status, said.kind = response.Status, mediaType(response.Header.Get("Content-Type"))
	if said.body, err = readAll(response.Body); err != nil {
		clear(said.body)
		return nil, uncertain, err
	}
	return said, answered, nil
}

// target is where an ask goes: the endpoint's own host, by the credential's
// exceptions, and by plain http only where the endpoint and they say so.
func target(w *Want, r *ask) (egress.Destination, *policy.Request, error) {
	to := w.Exceptions
	if r.pinned {
		to = egress.Destination{}
	}
	u, err := url.Parse(r.endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return to, nil, api.Errorf(api.PolicyViolation, "the token endpoint of %s is no URL of host and path", w.Provider)
	}
	switch {
	case u.Scheme == "https":
		to.AllowHTTP = false
	case u.Scheme == "http" && to.AllowHTTP:
	default:
		return to, nil, api.Errorf(api.PolicyViolation, "the token endpoint of %s is not https", w.Provider)
	}
	to.Host, to.PathPrefix, to.Alone = u.Host, "", true
	if host, port, err := net.SplitHostPort(u.Host); err == nil && (port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http") {
		to.Host = host
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	request, err := policy.Canonicalise(r.method, path, r.headers, policy.Rules{})
	return to, request, err
}

// readAll reads an answer of at most maxAnswer bytes; what is longer is cut
// and will not parse.
func readAll(from io.Reader) ([]byte, error) {
	buf := make([]byte, 0, 8<<10)
	for {
		n, err := from.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		case len(buf) > maxAnswer:
			clear(buf)
			return nil, nil
		}
		if len(buf) == cap(buf) {
			grown := append(make([]byte, 0, 2*cap(buf)), buf...)
			clear(buf)
			buf = grown
		}
	}
}

// A onceReader reads a body that is wiped afterwards, though a transport may
// still be reading.
type onceReader struct {
	mu   sync.Mutex
	data []byte
	at   int
}

// Read implements io.Reader.
func (b *onceReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := copy(p, b.data[b.at:])
	if b.at += n; n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (b *onceReader) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.data)
	b.data, b.at = nil, 0
}
