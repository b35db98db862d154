package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

// Names in a query of the audit log, in docs/openapi.yaml's order.
const (
	queryLimit      = "limit"
	querySince      = "sinceMs"
	queryUntil      = "untilMs"
	queryBefore     = "beforeMs"
	queryCapability = "capability"
	queryCaller     = "caller"
	queryDenied     = "denied"
)

const typeLines = "application/x-ndjson"

// auditQuery reads what of the log is asked for. Each name may stand once, and
// none of those that the route has no use for.
func auditQuery(r *http.Request, except ...string) (q audit.Query, err error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, api.Errorf(api.InvalidRequest, "the query cannot be read")
	}
	number := func(to *int64, least int64) func(string) bool {
		return func(s string) (ok bool) {
			n, err := strconv.ParseInt(s, 10, 64)
			*to = n
			return err == nil && n >= least && strconv.FormatInt(n, 10) == s
		}
	}
	text := func(to *string) func(string) bool {
		return func(s string) bool { *to = s; return s != "" && len(s) <= 256 }
	}
	var limit int64
	known := map[string]func(string) bool{
		queryLimit: number(&limit, 1), querySince: number(&q.SinceMs, 0), queryUntil: number(&q.UntilMs, 1), queryBefore: number(&q.BeforeMs, 1),
		queryCapability: text(&q.Capability), queryCaller: text(&q.Caller),
		queryDenied: func(s string) bool { q.Denied = s == "true"; return q.Denied },
	}
	for name, values := range given {
		read := known[name]
		if read == nil || slices.Contains(except, name) {
			return audit.Query{}, api.Errorf(api.InvalidRequest, "the query %+q is not known here", bounded(name))
		}
		if len(values) != 1 || !read(values[0]) {
			return audit.Query{}, api.Errorf(api.InvalidRequest, "the query %s cannot be read, or is given twice", name)
		}
	}
	q.Limit = int(limit)
	if int64(q.Limit) != limit {
		return audit.Query{}, api.Errorf(api.InvalidRequest, "the query %s is too great", queryLimit)
	}
	return q, nil
}

func bounded(s string) string { return s[:min(len(s), 64)] }

func (x *exchange) audit() error {
	q, err := auditQuery(x.r)
	if err != nil {
		return err
	}
	return reply(x)(x.h.cfg.Admin.Audit(x.r.Context(), x.who, q))
}

// exportAudit streams records. Nothing is said before the first is there, so
// that a log which cannot be read is an error and no empty file.
func (x *exchange) exportAudit() error {
	q, err := auditQuery(x.r)
	if err != nil {
		return err
	}
	read, err := x.h.cfg.Admin.ExportAudit(x.r.Context(), x.who, q)
	if err != nil {
		return err
	}
	return x.lines(x.r.Context(), read, false)
}

// followAudit streams records as they come. Somebody who watches uses the
// daemon, which therefore does not leave as idle; when it leaves for another
// reason, the stream ends.
func (x *exchange) followAudit() error {
	q, err := auditQuery(x.r, queryUntil, queryBefore)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(x.h.cfg.Leaving, func() {
		cancel(api.Errorf(api.DaemonUnreachable, "the daemon is leaving"))
	})
	defer stop()
	read, err := x.h.cfg.Admin.FollowAudit(ctx, x.who, q)
	if err != nil {
		return err
	}
	return x.lines(ctx, read, true)
}

// lines answers with what read gives, a line each. What ends it early stands in
// a trailer.
func (x *exchange) lines(ctx context.Context, read admin.AuditStream, live bool) error {
	ctl := http.NewResponseController(x.w)
	if live {
		x.beginLines()
		_ = ctl.Flush() // the first record may be long in coming
	}
	var patient time.Time
	patience := min(linePatient, x.h.taking)
	gone := errors.New("server: the caller is gone")
	buf := make([]byte, 0, audit.MaxLine)
	err := read(ctx, func(line []byte) error {
		if x.status == 0 {
			x.beginLines()
		}
		if now := time.Now(); live || now.After(patient) {
			patient = now.Add(time.Second)
			_ = ctl.SetWriteDeadline(now.Add(patience))
		}
		buf = append(append(buf[:0], line...), '\n')
		_, err := x.w.Write(buf)
		if err == nil && live {
			err = ctl.Flush()
		}
		if err == nil {
			return nil
		}
		if why := untaken(err, patience); why != "" {
			x.h.cfg.Log.Warn("records were not taken", "why", why, "uid", x.who.UID)
		}
		return gone
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	switch {
	case x.status == 0 && err != nil:
		return err
	case x.status == 0:
		x.beginLines()
	case errors.Is(err, gone), errors.Is(err, context.Canceled):
		panic(http.ErrAbortHandler)
	case err != nil:
		x.breakOff(api.AsError(err))
	}
	return nil
}

// linePatient is how long somebody who asked for records may leave them unread.
const linePatient = time.Minute

func (x *exchange) beginLines() {
	x.patient()
	head := x.w.Header()
	head.Set("Content-Type", typeLines)
	head.Set("Trailer", trailers)
	x.status = http.StatusOK
	x.w.WriteHeader(x.status)
}
