package oauth

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/vault"
)

// Two hundred callers of four processes find a token that has ended: one of
// them asks, and all have what it was given.
func TestOneAskForAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w := b.refreshing(t, nil)
	sources := []*Source{b.source(t), b.source(t), b.source(t), b.source(t)}
	for round := range 3 {
		release := b.idp.Hold()
		got := make(chan string, 200)
		var wg sync.WaitGroup
		for i := range cap(got) {
			wg.Go(func() {
				token, err := sources[i%len(sources)].Token(background, w)
				if err != nil {
					t.Error(err)
					return
				}
				got <- access(token)
			})
		}
		b.idp.Await(round + 1)
		time.Sleep(20 * time.Millisecond) // let more of them come to wait
		release()
		wg.Wait()
		close(got)
		first, n := <-got, 1
		for other := range got {
			if n++; other != first {
				t.Fatal("two of them have different tokens")
			}
		}
		if n != 200 {
			t.Fatalf("%d have one", n)
		}
		b.counts(t, standin.IDPCounts{Asked: round + 1, Given: round + 1})
		b.clock.Add(time.Hour)
	}
}

// A caller who leaves ends only its own waiting.
func TestWhoLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	release := b.idp.Hold()
	leaving, leave := context.WithCancel(background)
	gone := make(chan error)
	go func() { _, err := s.Token(leaving, w); gone <- err }()
	b.idp.Await(1)
	leave()
	if err := <-gone; api.CodeOf(err) != api.UpstreamUnreachable {
		t.Errorf("who left was told %v", err)
	}
	timed, stop := context.WithTimeout(background, time.Nanosecond)
	defer stop()
	if _, err := s.Token(timed, w); api.CodeOf(err) != api.UpstreamTimeout && api.CodeOf(err) != api.UpstreamUnreachable {
		t.Errorf("who had no time was told %v", err)
	}
	own, end := context.WithCancelCause(background)
	end(api.Errorf(api.PolicyViolation, "revoked"))
	if _, err := s.Token(own, w); api.CodeOf(err) != api.PolicyViolation {
		t.Errorf("who was revoked was told %v", err)
	}
	release()
	mustToken(t, s, w)
	b.counts(t, standin.IDPCounts{Asked: 1, Given: 1})
}

// Whoever waits for one answer has that answer, when it is an error too.
func TestOneErrorForAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	failed := make(chan error, 50)
	b.idp.Fail(cap(failed), 400, "application/json", `{"error":"invalid_scope"}`)
	release := b.idp.Hold()
	for range cap(failed) {
		go func() { _, err := s.Token(background, w); failed <- err }()
	}
	b.idp.Await(1)
	time.Sleep(50 * time.Millisecond) // let the others come to wait
	release()
	for range cap(failed) {
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "invalid_scope") {
			t.Errorf("error = %v", err)
		}
	}
	if n := b.idp.Counts().Asked; n > cap(failed)/2 {
		t.Errorf("%d of them asked", n)
	}
}

// An exception is for the scheme that the endpoint has, and for its host with
// any usual port.
func TestWhereAnAskGoes(t *testing.T) {
	t.Parallel()
	for endpoint, c := range map[string]struct {
		allowHTTP bool
		host      string // "": refused
		plain     bool
		target    string
	}{
		"https://id.acme.test/token":      {host: "id.acme.test", target: "/token"},
		"https://id.acme.test":            {host: "id.acme.test", target: "/"},
		"https://id.acme.test:443/a?b=c":  {host: "id.acme.test", target: "/a?b=c"},
		"https://id.acme.test:8443/token": {host: "id.acme.test:8443", target: "/token"},
		"https://id.acme.test/token/":     {allowHTTP: true, host: "id.acme.test", target: "/token/"},
		"http://id.acme.test/token":       {allowHTTP: true, host: "id.acme.test", plain: true, target: "/token"},
		"http://id.acme.test:80/token":    {allowHTTP: true, host: "id.acme.test", plain: true, target: "/token"},
		"http://id.acme.test:81/token":    {allowHTTP: true, host: "id.acme.test:81", plain: true, target: "/token"},
		"https://[::1]:8443/token":        {host: "[::1]:8443", target: "/token"},
		"http://id.acme.test:8080/token":  {},
		"ftp://id.acme.test/token":        {allowHTTP: true},
		"https://u@id.acme.test/token":    {},
		"https://id.acme.test/token#f":    {},
		"https:id.acme.test/token":        {},
		"//id.acme.test/token":            {allowHTTP: true},
		"https://id.acme.test/a/../token": {},
		"https://id.acme.test/a%2fb":      {},
		"https://id.acme.test/token?a;b":  {},
	} {
		w := Want{Provider: "acme", Exceptions: egress.Destination{AllowHTTP: c.allowHTTP, AllowPrivate: true, AllowPorts: []int{81}, PathPrefix: "/x", Host: "other"}}
		to, r, err := target(&w, &ask{method: "POST", endpoint: endpoint})
		if c.host == "" {
			if err == nil {
				t.Errorf("%s: goes to %+v", endpoint, to)
			}
			continue
		}
		if err != nil || to.Host != c.host || to.AllowHTTP != c.plain || !to.AllowPrivate || !to.Alone || to.PathPrefix != "" || r.Target() != c.target {
			t.Errorf("%s: %+v, %v", endpoint, to, err)
		}
	}
}

