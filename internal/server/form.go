package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	maxEnvelope = 20 << 20 // a call with its body inside; larger bodies travel as a part of their own
	maxOperator = 1 << 20  // a value of 64 KiB, every byte of it escaped, and room
	maxImport   = 16 << 20 // many values in one request
	maxParted   = 1 << 20  // a call whose body is a part of its own
	jsonPatient = time.Minute
	bodyPatient = 10 * time.Minute // between two bytes of a streamed body
)

const (
	typeJSON  = "application/json"
	typeParts = "multipart/form-data"
)

// checkForm refuses what no route takes: a body where there can be none, a
// query that nothing reads, a body that is neither JSON nor parts.
func (x *exchange) checkForm(rt *route) error {
	r := x.r
	if len(r.URL.RawQuery) > 0 && !takesQuery(rt) {
		return api.Errorf(api.InvalidRequest, "this route takes no query")
	}
	hasBody := r.ContentLength != 0
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodDelete && !rt.described():
		if hasBody {
			return api.Errorf(api.InvalidRequest, "%s takes no body", r.Method)
		}
		return nil
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return api.Errorf(api.InvalidRequest, "an encoded body (content-encoding) is not accepted")
	}
	if !hasBody {
		return nil
	}
	kind, _, err := mediaType(r.Header)
	if err != nil || kind != typeJSON && !(kind == typeParts && (r.URL.Path == api.RouteProxy || r.URL.Path == api.RouteExplain || r.URL.Path == api.RouteRestore)) {
		return api.Errorf(api.InvalidRequest, "the content type must be %s", typeJSON)
	}
	return nil
}

func takesQuery(rt *route) bool {
	if rt.method != http.MethodGet {
		return false
	}
	switch rt.pattern {
	case api.RouteCapabilities, api.RouteAudit, api.RouteAuditExport, api.RouteAuditFollow:
		return true
	}
	return false
}

func mediaType(h http.Header) (kind string, params map[string]string, err error) {
	all := h.Values("Content-Type")
	if len(all) != 1 {
		return "", nil, errors.New("one content type is needed")
	}
	if all[0] == typeJSON { // as nearly all say it
		return typeJSON, nil, nil
	}
	return mime.ParseMediaType(all[0])
}

// decode reads a JSON body into v and forgets the bytes, which may hold a
// secret. An absent body leaves v as it is where optional.
func (x *exchange) decode(v any, limit int64, optional bool) error {
	if x.r.ContentLength > limit {
		return errTooLarge(limit)
	}
	if x.r.ContentLength == 0 {
		if optional {
			return nil
		}
		return api.Errorf(api.InvalidRequest, "the request needs a JSON body")
	}
	ctl := http.NewResponseController(x.w)
	_ = ctl.SetReadDeadline(time.Now().Add(jsonPatient)) // in memory there are none to set
	b, err := x.readBounded(x.r.Body, x.r.ContentLength, limit)
	defer clear(b)
	if err != nil {
		return bodyError(err, limit)
	}
	_ = ctl.SetReadDeadline(time.Time{})
	return unmarshal(b, v)
}

func unmarshal(b []byte, v any) error {
	if err := strictjson.Unmarshal(b, v); err != nil {
		return api.Errorf(api.InvalidRequest, "the request cannot be read: %w", err)
	}
	return nil
}

// readBounded reads all of r into one buffer that the caller can clear: when
// it has to grow, what is left behind is cleared here. The result is never
// more than limit bytes; it is returned with an error too. No buffer is made
// that the caller's budget has no room for.
func (x *exchange) readBounded(r io.Reader, declared, limit int64) ([]byte, error) {
	size := int64(4 << 10)
	if declared >= 0 {
		size = min(declared, limit) + 1
	}
	if err := x.hold(size); err != nil {
		return nil, err
	}
	b := make([]byte, 0, size)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return b, strictjson.ErrTooLarge
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			size := min(2*int64(cap(b)), limit+1)
			if err := x.hold(size); err != nil {
				return b, err
			}
			grown := make([]byte, len(b), size)
			copy(grown, b)
			clear(b)
			b = grown
		}
	}
}

