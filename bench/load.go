package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is one measurement of the load generator.
type result struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50"` // microseconds
	P90      float64 `json:"p90"`
	P99      float64 `json:"p99"`
}

func (r result) perSecond() float64 { return float64(r.Requests) / r.Seconds }

func readRoots(file string) (*x509.CertPool, error) {
	pemBytes, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pemBytes) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}

func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// generateLoad sends the same call as fast as it can from c workers, or reads
// one event stream, and prints a result.
func generateLoad(args []string) error {
	fs := flag.NewFlagSet("load", flag.ExitOnError)
	socket := fs.String("socket", "", "unix socket of the front; empty: straight to the upstream")
	upstream := fs.String("upstream", "", "host:port of the upstream")
	caFile := fs.String("ca", "", "certificate of the upstream")
	envelope := fs.Bool("envelope", false, "speak aivault's API")
	http2 := fs.Bool("http2", true, "use HTTP/2 to the upstream")
	c := fs.Int("c", 1, "workers")
	length := fs.Duration("for", time.Second, "how long")
	events := fs.Int("events", 0, "read a stream of so many events instead")
	if err := fs.Parse(args); err != nil {
		return err
	}
	roots, err := readRoots(*caFile)
	if err != nil {
		return err
	}
	tr := &http.Transport{
		MaxIdleConnsPerHost: *c,
		DisableCompression:  true,
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:   *http2,
	}
	base := "https://" + *upstream
	if *socket != "" {
		base = "http://front"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
		}
	}
	target := caller{tr: tr, base: base, envelope: *envelope}
	var r result
	if *events > 0 {
		r, err = target.stream(*events)
	} else {
		r, err = target.hammer(*c, *length)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

const prompt = `{"model":"m-1","messages":[{"role":"user","content":"a short question, such as an agent asks"}],"temperature":0.2}`

// caller makes the one call that is measured, in the words of each front.
type caller struct {
	tr       *http.Transport
	base     string
	envelope bool
}

// call is a request in the words of one front, made once: what is measured is
// the front, not its client's JSON.
type call struct{ method, url, body string }

func (c caller) call(method, path, body string) (call, error) {
	if !c.envelope {
		return call{method, c.base + path, body}, nil
	}
	request := map[string]any{"method": method, "path": path}
	if body != "" {
		request["body"] = body
	}
	b, err := json.Marshal(map[string]any{"capability": "bench/all", "request": request})
	return call{"POST", c.base + "/aivault/proxy", string(b)}, err
}

func (c call) request() (*http.Request, error) {
	r, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
	if err == nil && c.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}

func (c caller) once(item call, buf []byte) error {
	r, err := item.request()
	if err != nil {
		return err
	}
	resp, err := c.tr.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || n < 900 {
		return fmt.Errorf("answer %d of %d bytes", resp.StatusCode, n)
	}
	return nil
}

func (c caller) hammer(workers int, length time.Duration) (result, error) {
	var (
		mu    sync.Mutex
		all   []float64
		first error
		wg    sync.WaitGroup
	)
	item, err := c.call("POST", "/v1/item", prompt)
	if err != nil {
		return result{}, err
	}
	for range 2 { // warm connections, pools and branch predictors
		if err := c.once(item, make([]byte, 4096)); err != nil {
			return result{}, err
		}
	}
	start := time.Now()
	for range workers {
		wg.Go(func() {
			buf := make([]byte, 4096)
			var mine []float64
			for time.Since(start) < length {
				t := time.Now()
				if err := c.once(item, buf); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
					return
				}
				mine = append(mine, float64(time.Since(t).Nanoseconds())/1000)
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if first != nil {
		return result{}, first
	}
	return summarise(all, time.Since(start)), nil
}

// stream reads one event stream; the latencies are from the upstream's write
// to this process's read.
func (c caller) stream(events int) (result, error) {
	stream, err := c.call("GET", "/v1/events?n="+strconv.Itoa(events), "")
	if err != nil {
		return result{}, err
	}
	r, err := stream.request()
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	resp, err := c.tr.RoundTrip(r)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	var late []float64
	var pending []byte
	buf := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(buf)
		at := now()
		pending = append(pending, buf[:n]...)
		for {
			event, rest, found := bytes.Cut(pending, []byte("\n\n"))
			if !found {
				break
			}
			pending = rest
			sent, perr := strconv.ParseInt(strings.TrimLeft(strings.TrimSuffix(strings.TrimPrefix(string(event), `data: {"at":`), "}"), "0"), 10, 64)
			if perr != nil {
				return result{}, fmt.Errorf("odd event %q", event)
			}
			late = append(late, float64(at-sent)/1000)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return result{}, err
		}
	}
	if len(late) != events {
		return result{}, fmt.Errorf("%d of %d events came", len(late), events)
	}
	return summarise(late, time.Since(start)), nil
}

func summarise(micros []float64, took time.Duration) result {
	slices.Sort(micros)
	at := func(q float64) float64 { return micros[min(len(micros)-1, int(q*float64(len(micros))))] }
	return result{Requests: len(micros), Seconds: took.Seconds(), P50: at(.5), P90: at(.9), P99: at(.99)}
}