// What endpoints say when they give nothing: the code of RFC 6749 and nothing
// else of it.
func TestErrorsOfAnEndpoint(t *testing.T) {
	t.Parallel()
	const leak = "refresh-token-of-the-request"
	for name, c := range map[string]struct {
		status     int
		kind, body string
		parts      []string
		gave       bool // maybe a token
	}{
		"invalid grant":         {400, "application/json", `{"error":"invalid_grant","error_description":"` + leak + `"}`, []string{"id.acme.test gave no token: invalid_grant (status 400)", "aivault oauth login acme"}, false},
		"invalid client":        {401, "application/json", `{"error":"invalid_client"}`, []string{"invalid_client (status 401)", "aivault oauth login acme"}, false},
		"temporary":             {503, "application/json", `{"error":"temporarily_unavailable"}`, []string{"temporarily_unavailable (status 503)"}, false},
		"with status 200":       {200, "application/json", `{"error":"bad_refresh_token","access_token":""}`, []string{"bad_refresh_token (status 200)"}, false},
		"as a form":             {200, "application/x-www-form-urlencoded", "error=bad_verification_code&error_description=" + leak, []string{"bad_verification_code"}, false},
		"an odd code":           {400, "application/json", `{"error":"` + leak + `"}`, []string{"an unknown error (status 400)"}, false},
		"the password as code":  {400, "application/json", `{"error":"correcthorsebattery"}`, []string{"an unknown error (status 400)"}, false},
		"words with a password": {400, "application/json", `{"error":"invalid_correct_horse"}`, []string{"an unknown error (status 400)"}, false},
		"a code of its own":     {400, "application/json", `{"error":"unmet_authentication_requirements"}`, []string{"unmet_authentication_requirements (status 400)"}, false},
		"a code of no letters":  {400, "application/json", `{"error":"_"}`, []string{"an unknown error (status 400)"}, false},
		"a long code":           {400, "application/json", `{"error":"` + strings.Repeat("a", 41) + `"}`, []string{"an unknown error"}, false},
		"an object for a code":  {400, "application/json", `{"error":{"message":"` + leak + `"}}`, []string{"an unknown error"}, false},
		"an object, status 200": {200, "application/json", `{"error":{"message":"` + leak + `"},"access_token":"x"}`, []string{"an unknown error"}, true},
		"a page":                {502, "text/html", "<html>" + leak, []string{"an unknown error (status 502)"}, false},
		"a page, status 200":    {200, "text/html", "<html>" + leak, []string{"neither a JSON object nor a form"}, false},
		"nothing":               {200, "application/json", "", []string{"neither a JSON object nor a form"}, true},
		"no token":              {200, "application/json", `{"token_type":"Bearer"}`, []string{"access token that is missing"}, false},
		"a token that is none":  {200, "application/json", `{"access_token":{"a":"` + leak + `"}}`, []string{"access token that is missing"}, true},
		"a line break in it":    {200, "application/json", `{"access_token":"` + leak + `\nX-Evil: 1"}`, []string{"more than printable ASCII"}, true},
		"a long token":          {200, "application/json", `{"access_token":"` + strings.Repeat("a", maxValue+1) + `"}`, []string{"longer than"}, true},
		"a bad refresh token":   {200, "application/json", `{"access_token":"a","refresh_token":"\u0000"}`, []string{"refresh token that holds"}, true},
		"twice":                 {200, "application/json", `{"access_token":"a","access_token":"b"}`, []string{"neither a JSON object nor a form"}, true},
		"twice, deeper":         {200, "application/json", `{"access_token":"a","x":{"y":1,"y":2}}`, []string{"neither a JSON object nor a form"}, true},
		"a MAC token":           {200, "application/json", `{"access_token":"a","token_type":"MAC"}`, []string{"a type that aivault cannot send"}, true},
		"a DPoP token":          {200, "application/json", `{"access_token":"a","token_type":"dpop"}`, []string{"a type that aivault cannot send"}, true},
		"too long":              {200, "application/json", `{"access_token":"a","x":"` + strings.Repeat("a", maxAnswer) + `"}`, []string{"neither a JSON object nor a form"}, true},
		"a redirect":            {302, "application/json", `{"access_token":"a"}`, []string{"redirect (status 302)"}, false},
		"an early hint":         {299, "application/json", `{"access_token":""}`, []string{"access token that is missing"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, standin.IDPOptions{Rotate: true})
			w, s := b.refreshing(t, nil), b.source(t)
			b.idp.Fail(1, c.status, c.kind, c.body)
			e := refuse(t, s, w, api.OAuthRefreshFailed, c.parts...)
			if strings.Contains(e.Message+e.Hint, leak) {
				t.Errorf("%v repeats what the endpoint said", e)
			}
			if c.status >= 500 && e.Hint != "" {
				t.Errorf("hint %q for what is no fault of the login", e.Hint)
			}
			if c.gave {
				// It may be all that there was for the refresh token.
				refuse(t, s, w, api.OAuthRefreshFailed, "or could not be read", "not sent again", "aivault oauth login acme")
				b.counts(t, standin.IDPCounts{Asked: 1})
				return
			}
			// Else an answer is an outcome: the next try sends the same token.
			if got := mustToken(t, s, w); got.Version != 1 {
				t.Errorf("version %d", got.Version)
			}
			b.counts(t, standin.IDPCounts{Asked: 2, Given: 1})
			b.nowhere(t, e.Message, e.Hint)
		})
	}
}

