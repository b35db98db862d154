package standin

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	neturl "net/url"
	"strings"
	"sync"
)

// IDPOptions are an identity provider's dialect. The zero value is the usual
// one: a form, the client's secret in it, an hour, a refresh token that stays.
type IDPOptions struct {
	ClientID, ClientSecret string            // default IDPClient and IDPSecret
	ClientAuth             string            // body (default), basic, none
	Body                   string            // of requests: form (default), json
	Answer                 string            // json (default), form
	ExpiresIn              string            // as it stands in a JSON answer, quotes included; "-": not at all; default 3600
	TokenField             string            // where the access token stands; default access_token
	TokenType              string            // default Bearer
	More                   map[string]string // further members of each answer
	Rotate                 bool              // each use of a refresh token brings another, and ends the one before
	Repeat                 bool              // answers repeat the refresh token that stays
	Params                 map[string]string // parameters that each request must have
	Exchange               map[string]string // the whole of what an exchange must send, in place of a grant
	Header, Scheme         string            // how the API wants the token; default Authorization, Bearer
	API                    http.Handler      // of requests with a good token; default: answers with the request, as /echo does

	// Of logins:
	Paths        map[string]string // a real provider's paths -> /authorize, /token, /device, /activate, /revoke
	Account      string            // who logs in: the e-mail address in an id_token; "": none
	Interval     int               // seconds between two questions of a login by device; default 5
	Eager        bool              // codes of logins by device need nobody to type them
	RevokeStatus int               // what /revoke answers; default 200
}

// The client of an IDP whose options name none.
const (
	IDPClient = "idp-client"
	IDPSecret = "idp-secret-0123456789"
)

// IDP is a stand-in identity provider and the API that takes its tokens: a
// handler for Start. POST /token asks for a token; every other path is the
// API's, which answers 401 to all but a token that is good.
//
// A refresh token that is used after another took its place ends its whole
// family, as providers do who take that for theft; Reused counts it.
type IDP struct {
	o      IDPOptions
	grants map[string]func(p *IDP, form neturl.Values) (*family, *idpError) // by grant_type; p.mu is held

	mu       sync.Mutex
	access   map[string]*family // good access tokens
	refresh  map[string]*family
	all      []string // every token ever given
	asked    int
	given    int
	reused   int
	refused  int // requests to the API without a good token
	failures []idpFailure
	held     chan struct{} // answers of /token wait until it is closed
	arrived  *sync.Cond    // a request came to /token
	logins   idpLogins
}

// A family is what descends from one login.
type family struct {
	current string // the refresh token that is good; "": none
	dead    bool
	fresh   bool // its login is to be answered
}

type idpError struct {
	status int
	code   string
}

type idpFailure struct {
	status int // 0: the request is processed, and the connection closed without an answer
	body   string
	kind   string
}

// NewIDP makes an identity provider that nobody has logged in at.
func NewIDP(o IDPOptions) *IDP {
	if o.ClientID == "" {
		o.ClientID, o.ClientSecret = IDPClient, IDPSecret
	}
	for to, usual := range map[*string]string{&o.ClientAuth: "body", &o.Body: "form", &o.Answer: "json", &o.ExpiresIn: "3600",
		&o.TokenField: "access_token", &o.TokenType: "Bearer", &o.Header: "Authorization", &o.Scheme: "Bearer"} {
		if *to == "" {
			*to = usual
		}
	}
	if o.API == nil {
		o.API = http.HandlerFunc(echo)
	}
	p := &IDP{o: o, access: map[string]*family{}, refresh: map[string]*family{}}
	p.arrived = sync.NewCond(&p.mu)
	client := func(*IDP, neturl.Values) (*family, *idpError) { return &family{}, nil }
	p.grants = map[string]func(*IDP, neturl.Values) (*family, *idpError){
		"refresh_token": (*IDP).grantRefresh, "client_credentials": client, "account_credentials": client,
		"authorization_code": (*IDP).grantCode, "urn:ietf:params:oauth:grant-type:device_code": (*IDP).grantDevice,
	}
	return p
}

