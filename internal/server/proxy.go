package server

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/egress"
)

const copySize = 32 << 10

// buffers holds *[]byte of copySize, for answers on their way through. What
// was in them was scrubbed already.
var buffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// proxy makes a call and streams its answer.
func (x *exchange) proxy() error {
	ctl := http.NewResponseController(x.w)
	call, body, err := x.receive(ctl)
	if err != nil {
		return x.refuseCall(err)
	}
	if x.body != nil {
		defer x.body.close()
	}
	a, err := x.h.cfg.Broker.Do(x.r.Context(), x.who, call, body)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.Status < 200 || a.Status > 999 {
		return api.Errorf(api.Internal, "server: the answer has the status %d", a.Status)
	}
	planned, err := appendPlanned(make([]byte, 0, 256), &a.Planned)
	if err != nil {
		return api.Errorf(api.Internal, "server: encode what was planned: %w", err)
	}
	if err := x.stream(ctl, a, string(planned)); err != nil {
		return err
	}
	if x.body != nil {
		x.body.close()
		x.drain()
	}
	return nil
}

// explain answers what would become of a call. It takes what proxy takes.
func (x *exchange) explain() error {
	call, body, err := x.receive(http.NewResponseController(x.w))
	if err != nil {
		return err
	}
	if x.body != nil {
		defer x.body.close()
	}
	e, err := x.h.cfg.Broker.Explain(x.r.Context(), x.who, call, body)
	if err != nil {
		return err
	}
	if x.body != nil {
		x.body.close()
	}
	x.closeUnlessRead()
	err = x.answer(e)
	x.drain()
	return err
}

// receive reads a call, whose body may still be on its way: the answer may
// begin before the request has ended.
func (x *exchange) receive(ctl *http.ResponseController) (call api.Call, body egress.Body, err error) {
	if err := ctl.EnableFullDuplex(); err != nil {
		return call, body, api.Errorf(api.Internal, "server: stream in both directions: %w", err)
	}
	x.duplex = true
	return x.readCall(ctl)
}

// appendPlanned encodes p as JSON, by hand: every call needs it, and
// reflection takes eight times as long.
func appendPlanned(b []byte, p *api.Planned) ([]byte, error) {
	for _, m := range [...]struct{ name, value string }{
		{`{"capability":`, p.Capability},
		{`,"credential":`, p.Credential},
		{`,"method":`, p.Method},
		{`,"url":`, p.URL},
	} {
		var err error
		if b, err = jsontext.AppendQuote(append(b, m.name...), m.value); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// stream hands the answer on, flushing whatever one Read brought, so that an
// event arrives when it was sent. An answer that the first Read brings whole
// goes out with its length; any other is chunked, for only then a trailer can
// name what broke it off. An error before the first byte is returned.
func (x *exchange) stream(ctl *http.ResponseController, a *broker.Answer, planned string) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	started := false
	if a.Length < 0 && strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream") {
		x.begin(a, planned)
		started = true
		_ = ctl.Flush() // the first event may be long in coming
	}
	n, err := readSome(a.Body, *buf, a.Length)
	if !started {
		switch {
		case err == io.EOF:
			x.whole(a, planned, (*buf)[:n])
			return nil
		case err != nil && n == 0:
			return asBroken(err)
		}
		x.begin(a, planned)
	}
	for {
		if n > 0 {
			x.patient()
			_, lost := x.w.Write((*buf)[:n])
			if lost == nil && err == nil {
				lost = ctl.Flush()
			}
			if lost != nil {
				if why := untaken(lost, x.h.taking); why != "" {
					_ = a.Body.Abandon(why)
				}
				panic(http.ErrAbortHandler) // the caller is gone
			}
		}
		if err != nil {
			break
		}
		n, err = a.Body.Read(*buf)
	}
	if err != io.EOF {
		x.breakOff(asBroken(err))
	}
	return nil
}

// trailers are what names a failure after the first byte.
const trailers = api.HeaderError + ", " + api.HeaderErrorMessage

