package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/redact"
	"moldable.sh/aivault/internal/secret"
)

// setsIdle is how long an unused set of values stays prepared. Values are
// wiped from memory soon after the last call, and a busy broker doesn't
// prepare the same set for every call.
const setsIdle = 15 * time.Second

// A scrubber keeps, per host and context, what must be removed from answers:
// every secret value that may go to that host in the scopes which the call
// could use, as it stands in the vault and as auth renders it, and the values
// that were replaced since the broker started.
type scrubber struct {
	now     func() time.Time // for strategies, not for idleness
	mu      sync.Mutex
	sets    map[scrubKey]*scrubSet
	retired map[string]retired  // by credential and versions, or by token and version
	tokens  map[string][]string // names in retired, by the key of a token, oldest first
	timer   *time.Timer         // runs while there are sets
	changes atomic.Uint64       // of what must be scrubbed, beside those of the index
	seed    maphash.Seed        // of fingerprints
}

type scrubKey struct {
	index   *index
	host    string
	context grant.Scope
}

// A scrubSet is wiped when its last user lets go of it. The scrubber itself
// is a user as long as it keeps it.
type scrubSet struct {
	*redact.Set
	owner  *scrubber
	build  sync.Once
	err    error
	tokens map[tokenID]bool // that are in it
	prints map[uint64]bool  // of its values
	index  *index           // of which it was made
	seen   uint64           // owner.changes then
	users  int              // guarded by owner.mu
	used   time.Time
}

// retired are values that were replaced or deleted: an upstream may repeat
// them for as long as it likes.
type retired struct {
	scopes []grant.Scope // the credential's own, and the groups that it was attached to
	hosts  []string
	values []secret.Value
	token  tokenID // of a token; else zero
}

func newScrubber(now func() time.Time) *scrubber {
	return &scrubber{now: now, sets: map[scrubKey]*scrubSet{}, retired: map[string]retired{}, tokens: map[string][]string{}, seed: maphash.MakeSeed()}
}

// acquire returns the set for answers of host to calls made in context. The
// caller releases it.
func (s *scrubber) acquire(ix *index, host string, context grant.Scope) (*scrubSet, error) {
	key := scrubKey{ix, host, context}
	s.mu.Lock()
	set := s.sets[key]
	if set == nil {
		set = &scrubSet{owner: s, users: 1, index: ix, seen: s.changes.Load()}
		s.sets[key] = set
		if s.timer == nil {
			s.timer = time.AfterFunc(setsIdle, s.sweep)
		}
	}
	set.users++
	set.used = time.Now()
	s.mu.Unlock()

	set.build.Do(func() { set.err = s.prepare(set, ix, host, context) })
	if set.err != nil {
		s.mu.Lock()
		if s.sets[key] == set {
			delete(s.sets, key)
			s.letGo(set)
		}
		s.mu.Unlock()
		set.release()
		return nil, set.err
	}
	return set, nil
}

func (t *scrubSet) release() {
	t.owner.mu.Lock()
	defer t.owner.mu.Unlock()
	t.owner.letGo(t)
}

// letGo is called with the lock held.
func (s *scrubber) letGo(t *scrubSet) {
	if t.users--; t.users == 0 && t.Set != nil {
		t.Close()
	}
}

// drop forgets the sets of every index but keep.
func (s *scrubber) drop(keep *index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, set := range s.sets {
		if key.index != keep {
			delete(s.sets, key)
			s.letGo(set)
		}
	}
}

func (s *scrubber) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, set := range s.sets {
		if set.users == 1 && time.Since(set.used) >= setsIdle {
			delete(s.sets, key)
			s.letGo(set)
		}
	}
	if len(s.sets) == 0 {
		s.timer = nil
		return
	}
	s.timer = time.AfterFunc(setsIdle, s.sweep)
}