// Rotate says whether refresh tokens rotate from now on.
func (p *IDP) Rotate(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Rotate = on
}

// Login makes a family, as somebody's consent does, and returns its first
// refresh token.
func (p *IDP) Login() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &family{}
	p.newRefresh(f)
	return f.current
}

// Expire ends every access token that was given so far.
func (p *IDP) Expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.access)
}

// Fail has the next n requests to /token answered with a status and a body,
// before anything is looked at. Status 0: the request is processed, and the
// connection closed without an answer.
func (p *IDP) Fail(n, status int, kind, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range n {
		p.failures = append(p.failures, idpFailure{status, body, kind})
	}
}

// Hold keeps back the answers of /token, whose requests are processed, until
// the returned function is called.
func (p *IDP) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.held = held
	var once sync.Once
	return func() {
		once.Do(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			close(held)
			if p.held == held {
				p.held = nil
			}
		})
	}
}

// Await waits until /token was asked n times in all.
func (p *IDP) Await(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.asked < n {
		p.arrived.Wait()
	}
}

// IDPCounts are what an IDP has seen.
type IDPCounts struct {
	Asked   int // requests to /token
	Given   int // that were given a token
	Reused  int // refresh tokens used after another took their place
	Refused int // requests to the API without a good token
}

// Counts tells what happened so far.
func (p *IDP) Counts() IDPCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return IDPCounts{p.asked, p.given, p.reused, p.refused}
}

// Tokens are all that were ever given: what must be found nowhere.
func (p *IDP) Tokens() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.all...)
}

// ServeHTTP implements http.Handler.
func (p *IDP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := p.path(r); path {
	case "/token":
		p.token(w, r)
		return
	case "/authorize", "/device", "/activate", "/revoke":
		p.login(w, r, path)
		return
	}
	value, ok := r.Header.Get(p.o.Header), true
	if p.o.Scheme != "-" {
		value, ok = strings.CutPrefix(value, p.o.Scheme+" ")
	}
	p.mu.Lock()
	f := p.access[value]
	if ok = ok && f != nil && !f.dead; !ok {
		p.refused++
	}
	p.mu.Unlock()
	if !ok {
		if drain(w, r, io.Discard) {
			answer(w, http.StatusUnauthorized, map[string]string{"error": "unauthorized", "sent": r.Header.Get(p.o.Header)})
		}
		return
	}
	p.o.API.ServeHTTP(w, r)
}

// token answers a request for a token.
func (p *IDP) token(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
		return
	}
	p.mu.Lock()
	p.asked++
	p.arrived.Broadcast()
	var failure *idpFailure
	if len(p.failures) > 0 {
		failure, p.failures = &p.failures[0], p.failures[1:]
	}
	var said map[string]any
	status := http.StatusOK
	if failure == nil || failure.status == 0 {
		said, status = p.process(r, body)
	}
	held := p.held
	p.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case failure != nil && failure.status == 0:
		panic(http.ErrAbortHandler)
	case failure != nil:
		w.Header().Set("Content-Type", failure.kind)
		w.WriteHeader(failure.status)
		_, _ = io.WriteString(w, failure.body) // the caller may be gone
	case p.o.Answer == "form":
		form := neturl.Values{}
		for k, v := range said {
			form.Set(k, strings.Trim(fmt.Sprint(v), `"`))
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, form.Encode())
	default:
		answer(w, status, said)
	}
}