// The stand-in repeats the whole request in its errors.
func TestAnEndpointThatRepeatsTheRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.refreshing(t, nil), b.source(t)
	b.put(t, "login", login("gone-"+b.idp.Login()))
	e := refuse(t, s, w, api.OAuthRefreshFailed, "invalid_grant")
	b.nowhere(t, e.Message, e.Hint)
}

// An answer that was lost: the token may have been used up, and is not sent
// again unless it is known not to be.
func TestALostAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o       standin.IDPOptions
		client  bool
		turns   bool // it rotates from the last ask before on
		earlier int  // asks before
		again   bool // it is asked again
	}{
		"the first ask":                   {o: standin.IDPOptions{Rotate: true}},
		"the first ask, that stays":       {o: standin.IDPOptions{}},
		"a refresh token that rotates":    {o: standin.IDPOptions{Rotate: true}, earlier: 2},
		"one that stayed":                 {o: standin.IDPOptions{}, earlier: 1, again: true},
		"one that was repeated":           {o: standin.IDPOptions{Repeat: true}, earlier: 1, again: true},
		"one that stayed once":            {o: standin.IDPOptions{}, earlier: 2, turns: true},
		"a client, which has none":        {client: true, again: true},
		"a client, which has none, later": {client: true, earlier: 2, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.o)
			var w Want
			if c.client {
				w = b.client(t, nil)
			} else {
				w = b.refreshing(t, nil)
			}
			s := b.source(t)
			for i := range c.earlier {
				b.idp.Rotate(c.o.Rotate || c.turns && i == c.earlier-1)
				mustToken(t, s, w)
				b.clock.Add(time.Hour)
			}
			b.idp.Fail(1, 0, "", "")
			refuse(t, s, w, api.UpstreamUnreachable)
			if c.again {
				mustToken(t, b.source(t), w)
				b.counts(t, standin.IDPCounts{Asked: c.earlier + 2, Given: c.earlier + 2})
				return
			}
			for _, x := range []*Source{s, b.source(t)} {
				refuse(t, x, w, api.OAuthRefreshFailed, "an answer of id.acme.test was lost", "not sent again", "aivault oauth login acme")
			}
			b.counts(t, standin.IDPCounts{Asked: c.earlier + 1, Given: c.earlier + 1})
			// Logging in again starts over.
			b.put(t, "login", login(b.idp.Login()))
			if got := mustToken(t, s, w); got.Version != 1 {
				t.Errorf("version %d", got.Version)
			}
			b.counts(t, standin.IDPCounts{Asked: c.earlier + 2, Given: c.earlier + 2})
			b.nowhere(t)
		})
	}
}

