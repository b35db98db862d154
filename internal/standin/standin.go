// Package standin is an HTTPS API to call in place of a real one: for the
// demo, and for tests that need an upstream that can be watched.
package standin

import (
	"net/http"
	"net/netip"
	"sync"
)

// Seen is one request as the API received it.
type Seen struct {
	Method, Target string // Target as on the wire
	Host           string
	Header         http.Header
	Body           []byte // at most MaxBody; BodyLength tells the whole
	BodyLength     int64
	BodySHA256     string // hex
}

// MaxBody is how much of a body Seen keeps, in bytes.
const MaxBody = 64 << 10

// API is a running HTTPS server with a CA of its own, on loopback.
//
// Its routes: /echo answers with a JSON description of the request, headers
// included (so it repeats the secret: what an honest broker must scrub);
// /v1/chat/completions answers like a chat API, and as an event stream when
// the body says "stream":true; /sse sends one event at a time as Step is
// called; /status/NNN answers with that status; /bytes/N sends N bytes;
// anything else is a small JSON object.
type API struct {
	mu sync.Mutex
}

// Start starts an API whose certificate is good for the hosts given, beside
// localhost and 127.0.0.1. handler, when not nil, replaces the routes.
func Start(handler http.Handler, hosts ...string) (*API, error) { panic("contract") }

// Addr is where it listens; CAPEM the certificate that signs its own.
func (a *API) Addr() netip.AddrPort { panic("contract") }
func (a *API) CAPEM() []byte        { panic("contract") }

// Seen returns the requests received so far.
func (a *API) Seen() []Seen { panic("contract") }

// Step lets /sse streams send their next event.
func (a *API) Step() { panic("contract") }

// Close stops the server and ends its connections.
func (a *API) Close() { panic("contract") }