// process decides one request; p.mu is held.
func (p *IDP) process(r *http.Request, body []byte) (said map[string]any, status int) {
	refuse := func(status int, code string) (map[string]any, int) {
		return map[string]any{"error": code, "error_description": "of " + string(body)}, status
	}
	form, ok := p.parse(r, body)
	if r.Method != http.MethodPost || !ok {
		return refuse(http.StatusBadRequest, "invalid_request")
	}
	f := &family{}
	if p.o.Exchange != nil {
		for k, v := range p.o.Exchange {
			if form.Get(k) != v || len(form) != len(p.o.Exchange) {
				return refuse(http.StatusUnauthorized, "invalid_login")
			}
		}
	} else {
		if !p.knows(r, form) {
			return refuse(http.StatusUnauthorized, "invalid_client")
		}
		for k, v := range p.o.Params {
			if form.Get(k) != v {
				return refuse(http.StatusBadRequest, "invalid_request")
			}
		}
		grant := p.grants[form.Get("grant_type")]
		if grant == nil {
			return refuse(http.StatusBadRequest, "unsupported_grant_type")
		}
		var failed *idpError
		if f, failed = grant(p, form); failed != nil {
			return refuse(failed.status, failed.code)
		}
	}
	return p.give(f), http.StatusOK
}

// give makes an answer with a new access token of a family.
func (p *IDP) give(f *family) map[string]any {
	p.given++
	token := p.newToken("at")
	p.access[token] = f
	said := map[string]any{p.o.TokenField: token, "token_type": p.o.TokenType}
	for k, v := range p.o.More {
		said[k] = v
	}
	if p.o.ExpiresIn != "-" {
		said["expires_in"] = json.RawMessage(p.o.ExpiresIn)
		if p.o.Answer == "form" {
			said["expires_in"] = p.o.ExpiresIn
		}
	}
	if p.o.Account != "" && f.fresh {
		said["id_token"] = idToken(p.o.Account)
	}
	if f.current != "" && (p.o.Rotate || p.o.Repeat || f.fresh) {
		said["refresh_token"] = f.current
	}
	f.fresh = false
	return said
}

func (p *IDP) grantRefresh(form neturl.Values) (*family, *idpError) {
	sent := form.Get("refresh_token")
	f := p.refresh[sent]
	switch {
	case f == nil || f.dead:
		return nil, &idpError{http.StatusBadRequest, "invalid_grant"}
	case f.current != sent:
		p.reused++
		f.dead = true // and with it every access token of the family
		return nil, &idpError{http.StatusBadRequest, "invalid_grant"}
	}
	if p.o.Rotate {
		p.newRefresh(f)
	}
	return f, nil
}

func (p *IDP) newRefresh(f *family) {
	f.current = p.newToken("rt")
	p.refresh[f.current] = f
}

func (p *IDP) newToken(kind string) string {
	token := fmt.Sprintf("%s-%d-%s", kind, len(p.all), rand.Text())
	p.all = append(p.all, token)
	return token
}

// parse reads a request's parameters, in the one format that is taken.
func (p *IDP) parse(r *http.Request, body []byte) (neturl.Values, bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, false
	}
	if p.o.Body != "json" {
		form, err := neturl.ParseQuery(string(body))
		return form, err == nil && kind == "application/x-www-form-urlencoded"
	}
	var members map[string]string
	if json.Unmarshal(body, &members) != nil || kind != "application/json" {
		return nil, false
	}
	form := neturl.Values{}
	for k := range maps.Keys(members) {
		form.Set(k, members[k])
	}
	return form, true
}

// knows says whether the client authenticated as it must, and in no other way.
func (p *IDP) knows(r *http.Request, form neturl.Values) bool {
	user, password, basic := r.BasicAuth()
	id, inBody := form.Get("client_id"), form.Get("client_secret")
	switch p.o.ClientAuth {
	case "basic":
		return basic && unescaped(user) == p.o.ClientID && unescaped(password) == p.o.ClientSecret && id == "" && inBody == ""
	case "none":
		return !basic && inBody == "" && id == p.o.ClientID
	}
	return !basic && id == p.o.ClientID && inBody == p.o.ClientSecret
}

func unescaped(s string) string {
	out, err := neturl.QueryUnescape(s)
	if err != nil {
		return s
	}
	return out
}
