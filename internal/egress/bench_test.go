package egress

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

var answer1K = bytes.Repeat([]byte("x"), 1<<10)

func benchUpstream(b *testing.B) upstream {
	b.Helper()
	up := startAPI(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer1K)
	}))
	up.Record(false)
	return up
}

// transports runs a benchmark for each HTTP version, alone and in parallel.
func transports(b *testing.B, bench func(b *testing.B, h1 bool) func(buf []byte) error) {
	for _, h1 := range []bool{true, false} {
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/parallel=%v", map[bool]string{true: "h1", false: "h2"}[h1], parallel), func(b *testing.B) {
				once := bench(b, h1)
				b.ReportAllocs()
				if !parallel {
					buf := make([]byte, 4<<10)
					for b.Loop() {
						if err := once(buf); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					buf := make([]byte, 4<<10)
					for pb.Next() {
						if err := once(buf); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

func BenchmarkSend(b *testing.B) {
	transports(b, func(b *testing.B, h1 bool) func([]byte) error {
		up := benchUpstream(b)
		c := newClient(b, Config{})
		if h1 {
			h1Only(b, c, up.to)
		}
		r := request(b, "GET", "/v1/models?limit=1")
		add := bearer("sk-test")
		return func(buf []byte) error {
			resp, err := c.Send(b.Context(), up.to, r, add, Body{})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
			return err
		}
	})
}

// BenchmarkReverseProxy is the language's floor: httputil.ReverseProxy in the
// same place, with a recorder for a client.
func BenchmarkReverseProxy(b *testing.B) {
	transports(b, func(b *testing.B, h1 bool) func([]byte) error {
		up := benchUpstream(b)
		target := &url.URL{Scheme: "https", Host: up.Addr().String()}
		tr := &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: certPool(up.CAPEM()), ServerName: testHost, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   !h1,
			MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		}
		b.Cleanup(tr.CloseIdleConnections)
		proxy := &httputil.ReverseProxy{
			Transport: tr, BufferPool: &buffers{},
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header.Set("Authorization", "Bearer sk-test")
			},
		}
		return func([]byte) error {
			in := httptest.NewRequestWithContext(b.Context(), "GET", "/v1/models?limit=1", nil)
			w := &discard{header: http.Header{}}
			proxy.ServeHTTP(w, in)
			if w.status != 200 {
				return fmt.Errorf("status %d", w.status)
			}
			return nil
		}
	})
}

type buffers struct{ sync.Pool }

func (p *buffers) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 4<<10)
}

func (p *buffers) Put(b []byte) { p.Pool.Put(&b) }

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
