package broker

import (
	"context"
	"hash/maphash"
	"slices"
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
	kept    map[string][]string // names in retired, by what they were values of, oldest first
	held    uint64              // counts what came into retired
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
	tokens map[tokenID]bool      // that are in it
	prints map[uint64]bool       // of its values
	index  atomic.Pointer[index] // the newest of which it is known to hold all
	seen   atomic.Uint64         // owner.changes then

	// Guarded by owner.mu.
	built bool
	users int
	used  time.Time
}

func newScrubber(now func() time.Time) *scrubber {
	return &scrubber{now: now, sets: map[scrubKey]*scrubSet{}, retired: map[string]retired{}, kept: map[string][]string{}, seed: maphash.MakeSeed()}
}

// acquire returns the set for answers of host to calls made in context. The
// caller releases it.
func (s *scrubber) acquire(ix *index, host string, context grant.Scope) (*scrubSet, error) {
	key := scrubKey{ix, host, context}
	s.mu.Lock()
	set := s.sets[key]
	if set == nil {
		set = &scrubSet{owner: s, users: 1}
		set.index.Store(ix)
		set.seen.Store(s.changes.Load())
		s.sets[key] = set
		if s.timer == nil {
			s.timer = time.AfterFunc(setsIdle, s.sweep)
		}
	}
	set.users++
	set.used = time.Now()
	s.mu.Unlock()

	set.build.Do(func() {
		set.err = s.prepare(set, ix, host, context)
		s.mu.Lock()
		set.built = set.err == nil
		s.mu.Unlock()
	})
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

// drop forgets the sets of every index but keep. Those of the one before it
// that would be made again of the same values are kept as keep's: most changes
// of a vault are of other things.
func (s *scrubber) drop(before, keep *index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, set := range s.sets {
		if key.index == keep {
			continue
		}
		delete(s.sets, key)
		now := scrubKey{keep, key.host, key.context}
		if keep == nil || key.index != before || s.sets[now] != nil || !set.built || !set.holdsAllOf(key, keep) {
			s.letGo(set)
			continue
		}
		s.sets[now] = set
		set.index.Store(keep)
		set.seen.Store(s.changes.Load())
	}
}

// holdsAllOf says whether the set, which was made for key, is what would be
// made of another index.
func (t *scrubSet) holdsAllOf(key scrubKey, now *index) bool {
	for _, l := range levels(make([]level, 0, levelsMost), key.context) {
		at := place{key.host, l}
		was, is := key.index.byHost[at], now.byHost[at]
		if len(was) != len(is) {
			return false
		}
		for i, c := range is {
			if !c.equal(was[i]) {
				return false
			}
			for _, one := range c.tokenIDs() {
				if !t.tokens[one.id] {
					return false
				}
			}
		}
	}
	return true
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
	s.drop(nil, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, r := range s.retired {
		wipeValues(r.values)
	}
	clear(s.retired)
	clear(s.kept)
}

func (s *scrubber) prepare(set *scrubSet, ix *index, host string, in grant.Scope) error {
	values, tokens, err := s.collect(ix, host, in)
	defer wipeValues(values)
	if err != nil {
		return err
	}
	set.Set, set.prints, set.tokens = redact.NewSet(values), redact.Prints(s.seed, values), tokens
	return nil
}

// acquireMore is acquire for an answer that is scrubbed of what is known
// already: the set holds the other values alone, and is the caller's own.
func (s *scrubber) acquireMore(ix *index, host string, in grant.Scope, known map[uint64]bool) (*scrubSet, error) {
	values, _, err := s.collect(ix, host, in)
	defer wipeValues(values)
	if err != nil {
		return nil, err
	}
	more := slices.DeleteFunc(slices.Clone(values), func(v secret.Value) bool { return known[redact.Print(s.seed, v)] })
	return &scrubSet{owner: s, users: 1, Set: redact.NewSet(more), prints: redact.Prints(s.seed, more)}, nil
}

// collect opens all that answers of host to calls made in a scope are scrubbed
// of. The caller wipes the values, also with an error.
func (s *scrubber) collect(ix *index, host string, in grant.Scope) (values []secret.Value, tokens map[tokenID]bool, err error) {
	tokens = map[tokenID]bool{}
	owners := map[string]bool{}
	for _, l := range levels(make([]level, 0, levelsMost), in) {
		for _, c := range ix.byHost[place{host, l}] {
			owners[c.owner()] = true
			more, err := c.values(s.now())
			values = append(values, more...)
			if err != nil {
				return values, nil, err
			}
			more, ids, err := c.tokenValues()
			values = append(values, more...)
			if err != nil {
				return values, nil, err
			}
			for _, id := range ids {
				tokens[id] = true
				owners["token|"+id.key] = true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.retired {
		// What could be used here, or what one that can be took the place of.
		if owners[r.of] || slices.ContainsFunc(r.scopes, in.Sees) && slices.Contains(r.hosts, host) {
			for _, v := range r.values {
				values = append(values, v.Clone())
			}
			tokens[r.token] = true
		}
	}
	return values, tokens, nil
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
