package standin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"sync"
)

// Seen is one request as the API received it.
type Seen struct {
	Method, Target string // Target as on the wire
	Host           string
	Proto          string // HTTP/1.1 or HTTP/2.0
	Header         http.Header
	// ContentLength is what the request declared, -1 when it declared
	// nothing; TransferEncoding is what an HTTP/1.1 request listed.
	ContentLength    int64
	TransferEncoding []string
	Body             []byte // at most MaxBody; BodyLength tells the whole
	BodyLength       int64
	BodySHA256       string // hex
	// Connection is where the request came from, alike for those of one
	// connection, and Client the certificate that its caller showed there.
	Connection string
	Client     *x509.Certificate
}

// MaxBody is how much of a body Seen keeps, in bytes.
const MaxBody = 64 << 10

// record is a Seen that is still being received: the body is hashed as a
// handler reads it, and never held whole.
type record struct {
	mu   sync.Mutex
	seen Seen
	hash hash.Hash
}

func newRecord(r *http.Request) *record {
	return &record{
		seen: Seen{
			Method:           r.Method,
			Target:           r.RequestURI,
			Host:             r.Host,
			Proto:            r.Proto,
			Header:           r.Header.Clone(),
			ContentLength:    r.ContentLength,
			TransferEncoding: r.TransferEncoding,
			Connection:       r.RemoteAddr,
			Client:           clientOf(r),
		},
		hash: sha256.New(),
	}
}

func clientOf(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// Write takes the next part of the body.
func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hash.Write(p)
	r.seen.BodyLength += int64(len(p))
	if room := MaxBody - len(r.seen.Body); room > 0 {
		r.seen.Body = append(r.seen.Body, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// snapshot is the request as received so far.
func (r *record) snapshot() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen
	s.Header = s.Header.Clone()
	s.Body = append([]byte(nil), s.Body...)
	s.BodySHA256 = hex.EncodeToString(r.hash.Sum(nil))
	return s
}

// teeBody records what is read of a body.
type teeBody struct {
	io.ReadCloser
	record *record
}

func (b teeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	_, _ = b.record.Write(p[:n])
	return n, err
}

// recording keeps a record of every request that reaches next.
func (a *API) recording(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		if a.forget {
			a.mu.Unlock()
			next.ServeHTTP(w, r)
			return
		}
		rec := newRecord(r)
		a.records = append(a.records, rec)
		a.mu.Unlock()
		r.Body = teeBody{r.Body, rec}
		next.ServeHTTP(w, r)
	})
}

// Seen returns the requests received so far, in order of arrival.
func (a *API) Seen() []Seen {
	a.mu.Lock()
	records := append([]*record(nil), a.records...)
	a.mu.Unlock()
	seen := make([]Seen, len(records))
	for i, rec := range records {
		seen[i] = rec.snapshot()
	}
	return seen
}

// Record says whether requests are kept for Seen, and forgets those kept so
// far: a benchmark turns it off, a test may use it to begin anew.
func (a *API) Record(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records, a.forget = nil, !on
}
