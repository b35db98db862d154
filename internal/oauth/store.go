package oauth

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// An unwritten token was given and is not in the vault yet: for a moment, or,
// where the disk is full or the vault was locked, until it can be written.
// While it is not, the note of its ask stays, so that no other process uses
// the refresh token that it replaced.
type unwritten struct {
	token    vault.Token // as it is to be, without what sealing adds
	base     uint64      // version of the token that it follows; 0: none
	fields   map[string]secret.Value
	provider string
	host     string
}

func (u *unwritten) wipe() { wipe(u.fields) }

func newUnwritten(key string, w *Want, sources map[string]uint64, current *vault.Token, got *obtained, now time.Time) *unwritten {
	u := &unwritten{fields: got.fields, provider: w.Provider}
	if k, err := kindOf(w); err == nil {
		u.host = hostOf(k.endpoint(w))
	}
	u.token = vault.Token{Key: key, Version: 1, FirstAtMs: now.UnixMilli()}
	if current != nil {
		u.base = current.Version
		u.token = *current
		u.token.Version++
	}
	t := &u.token
	t.Sources, t.ObtainedAtMs, t.ExpiresAtMs = sources, now.UnixMilli(), 0
	t.Rotates, t.Reusable = t.Rotates || got.rotated, t.Reusable || got.kept
	if !got.endsAt.IsZero() {
		t.ExpiresAtMs = got.endsAt.UnixMilli()
	}
	if got.scopes != nil {
		t.Scopes = got.scopes
	}
	return u
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

var errSuperseded = errors.New("oauth: the secret or its token was replaced meanwhile")

// store writes what an ask gave into the vault, or keeps it in memory where
// that cannot be done. The lock is held.
func (s *Source) store(lock *vault.TokenLock, u *unwritten) (uint64, error) {
	err := s.write(lock, u)
	switch {
	case err == nil:
		u.wipe()
		return u.token.Version, nil
	case errors.Is(err, errSuperseded):
		// A person stored another secret, whose own token counts.
		u.wipe()
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[u.token.Key] = u
	return u.token.Version, nil
}

// write seals a token in one change, and ends the note of its ask.
func (s *Source) write(lock *vault.TokenLock, u *unwritten) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	lock.MakeRoom()
	s.step("room made")
	_, err := s.cfg.Vault.Update(ctx, u.record(), func(tx *vault.Tx) error {
		if !u.follows(tx.State) {
			return errSuperseded
		}
		t := u.token
		t.Sources, t.Scopes = maps.Clone(t.Sources), slices.Clone(t.Scopes)
		return tx.SealToken(&t, u.fields)
	})
	if err == nil {
		s.step("written")
	}
	if err == nil || errors.Is(err, errSuperseded) {
		_ = lock.Answered() // a note of an older version says nothing
	}
	return err
}

// follows says whether the token is still the next one: its secrets have the
// values that it was had with, and no other was written since.
func (u *unwritten) follows(st *vault.State) bool {
	for id, version := range u.token.Sources {
		if !slices.ContainsFunc(st.Secrets, func(s vault.Secret) bool { return s.ID == id && s.Version == version }) {
			return false
		}
	}
	base := uint64(0)
	for i := range st.Tokens {
		if t := &st.Tokens[i]; t.Key == u.token.Key && maps.Equal(t.Sources, u.token.Sources) {
			base = t.Version
		}
	}
	return base == u.base
}

func (u *unwritten) record() audit.Record {
	r := audit.Record{Event: audit.TokenRefreshed, Provider: u.provider, Host: u.host}
	for _, id := range slices.Sorted(maps.Keys(u.token.Sources)) {
		r.Secrets = append(r.Secrets, audit.SecretUse{ID: id, Version: u.token.Sources[id]})
	}
	return r
}

// keptToken is a token that is in memory alone, if it may be used.
func (s *Source) keptToken(snap *vault.Snapshot, key string, w *Want, fresh uint64) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.kept[key]
	// It is written with the next use, before anything else: until then it is
	// only for who has just tried that.
	if u == nil || u.token.Version != fresh || !s.usable(&u.token, w, fresh) || !u.follows(snap.State()) {
		return Token{}, false
	}
	fields := make(map[string]secret.Value, len(u.fields))
	for name, v := range u.fields {
		fields[name] = v.Clone()
	}
	return forStrategy(fields, &u.token), true
}

// keptVersion is the version of a token that is in memory alone, for one who
// cannot even try to write it.
func (s *Source) keptVersion(key string, w *Want) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.kept[key]
	if u == nil || !s.usable(&u.token, w, 0) {
		return 0, false
	}
	return u.token.Version, true
}

// writeKept tries again to write a token that is in memory alone. version is
// not 0 when that is the one to use, written or not. The lock is held.
func (s *Source) writeKept(lock *vault.TokenLock, key string, w *Want) (version uint64, err error) {
	s.mu.Lock()
	u := s.kept[key]
	s.mu.Unlock()
	if u == nil {
		return 0, nil
	}
	err = s.write(lock, u)
	use := u.token.Version != w.Refused && s.now().UnixMilli() < endMs(&u.token)
	if err != nil && !errors.Is(err, errSuperseded) {
		if use {
			return u.token.Version, nil
		}
		return 0, err // nothing newer could be written either
	}
	s.mu.Lock()
	delete(s.kept, key)
	s.mu.Unlock()
	u.wipe()
	if err == nil && use {
		return u.token.Version, nil
	}
	return 0, nil
}

// endMs is when a token ends; one that does not say ends never.
func endMs(t *vault.Token) int64 {
	if t.ExpiresAtMs == 0 {
		return 1<<63 - 1
	}
	return t.ExpiresAtMs
}

// writeLast tries for the last time to write a token that is in memory alone.
func (s *Source) writeLast(key string, u *unwritten) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lock, err := s.cfg.Vault.LockToken(ctx, key)
	if err != nil {
		return
	}
	defer lock.Release()
	_ = s.write(lock, u)
}