// Where nothing can have been sent, nothing can be lost.
func TestAnEndpointThatIsNotThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*Want)
		cfg  func(*bench) *egress.Client
		code api.Code
	}{
		"refuses the connection": {nil, func(b *bench) *egress.Client { b.api.Close(); return b.egress() }, api.UpstreamUnreachable},
		"does not resolve":       {func(w *Want) { w.Spec.OAuth2.TokenEndpoint = "https://nowhere.acme.test/token" }, func(*bench) *egress.Client { return egress.New(egress.Config{Resolve: noNames}) }, api.UpstreamUnreachable},
		"another certificate":    {nil, func(b *bench) *egress.Client { return newEgress(nil, b.api.Addr()) }, api.UpstreamUnreachable},
		"plain http":             {func(w *Want) { w.Spec.OAuth2.TokenEndpoint = "http://" + idpHost + "/token" }, (*bench).egress, api.PolicyViolation},
		"a port of its own":      {func(w *Want) { w.Spec.OAuth2.TokenEndpoint = "https://" + idpHost + ":8443/token" }, (*bench).egress, api.PolicyViolation},
		"a private address":      {func(w *Want) { w.Spec.OAuth2.TokenEndpoint = "https://127.0.0.1/token" }, (*bench).egress, api.PolicyViolation},
		"no address":             {func(w *Want) { w.Spec.OAuth2.TokenEndpoint = "https://u:p@" + idpHost + "/token" }, (*bench).egress, api.PolicyViolation},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, standin.IDPOptions{Rotate: true})
			w := b.refreshing(t, nil)
			if c.edit != nil {
				c.edit(&w)
			}
			s := New(Config{Vault: b.vault(t), Egress: c.cfg(b), Clock: b.clock.Now})
			defer s.Close()
			for range 2 { // the second time nothing is said to be lost
				refuse(t, s, w, c.code)
			}
			b.counts(t, standin.IDPCounts{})
		})
	}
}

// Nobody waits for an endpoint for ever, and what it took is taken to be used.
func TestAnEndpointThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	release := b.idp.Hold()
	defer release()
	// On a slow machine it takes longer to get there at all.
	timeouts := 0
	for s.askTime = 50 * time.Millisecond; ; s.askTime *= 2 {
		_, err := s.Token(t.Context(), w)
		if api.CodeOf(err) != api.UpstreamTimeout {
			break
		}
		timeouts++
	}
	if timeouts == 0 {
		t.Error("it did not time out")
	}
	refuse(t, s, w, api.OAuthRefreshFailed, "not sent again")
}

func TestSecretsThatDoNotFit(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.refreshing(t, nil), b.source(t)
	for value, part := range map[string]string{
		`{"client_id":"i","client_secret":"s"}`:                         "hold no refresh_token",
		`{"refresh_token":"r","client_secret":"s"}`:                     "hold no client_id",
		`{"client_id":"i","client_id":"i"}`:                             "each member once",
		"1//refresh-token-alone":                                        "hold no refresh_token",
		`{"client_id":"i","clientSecret":"s","refresh_token":"r"} more`: "not one JSON object",
	} {
		b.put(t, "login", value)
		e := refuse(t, s, w, api.AuthFailed, part, "aivault oauth login acme")
		if strings.Contains(e.Message, "refresh-token-alone") {
			t.Errorf("%v repeats the secret", e)
		}
	}
	client := b.client(t, func(o *api.OAuth2Spec) { o.TokenParams = map[string]string{"account": "{{account_id}}"} })
	refuse(t, s, client, api.AuthFailed, "hold no account_id")
	b.put(t, "password", `{"client_secret":""}`)
	b.counts(t, standin.IDPCounts{})
}

