// Package server is the daemon's HTTP API: it decodes strictly, asks broker
// and admin, and encodes what they answer. It has no rules of its own about
// calls or changes; what it enforces is the form of a request and who may use
// which route.
package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// Config is what the handler needs.
type Config struct {
	Broker *broker.Broker
	Admin  *admin.Admin
	Vault  *vault.Vault
	Daemon *api.DaemonStatus // nil in-process
	// Process says what protects this process now; nil: it is not shown.
	Process func() *api.ProcessStatus
	Busy    func(delta int) // counts requests being served, may be nil
	Log     *slog.Logger    // diagnostic log; nil: none
	// Leaving ends when this process is about to: whoever follows the audit log
	// is told, and does not hold it up. nil: never.
	Leaving context.Context
}

// New makes the handler of every route in package api.
func New(cfg Config) http.Handler {
	if cfg.Leaving == nil {
		cfg.Leaving = context.Background()
	}
	if cfg.Busy == nil {
		cfg.Busy = func(int) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &handler{cfg: cfg, taking: bodyPatient}
	s.routes = s.table()
	return s
}

type handler struct {
	cfg    Config
	routes []route
	bodies budget
	taking time.Duration // how long a caller may leave an answer untaken
}

type callerKey struct{}

// WithCaller puts the caller that the kernel named into a connection's
// context. A request without one is refused.
func WithCaller(ctx context.Context, who grant.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, who)
}

// route is one row of the API. A pattern ends in {ref} (one segment, escaped)
// or {id...} (the rest of the path), or names no parameter; {ref} may stand
// before a last literal segment.
type route struct {
	method   string
	pattern  string
	operator bool
	serve    func(*exchange) error
}

// exchange is one request with its answer.
type exchange struct {
	h      *handler
	w      http.ResponseWriter
	r      *http.Request
	who    grant.Caller
	known  bool // the kernel named who
	param  string
	body   *partBody // of a call whose body is a part of its own
	read   tracked   // the request's body
	held   int64     // bytes of the body that count as in memory
	duplex bool      // the answer may begin before the request has ended
	status int       // what was answered, 0 while nothing was
	values []string  // what put has set
	room   [8]string // of values
}

// put sets a header of the answer, whose name is in canonical form. All of
// them share one array: each by itself would be an allocation.
func (x *exchange) put(head http.Header, name, value string) {
	x.values = append(x.values, value)
	n := len(x.values)
	head[name] = x.values[n-1 : n : n]
}

// Route describes one row of the API for the tests that compare it with the
// documentation.
type Route struct {
	Method, Pattern string
	Operator        bool
}

// Routes lists the API.
func Routes() []Route {
	var all []Route
	for _, r := range (&handler{}).table() {
		all = append(all, Route{r.method, r.pattern, r.operator})
	}
	return all
}

// ServeHTTP answers one request, whatever happens on the way.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.cfg.Busy(+1)
	defer h.cfg.Busy(-1)
	start := time.Now()
	x := &exchange{h: h, w: w, r: r}
	x.read.ReadCloser, x.values = r.Body, x.room[:0]
	r.Body = &x.read
	defer x.letGo()
	head := w.Header()
	x.put(head, api.HeaderAPI, strconv.Itoa(api.Version))
	x.put(head, "Cache-Control", "no-store")
	x.put(head, "X-Content-Type-Options", "nosniff")
	pattern := "?"
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			// The panic's value may hold anything; its place is enough.
			h.cfg.Log.Error("panic", "route", pattern, "stack", string(debug.Stack()))
			if x.status != 0 {
				panic(http.ErrAbortHandler)
			}
			x.fail(api.Errorf(api.Internal, "the daemon failed on this request; its log says where"), 0)
		}
		x.log(pattern, time.Since(start))
	}()
	rt, status, err := h.admit(x)
	if rt != nil {
		pattern = rt.pattern
	}
	switch {
	case err == nil:
		err = rt.serve(x)
	case r.Method == http.MethodPost && r.URL.Path == api.RouteProxy:
		err = x.refuseCall(err)
	}
	if err != nil {
		x.fail(err, status)
	}
}

