package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/secret"
)

const (
	// loginFor is how long a person has to come back with a code.
	loginFor = 5 * time.Minute
	// maxLogins bounds the logins that wait for a person at once.
	maxLogins = 16
)

// A pendingLogin waits for a person. It is in memory alone, and goes with its
// first answer.
type pendingLogin struct {
	*oauthPlan
	id      string
	uid     uint32
	request api.OAuthStart // without its client secret, which client has
	ends    time.Time

	// code
	state    secret.Value
	verifier secret.Value
	// device
	device  *oauth.Device
	next    time.Time // when the endpoint may be asked again
	asking  bool      // somebody asks it now
	expires *time.Timer
}

func (p *pendingLogin) wipe() {
	p.client.Secret.Wipe()
	p.state.Wipe()
	p.verifier.Wipe()
	if p.device != nil {
		p.device.Code.Wipe()
	}
}

// logins are those that are pending.
type logins struct {
	mu   sync.Mutex
	list map[string]*pendingLogin
}

// add keeps a login until it ends.
func (l *logins) add(p *pendingLogin, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	if len(l.list) >= maxLogins {
		return api.Errorf(api.RateLimited, "%d logins wait for somebody already; each ends after five minutes", len(l.list))
	}
	if l.list == nil {
		l.list = map[string]*pendingLogin{}
	}
	l.list[p.id] = p
	// By the wall clock, which the rest does not go by: so that a client secret
	// does not stay in memory when nothing else happens.
	p.expires = time.AfterFunc(p.ends.Sub(now), func() { l.drop(p.id) })
	return nil
}

// prune ends what is too old. l.mu is held.
func (l *logins) prune(now time.Time) {
	for id, p := range l.list {
		if !now.Before(p.ends) {
			l.end(id)
		}
	}
}

// end removes a login and wipes it, but for one that somebody is asking about,
// who wipes it. l.mu is held.
func (l *logins) end(id string) {
	if p := l.list[id]; p != nil {
		delete(l.list, id)
		p.expires.Stop()
		if !p.asking {
			p.wipe()
		}
	}
}

func (l *logins) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(id)
}

// clear ends every login.
func (l *logins) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.list {
		l.end(id)
	}
}

// any says whether a login is pending.
func (l *logins) any(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	return len(l.list) > 0
}

// take is the login of an id for whoever began it: to be answered, which a
// code login is once, so that it is pending no more; a device login stays
// until it has ended. done gives it back, and ended says that it has.
func (l *logins) take(id string, who grant.Caller, now time.Time) (p *pendingLogin, done func(ended bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	p = l.list[id]
	if p == nil || p.uid != who.UID {
		return nil, nil
	}
	if p.device == nil {
		delete(l.list, id)
		p.expires.Stop()
		return p, func(bool) { p.wipe() }
	}
	if p.asking {
		as := *p // who asks changes it
		return &as, nil
	}
	p.asking = true
	return p, func(ended bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.asking = false
		if ended || l.list[id] != p {
			l.end(id)
			p.wipe()
		}
	}
}

// later notes when a device login's endpoint may be asked again.
func (l *logins) later(p *pendingLogin, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.next = at
}

// LoginPending says whether a login waits for a person: it is lost when this
// process ends.
func (a *Admin) LoginPending() bool { return a.logins.any(a.clock()) }

// newVerifier makes a PKCE code verifier: 32 random bytes as 43 characters
// (RFC 7636, section 4.1).
func newVerifier() secret.Value {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	text := make([]byte, base64.RawURLEncoding.EncodedLen(len(raw)))
	base64.RawURLEncoding.Encode(text, raw[:])
	clear(raw[:])
	return secret.New(text)
}

// shownPending is how a device login stands.
func (p *pendingLogin) shown(now time.Time) api.OAuthLogin {
	l := api.OAuthLogin{ID: p.id, ExpiresAtMs: p.ends.UnixMilli()}
	if p.device != nil {
		l.UserCode, l.VerificationURI = p.device.UserCode, p.device.VerificationURI
		l.PollAfterMs = max(p.next.Sub(now).Milliseconds(), 1)
	}
	return l
}

// detached is a context for what must not be given up halfway: a code that was
// sent is used up, whoever waits for what it buys.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
}