// An API that refuses whatever token it is sent does not have one made for
// each of its refusals.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.client(t, nil), b.source(t)
	for i := range maxRefusals {
		w.Refused = mustToken(t, s, w).Version
		if w.Refused != uint64(i+1) {
			t.Fatalf("version %d", w.Refused)
		}
	}
	w.Refused = mustToken(t, s, w).Version
	refuse(t, s, w, api.OAuthRefreshFailed, "one token after the other")
	b.clock.Add(refusalsWithin)
	mustToken(t, s, w)
	b.counts(t, standin.IDPCounts{Asked: maxRefusals + 2, Given: maxRefusals + 2})
}

// An endpoint that gives nothing is not asked with every call: whoever calls
// could have the account locked there.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	b.idp.Fail(maxFailures+1, 400, "application/json", `{"error":"invalid_grant"}`)
	for range 2 * maxFailures {
		refuse(t, s, w, api.OAuthRefreshFailed, "invalid_grant (status 400)", "aivault oauth login acme")
	}
	b.counts(t, standin.IDPCounts{Asked: maxFailures})
	b.clock.Add(refusalsWithin)
	refuse(t, s, w, api.OAuthRefreshFailed, "invalid_grant")
	b.counts(t, standin.IDPCounts{Asked: maxFailures + 1})
	b.idp.Fail(maxFailures-1, 400, "application/json", `{"error":"invalid_grant"}`)
	for range maxFailures {
		refuse(t, s, w, api.OAuthRefreshFailed)
	}
	// Logging in again is something else to ask with.
	b.put(t, "login", login(b.idp.Login()))
	mustToken(t, s, w)
}

// A secret that was pinned to another place since the call was judged is not
// sent.
func TestASecretPinnedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.refreshing(t, nil), b.source(t)
	w.Pins = map[string]string{"login": "acme "}
	e := refuse(t, s, w, api.PolicyViolation, "pinned elsewhere")
	b.counts(t, standin.IDPCounts{})
	b.nowhere(t, e.Message)
	snap, err := b.vault(t).Snapshot(t.Context())
	must(t, err)
	w.Pins = map[string]string{"login": PinOf(snap.Secret("login"))}
	mustToken(t, s, w)
}

// A secret that is replaced while its token is asked for: what the old one was
// given is dropped, and the new one is asked with.
func TestASecretReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	release := b.idp.Hold()
	got := make(chan Token)
	go func() { got <- mustToken(t, s, w) }()
	b.idp.Await(1)
	b.put(t, "login", login(b.idp.Login()))
	release()
	token := <-got
	stored := b.stored(t, w)
	if token.Version != 1 || stored.Sources["login"] != 2 {
		t.Errorf("token %d, stored %+v", token.Version, stored)
	}
	b.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
	mustToken(t, s, w)
	b.clock.Add(time.Hour)
	mustToken(t, s, w)
	b.counts(t, standin.IDPCounts{Asked: 3, Given: 3})
}

// faultyStore is a disk that is full when it is told to be.
type faultyStore struct {
	vault.Store
	mu   sync.Mutex
	full bool
}