// admit decides, before a body is looked at, whether this request may reach
// its route. status overrides the error's own where it is not 0.
func (h *handler) admit(x *exchange) (rt *route, status int, err error) {
	who, ok := x.r.Context().Value(callerKey{}).(grant.Caller)
	if !ok {
		return nil, 0, api.Errorf(api.PolicyViolation, "the kernel named no caller on this connection")
	}
	x.who, x.known = who, true
	if name := browserHeader(x.r.Header); name != "" {
		return nil, 0, api.Errorf(api.PolicyViolation, "requests from browsers are refused (%s)", name)
	}
	rt, allowed := h.find(x)
	switch {
	case rt != nil:
	case allowed != "":
		x.w.Header().Set("Allow", allowed)
		return nil, http.StatusMethodNotAllowed, api.Errorf(api.InvalidRequest, "this route takes %s", allowed)
	default:
		return nil, http.StatusNotFound, api.Errorf(api.InvalidRequest, "the daemon has no such route")
	}
	if rt.operator && !who.Operator {
		h.recordRefusal(x.r.Context(), who, rt)
		return rt, 0, errOperator()
	}
	return rt, 0, x.checkForm(rt)
}

// refuseCall has a call recorded that is refused before the broker sees it.
func (x *exchange) refuseCall(err error) error {
	if !x.known {
		return err // nobody to name
	}
	return x.h.cfg.Broker.Refuse(x.r.Context(), x.who, err)
}

func errOperator() error {
	return api.Errorf(api.OperatorRequired, "only the vault's operator may do this")
}

// recordRefusal writes that somebody who is no operator asked for an operator's
// route. The request is refused whether or not that can be written.
func (h *handler) recordRefusal(ctx context.Context, who grant.Caller, rt *route) {
	if h.cfg.Vault == nil {
		return
	}
	// Whatever becomes of the record, the answer is the same for everyone.
	_ = h.cfg.Vault.Desk().Refuse(ctx, nil, audit.Record{
		Event: audit.OperatorRefused, RequestID: rand.Text(), Caller: audit.CallerOf(who),
		Object: rt.method + " " + rt.pattern, Code: string(api.OperatorRequired),
	})
}

// browserHeader names a header that only a browser sends.
func browserHeader(h http.Header) string {
	for name := range h {
		if name == "Origin" || strings.HasPrefix(name, "Sec-Fetch-") {
			return name
		}
	}
	return ""
}

// find matches method and path. allowed lists the methods of a path that has
// none like the request's.
func (h *handler) find(x *exchange) (rt *route, allowed string) {
	path := x.r.URL.EscapedPath()
	var methods []string
	for i := range h.routes {
		param, ok := match(h.routes[i].pattern, path)
		if !ok {
			continue
		}
		if h.routes[i].method == x.r.Method {
			x.param = param
			return &h.routes[i], ""
		}
		methods = append(methods, h.routes[i].method)
	}
	return nil, strings.Join(methods, ", ")
}

// match compares an escaped path with a pattern and returns the unescaped
// parameter.
func match(pattern, path string) (param string, ok bool) {
	before, after, has := strings.Cut(pattern, "{")
	if !has {
		return "", pattern == path
	}
	name, after, _ := strings.Cut(after, "}")
	rest, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	if rest, ok = strings.CutSuffix(rest, after); !ok || rest == "" {
		return "", false
	}
	if !strings.HasSuffix(name, "...") && strings.Contains(rest, "/") {
		return "", false
	}
	param, err := url.PathUnescape(rest)
	return param, err == nil
}

// log writes what a person needs to find a failure, and nothing of what was
// asked or answered: no path values, no query, no header.
func (x *exchange) log(pattern string, took time.Duration) {
	level := slog.LevelDebug
	if x.status >= 500 && x.w.Header().Get(api.HeaderAnswer) == "" {
		level = slog.LevelWarn
	}
	ctx := x.r.Context()
	if x.h.cfg.Log.Enabled(ctx, level) {
		x.h.cfg.Log.LogAttrs(ctx, level, "request",
			slog.String("method", safeMethod(x.r.Method)), slog.String("route", pattern), slog.Int("status", x.status),
			slog.Uint64("uid", uint64(x.who.UID)), slog.Duration("took", took))
	}
}

func safeMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodPut, http.MethodHead:
		return m
	}
	return "other"
}