func (x *exchange) breakOff(e *api.Error) {
	x.w.Header().Set(api.HeaderError, string(e.Code))
	x.w.Header().Set(api.HeaderErrorMessage, strconv.QuoteToASCII(e.Message))
}

// header says what is known of the answer before its body. Nothing is said
// until there is an answer: an error has a header of its own.
func (x *exchange) header(a *broker.Answer, planned string) http.Header {
	head := x.w.Header()
	for name, values := range a.Header {
		if !strings.HasPrefix(http.CanonicalHeaderKey(name), "Aivault-") {
			head[name] = values
		}
	}
	delete(head, "Content-Length")
	delete(head, "Trailer")
	x.put(head, "X-Content-Type-Options", "nosniff")
	if head.Get("Content-Type") == "" {
		head["Content-Type"] = nil // nor does the daemon guess
	}
	x.closeUnlessRead()
	x.put(head, api.HeaderAnswer, "upstream")
	x.put(head, api.HeaderPlanned, planned)
	return head
}

// whole answers at once.
func (x *exchange) whole(a *broker.Answer, planned string, body []byte) {
	head := x.header(a, planned)
	if a.Status != http.StatusNoContent && a.Status != http.StatusNotModified {
		x.put(head, "Content-Length", strconv.Itoa(len(body)))
	}
	x.patient()
	x.status = a.Status
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(body)
}

// begin sends the header of an answer whose end is not known yet.
func (x *exchange) begin(a *broker.Answer, planned string) {
	x.patient()
	x.header(a, planned).Set("Trailer", trailers)
	x.status = a.Status
	x.w.WriteHeader(a.Status)
}

// asBroken keeps the broker's own errors; of any other the text is not ours
// to show.
func asBroken(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return api.Errorf(api.UpstreamUnreachable, "the upstream's answer broke off")
}

// readSome reads once, and goes on only where the rest of a short answer is
// due: up to its declared length, and to the end that follows it.
func readSome(r io.Reader, buf []byte, length int64) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.Read(buf)
	}
	if err == nil && int64(n) == length && n < len(buf) {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// readCall reads the envelope, and where it comes in parts prepares the body
// that follows it.
func (x *exchange) readCall(ctl *http.ResponseController) (call api.Call, body egress.Body, err error) {
	kind, params, err := mediaType(x.r.Header)
	if err != nil {
		return call, body, api.Errorf(api.InvalidRequest, "the content type must be %s or %s", typeJSON, typeParts)
	}
	if kind == typeJSON {
		return call, body, x.decode(&call, maxEnvelope, false)
	}
	part, err := x.readParts(ctl, params["boundary"], &call, "body")
	if err != nil {
		return call, body, err
	}
	if call.Request.Body != nil {
		return call, body, api.Errorf(api.InvalidRequest, "the call has two bodies: one in its envelope and one as a part")
	}
	length, err := declaredLength(part.Header)
	if err != nil {
		return call, body, err
	}
	return call, egress.Body{Reader: x.body, Length: length}, nil
}

// readParts reads the envelope of a request that comes in parts into v, and
// makes the part that follows it x.body.
func (x *exchange) readParts(ctl *http.ResponseController, boundary string, v any, name string) (*multipart.Part, error) {
	_ = ctl.SetReadDeadline(time.Now().Add(jsonPatient))
	whole := &tail{r: x.r.Body, want: []byte("--" + boundary + "--")}
	parts := multipart.NewReader(whole, boundary)
	envelope, err := nextPart(parts, "envelope")
	if err != nil {
		return nil, err
	}
	b, err := x.readBounded(envelope, -1, maxParted)
	defer clear(b) // it may hold a passphrase
	if err != nil {
		return nil, bodyError(err, maxParted)
	}
	if err := unmarshal(b, v); err != nil {
		return nil, err
	}
	part, err := nextPart(parts, name)
	if err != nil {
		return nil, err
	}
	x.body = newPartBody(part, parts, whole, ctl)
	return part, nil
}

func nextPart(parts *multipart.Reader, want string) (*multipart.Part, error) {
	p, err := parts.NextRawPart()
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "the part %q is missing or broken", want)
	}
	if p.FormName() != want {
		return nil, api.Errorf(api.InvalidRequest, "the part %q is not where it belongs", want)
	}
	return p, nil
}

