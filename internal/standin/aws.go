package standin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AWS is a running stand-in for one service of AWS, on loopback, that answers
// what is well signed alone. It reads requests from the connection itself, so
// that what it checks are the bytes that were sent.
type AWS struct {
	addr     netip.AddrPort
	caPEM    []byte
	verify   *SigV4
	answer   func(raw []byte) (status int, body string)
	listener net.Listener
	done     sync.WaitGroup

	mu   sync.Mutex
	seen [][]byte
}

// maxRequest bounds what AWS reads of one request.
const maxRequest = 64 << 20

// StartAWS starts a service whose certificate is good for the hosts given,
// beside localhost and 127.0.0.1. answer, when not nil, says what a request
// that is well signed gets.
func StartAWS(verify *SigV4, answer func(raw []byte) (status int, body string), hosts ...string) (*AWS, error) {
	caPEM, certificate, err := issue(hosts, time.Now())
	if err != nil {
		return nil, fmt.Errorf("standin: make a certificate: %w", err)
	}
	plain, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("standin: listen: %w", err)
	}
	a := &AWS{
		addr: plain.Addr().(*net.TCPAddr).AddrPort(), caPEM: caPEM, verify: verify, answer: answer,
		listener: tls.NewListener(plain, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}),
	}
	a.done.Go(a.serve)
	return a, nil
}

// Addr is where it listens.
func (a *AWS) Addr() netip.AddrPort { return a.addr }

// CAPEM is the certificate that signed the server's own.
func (a *AWS) CAPEM() []byte { return a.caPEM }

// Close stops the service.
func (a *AWS) Close() {
	_ = a.listener.Close() // nothing to do about a listener that will not close
	a.done.Wait()
}

// Seen are the requests received so far, as they came.
func (a *AWS) Seen() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

func (a *AWS) serve() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.done.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			a.handle(conn)
		})
	}
}

// handle answers the one request of a connection.
func (a *AWS) handle(conn net.Conn) {
	raw, err := readRaw(bufio.NewReader(conn))
	if err != nil {
		return
	}
	a.mu.Lock()
	a.seen = append(a.seen, raw)
	a.mu.Unlock()
	status, body := http.StatusOK, "signed\n"
	switch err := a.verify.Check(raw); {
	case err != nil:
		// As AWS does, it shows what was to be signed.
		status, body = http.StatusForbidden, "<Error><Code>SignatureDoesNotMatch</Code><Message>"+err.Error()+"</Message></Error>\n"
	case a.answer != nil:
		status, body = a.answer(raw)
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: text/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, http.StatusText(status), len(body))
	if !bytes.HasPrefix(raw, []byte("HEAD ")) {
		_, _ = io.WriteString(conn, body)
	}
}

// readRaw reads one request, its body by the length that it declares; of one
// without a length there is the header alone.
func readRaw(r *bufio.Reader) ([]byte, error) {
	var raw []byte
	for !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
		line, err := r.ReadSlice('\n')
		if err != nil || len(raw)+len(line) > 1<<20 {
			return nil, io.ErrUnexpectedEOF
		}
		raw = append(raw, line...)
	}
	length := 0
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Content-Length") {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > maxRequest {
				return nil, io.ErrUnexpectedEOF
			}
			length = n
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return append(raw, body...), err
}