func errTooLarge(limit int64) error {
	return api.Errorf(api.RequestTooLarge, "the request is larger than %d bytes", limit)
}

// bodyError hides what net/http says of a broken body: it repeats input.
func bodyError(err error, limit int64) error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, strictjson.ErrTooLarge) {
		return errTooLarge(limit)
	}
	return api.Errorf(api.InvalidRequest, "the request's body could not be read to its end")
}

// fail answers with an error. status 0: the one of its code.
func (x *exchange) fail(err error, status int) {
	e := api.AsError(err)
	if e.Code == api.Internal {
		x.h.cfg.Log.Error("request failed", "why", e.Message)
	}
	if status == 0 {
		status = api.OutcomeOf(e.Code).HTTP
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if e.RetryAfterMs > 0 {
		x.w.Header().Set("Retry-After", strconv.FormatInt((e.RetryAfterMs+999)/1000, 10))
	}
	x.closeUnlessRead()
	x.write(status, e)
	x.drain()
}

// answer encodes a result.
func (x *exchange) answer(v any) error {
	x.write(http.StatusOK, v)
	return nil
}

func (x *exchange) write(status int, v any) {
	b, err := strictjson.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		b = []byte(`{"error":"internal","message":"the answer could not be encoded"}`)
		x.h.cfg.Log.Error("an answer could not be encoded")
	}
	head := x.w.Header()
	head.Set("Content-Type", typeJSON)
	head.Set("Content-Length", strconv.Itoa(len(b)+1))
	x.patient()
	x.status = status
	x.w.WriteHeader(status)
	_, _ = x.w.Write(append(b, '\n'))
}

const (
	maxDrain   = 64 << 20
	drainTime  = 5 * time.Second
	drainPause = 500 * time.Millisecond // without a byte
)

// drain lets a caller who is still sending a body see the answer: closing a
// connection under a writer would show only a broken pipe.
func (x *exchange) drain() {
	if x.allRead() {
		return
	}
	ctl := http.NewResponseController(x.w)
	if ctl.Flush() != nil {
		return
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	until := time.Now().Add(drainTime)
	for total := 0; total < maxDrain && time.Now().Before(until); {
		_ = ctl.SetReadDeadline(time.Now().Add(drainPause))
		n, err := x.r.Body.Read(*buf)
		if total += n; err != nil {
			break
		}
	}
	if x.allRead() {
		_ = ctl.SetReadDeadline(time.Time{})
	}
}

// tracked knows whether a request's body was read to its end.
type tracked struct {
	io.ReadCloser
	ended atomic.Bool
}

func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err == io.EOF {
		t.ended.Store(true)
	}
	return n, err
}

func (x *exchange) allRead() bool { return x.r.ContentLength == 0 || x.read.ended.Load() }

// closeUnlessRead gives up the connection of a request that is answered before
// it was read: in both directions at once, net/http does not do that itself,
// and what is left of this request would be taken for the next.
func (x *exchange) closeUnlessRead() {
	if x.duplex && !x.allRead() {
		x.w.Header().Set("Connection", "close")
	}
}

// capabilityQuery reads what a list of capabilities is limited to.
func capabilityQuery(r *http.Request) (q api.CapabilityQuery, err error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	bad := api.Errorf(api.InvalidRequest, "the query can be show=%s and provider=ID, each once", api.ShowUsable)
	if err != nil {
		return q, bad
	}
	for name, values := range given {
		switch {
		case len(values) == 1 && name == "show" && values[0] == api.ShowUsable:
			q.Usable = true
		case len(values) == 1 && name == "provider" && values[0] != "":
			q.Provider = values[0]
		default:
			return api.CapabilityQuery{}, bad
		}
	}
	return q, nil
}
