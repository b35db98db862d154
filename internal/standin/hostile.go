package standin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hostile is an upstream on loopback that misbehaves at the level of bytes: it
// keeps every request as it came over the wire, and answers with what it is
// told to write, valid HTTP or not. It speaks HTTP/1.1 alone.
type Hostile struct {
	addr     netip.AddrPort
	caPEM    []byte
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex
	act   Act
	took  []*Taken
	open  map[net.Conn]bool
	conns int
	raw   []byte // what came over connections that never became a request
	ended bool
}

// Act answers one request; whether it returns true says if the connection is
// kept for another. What it writes goes to the wire at once, in a TLS record of
// its own.
type Act func(conn net.Conn, request *Taken) (again bool)

// Taken is one request as it came.
type Taken struct {
	Head []byte // request line and header, with the empty line
	Body []byte // its framing undone
	// Whole says that the body came to its end.
	Whole bool
}

// StartHostile starts one whose certificate is good for the hosts given, beside
// localhost and 127.0.0.1. It answers 200 until Answer says otherwise.
func StartHostile(hosts ...string) (*Hostile, error) {
	caPEM, certificate, err := issue(hosts, time.Now())
	if err != nil {
		return nil, fmt.Errorf("standin: make a certificate: %w", err)
	}
	return startHostile(caPEM, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}})
}

// StartHostilePlain starts one without TLS.
func StartHostilePlain() (*Hostile, error) { return startHostile(nil, nil) }

func startHostile(caPEM []byte, config *tls.Config) (*Hostile, error) {
	plain, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("standin: listen: %w", err)
	}
	h := &Hostile{addr: plain.Addr().(*net.TCPAddr).AddrPort(), caPEM: caPEM, listener: plain, act: Whole(""), open: map[net.Conn]bool{}}
	h.done.Go(func() { h.serve(config) })
	return h, nil
}

// Whole is an Act that answers 200 with a body, and keeps the connection.
func Whole(body string) Act {
	return func(conn net.Conn, _ *Taken) bool {
		_, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err == nil
	}
}

// Addr is where it listens.
func (h *Hostile) Addr() netip.AddrPort { return h.addr }

// CAPEM is the certificate that signed the server's own.
func (h *Hostile) CAPEM() []byte { return h.caPEM }

// Answer says how requests are answered from now on.
func (h *Hostile) Answer(act Act) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.act = act
}

// Take returns the requests that came since it was last called.
func (h *Hostile) Take() []Taken {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := make([]Taken, len(h.took))
	for i, t := range h.took {
		taken[i] = *t
	}
	h.took = nil
	return taken
}

// Waiting is how many requests came since Take was last called.
func (h *Hostile) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.took)
}

// Connections is how many were made so far.
func (h *Hostile) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

// Strays is what came over connections and was no request, up to a MiB: a
// handshake, say, where there is no TLS.
func (h *Hostile) Strays() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.raw)
}

// Close stops it and breaks its connections off.
func (h *Hostile) Close() {
	_ = h.listener.Close() // nothing to do about a listener that will not close
	h.Break()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.Break()
	h.done.Wait()
}

// Break ends every connection, in the middle of whatever it does.
func (h *Hostile) Break() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		_ = c.Close()
	}
}

func (h *Hostile) serve(config *tls.Config) {
	for {
		plain, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns++
		h.open[plain] = true
		if h.ended {
			_ = plain.Close()
		}
		h.mu.Unlock()
		conn := plain
		if config != nil {
			conn = tls.Server(plain, config)
		}
		h.done.Go(func() {
			h.handle(conn)
			_ = conn.Close()
			h.mu.Lock()
			delete(h.open, plain)
			h.mu.Unlock()
		})
	}
}

func (h *Hostile) handle(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(conn)
	for {
		if first, _ := r.Peek(1); len(first) > 0 && first[0] == tlsHandshake {
			hello, _ := r.Peek(r.Buffered())
			h.stray(hello)
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") // as a server without TLS says it
			return
		}
		head, err := readHead(r)
		if err != nil {
			h.stray(head)
			return
		}
		t := &Taken{Head: head}
		h.mu.Lock()
		h.took = append(h.took, t)
		act := h.act
		h.mu.Unlock()
		body, err := readBody(r, head)
		h.mu.Lock()
		t.Body, t.Whole = body, err == nil
		h.mu.Unlock()
		if !act(conn, &Taken{Head: head, Body: body, Whole: err == nil}) || err != nil {
			return
		}
	}
}

func (h *Hostile) stray(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.raw)+len(b) <= 1<<20 {
		h.raw = append(h.raw, b...)
	}
}

const (
	maxHead      = 1 << 20
	tlsHandshake = 0x16 // first byte of a TLS record
)

// readHead reads to the empty line; with an error it returns what there was.
func readHead(r *bufio.Reader) (head []byte, err error) {
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return head, err
		}
		if len(head) > maxHead {
			return head, bufio.ErrTooLong
		}
	}
	return head, nil
}

// readBody reads what the header announces. Of a body with an error it returns
// what there was.
func readBody(r *bufio.Reader, head []byte) ([]byte, error) {
	length := 0
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.EqualFold(name, "Transfer-Encoding"):
			return readChunks(r)
		case strings.EqualFold(name, "Content-Length"):
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > maxRequest {
				return nil, io.ErrUnexpectedEOF
			}
			length = n
		}
	}
	body := make([]byte, length)
	n, err := io.ReadFull(r, body)
	return body[:n], err
}

func readChunks(r *bufio.Reader) (body []byte, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return body, err
		}
		n, err := strconv.ParseUint(strings.TrimRight(line, "\r\n"), 16, 31)
		if err != nil || len(body)+int(n) > maxRequest {
			return body, io.ErrUnexpectedEOF
		}
		if n == 0 {
			_, err := r.ReadString('\n') // no trailer is ever sent
			return body, err
		}
		chunk := make([]byte, n+2)
		m, err := io.ReadFull(r, chunk)
		body = append(body, chunk[:min(m, int(n))]...)
		if err != nil {
			return body, err
		}
	}
}
