package standin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
)

// idpLogins are the logins of people: what an IDP knows of them.
type idpLogins struct {
	codes    map[string]*idpCode
	devices  map[string]*idpDevice // by device code
	slow     int                   // polls that are answered slow_down
	polled   int
	revoked  []string
	lastCode string
}

// An idpCode is a code that a browser carries.
type idpCode struct {
	redirect, challenge string
	used                *family // nil: not yet
}

// An idpDevice is a login on another device.
type idpDevice struct {
	userCode string
	said     string // "", yes, no
}

func (p *IDP) path(r *http.Request) string {
	if to, ok := p.o.Paths[r.URL.Path]; ok {
		return to
	}
	return r.URL.Path
}

// login answers what belongs to a person's login. The two pages have a form,
// as real ones do: GET shows it, POST is its answer.
func (p *IDP) login(w http.ResponseWriter, r *http.Request, path string) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	body, err := io.ReadAll(r.Body)
	form, bad := neturl.ParseQuery(string(body))
	if err != nil || bad != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	switch {
	case path == "/authorize" && r.Method == http.MethodGet:
		if err := p.fits(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		showPage(w, "Let the app use your account?", nil)
	case path == "/authorize" && r.Method == http.MethodPost:
		to, err := p.Decide(r.URL.String(), form.Get("answer") == "yes")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusSeeOther)
	case path == "/activate" && r.Method == http.MethodGet:
		showPage(w, "Which code does your app show?", []string{"user_code"})
	case path == "/activate" && r.Method == http.MethodPost:
		if err := p.Activate(form.Get("user_code"), form.Get("answer") == "yes"); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "You can go back to your app.\n") // the browser may be gone
	case path == "/device" && r.Method == http.MethodPost:
		p.beginDevice(w, r, form)
	case path == "/revoke" && r.Method == http.MethodPost:
		p.revoke(w, r, form)
	default:
		http.Error(w, "no such page", http.StatusNotFound)
	}
}

var idpPage = template.Must(template.New("").Parse(`<!DOCTYPE html><title>Stand-in</title><h1>{{.Head}}</h1>
<form method="post">{{range .Fields}}<input id="{{.}}" name="{{.}}">{{end}}
<button id="yes" name="answer" value="yes">Yes</button><button id="no" name="answer" value="no">No</button></form>
`))

func showPage(w http.ResponseWriter, head string, fields []string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = idpPage.Execute(w, struct { // the browser may be gone
		Head   string
		Fields []string
	}{head, fields})
}

// fits says what is wrong with a request for consent.
func (p *IDP) fits(q neturl.Values) error {
	redirect, err := neturl.Parse(q.Get("redirect_uri"))
	switch {
	case q.Get("response_type") != "code":
		return errors.New("response_type is not code")
	case q.Get("client_id") != p.o.ClientID:
		return errors.New("client_id is unknown")
	case err != nil || redirect.Path != "/callback" || redirect.Hostname() != "127.0.0.1" && redirect.Hostname() != "localhost":
		return errors.New("redirect_uri is not registered")
	case q.Get("state") == "":
		return errors.New("there is no state")
	case q.Get("code_challenge") != "" && q.Get("code_challenge_method") != "S256":
		return errors.New("code_challenge_method is not S256")
	}
	return nil
}

