//go:build system

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
)

// A soakWorker is one caller, of a user of its own, who makes one call after
// the other and remembers what came of each.
type soakWorker struct {
	s    *soak
	uid  uint32
	r    *rand.Rand
	what string // the last call
}

func (s *soak) newWorker(i int) *soakWorker {
	return &soakWorker{s: s, uid: soakUID + uint32(i), r: s.rand(1000 + uint64(i))}
}

func (w *soakWorker) run() {
	for w.s.pause(time.Duration(w.r.IntN(150)) * time.Millisecond) {
		began := time.Now()
		w.one()
		if took := time.Since(began); took > 20*time.Second {
			w.s.count("calls of more than 20 s")
			w.s.note("uid %d: a call took %s: %s", w.uid, took.Round(time.Millisecond), w.what)
		}
	}
}

// one makes a call over a connection of its own.
func (w *soakWorker) one() {
	c, err := dialAs(w.uid, w.s.agents)
	if err != nil {
		w.s.count("no daemon")
		time.Sleep(20 * time.Millisecond)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(90 * time.Second))
	plan := soakPlan(w.r, strconv.Itoa(int(w.uid)))
	call := api.Call{Capability: "acme/any", Request: api.Request{
		Method: "POST", Path: "/v1/things?q=" + strconv.Itoa(w.r.IntN(1000)), Headers: api.Headers{{Name: "X-Soak", Value: plan.Encode()}}, Body: new(`{"n":1}`),
	}}
	if plan.Get("kind") == "never" || w.r.IntN(20) == 0 {
		call.TimeoutMs = 200 + w.r.Int64N(2000)
	}
	defer func() {
		w.what = fmt.Sprintf("%s %s %v, %d ms", call.Request.Method, call.Capability, plan, call.TimeoutMs)
	}()
	refused := false
	switch n := w.r.IntN(100); {
	case n < 40:
		call.Capability, call.Request.Path = "openai/chat-completions", ""
	case n < 50:
		call.Capability, call.Request.Method, call.Request.Path, call.Request.Body = "openai/models", "GET", "", nil
	case n < 60:
		call.Capability = "extra/any"
	case n < 68:
		refused = true
		w.spoil(&call)
	case n < 78:
		w.upload(c, &call)
		return
	}
	body, err := json.Marshal(call)
	must(w.s.t, err)
	route, method := api.RouteProxy, "POST"
	if refused && w.r.IntN(3) == 0 {
		route, method, body = api.RouteSecrets, "GET", nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: aivault\r\n", method, route)
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	if _, err := c.Write(b.Bytes()); err != nil {
		w.tell(soakEvent{})
		return
	}
	w.read(c)
}

// spoil makes a call that nobody may make.
func (w *soakWorker) spoil(call *api.Call) {
	switch w.r.IntN(5) {
	case 0:
		call.Capability = "acme/none"
	case 1:
		call.Request.Path = "/v1/%2e%2e/x"
	case 2:
		call.Request.Headers = append(call.Request.Headers, api.Header{Name: "Authorization", Value: "Bearer mine"})
	case 3:
		call.Credential = "nobody"
	default:
		call.Request.Method = "TRACE"
	}
}

// upload sends a body that does not fit anywhere whole, and may give up in the
// middle of it.
func (w *soakWorker) upload(c net.Conn, call *api.Call) {
	w.s.count("uploads")
	call.Request.Body = nil
	envelope, err := json.Marshal(call)
	must(w.s.t, err)
	length, end := 1+w.r.IntN(1<<20), "\r\n--frontier--\r\n"
	head := "--frontier\r\nContent-Disposition: form-data; name=\"envelope\"\r\nContent-Type: application/json\r\n\r\n" + string(envelope) +
		"\r\n--frontier\r\nContent-Disposition: form-data; name=\"body\"\r\nContent-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(length) + "\r\n\r\n"
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: aivault\r\nContent-Type: multipart/form-data; boundary=frontier\r\nContent-Length: %d\r\n\r\n%s", api.RouteProxy, len(head)+length+len(end), head)
	quit, slow := -1, w.r.IntN(3) == 0
	if w.r.IntN(5) == 0 {
		quit = w.r.IntN(length)
	}
	// The answer may come before all of it is sent.
	done := make(chan struct{})
	seed := w.r.Uint64()
	go func() {
		defer close(done)
		r, piece := rand.New(rand.NewPCG(seed, 1)), make([]byte, 32<<10)
		for sent := 0; sent < length; {
			n := min(1+r.IntN(len(piece)), length-sent)
			if quit >= 0 && sent+n > quit {
				_ = c.Close()
				return
			}
			if _, err := c.Write(piece[:n]); err != nil {
				return
			}
			sent += n
			if slow {
				time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
			}
		}
		_, _ = io.WriteString(c, end)
	}()
	w.read(c)
	_ = c.Close()
	<-done
}

// read takes the answer, perhaps slowly, perhaps not to its end, and looks for
// secrets in all of it.
func (w *soakWorker) read(c net.Conn) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.tell(soakEvent{})
		return
	}
	defer resp.Body.Close()
	w.s.clean("the header of an answer", headText(resp.Status, resp.Header))
	dawdle, leave := w.r.IntN(10) == 0, -1
	if w.r.IntN(12) == 0 {
		leave = w.r.IntN(4096)
	}
	var body bytes.Buffer
	buf := make([]byte, 16<<10)
	if dawdle {
		w.s.count("dawdled")
		buf = buf[:64+w.r.IntN(4096)]
	}
	for err == nil {
		var n int
		n, err = resp.Body.Read(buf)
		body.Write(buf[:n])
		if leave >= 0 && body.Len() >= leave {
			w.s.count("left")
			w.s.clean("a body that was not read to its end", body.Bytes())
			w.tell(soakEvent{})
			return
		}
		if dawdle && body.Len() < 64<<10 {
			time.Sleep(time.Duration(w.r.IntN(30)) * time.Millisecond)
		}
	}
	w.s.clean("an answer's body", body.Bytes())
	w.s.clean("an answer's trailer", headText("", resp.Trailer))
	if !errors.Is(err, io.EOF) {
		w.tell(soakEvent{})
		return
	}
	if resp.Header.Get(api.HeaderAnswer) == "upstream" {
		code := resp.Trailer.Get(api.HeaderError)
		if code == "" {
			w.s.count("answered")
		} else {
			w.s.count("broken")
		}
		// What could not be recorded at once is recorded later, as it was.
		w.tell(soakEvent{known: code != string(api.Internal), status: resp.StatusCode, bytes: int64(body.Len()), code: code})
		return
	}
	var e api.Error
	if err := json.Unmarshal(body.Bytes(), &e); err != nil || e.Code == "" {
		w.s.fail("an answer of the daemon's own is none of its errors: %d %q", resp.StatusCode, body.Bytes())
	}
	w.s.count(strings.ReplaceAll(string(e.Code), "_", " "))
	switch e.Code {
	case api.UpstreamUnreachable, api.UpstreamTimeout:
		w.tell(soakEvent{known: true, code: string(e.Code)})
	case api.Internal:
		if !w.s.full.Load() {
			w.s.note("uid %d: internal: %s", w.uid, e.Message)
			w.s.count("internal, on a disk with room")
		}
		w.tell(soakEvent{})
	case api.PolicyViolation, api.CapabilityNotFound, api.CredentialNotFound, api.InvalidRequest:
		w.s.count("refused")
		w.tell(soakEvent{}) // or revoked before it was answered
		w.s.ledger.refused(w.uid, string(e.Code))
	default:
		w.tell(soakEvent{})
	}
}

func headText(status string, h http.Header) []byte {
	var b bytes.Buffer
	b.WriteString(status + "\r\n")
	_ = h.Write(&b)
	return b.Bytes()
}

func (w *soakWorker) tell(e soakEvent) { w.s.ledger.tell(w.uid, e) }
