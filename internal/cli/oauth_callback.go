package cli

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// callbackPath is where a browser comes back to after a login.
const callbackPath = "/callback"

// callbackPage is what it shows there: the same whatever it brought.
const callbackPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>aivault</title></head>
<body><p>aivault has what your browser brought back. You can close this page: the terminal says whether you are logged in.</p></body></html>
`

// A callback waits on this machine for the browser to come back from a login,
// once. It listens on loopback alone; a request with another Host, path or
// method than the login's is refused and changes nothing.
type callback struct {
	uri  string // redirect URI
	host string // the Host that it answers to
	srv  *http.Server
	done sync.WaitGroup
	got  chan api.OAuthAnswer

	mu   sync.Mutex
	used bool
}

// listenForBrowser listens on a port of host, which is 127.0.0.1 or localhost;
// port 0 is any that is free.
func listenForBrowser(host string, port int) (*callback, error) {
	var listeners []net.Listener
	var err error
	for range 8 {
		if listeners, err = listenLoopback(host, port); err == nil || port != 0 {
			break
		}
	}
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "nothing can listen for the browser on %s: %w", net.JoinHostPort(host, strconv.Itoa(port)), err).
			WithHint("choose another --port, one that is registered at the provider")
	}
	c := &callback{got: make(chan api.OAuthAnswer, 1)}
	c.host = net.JoinHostPort(host, strconv.Itoa(listeners[0].Addr().(*net.TCPAddr).Port))
	c.uri = "http://" + c.host + callbackPath
	c.srv = &http.Server{
		Handler: c, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0), // it repeats what a browser sends
	}
	for _, l := range listeners {
		c.done.Go(func() { _ = c.srv.Serve(l) }) // ends with close
	}
	return c, nil
}

// listenLoopback listens on 127.0.0.1. A browser may look for localhost under
// ::1 first: then that is listened on too, or another could answer there.
func listenLoopback(host string, port int) ([]net.Listener, error) {
	four, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil || host != "localhost" {
		return []net.Listener{four}, err
	}
	got := four.Addr().(*net.TCPAddr).Port
	six, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp6", net.JoinHostPort("::1", strconv.Itoa(got)))
	switch {
	case err == nil:
		return []net.Listener{four, six}, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errors.Join(err, four.Close())
	}
	return []net.Listener{four}, nil // there is no IPv6 here, for anyone
}

// ServeHTTP takes what the browser brings.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	refuse := func(status int, why string) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, why+"\n")
	}
	switch {
	case r.Host != c.host:
		refuse(http.StatusMisdirectedRequest, "this is not the host of a login")
	case r.URL.EscapedPath() != callbackPath || r.URL.IsAbs():
		refuse(http.StatusNotFound, "there is nothing here")
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "this page is only read")
	case !c.take(r.URL.RawQuery, "http://"+r.Host+r.URL.EscapedPath()):
		refuse(http.StatusGone, "this login has been answered already")
	default:
		_, _ = io.WriteString(w, callbackPage)
	}
}

// take hands on the first answer, and no other.
func (c *callback) take(query, uri string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used {
		return false
	}
	c.used = true
	values, err := url.ParseQuery(query)
	if err != nil {
		values = nil
	}
	// What is there twice is not what the provider sent.
	one := func(name string) string {
		if list := values[name]; len(list) == 1 {
			return list[0]
		}
		return ""
	}
	c.got <- api.OAuthAnswer{
		Code: secret.FromString(one("code")), State: secret.FromString(one("state")), Error: one("error"), RedirectURI: uri,
	}
	return true
}

// wait waits for the browser until ends.
func (c *callback) wait(ctx context.Context, ends time.Time, now func() time.Time) (api.OAuthAnswer, error) {
	timer := time.NewTimer(ends.Sub(now()))
	defer timer.Stop()
	select {
	case a := <-c.got:
		return a, nil
	case <-ctx.Done():
		return api.OAuthAnswer{}, ctx.Err()
	case <-timer.C:
		return api.OAuthAnswer{}, api.Errorf(api.UpstreamTimeout, "nobody came back from the login in time")
	}
}

// close stops listening, after the page that is being sent.
func (c *callback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.srv.Shutdown(ctx) != nil {
		_ = c.srv.Close()
	}
	c.done.Wait()
}