// Decide is what a person does on the page of consent: it returns where their
// browser is sent.
func (p *IDP) Decide(page string, yes bool) (string, error) {
	u, err := neturl.Parse(page)
	if err != nil {
		return "", err
	}
	q := u.Query()
	if err := p.fits(q); err != nil {
		return "", err
	}
	back := neturl.Values{"state": {q.Get("state")}}
	if !yes {
		back.Set("error", "access_denied")
		back.Set("error_description", "the person said no")
		return q.Get("redirect_uri") + "?" + back.Encode(), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	code := "code-" + rand.Text()
	if p.logins.codes == nil {
		p.logins.codes = map[string]*idpCode{}
	}
	p.logins.codes[code] = &idpCode{redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge")}
	p.all, p.logins.lastCode = append(p.all, code), code
	back.Set("code", code)
	return q.Get("redirect_uri") + "?" + back.Encode(), nil
}

// grantCode takes a code once; a second time it ends what the first gave.
func (p *IDP) grantCode(form neturl.Values) (*family, *idpError) {
	refused := &idpError{http.StatusBadRequest, "invalid_grant"}
	c := p.logins.codes[form.Get("code")]
	if c == nil {
		return nil, refused
	}
	if c.used != nil {
		p.reused++
		c.used.dead = true
		return nil, refused
	}
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if form.Get("redirect_uri") != c.redirect || c.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge {
		return nil, refused
	}
	c.used = &family{fresh: true}
	p.newRefresh(c.used)
	return c.used, nil
}

// beginDevice begins a login on another device.
func (p *IDP) beginDevice(w http.ResponseWriter, r *http.Request, form neturl.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.knows(r, form) {
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	if p.logins.devices == nil {
		p.logins.devices = map[string]*idpDevice{}
	}
	code := "device-" + rand.Text()
	d := &idpDevice{userCode: fmt.Sprintf("STAND-%04d", len(p.logins.devices)+1)}
	if p.o.Eager {
		d.said = "yes"
	}
	p.logins.devices[code] = d
	p.all = append(p.all, code)
	interval := p.o.Interval
	if interval == 0 {
		interval = 5
	}
	answer(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": d.userCode, "verification_uri": "https://" + r.Host + "/activate", "expires_in": 900, "interval": interval,
	})
}

// Activate is what a person does who types a code on another device.
func (p *IDP) Activate(userCode string, yes bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.logins.devices {
		if d.userCode == userCode {
			d.said = "no"
			if yes {
				d.said = "yes"
			}
			return nil
		}
	}
	return errors.New("there is no such code")
}

// SlowDown has the next n questions of logins by device answered slow_down.
func (p *IDP) SlowDown(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins.slow = n
}

// Polled counts the questions of logins by device.
func (p *IDP) Polled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins.polled
}

func (p *IDP) grantDevice(form neturl.Values) (*family, *idpError) {
	p.logins.polled++
	d := p.logins.devices[form.Get("device_code")]
	switch {
	case p.logins.slow > 0:
		p.logins.slow--
		return nil, &idpError{http.StatusBadRequest, "slow_down"}
	case d == nil:
		return nil, &idpError{http.StatusBadRequest, "expired_token"}
	case d.said == "":
		return nil, &idpError{http.StatusBadRequest, "authorization_pending"}
	}
	delete(p.logins.devices, form.Get("device_code"))
	if d.said == "no" {
		return nil, &idpError{http.StatusBadRequest, "access_denied"}
	}
	f := &family{fresh: true}
	p.newRefresh(f)
	return f, nil
}

// revoke takes a token back (RFC 7009).
func (p *IDP) revoke(w http.ResponseWriter, r *http.Request, form neturl.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.knows(r, form):
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	case p.o.RevokeStatus != 0 && p.o.RevokeStatus != http.StatusOK:
		answer(w, p.o.RevokeStatus, map[string]string{"error": "temporarily_unavailable", "error_description": "of " + form.Get("token")})
		return
	}
	token := form.Get("token")
	if f := p.refresh[token]; f != nil {
		f.dead = true
	}
	delete(p.access, token)
	p.logins.revoked = append(p.logins.revoked, form.Get("token_type_hint")+" "+token)
	w.WriteHeader(http.StatusOK)
}

// Revoked are the tokens that were given back, each behind its kind.
func (p *IDP) Revoked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.logins.revoked...)
}

// idToken is an id_token as far as anyone looks at it.
func idToken(email string) string {
	part := func(v any) string {
		b, _ := json.Marshal(v) // strings alone
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return strings.Join([]string{
		part(map[string]string{"alg": "none"}), part(map[string]string{"sub": "4711", "email": email}), base64.RawURLEncoding.EncodeToString([]byte("signature")),
	}, ".")
}
