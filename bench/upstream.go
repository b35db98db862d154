package main

import (
	"crypto/tls"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// now is the monotonic clock that all processes of one machine share, in
// nanoseconds: events carry it from the upstream to the load generator.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail for this clock
	return t.Nano()
}

// announce tells the parent process where a server listens, and keeps the
// process until the parent goes away.
func announce(lines ...string) error {
	for _, l := range lines {
		fmt.Println(l)
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// serveUpstream is the API that everything in front of it calls: 1 KiB of
// JSON at /v1/item, a stream of events at /v1/events.
func serveUpstream(args []string) error {
	fs := flag.NewFlagSet("upstream", flag.ExitOnError)
	http2 := fs.Bool("http2", true, "offer HTTP/2")
	caFile := fs.String("ca", "", "where to write the certificate")
	if err := fs.Parse(args); err != nil {
		return err
	}
	item := []byte(`{"id":"item-1","object":"item","text":"` + strings.Repeat("benchmarks are not timed tests. ", 30) + `"}`)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/item", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(item)))
		_, _ = w.Write(item)
	})
	mux.HandleFunc("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Type", "text/event-stream")
		for range n {
			if _, err := fmt.Fprintf(w, "data: {\"at\":%020d}\n\n", now()); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(3 * time.Millisecond)
		}
	})
	srv := httptest.NewUnstartedServer(mux)
	srv.EnableHTTP2 = *http2
	srv.StartTLS()
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(*caFile, ca, 0o600); err != nil {
		return err
	}
	return announce(srv.Listener.Addr().String())
}

// buffers is the pool that the bare proxy copies with, as ours does.
type buffers struct{ sync.Pool }

// A pool takes a slice without an allocation only by its pointer.
func (b *buffers) Get() []byte  { return b.Pool.Get().(*[copySize]byte)[:] }
func (b *buffers) Put(p []byte) { b.Pool.Put((*[copySize]byte)(p)) }

const copySize = 32 << 10

// serveFloor is the language's floor: ReverseProxy that sets one header.
func serveFloor(args []string) error {
	fs := flag.NewFlagSet("floor", flag.ExitOnError)
	upstream := fs.String("upstream", "", "host:port")
	caFile := fs.String("ca", "", "certificate of the upstream")
	socket := fs.String("socket", "", "unix socket to listen on")
	http2 := fs.Bool("http2", true, "use HTTP/2 to the upstream")
	if err := fs.Parse(args); err != nil {
		return err
	}
	roots, err := readRoots(*caFile)
	if err != nil {
		return err
	}
	target := &url.URL{Scheme: "https", Host: *upstream}
	pool := &buffers{}
	pool.New = func() any { return new([copySize]byte) }
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer bench-0123456789abcdef")
		},
		BufferPool:    pool,
		FlushInterval: -1,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2:   *http2,
			MaxIdleConnsPerHost: 64,
			DisableCompression:  true,
		},
	}
	l, err := listenUnix(*socket)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: proxy}
	go func() { _ = srv.Serve(l) }()
	return announce(*socket)
}
