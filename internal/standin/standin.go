// Package standin is an HTTPS API to call in place of a real one: for the
// demo, and for tests that need an upstream that can be watched.
package standin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// API is a running HTTPS server with a CA of its own, on loopback.
//
// Its routes: /echo answers with a JSON description of the request, headers
// included (so it repeats the secret: what an honest broker must scrub);
// /v1/chat/completions answers like a chat API, and as an event stream when
// the body says "stream":true; /sse sends one event at a time as Step is
// called, and ends after ?events=N; /status/NNN answers with that status;
// /bytes/N sends N bytes; /redirect answers 302 to ?to=URL; /slow?ms=N waits
// before it answers; anything else is a small JSON object.
type API struct {
	addr   netip.AddrPort
	caPEM  []byte
	server *http.Server
	served chan struct{} // closed when Serve has returned
	once   sync.Once

	mu       sync.Mutex
	records  []*record
	forget   bool // Record(false) was called
	stepChat bool
	steps    int
	stepped  chan struct{} // closed and replaced by each Step
}

// Start starts an API whose certificate is good for the hosts given, beside
// localhost and 127.0.0.1. handler, when not nil, replaces the routes; what it
// reads of a body is recorded all the same.
func Start(handler http.Handler, hosts ...string) (*API, error) {
	return StartWith(Options{Handler: handler, Hosts: hosts})
}

// Options change what StartWith starts.
type Options struct {
	Handler http.Handler // as of Start
	Hosts   []string     // as of Start
	// ClientCAs, when not nil, are whom a client certificate must be signed
	// by; without one there is no connection.
	ClientCAs *x509.CertPool
	// MaxTLS, when not zero, is the newest version of TLS that it speaks.
	MaxTLS uint16
}

// StartWith starts an API as Options say.
func StartWith(o Options) (*API, error) {
	handler, hosts := o.Handler, o.Hosts
	caPEM, certificate, err := issue(hosts, time.Now())
	if err != nil {
		return nil, fmt.Errorf("standin: make a certificate: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("standin: listen: %w", err)
	}
	a := &API{
		addr:    listener.Addr().(*net.TCPAddr).AddrPort(),
		caPEM:   caPEM,
		served:  make(chan struct{}),
		stepped: make(chan struct{}),
	}
	if handler == nil {
		handler = a.routes()
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: o.MaxTLS, Certificates: []tls.Certificate{certificate}}
	if o.ClientCAs != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, o.ClientCAs
	}
	a.server = &http.Server{
		Handler:           a.recording(handler),
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		// A refused handshake is something to see in a test or the demo, not
		// on its standard error.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(a.served)
		_ = a.server.ServeTLS(listener, "", "") // ends with ErrServerClosed
	}()
	return a, nil
}

// Addr is where it listens.
func (a *API) Addr() netip.AddrPort { return a.addr }

// CAPEM is the certificate that signed the server's own.
func (a *API) CAPEM() []byte { return a.caPEM }

// Step lets /sse streams send their next event. A stream counts the steps
// made since its header was sent.
func (a *API) Step() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.steps++
	close(a.stepped)
	a.stepped = make(chan struct{})
}

// StepChat says whether the chat API's event streams wait for Step too before
// each event; without it they send all at once.
func (a *API) StepChat(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stepChat = on
}

// Close stops the server and ends its connections.
func (a *API) Close() {
	a.once.Do(func() {
		_ = a.server.Close() // nothing to do about a listener that will not close
		<-a.served
	})
}