// close forgets everything.
func (s *scrubber) close() {
	s.drop(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, r := range s.retired {
		for _, v := range r.values {
			v.Wipe()
		}
	}
	clear(s.retired)
	clear(s.tokens)
}

func (s *scrubber) prepare(set *scrubSet, ix *index, host string, in grant.Scope) error {
	var values []secret.Value
	set.tokens = map[tokenID]bool{}
	defer func() {
		for _, v := range values {
			v.Wipe()
		}
	}()
	for _, l := range levels(make([]level, 0, levelsMost), in) {
		for _, c := range ix.byHost[place{host, l}] {
			more, err := c.values(s.now())
			values = append(values, more...)
			if err != nil {
				return err
			}
			more, ids, err := c.tokenValues()
			values = append(values, more...)
			if err != nil {
				return err
			}
			for _, id := range ids {
				set.tokens[id] = true
			}
		}
	}
	s.mu.Lock()
	for _, r := range s.retired {
		if slices.ContainsFunc(r.scopes, in.Sees) && slices.Contains(r.hosts, host) {
			for _, v := range r.values {
				values = append(values, v.Clone())
			}
			set.tokens[r.token] = true
		}
	}
	s.mu.Unlock()
	set.Set = redact.NewSet(values)
	set.prints = redact.Prints(s.seed, values)
	return nil
}

// within says whether all of the set's values are known.
func (t *scrubSet) within(known map[uint64]bool) bool {
	for print := range t.prints {
		if !known[print] {
			return false
		}
	}
	return true
}

// retire keeps what the credentials of old held and those of now no longer
// do.
func (s *scrubber) retire(old, now *index) {
	if old == nil || old.snapshot == nil {
		return
	}
	s.retireTokens(old, now)
	for id, c := range old.credentials {
		if c.sameValues(now.credentials[id]) {
			continue
		}
		values, _ := c.values(s.now()) // what no longer opens cannot be kept
		s.retireTokensOf(c)
		s.mu.Lock()
		key := c.versions()
		if _, known := s.retired[key]; known || len(values) == 0 {
			for _, v := range values {
				v.Wipe()
			}
		} else {
			s.retired[key] = retired{scopes: c.reach(), hosts: c.hosts, values: values}
		}
		s.mu.Unlock()
	}
}

// sameValues says whether other still uses all of c's values.
func (c *credential) sameValues(other *credential) bool {
	if other == nil || other.Scope != c.Scope || !slices.Equal(other.hosts, c.hosts) || !slices.Equal(other.attached, c.attached) {
		return false
	}
	if !reflect.DeepEqual(other.Token, c.Token) || !reflect.DeepEqual(other.Auth, c.Auth) {
		return false // its tokens are others
	}
	for field, id := range c.Secrets {
		was, is := c.index.snapshot.Secret(id), other.index.snapshot.Secret(id)
		if other.Secrets[field] != id || was != nil && (is == nil || is.Version != was.Version) {
			return false
		}
	}
	return true
}

// versions names the credential together with the versions of its values and
// where they could go.
func (c *credential) versions() string {
	parts := []string{c.ID, c.Scope, strings.Join(c.hosts, ","), fmt.Sprint(c.attached)}
	for field, id := range c.Secrets {
		if s := c.index.snapshot.Secret(id); s != nil {
			parts = append(parts, field+"="+id+"@"+strconv.FormatUint(s.Version, 10))
		}
	}
	slices.Sort(parts[4:])
	return strings.Join(parts, "|")
}

// values opens every value of the credential that is not public, and adds
// what its logins make of them on the wire. One value that does not open
// leaves the others standing; a vault that was locked is an error.
func (c *credential) values(now time.Time) ([]secret.Value, error) {
	var values, public []secret.Value
	opened := map[string]secret.Value{}
	defer wipe(opened)
	for field, id := range c.Secrets {
		s := c.index.snapshot.Secret(id)
		if s == nil {
			continue
		}
		v, err := c.index.snapshot.Open(id)
		if api.CodeOf(err) == api.VaultLocked {
			return values, err
		}
		if err != nil {
			continue // it cannot be sent either
		}
		opened[field] = v
		if c.public(field, s) {
			public = append(public, v)
		} else {
			values = append(values, v.Clone())
			values = append(values, auth.PEMParts(v)...)
		}
	}
	_ = c.check() // compiles the strategies, also where something else is wrong
	for _, l := range c.logins() {
		values = append(values, auth.Parts(l.strategy, opened)...)
	}
	for _, v := range c.rendered(opened, now) {
		if slices.ContainsFunc(public, v.Equal) {
			v.Wipe() // a header of its own for an account id is as public as that
		} else {
			values = append(values, v)
		}
	}
	return values, nil
}

// rendered is what each of the credential's logins puts on the wire.
func (c *credential) rendered(opened map[string]secret.Value, now time.Time) []secret.Value {
	if c.check() != nil {
		return nil // makes no calls, so that nothing is rendered
	}
	probe, err := policy.Canonicalise("GET", "/", nil, policy.Rules{})
	if err != nil {
		return nil
	}
	var values []secret.Value
	for _, l := range c.logins() {
		if l.strategy == nil || !hasAll(l.fields, func(f string) bool { return !opened[f].IsZero() }) {
			continue
		}
		add, err := l.strategy.Additions(context.Background(), auth.Input{Fields: opened, Public: c.publics, Request: probe, Now: now})
		if err != nil {
			continue
		}
		values = append(values, auth.Rendered(add)...)
		wipeAdditions(add)
	}
	return values
}
