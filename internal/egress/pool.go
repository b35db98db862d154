package egress

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// maxPools is how many pools are kept. More exist only while more are in use
// at once.
const maxPools = 256

// A pool holds the connections that one kind of call may share: same host and
// port, same exceptions, same roots, same client certificate, all of them TLS
// or all plain.
type pool struct {
	to          Destination // PathPrefix is no part of it
	certificate *tls.Certificate
	route       route
	name        string // host[:port], for error texts
	scheme      string // https, or http for what AllowHTTP lets through
	authority   string // the Host header
	transport   *http.Transport

	// Guarded by pools.mu.
	active int
	used   uint64 // pools.turn when it was last used
	// With a client certificate: when it came to be in use no more, and the one
	// timer that drops it then.
	freed  time.Time
	expiry *time.Timer

	busy atomic.Bool // active > 0, for who has no lock
}

// keyIdle is how long a client certificate's key is kept after its last call:
// as long as a connection that was made with it may be used again.
const keyIdle = idleConnection

// Bounds of what an upstream may send before it is believed, and of what of an
// answer is in memory while nobody reads it.
const (
	maxAnswerHeader = 256 << 10
	maxIdlePerHost  = 64
	readBuffer      = 8 << 10
	streamWindow    = 256 << 10 // of each HTTP/2 stream: a caller may leave hundreds unread
	pingAfter       = time.Minute
	pingPatience    = 15 * time.Second
)

// idleConnection is how long a connection waits for its next call.
const idleConnection = 90 * time.Second

type pools struct {
	mu     sync.Mutex
	byHost map[string][]*pool // by Destination.Host
	count  int
	turn   uint64
}

// fits says whether a call may use the pool.
func (p *pool) fits(to *Destination, certificate *tls.Certificate) bool {
	return p.to.AllowPrivate == to.AllowPrivate &&
		p.to.AllowHTTP == to.AllowHTTP &&
		p.to.Alone == to.Alone &&
		slices.Equal(p.to.AllowPorts, to.AllowPorts) &&
		bytes.Equal(p.to.Roots, to.Roots) &&
		sameCertificate(p.certificate, certificate)
}

// sameCertificate compares chain and private key: who has the certificate
// alone may not use the connection of who has its key.
func sameCertificate(a, b *tls.Certificate) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || !slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal) {
		return false
	}
	key, ok := a.PrivateKey.(interface{ Equal(crypto.PrivateKey) bool })
	return ok && key.Equal(b.PrivateKey)
}

// acquire finds or makes the pool for a call; release gives it back.
func (c *Client) acquire(to Destination, certificate *tls.Certificate) (*pool, error) {
	if p := c.pools.take(&to, certificate); p != nil {
		return p, nil
	}
	fresh, err := c.newPool(to, certificate)
	if err != nil {
		return nil, err
	}
	return c.pools.add(fresh), nil
}

func (ps *pools) take(to *Destination, certificate *tls.Certificate) *pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.takeLocked(to, certificate)
}

func (ps *pools) takeLocked(to *Destination, certificate *tls.Certificate) *pool {
	for _, p := range ps.byHost[to.Host] {
		if p.fits(to, certificate) {
			p.active++
			p.busy.Store(true)
			return p
		}
	}
	return nil
}

// add keeps fresh, unless another call has added its like meanwhile.
func (ps *pools) add(fresh *pool) *pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.takeLocked(&fresh.to, fresh.certificate); p != nil {
		return p
	}
	fresh.active++
	fresh.busy.Store(true)
	ps.byHost[fresh.to.Host] = append(ps.byHost[fresh.to.Host], fresh)
	ps.count++
	ps.evictLocked()
	return fresh
}

func (ps *pools) release(p *pool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.active--
	p.busy.Store(p.active > 0)
	ps.turn++
	p.used = ps.turn
	if p.certificate != nil && p.active == 0 {
		p.freed = time.Now()
		if p.expiry == nil {
			p.expiry = time.AfterFunc(keyIdle, func() { ps.forget(p) })
		} else {
			p.expiry.Reset(keyIdle)
		}
	}
	ps.evictLocked()
}