func declaredLength(h textproto.MIMEHeader) (int64, error) {
	all := h.Values("Content-Length")
	if len(all) == 0 {
		return -1, nil
	}
	n, err := strconv.ParseInt(all[0], 10, 64)
	if err != nil || n < 0 || len(all) > 1 || strconv.FormatInt(n, 10) != all[0] {
		return 0, api.Errorf(api.InvalidRequest, "the length that the part \"body\" declares is no length")
	}
	return n, nil
}

// partBody is the body of a call that travels as a part. It ends well only
// when the request ends with it.
//
// Whoever sends it upstream may still read when the answer is complete. net/http
// allows no read of a request's body once its handler has returned, so that
// close waits for the one that runs, and lets no other begin.
type partBody struct {
	part  *multipart.Part
	parts *multipart.Reader
	whole *tail // the request's body
	ctl   *http.ResponseController

	turn   chan struct{} // holds a token while nobody reads
	closed atomic.Bool

	// with the token:
	until time.Time // read deadline that is set
	err   error
}

func newPartBody(part *multipart.Part, parts *multipart.Reader, whole *tail, ctl *http.ResponseController) *partBody {
	b := &partBody{part: part, parts: parts, whole: whole, ctl: ctl, turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b
}

func (b *partBody) Read(p []byte) (int, error) {
	<-b.turn
	defer func() { b.turn <- struct{}{} }()
	if b.closed.Load() {
		return 0, api.Errorf(api.InvalidRequest, "the call is over")
	}
	if b.err != nil {
		return 0, b.err
	}
	if now := time.Now(); b.until.Sub(now) < bodyPatient-time.Second {
		b.until = now.Add(bodyPatient)
		_ = b.ctl.SetReadDeadline(b.until)
	}
	n, err := b.part.Read(p)
	if err == nil {
		return n, nil
	}
	b.err = api.Errorf(api.InvalidRequest, "the request's body broke off")
	if err == io.EOF {
		if b.atEnd() {
			b.err = io.EOF
			_ = b.ctl.SetReadDeadline(time.Time{})
		} else {
			b.err = api.Errorf(api.InvalidRequest, "the body does not end the request")
		}
	}
	return n, b.err
}

// atEnd says whether no other part and no byte follows. It reads the request
// to its very end, which a multipart reader does not.
func (b *partBody) atEnd() bool {
	if _, err := b.parts.NextRawPart(); err != io.EOF {
		return false
	}
	n, err := io.ReadFull(b.whole, make([]byte, 1))
	return n == 0 && err == io.EOF && b.whole.asWanted()
}

// tail remembers how a request ends: what follows the last boundary may be in
// the multipart reader's buffer, where nobody would see it.
type tail struct {
	r    io.Reader
	want []byte
	last []byte // as many bytes as want has, and a line's end
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	most := len(t.want) + len("\r\n")
	t.last = append(t.last, p[max(0, n-most):n]...)
	if extra := len(t.last) - most; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
	return n, err
}

func (t *tail) asWanted() bool {
	end := bytes.TrimSuffix(bytes.TrimSuffix(t.last, []byte("\n")), []byte("\r"))
	return bytes.HasSuffix(end, t.want)
}

const (
	closePatience = 200 * time.Millisecond // for a caller who is sending
	closeRetry    = 10 * time.Millisecond
)

// close ends reading. A read that waits for a caller who sends nothing is
// broken off, after which the connection is of no more use.
func (b *partBody) close() {
	b.closed.Store(true)
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	for {
		select {
		case <-b.turn:
			b.turn <- struct{}{}
			return
		case <-timer.C:
			_ = b.ctl.SetReadDeadline(time.Unix(1, 0))
			timer.Reset(closeRetry)
		}
	}
}