func (s *faultyStore) set(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

func (s *faultyStore) CompareAndSwap(old vault.Generation, blob []byte) (vault.Generation, error) {
	s.mu.Lock()
	full := s.full
	s.mu.Unlock()
	if full {
		return "", &os.PathError{Op: "write", Path: "vault.aiv", Err: syscall.ENOSPC}
	}
	return s.Store.CompareAndSwap(old, blob)
}

// What cannot be written is used from memory until it can be, and no other
// process sends what it replaced.
func TestATokenThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w := b.refreshing(t, nil)
	cfg := b.vaultConfig()
	disk := &faultyStore{Store: vault.NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
	cfg.Store = disk
	v := vault.New(cfg)
	defer v.Close()
	s, other := New(Config{Vault: v, Egress: b.egress(), Clock: b.clock.Now}), b.source(t)
	defer s.Close()
	mustToken(t, s, w)
	b.clock.Add(time.Hour)
	disk.set(true)
	first := access(mustToken(t, s, w))
	for range 3 {
		if got := mustToken(t, s, w); got.Version != 2 || access(got) != first {
			t.Errorf("version %d", got.Version)
		}
	}
	refuse(t, other, w, api.OAuthRefreshFailed, "not sent again")
	// One that has ended in memory cannot be followed: its successor could be
	// kept no better.
	b.clock.Add(time.Hour)
	refuse(t, s, w, api.VaultUnavailable)
	refuse(t, other, w, api.OAuthRefreshFailed)
	b.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
	disk.set(false)
	if got := mustToken(t, s, w); got.Version != 3 {
		t.Errorf("version %d", got.Version)
	}
	if got := mustToken(t, other, w); got.Version != 3 {
		t.Errorf("version %d elsewhere", got.Version)
	}
	b.counts(t, standin.IDPCounts{Asked: 3, Given: 3})
	// What is still in memory when the process ends is written then.
	disk.set(true)
	b.clock.Add(time.Hour)
	mustToken(t, s, w)
	disk.set(false)
	s.Close()
	if got := mustToken(t, other, w); got.Version != 4 {
		t.Errorf("version %d after the end", got.Version)
	}
	b.counts(t, standin.IDPCounts{Asked: 4, Given: 4})
}

// Where the note or the room for the answer cannot be had, nothing is sent.
func TestNothingIsSentThatCouldNotBeKept(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{".asked", ".room"} {
		b := newBench(t, standin.IDPOptions{Rotate: true})
		w, s := b.refreshing(t, nil), b.source(t)
		in := filepath.Join(b.dir, "vault", "tokens", KeyOf(&w)+suffix, "in the way")
		must(t, os.MkdirAll(in, 0o700))
		refuse(t, s, w, map[string]api.Code{".asked": api.OAuthRefreshFailed, ".room": api.VaultUnavailable}[suffix])
		b.counts(t, standin.IDPCounts{})
		must(t, os.RemoveAll(filepath.Dir(in)))
		mustToken(t, s, w)
	}
}

// A vault that is locked while the endpoint is asked keeps nothing back, and
// loses nothing.
func TestAVaultThatIsLockedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w := b.refreshing(t, nil)
	v := b.vault(t)
	s := New(Config{Vault: v, Egress: b.egress(), Clock: b.clock.Now})
	defer s.Close()
	release := b.idp.Hold()
	failed := make(chan error)
	go func() { _, err := s.Token(background, w); failed <- err }()
	b.idp.Await(1)
	must(t, v.Lock(t.Context(), nil))
	release()
	if err := <-failed; api.CodeOf(err) != api.VaultLocked {
		t.Errorf("error = %v", err)
	}
	refuse(t, s, w, api.VaultLocked)
	_, err := v.Unlock(t.Context(), nil, keysource.Material{}, 0)
	must(t, err)
	if got := mustToken(t, s, w); got.Version != 1 {
		t.Errorf("version %d", got.Version)
	}
	b.clock.Add(time.Hour)
	mustToken(t, b.source(t), w)
	b.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
}

func TestCloseWaitsForAnAsk(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w, s := b.refreshing(t, nil), b.source(t)
	release := b.idp.Hold()
	go func() { _, _ = s.Token(background, w) }()
	b.idp.Await(1)
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	release()
	<-closed
	if b.stored(t, w) == nil {
		t.Error("what the ask was given is lost")
	}
	b.clock.Add(time.Hour)
	refuse(t, s, w, api.Internal)
}

// A refresh is recorded: whose, where, with which values, and nothing else.
func TestTheRecordOfARefresh(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{})
	w, s := b.refreshing(t, nil), b.source(t)
	mustToken(t, s, w)
	log, err := b.vault(t).Audit(t.Context())
	must(t, err)
	var lines []string
	_, err = log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		if strings.Contains(string(line), "token.refreshed") {
			lines = append(lines, string(line))
		}
		return nil
	})
	must(t, err)
	if len(lines) != 1 || !contains(lines[0], `"secrets":[{"id":"login","version":1}]`) || !contains(lines[0], `"host":"id.acme.test"`) || !contains(lines[0], `"provider":"acme"`) {
		t.Errorf("log = %q", lines)
	}
	b.nowhere(t)
}

func noNames(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such name") }
