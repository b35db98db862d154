package oauth

import (
	"context"
	"crypto/rand"
	"maps"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

const (
	// margin is how long before its end a token is renewed; of one that lives
	// for less than five minutes, the last fifth of its life.
	margin = time.Minute
	// askTime bounds an ask, from dialling to the end of its answer, and
	// writeTime the change that stores what it gave.
	askTime   = 30 * time.Second
	writeTime = time.Minute
	// A token that the API refuses is renewed at most so often within a
	// minute: an API may answer 401 to what no token would change.
	maxRefusals    = 10
	refusalsWithin = time.Minute
	// And so often within the same time is an endpoint asked that gives
	// nothing: then callers get its last answer, until there is something else
	// to ask with.
	maxFailures = 10
)

// Source gets tokens. Its methods may be called concurrently.
type Source struct {
	cfg     Config
	askTime time.Duration
	step    func(name string) // tests: between two steps of an ask

	mu       sync.Mutex
	flights  map[string]*flight    // by key: asks that run
	kept     map[string]*unwritten // by key
	refusals map[string][]time.Time
	failures map[string]*failures // by key
	closed   bool
	running  sync.WaitGroup
}

// New makes a Source.
func New(cfg Config) *Source {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Source{
		cfg: cfg, askTime: askTime, step: func(string) {},
		flights: map[string]*flight{}, kept: map[string]*unwritten{}, refusals: map[string][]time.Time{},
		failures: map[string]*failures{},
	}
}

func (s *Source) now() time.Time { return s.cfg.Clock() }

// A flight is an ask that runs, and whoever waits for it.
type flight struct {
	done    chan struct{}
	version uint64 // after done: of the token that is there now
	err     error  // after done
}

// Close waits for the asks that run, tries once more to write what could not
// be written, and forgets it.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	s.mu.Lock()
	kept := s.kept
	s.kept = map[string]*unwritten{}
	s.mu.Unlock()
	for key, u := range kept {
		s.writeLast(key, u)
		u.wipe()
	}
}

// Token gives a token that is good for now: the vault's, or, when that ends
// soon (or is Refused), one that it asks for, alone of all processes and
// calls. What it asks for is in the vault when it returns. Errors are
// oauth_refresh_failed (with the endpoint's error code, and never more of its
// answer), upstream_unreachable and upstream_timeout, vault_locked and
// vault_unavailable, secret's shape: auth_failed.
//
// When ctx ends, the caller waits no longer; an ask that runs goes on.
func (s *Source) Token(ctx context.Context, w Want) (Token, error) {
	key := KeyOf(&w)
	if key == "" {
		_, err := kindOf(&w)
		return Token{}, err
	}
	var fresh uint64
	// Whoever waited looks again: what was got may be the one that is refused,
	// or replaced by now.
	for range 4 {
		have, seen, err := s.atHand(ctx, key, &w, fresh)
		if err != nil || have.Fields != nil {
			return have, err
		}
		f, err := s.join(key, w, seen)
		if err != nil {
			return Token{}, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Token{}, cancelled(ctx)
		}
		if f.err != nil {
			return Token{}, f.err
		}
		fresh = f.version
	}
	return Token{}, api.Errorf(api.OAuthRefreshFailed, "the tokens of %s change faster than they can be used", w.Provider)
}

// atHand finds a token that is there and good: in the vault, in memory while
// it cannot be written, or in the secret itself. fresh is the version of one
// that was just got, which is taken however soon it ends. seen is the version
// of the vault's.
func (s *Source) atHand(ctx context.Context, key string, w *Want, fresh uint64) (have Token, seen uint64, err error) {
	snap, err := s.cfg.Vault.Snapshot(ctx)
	if err != nil {
		return Token{}, 0, err
	}
	if t := snap.Token(key); t != nil {
		if seen = t.Version; s.usable(t, w, fresh) {
			if have, err = openToken(snap, t); err != nil && api.CodeOf(err) != api.VaultLocked {
				err = w.renew(api.AsError(err))
			}
			return have, seen, err
		}
	}
	if have, ok := s.keptToken(snap, key, w, fresh); ok {
		return have, seen, nil
	}
	if seen != 0 || w.Refused == OwnVersion {
		return Token{}, seen, nil
	}
	k, err := kindOf(w)
	if err != nil || k.own == nil {
		return Token{}, seen, err
	}
	a, err := s.newAsking(snap, key, w)
	if err != nil {
		return Token{}, seen, err
	}
	defer a.wipe()
	if fields, ok := k.own(a); ok {
		return Token{Fields: fields, Key: key, Version: OwnVersion}, seen, nil
	}
	return Token{}, seen, nil
}

