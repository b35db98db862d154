package attack

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	patience   = 30 * time.Second // bounds one exchange with the daemon
	unfinished = 300 * time.Millisecond
)

// call is what a caller asks, before it is JSON: any byte may stand anywhere.
type call struct {
	capability, credential, workspace, group string
	method, path                             string
	headers                                  []api.Header
	body                                     *string
	timeoutMs                                int
	more                                     string // raw members of the envelope, beginning with a comma
	moreRequest                              string // and of its request
	socket                                   string // default: the agent's
	// What has to reach the upstream where it is not the usual: its host, and
	// the header line that authenticates ("-": none).
	host, auth string
}

// with returns the call changed.
func (c call) with(change func(*call)) call {
	c.headers = slices.Clone(c.headers)
	change(&c)
	return c
}

func (c call) to(path string) call { c.path = path; return c }

func (c call) sending(body string) call { c.body = &body; return c }

func (c call) saying(name, value string) call {
	c.headers = append(slices.Clone(c.headers), api.Header{Name: name, Value: value})
	return c
}

// envelope is the JSON of a call, written byte by byte: what is no UTF-8 stays
// what it is.
func (c call) envelope() string {
	var b strings.Builder
	b.WriteString(`{"capability":` + quoteRaw(c.capability))
	for _, m := range [...]struct{ name, value string }{{"credential", c.credential}, {"workspaceId", c.workspace}, {"groupId", c.group}} {
		if m.value != "" {
			b.WriteString(`,"` + m.name + `":` + quoteRaw(m.value))
		}
	}
	if c.timeoutMs != 0 {
		fmt.Fprintf(&b, `,"timeoutMs":%d`, c.timeoutMs)
	}
	b.WriteString(c.more)
	b.WriteString(`,"request":{"method":` + quoteRaw(c.method) + `,"path":` + quoteRaw(c.path))
	if len(c.headers) > 0 {
		b.WriteString(`,"headers":[`)
		for i, h := range c.headers {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"name":` + quoteRaw(h.Name) + `,"value":` + quoteRaw(h.Value) + `}`)
		}
		b.WriteByte(']')
	}
	if c.body != nil {
		b.WriteString(`,"body":` + quoteRaw(*c.body))
	}
	b.WriteString(c.moreRequest + "}}")
	return b.String()
}

// quoteRaw makes a JSON string, and leaves every byte that JSON does not need
// escaped as it is.
func quoteRaw(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// post is a whole request to the daemon, as bytes.
func post(route, contentType, body string) string {
	return "POST " + route + " HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\nContent-Type: " + contentType +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// answer is what came back over a connection.
type answer struct {
	raw     []byte
	status  int
	header  http.Header
	trailer http.Header
	body    []byte
	code    api.Code // of a refusal or a failure, wherever it is told
	message string
	took    time.Duration
	err     error // no answer that could be read
}

// call makes a call and reads its answer to the end.
func (s *Stand) call(c call) answer {
	return s.exchange(cmp.Or(c.socket, s.agent), post(api.RouteProxy, "application/json", c.envelope()))
}

// exchange sends bytes over a connection of its own and reads what comes back.
func (s *Stand) exchange(socket, raw string) answer {
	started := time.Now()
	conn, err := s.dial(socket)
	if err != nil {
		return answer{err: err}
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, raw)
		sent <- err
	}()
	// A request without an end gets one, if the daemon waits for it.
	end := time.AfterFunc(unfinished, func() {
		if half, ok := conn.(interface{ CloseWrite() error }); ok && !wholeRequest(raw) {
			_ = half.CloseWrite()
		}
	})
	got, err := io.ReadAll(conn)
	end.Stop()
	_ = conn.Close()
	<-sent // a daemon that has answered need not read on
	a := parse(got)
	a.took = time.Since(started)
	if a.err != nil && err != nil {
		a.err = err
	}
	return a
}

// wholeRequest says whether a request is known to have its end: of any other
// the daemon is told that nothing follows, or both sides would wait.
func wholeRequest(raw string) bool {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	return strings.HasSuffix(head, "\r\nContent-Length: "+strconv.Itoa(len(body))) || strings.HasPrefix(raw, "GET ") && body == ""
}

// dial connects to a socket; the connection ends with the run.
func (s *Stand) dial(socket string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(s.ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	return conn, nil
}

// parse reads an answer out of bytes.
func parse(raw []byte) answer {
	a := answer{raw: raw}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		a.err = fmt.Errorf("%q is no answer: %w", clip(string(raw)), err)
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(resp.Body)
	a.trailer = resp.Trailer
	switch {
	case resp.Header.Get(api.HeaderAnswer) == "":
		var e api.Error
		if strictjson.Unmarshal(a.body, &e) == nil {
			a.code, a.message = e.Code, e.Message
		} else if resp.StatusCode >= 400 {
			a.code, a.message = "http", string(a.body) // net/http's own refusal
		}
	case resp.Trailer.Get(api.HeaderError) != "":
		a.code, a.message = api.Code(resp.Trailer.Get(api.HeaderError)), resp.Trailer.Get(api.HeaderErrorMessage)
	case err != nil:
		a.err = errors.New("the answer broke off without a word")
	}
	return a
}

// sameAs compares what reached the upstream with what was asked, byte for
// byte: the target, each header line, the body. The order of the lines alone
// is not the caller's.
func (c call) sameAs(seen *standin.Taken, s *Stand) error {
	head := strings.Split(strings.TrimSuffix(string(seen.Head), "\r\n\r\n"), "\r\n")
	if want := c.method + " " + c.path + " HTTP/1.1"; head[0] != want {
		return fmt.Errorf("request line %q, want %q", clip(head[0]), clip(want))
	}
	want := []string{"Host: " + cmp.Or(c.host, s.host), "Accept-Encoding: identity"}
	if c.auth != "-" {
		want = append(want, cmp.Or(c.auth, s.auth))
	}
	agent := true
	for _, h := range c.headers {
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		want = append(want, name+": "+strings.Trim(h.Value, " \t"))
		agent = agent && name != "User-Agent"
	}
	if agent {
		want = append(want, "User-Agent: "+s.userAgent)
	}
	switch {
	case c.body != nil && *c.body != "":
		want = append(want, "Content-Length: "+strconv.Itoa(len(*c.body)))
	case c.method == "POST" || c.method == "PUT" || c.method == "PATCH":
		want = append(want, "Content-Length: 0")
	}
	got := slices.Clone(head[1:])
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("header %q, want %q", hide(got, s), hide(want, s))
	}
	body := ""
	if c.body != nil {
		body = *c.body
	}
	if !seen.Whole || string(seen.Body) != body {
		return fmt.Errorf("body of %d bytes, want the %d that were given", len(seen.Body), len(body))
	}
	return nil
}

// hide keeps decoys out of what is printed.
func hide(lines []string, s *Stand) string {
	text := strings.Join(lines, " | ")
	for _, d := range s.secrets {
		text = strings.ReplaceAll(text, d, "DECOY")
	}
	return text
}
