//go:build system

package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/standin"
)

// A soakUpstream does what the request's X-Soak says, and repeats the secret
// that it was sent, and others that it heard, in every answer.
type soakUpstream struct {
	s      *soak
	name   string
	addr   string
	echoes atomic.Int64
}

func newSoakUpstream(s *soak, name string) *soakUpstream { return &soakUpstream{s: s, name: name} }

func (u *soakUpstream) startTLS(ca string) {
	up, err := standin.Start(u, "api.openai.com")
	must(u.s.t, err)
	u.s.t.Cleanup(up.Close)
	up.Record(false)
	u.addr = up.Addr().String()
	must(u.s.t, os.WriteFile(ca, up.CAPEM(), 0o644))
}

func (u *soakUpstream) startPlain() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(u.s.t, err)
	srv := &http.Server{Handler: u, ReadHeaderTimeout: 10 * time.Second}
	u.s.t.Cleanup(func() { _ = srv.Close() })
	go func() { _ = srv.Serve(l) }()
	u.addr = l.Addr().String()
}

// soakPlan is what an upstream is to do.
func soakPlan(r *rand.Rand, who string) url.Values {
	p := url.Values{"who": {who}, "seed": {strconv.FormatUint(r.Uint64(), 10)}}
	switch n := r.IntN(100); {
	case n < 45:
		p.Set("kind", "json")
		p.Set("size", strconv.Itoa(r.IntN(4096)))
	case n < 65:
		p.Set("kind", "sse")
		p.Set("size", strconv.Itoa(200+r.IntN(6000)))
		p.Set("slow", strconv.Itoa(r.IntN(40)))
	case n < 78:
		p.Set("kind", "bytes")
		p.Set("size", strconv.Itoa(r.IntN(512<<10)))
	case n < 88:
		p.Set("kind", "error")
		p.Set("size", strconv.Itoa(r.IntN(2048)))
		p.Set("status", strconv.Itoa([]int{400, 404, 409, 422, 429, 500, 502, 503}[r.IntN(8)]))
	case n < 96:
		p.Set("kind", "json")
		p.Set("size", strconv.Itoa(r.IntN(64<<10)))
		p.Set("gzip", "1")
	default:
		p.Set("kind", "never")
	}
	if r.IntN(8) == 0 {
		p.Set("reset", strconv.Itoa(r.IntN(8192)))
	}
	if r.IntN(12) == 0 {
		p.Set("early", "1") // the answer comes before the request was read
	}
	return p
}

// ServeHTTP implements http.Handler.
func (u *soakUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	plan, _ := url.ParseQuery(r.Header.Get("X-Soak"))
	seed, _ := strconv.ParseUint(plan.Get("seed"), 10, 64)
	rng := rand.New(rand.NewPCG(seed, 7))
	if plan.Get("who") != "beside" { // by the daemon
		for _, k := range u.s.keys.all {
			k.heard(key)
		}
	}
	if plan.Get("early") == "" {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if plan.Get("kind") == "never" {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	known := []string{key}
	if plan.Get("who") != "beside" {
		names := []string{soakOpenAI}
		if u.name == "plain" {
			names = []string{soakAcme, soakExtra}
		}
		for _, name := range names[:1] { // the extra account may be gone
			known = append(known, u.s.keys.all[name].known()...)
		}
	}
	body, kind := u.body(rng, plan, known)
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("X-Request-Id", disguise(rng, key))
	h.Set("X-Ratelimit-Remaining", disguise(rng, key))
	h.Set("Set-Cookie", key)
	h.Set("Location", "https://elsewhere.test/?"+key)
	h.Set("Etag", strconv.Quote(key))
	h.Set("Trailer", "X-Request-Id, X-Rest")
	if plan.Get("gzip") != "" {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(body)
		_ = z.Close()
		body = packed.Bytes()
		h.Set("Content-Encoding", "gzip")
	}
	status := http.StatusOK
	if n, err := strconv.Atoi(plan.Get("status")); err == nil {
		status = n
	}
	if rng.IntN(3) == 0 {
		h.Set("Content-Length", strconv.Itoa(len(body)))
		h.Del("Trailer")
	}
	w.WriteHeader(status)
	u.write(w, r, rng, plan, body)
	h.Set("X-Rest", key)
}

// write sends the body in pieces of any length, and perhaps not all of it.
func (u *soakUpstream) write(w http.ResponseWriter, r *http.Request, rng *rand.Rand, plan url.Values, body []byte) {
	reset := -1
	if n, err := strconv.Atoi(plan.Get("reset")); err == nil {
		reset = n
	}
	slow, _ := strconv.Atoi(plan.Get("slow"))
	flusher := http.NewResponseController(w)
	most := 1 + rng.IntN(1+len(body)/(1+rng.IntN(8)))
	for sent := 0; sent < len(body); {
		n := min(1+rng.IntN(most), len(body)-sent)
		if reset >= 0 && sent+n > reset {
			_, _ = w.Write(body[sent:max(sent, min(reset, len(body)))])
			_ = flusher.Flush()
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(body[sent : sent+n]); err != nil || flusher.Flush() != nil {
			return
		}
		sent += n
		if slow > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Duration(rng.IntN(slow)) * time.Millisecond):
			}
		}
	}
}

// body is about as long as the plan says, with secrets all over it.
func (u *soakUpstream) body(rng *rand.Rand, plan url.Values, known []string) ([]byte, string) {
	size, _ := strconv.Atoi(plan.Get("size"))
	var b bytes.Buffer
	echo := func() string {
		u.echoes.Add(1)
		return disguise(rng, known[rng.IntN(len(known))])
	}
	switch plan.Get("kind") {
	case "sse":
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, "id: %d\ndata: {\"delta\":\"%s\",\"echo\":\"%s\"}\n\n", i, soakFiller(rng, 30), echo())
		}
		b.WriteString("data: [DONE]\n\n")
		return b.Bytes(), "text/event-stream"
	case "bytes":
		chunk := make([]byte, 256)
		for b.Len() < size {
			for i := range chunk {
				chunk[i] = byte(rng.Uint32())
			}
			b.Write(chunk)
			if rng.IntN(40) == 0 {
				b.WriteString(echo())
			}
			if rng.IntN(200) == 0 {
				for _, c := range []byte(known[0]) { // UTF-16
					b.Write([]byte{c, 0})
				}
			}
		}
		return b.Bytes(), "application/octet-stream"
	case "error":
		fmt.Fprintf(&b, "<html><p>no such key: <b>%s</b> %s</p></html>", echo(), soakFiller(rng, size))
		return b.Bytes(), "text/html; charset=utf-8"
	}
	b.WriteString(`{"list":[`)
	for b.Len() < size {
		fmt.Fprintf(&b, `{"text":"%s","echo":"%s"},`, soakFiller(rng, 40), echo())
	}
	fmt.Fprintf(&b, `"%s"]}`, echo())
	return b.Bytes(), "application/json"
}

func soakFiller(rng *rand.Rand, n int) string {
	words := []string{"the ", "model ", "answers ", "with ", "words ", "that ", "are ", "mostly ", "short, ", `\n`, "%20", "&amp;", `\u00e9`}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[rng.IntN(len(words))])
	}
	return b.String()
}