// usable says whether a token may be used for a want.
func (s *Source) usable(t *vault.Token, w *Want, fresh uint64) bool {
	return t.Version != w.Refused && (t.Version == fresh || good(t, s.now()))
}

// good says whether a token is not about to end.
func good(t *vault.Token, now time.Time) bool {
	if t.ExpiresAtMs == 0 {
		return true
	}
	ends := time.UnixMilli(t.ExpiresAtMs)
	early := min(margin, ends.Sub(time.UnixMilli(t.ObtainedAtMs))/5)
	return now.Before(ends.Add(-early))
}

// openToken opens the vault's token for a strategy, which has no use for the
// refresh token.
func openToken(snap *vault.Snapshot, t *vault.Token) (Token, error) {
	fields, err := snap.OpenToken(t.Key)
	if err != nil {
		return Token{}, err
	}
	return forStrategy(fields, t), nil
}

func forStrategy(fields map[string]secret.Value, t *vault.Token) Token {
	fields["refresh_token"].Wipe()
	delete(fields, "refresh_token")
	return Token{Fields: fields, Key: t.Key, Of: Origin(t.Sources), Version: t.Version}
}

// join joins the ask for a key that runs, or starts one.
func (s *Source) join(key string, w Want, seen uint64) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[key]; f != nil {
		return f, nil
	}
	if s.closed {
		return nil, api.Errorf(api.Internal, "oauth: a token was asked for while the process ends")
	}
	if err := s.countRefusal(key, &w); err != nil {
		return nil, err
	}
	f := &flight{done: make(chan struct{})}
	s.flights[key] = f
	s.running.Go(func() {
		f.version, f.err = s.get(key, w, seen)
		s.mu.Lock()
		delete(s.flights, key)
		s.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

// countRefusal bounds how often a refused token is renewed. s.mu is held.
func (s *Source) countRefusal(key string, w *Want) error {
	if w.Refused == 0 {
		return nil
	}
	now := s.now()
	recent := lately(s.refusals[key], now)
	if len(recent) >= maxRefusals {
		s.refusals[key] = recent
		return api.Errorf(api.OAuthRefreshFailed, "%s refuses one token after the other", w.Provider)
	}
	s.refusals[key] = append(recent, now)
	return nil
}

// lately are those of the times that count.
func lately(all []time.Time, now time.Time) []time.Time {
	var recent []time.Time
	for _, t := range all {
		if age := now.Sub(t); age >= 0 && age < refusalsWithin {
			recent = append(recent, t)
		}
	}
	return recent
}

// failures are asks with the same token that brought nothing.
type failures struct {
	sources map[string]uint64
	version uint64
	at      []time.Time
	last    error
}

// failedTooOften is the last error of an endpoint that was asked in vain so
// often that it is left alone for a while.
func (s *Source) failedTooOften(key string, sources map[string]uint64, version uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failures[key]
	if f == nil {
		return nil
	}
	if f.at = lately(f.at, s.now()); len(f.at) == 0 || f.version != version || !maps.Equal(f.sources, sources) {
		delete(s.failures, key)
		return nil
	}
	if len(f.at) < maxFailures {
		return nil
	}
	return f.last
}

func (s *Source) countFailure(key string, sources map[string]uint64, version uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failures[key]
	if f == nil {
		f = &failures{sources: sources, version: version}
		s.failures[key] = f
	}
	f.at, f.last = append(f.at, s.now()), err
}

// get gets a token under the lock of its key, and returns the version of the
// one that is there afterwards.
func (s *Source) get(key string, w Want, seen uint64) (uint64, error) {
	k, err := kindOf(&w)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.askTime+writeTime)
	lock, err := s.cfg.Vault.LockToken(ctx, key)
	cancel()
	if err != nil {
		if version, ok := s.keptVersion(key, &w); ok {
			return version, nil
		}
		return 0, lockFailure(err, &w)
	}
	defer lock.Release()
	s.step("locked")
	snap, err := s.cfg.Vault.Snapshot(context.Background())
	if err != nil {
		return 0, err
	}
	current := snap.Token(key)
	if current != nil && current.Version != w.Refused {
		// Another may have got one while this one waited for the lock.
		if good(current, s.now()) || current.Version != seen && s.now().UnixMilli() < current.ExpiresAtMs {
			return current.Version, nil
		}
	}
	switch version, err := s.writeKept(lock, key, &w); {
	case err != nil:
		return 0, err
	case version != 0:
		return version, nil
	}
	if snap, err = s.cfg.Vault.Snapshot(context.Background()); err != nil {
		return 0, err
	}
	current = snap.Token(key)
	return s.ask(lock, k, key, &w, snap, current)
}

func lockFailure(err error, w *Want) error {
	if code := api.CodeOf(err); code != api.Internal {
		return err
	}
	return api.Errorf(api.OAuthRefreshFailed, "another process has been asking for a token of %s for too long", w.Provider)
}

// newAsking opens what an attempt may use.
func (s *Source) newAsking(snap *vault.Snapshot, key string, w *Want) (*asking, error) {
	a := &asking{source: s, want: w, now: s.now(), fields: make(map[string]secret.Value, len(w.Secrets))}
	for field, id := range w.Secrets {
		if sec := snap.Secret(id); sec != nil && w.Pins != nil && PinOf(sec) != w.Pins[id] {
			a.wipe()
			return nil, api.Errorf(api.PolicyViolation, "secret %q was pinned elsewhere during the call", sec.Name)
		}
		v, err := snap.Open(id)
		if err != nil {
			a.wipe()
			return nil, err
		}
		a.fields[field] = v
	}
	have, err := materialOf(a.fields)
	if err != nil {
		a.wipe()
		return nil, w.renew(api.AsError(err))
	}
	a.have = have
	if snap.Token(key) == nil {
		return a, nil
	}
	if a.token, err = snap.OpenToken(key); err != nil {
		a.wipe()
		return nil, err
	}
	return a, nil
}

// ask asks the endpoint and stores its answer. The lock is held.
func (s *Source) ask(lock *vault.TokenLock, k kind, key string, w *Want, snap *vault.Snapshot, current *vault.Token) (uint64, error) {
	sources, version := sourcesOf(snap, w), uint64(0)
	again := k.again
	if current != nil {
		version = current.Version
		again = again || current.Reusable && !current.Rotates
	}
	a, err := s.newAsking(snap, key, w)
	if err != nil {
		return 0, err
	}
	defer a.wipe()
	request, err := k.build(context.Background(), a)
	if err != nil {
		return 0, err
	}
	defer request.wipe()
	if !again && lock.Asked(sources, version) {
		return 0, errUsedUp(w, hostOf(request.endpoint))
	}
	if err := s.failedTooOften(key, sources, version); err != nil {
		return 0, err
	}
	if err := lock.Ask(sources, version); err != nil {
		return 0, err
	}
	s.step("asked")
	ctx, cancel := context.WithTimeout(context.Background(), s.askTime)
	defer cancel()
	said, came, err := s.send(ctx, w, request)
	s.step("answered")
	if came == notAsked {
		_ = lock.Answered()
	}
	if err != nil {
		if came != notAsked {
			s.countFailure(key, sources, version, err)
		}
		return 0, err // of an uncertain outcome the note stays
	}
	defer clear(said.body)
	got, nothing, err := read(k, a, said)
	if err != nil {
		s.countFailure(key, sources, version, err)
		// What was given and cannot be read may have used up what was sent:
		// the note stays.
		if nothing || again {
			_ = lock.Answered()
		}
		return 0, err
	}
	u := newUnwritten(key, w, sources, current, got, s.now())
	return s.store(lock, u)
}

// read takes an answer apart. nothing says of an error that the endpoint gave
// nothing.
func read(k kind, a *asking, said *answer) (got *obtained, nothing bool, err error) {
	said.explain = k.explain
	failed := k.failed
	if failed == nil {
		failed = func(a *asking, said *answer) error { return said.failure(a.want) }
	}
	if err := failed(a, said); err != nil {
		return nil, !said.gave(), err
	}
	got, err = k.read(a, said)
	return got, !said.gave(), err
}

// sourcesOf are the want's secrets with their versions.
func sourcesOf(snap *vault.Snapshot, w *Want) map[string]uint64 {
	out := make(map[string]uint64, len(w.Secrets))
	for _, id := range w.Secrets {
		if s := snap.Secret(id); s != nil {
			out[id] = s.Version
		}
	}
	return out
}