// forget drops a pool that was not used for as long as its key is kept.
func (ps *pools) forget(p *pool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.active == 0 && time.Since(p.freed) >= keyIdle {
		ps.dropLocked(p)
	}
}

// dropLocked takes a pool that nobody uses out of the list, if it is there.
func (ps *pools) dropLocked(old *pool) {
	host := old.to.Host
	rest := slices.DeleteFunc(ps.byHost[host], func(p *pool) bool {
		if p == old {
			ps.count--
		}
		return p == old
	})
	if ps.byHost[host] = rest; len(rest) == 0 {
		delete(ps.byHost, host)
	}
	old.transport.CloseIdleConnections()
}

// evictLocked drops the unused pools that were used longest ago, until no
// more than maxPools are left.
func (ps *pools) evictLocked() {
	for ps.count > maxPools {
		var oldest *pool
		for _, list := range ps.byHost {
			for _, p := range list {
				if p.active == 0 && (oldest == nil || p.used < oldest.used) {
					oldest = p
				}
			}
		}
		if oldest == nil {
			return
		}
		ps.dropLocked(oldest)
	}
}

func (ps *pools) all() []*pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []*pool
	for _, list := range ps.byHost {
		out = append(out, list...)
	}
	return out
}

// newPool checks a destination and makes its transport.
func (c *Client) newPool(to Destination, certificate *tls.Certificate) (*pool, error) {
	to.AllowPorts, to.Roots, to.PathPrefix = slices.Clone(to.AllowPorts), bytes.Clone(to.Roots), ""
	host, port, err := policy.ParseHost(to.Host)
	if err != nil {
		return nil, err
	}
	scheme, usual := "https", usualPort(to)
	if to.AllowHTTP {
		scheme = "http"
		if certificate != nil {
			return nil, api.Errorf(api.AuthFailed, "%s: a client certificate cannot be shown over plain http", to.Host)
		}
	}
	if port == 0 {
		port = usual
	}
	p := &pool{to: to, certificate: certificate, name: to.Host, scheme: scheme, authority: authority(host, port, usual)}
	if port != usual && !(to.AllowHTTP && port == 443) && !c.cfg.AnyPort && !slices.Contains(to.AllowPorts, port) {
		return nil, api.Errorf(api.PolicyViolation, "%s: port %d needs the operator's exception", p.name, port).
			WithHint("the operator can allow it to one credential: aivault credential create ... --allow-port %d", port)
	}
	p.route, err = c.newRoute(to, host, uint16(port), certificate)
	if err != nil {
		return nil, err
	}
	p.route.inUse = p.busy.Load
	p.transport = c.newTransport(p)
	return p, nil
}

// usualPort is the port that a destination's requests do not name.
func usualPort(to Destination) int {
	if to.AllowHTTP {
		return 80
	}
	return 443
}

// authority is the Host of requests; no port, and the usual one, are left out.
func authority(host string, port, usual int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != 0 && port != usual {
		host += ":" + strconv.Itoa(port)
	}
	return host
}

// newTransport speaks one scheme alone: the other's connections cannot be
// made.
func (c *Client) newTransport(p *pool) *http.Transport {
	none := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("egress: a connection of the wrong kind")
	}
	t := &http.Transport{
		DialTLSContext:         p.route.connect,
		DialContext:            none,
		Proxy:                  nil, // whatever the environment says
		DisableCompression:     true,
		DisableKeepAlives:      p.to.Alone,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleConnection,
		MaxResponseHeaderBytes: maxAnswerHeader,
		WriteBufferSize:        writeBuffer,
		ReadBufferSize:         readBuffer,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: streamWindow,
			// A connection that died without a word is found within 75 s.
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingPatience,
			WriteByteTimeout: c.cfg.IdleTimeout,
		},
	}
	if p.to.AllowHTTP {
		t.DialTLSContext, t.DialContext = none, p.route.connect
		// HTTP/2 is for TLS: over plain TCP both sides would have to believe
		// in it unasked.
		t.ForceAttemptHTTP2, t.Protocols = false, new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	return t
}
