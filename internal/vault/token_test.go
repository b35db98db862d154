package vault

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

// keepToken stores a token of the given version that was had with secrets.
func keepToken(t testing.TB, v *Vault, key string, version uint64, sources map[string]uint64, fields map[string]string) *Snapshot {
	t.Helper()
	s, err := trySeal(t.Context(), v, key, version, sources, fields)
	must(t, err)
	return s
}

func trySeal(ctx context.Context, v *Vault, key string, version uint64, sources map[string]uint64, fields map[string]string) (*Snapshot, error) {
	return v.Update(ctx, audit.Record{Event: audit.TokenRefreshed}, func(tx *Tx) error {
		return tx.SealToken(&Token{Key: key, Version: version, Sources: maps.Clone(sources), ObtainedAtMs: tx.Now(), FirstAtMs: tx.Now()}, valuesOf(fields))
	})
}

// turn gives a secret another value.
func turn(t testing.TB, v *Vault, id string) {
	t.Helper()
	_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretRotated}, func(tx *Tx) error {
		s := tx.State.secret(id)
		s.Version++
		return tx.Seal(s, secret.FromString("another value"))
	})
	must(t, err)
}

var odd = map[string]string{"access_token": "at-\u00e9\u4e16\"\\<>& \u2028", "refresh_token": "rt-0123456789", "account_id": "x"}

func TestTokensAreSealed(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	put(t, v, "two", "2")
	both := map[string]uint64{"one": 1, "two": 1}
	s := keepToken(t, v, tokenKey(1), 1, both, odd)
	wantToken(t, s, tokenKey(1), odd)
	again := open(t, cfg)
	wantToken(t, mustSnapshot(t, again), tokenKey(1), odd)
	if mustSnapshot(t, again).Token(tokenKey(2)) != nil {
		t.Error("there is a token that nobody sealed")
	}
	_, err := s.OpenToken(tokenKey(2))
	wantCode(t, err, api.Internal)
	// One of the same key takes its place, and others stay as they are.
	keepToken(t, v, tokenKey(2), 1, map[string]uint64{"one": 1}, map[string]string{"access_token": "a"})
	before := *mustSnapshot(t, v).Token(tokenKey(2))
	s = keepToken(t, v, tokenKey(1), 2, both, map[string]string{"access_token": "b"})
	if n := len(s.State().Tokens); n != 2 {
		t.Errorf("%d tokens", n)
	}
	wantToken(t, s, tokenKey(1), map[string]string{"access_token": "b"})
	if d := cmp.Diff(before, *s.Token(tokenKey(2))); d != "" {
		t.Error(d)
	}
	// An old snapshot still has its own, until the vault is locked.
	must(t, v.Lock(t.Context(), who))
	_, err = s.OpenToken(tokenKey(1))
	wantCode(t, err, api.VaultLocked)
	for _, text := range []string{string(read(t, filepath.Join(cfg.Dir, "vault.aiv"))), string(read(t, filepath.Join(cfg.Dir, "audit", "00000001.jsonl")))} {
		if strings.Contains(text, "rt-0123456789") {
			t.Error("a token is on disk as it is")
		}
	}
}

// A token stands for the values that it was had with. With another value, or
// none, it is ignored at once, and the next change drops it.
func TestStaleTokens(t *testing.T) {
	t.Parallel()
	v, _ := fileVault(t)
	put(t, v, "one", "1")
	put(t, v, "two", "2")
	put(t, v, "three", "3")
	keepToken(t, v, tokenKey(1), 1, map[string]uint64{"one": 1, "two": 1}, odd)
	keepToken(t, v, tokenKey(2), 1, map[string]uint64{"three": 1}, odd)
	// Of a state that came about without pruning.
	s := mustSnapshot(t, v)
	st := s.state.clone()
	st.secret("two").Version++
	if newSnapshot(s.gen, s.hash, s.size, s.header, st, s.keys).Token(tokenKey(1)) != nil {
		t.Error("a stale token is served")
	}
	turn(t, v, "two")
	if s = mustSnapshot(t, v); len(s.state.Tokens) != 1 || s.Token(tokenKey(1)) != nil || s.Token(tokenKey(2)) == nil {
		t.Errorf("tokens = %+v", s.state.Tokens)
	}
	_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretDeleted}, func(tx *Tx) error {
		tx.State.Secrets = tx.State.Secrets[:2]
		return nil
	})
	must(t, err)
	if s = mustSnapshot(t, v); len(s.state.Tokens) != 0 {
		t.Errorf("tokens = %+v", s.state.Tokens)
	}
	// One that would be stale at once is not sealed.
	for _, sources := range []map[string]uint64{{"one": 2}, {"two": 1}, {"gone": 1}, {"one": 1, "gone": 1}} {
		_, err := trySeal(t.Context(), v, tokenKey(1), 1, sources, odd)
		wantCode(t, err, api.Internal, "not in the state")
	}
	for name, c := range map[string]struct {
		key     string
		version uint64
		sources map[string]uint64
		fields  map[string]string
	}{
		"no key":       {"", 1, map[string]uint64{"one": 1}, odd},
		"a path":       {"../x", 1, map[string]uint64{"one": 1}, odd},
		"no version":   {tokenKey(1), 0, map[string]uint64{"one": 1}, odd},
		"no source":    {tokenKey(1), 1, nil, odd},
		"no field":     {tokenKey(1), 1, map[string]uint64{"one": 1}, nil},
		"no name":      {tokenKey(1), 1, map[string]uint64{"one": 1}, map[string]string{"": "x"}},
		"no value":     {tokenKey(1), 1, map[string]uint64{"one": 1}, map[string]string{"access_token": ""}},
		"no UTF-8":     {tokenKey(1), 1, map[string]uint64{"one": 1}, map[string]string{"access_token": "\xff"}},
		"much of it":   {tokenKey(1), 1, map[string]uint64{"one": 1}, map[string]string{"access_token": strings.Repeat("x", maxToken)}},
		"escaped much": {tokenKey(1), 1, map[string]uint64{"one": 1}, map[string]string{"access_token": strings.Repeat("\x01", maxToken/6)}},
	} {
		if _, err := trySeal(t.Context(), v, c.key, c.version, c.sources, c.fields); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

// What a token is bound to cannot be changed without sealing it again.
func TestATokenBelongsToItsContext(t *testing.T) {
	t.Parallel()
	v, _ := fileVault(t)
	put(t, v, "one", "1")
	put(t, v, "two", "2")
	keepToken(t, v, tokenKey(1), 3, map[string]uint64{"one": 1, "two": 1}, odd)
	keepToken(t, v, tokenKey(2), 3, map[string]uint64{"one": 1, "two": 1}, odd)
	for name, edit := range map[string]func(st *State){
		"version":     func(st *State) { st.Tokens[0].Version = 4 },
		"key":         func(st *State) { st.Tokens[0].Key = tokenKey(3) },
		"a source":    func(st *State) { delete(st.Tokens[0].Sources, "two") },
		"swapped":     func(st *State) { st.Tokens[0].Key, st.Tokens[1].Key = st.Tokens[1].Key, st.Tokens[0].Key },
		"values":      func(st *State) { st.Tokens[0].Value, st.Tokens[1].Value = st.Tokens[1].Value, st.Tokens[0].Value },
		"data keys":   func(st *State) { st.Tokens[0].DEK, st.Tokens[1].DEK = st.Tokens[1].DEK, st.Tokens[0].DEK },
		"not base64":  func(st *State) { st.Tokens[0].Value += "!" },
		"a secret's":  func(st *State) { st.Tokens[0].DEK, st.Tokens[0].Value = st.Secrets[0].DEK, st.Secrets[0].Value },
		"its end":     nil,
		"its account": nil,
	} {
		_, err := v.Update(t.Context(), audit.Record{Event: audit.TokenRefreshed}, func(tx *Tx) error {
			if edit == nil {
				tx.State.Tokens[0].ExpiresAtMs, tx.State.Tokens[0].Account = 5, name
			} else {
				edit(tx.State)
			}
			return nil
		})
		if (err == nil) != (edit == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if edit != nil {
			// Sealed all the same, it does not open.
			s := mustSnapshot(t, v)
			st := s.state.clone()
			edit(st)
			x := newSnapshot(s.gen, s.hash, s.size, s.header, st, s.keys)
			if tok := &st.Tokens[0]; x.Token(tok.Key) != nil {
				_, err := x.OpenToken(tok.Key)
				wantCode(t, err, api.VaultUnavailable, "open token")
			}
		}
	}
	wantToken(t, mustSnapshot(t, v), tokenKey(1), odd)
}

func TestRotationWrapsTokensAnew(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	before := keepToken(t, v, tokenKey(1), 1, map[string]uint64{"one": 1}, odd).Token(tokenKey(1))
	must(t, v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File}))
	after := mustSnapshot(t, v).Token(tokenKey(1))
	if before.DEK == after.DEK || before.Value != after.Value {
		t.Error("the data key is the old one, or the value was sealed anew")
	}
	wantToken(t, mustSnapshot(t, open(t, cfg)), tokenKey(1), odd)
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	v, _ := fileVault(t)
	keys := mustSnapshot(t, v).keys
	rapid.Check(t, func(t *rapid.T) {
		fields := map[string]string{}
		for range rapid.IntRange(1, 4).Draw(t, "fields") {
			fields[rapid.StringN(1, 8, -1).Draw(t, "name")] = rapid.StringN(1, 200, -1).Draw(t, "value")
		}
		tok := &Token{Key: tokenKey(1), Version: rapid.Uint64().Draw(t, "version"), Sources: map[string]uint64{}}
		for range rapid.IntRange(0, 3).Draw(t, "sources") {
			tok.Sources[rapid.String().Draw(t, "id")] = rapid.Uint64().Draw(t, "of")
		}
		if err := keys.sealToken(v.cfg.Rand, tok, valuesOf(fields)); err != nil {
			t.Fatal(err)
		}
		got, err := keys.openToken(tok)
		if err != nil {
			t.Fatal(err)
		}
		plain := map[string]string{}
		for name, value := range got {
			plain[name] = string(value.Expose())
		}
		if d := cmp.Diff(fields, plain); d != "" {
			t.Fatal(d)
		}
	})
}

func TestTokenLock(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	other := open(t, cfg)
	lock, err := v.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	// One at a time, of this process and others; another key is another lock.
	for _, x := range []*Vault{v, other} {
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := x.LockToken(short, tokenKey(1))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second one has the lock: %v", err)
		}
	}
	second, err := other.LockToken(t.Context(), tokenKey(2))
	must(t, err)
	second.Release()

	of, empty := map[string]uint64{"one": 1}, map[string]uint64{}
	if lock.Asked(of, 0) {
		t.Error("it was asked before anyone did")
	}
	must(t, lock.Ask(of, 3))
	room := filepath.Join(cfg.Dir, "tokens", tokenKey(1)+".room")
	if info, err := os.Stat(room); err != nil || info.Size() < roomForAnswer+int64(len(read(t, filepath.Join(cfg.Dir, "vault.aiv")))) {
		t.Errorf("room: %v, %v", info, err)
	}
	for _, name := range []string{".lock", ".asked", ".room"} {
		if info, err := os.Stat(filepath.Join(cfg.Dir, "tokens", tokenKey(1)+name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	lock.MakeRoom()
	if exists(room) {
		t.Error("the room is still reserved")
	}
	lock.Release()
	lock, err = other.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	for _, c := range []struct {
		sources map[string]uint64
		version uint64
		asked   bool
	}{
		{of, 3, true}, {of, 4, false}, {of, 2, false}, {of, 0, false}, {map[string]uint64{"one": 2}, 3, false},
		{map[string]uint64{"one": 1, "two": 1}, 3, false}, {empty, 3, false}, {map[string]uint64{"two": 1}, 3, false},
	} {
		if got := lock.Asked(c.sources, c.version); got != c.asked {
			t.Errorf("asked with %v of version %d: %v", c.sources, c.version, got)
		}
	}
	must(t, lock.Ask(of, 4))
	if lock.Asked(of, 3) || !lock.Asked(of, 4) {
		t.Error("the note is of another ask")
	}
	must(t, lock.Answered())
	must(t, lock.Answered())
	if lock.Asked(of, 4) {
		t.Error("what was answered is still asked")
	}
	lock.Release()
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "tokens", "*.[ar]*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// A note that cannot be read stands for an ask without an outcome.
func TestANoteThatCannotBeRead(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	lock, err := v.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	defer lock.Release()
	note := filepath.Join(cfg.Dir, "tokens", tokenKey(1)+".asked")
	of := map[string]uint64{"one": 1}
	for name, make := range map[string]func(){
		"empty":        func() { write(t, note, nil) },
		"cut off":      func() { write(t, note, []byte(`{"aivaultAsked":1,"sources":{"one":1},`)) },
		"newer":        func() { write(t, note, []byte(`{"aivaultAsked":2,"sources":{"one":2},"version":9,"atMs":1}`)) },
		"unknown":      func() { write(t, note, []byte(`{"aivaultAsked":1,"sources":{"one":2},"version":9,"atMs":1,"more":1}`)) },
		"a FIFO":       func() { must(t, syscall.Mkfifo(note, 0o600)) },
		"a directory":  func() { must(t, os.Mkdir(note, 0o700)) },
		"a dead link":  func() { must(t, os.Symlink("nowhere", note)) },
		"a large file": func() { write(t, note, []byte(strings.Repeat(" ", maxHeader+1))) },
	} {
		make()
		if !lock.Asked(of, 0) {
			t.Errorf("%s: not asked", name)
		}
		must(t, os.Remove(note))
	}
}

// What keeps the note or the room from being written keeps the ask from being
// made, and nothing is left of the attempt.
func TestAnAskThatCannotBeNoted(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	for _, suffix := range []string{".asked", ".room"} {
		lock, err := v.LockToken(t.Context(), tokenKey(1))
		must(t, err)
		in := filepath.Join(cfg.Dir, "tokens", tokenKey(1)+suffix)
		must(t, os.MkdirAll(filepath.Join(in, "way"), 0o700))
		wantCode(t, lock.Ask(map[string]uint64{"one": 1}, 0), api.VaultUnavailable, cfg.Dir, "no token is asked for")
		must(t, os.RemoveAll(in))
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "tokens", "*")); len(left) != 1 {
			t.Errorf("left: %q", left)
		}
		lock.Release()
	}
	// Nor is anything made where there is no vault, or a key that is none.
	empty := open(t, testConfig(t))
	_, err := empty.LockToken(t.Context(), tokenKey(1))
	wantCode(t, err, api.VaultUnavailable)
	if _, err := os.Stat(empty.cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made", empty.cfg.Dir)
	}
	for _, key := range []string{"", "x", "../../" + tokenKey(1)[6:], strings.ToUpper(tokenKey(1))} {
		_, err := v.LockToken(t.Context(), key)
		wantCode(t, err, api.Internal)
	}
}

// What stands in the room's place holds nobody up, and is not written to.
func TestRoomIsNobodyElsesFile(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	victim := filepath.Join(t.TempDir(), "victim")
	for name, place := range map[string]func(room string) error{
		"a FIFO":         func(room string) error { return syscall.Mkfifo(room, 0o600) },
		"a hard link":    func(room string) error { return os.Link(victim, room) },
		"a symlink":      func(room string) error { return os.Symlink(victim, room) },
		"an earlier one": func(room string) error { return os.WriteFile(room, []byte("x"), 0o644) },
	} {
		must(t, os.WriteFile(victim, []byte("untouched"), 0o600))
		lock, err := v.LockToken(t.Context(), tokenKey(1))
		must(t, err)
		room := filepath.Join(cfg.Dir, "tokens", tokenKey(1)+".room")
		must(t, place(room))
		must(t, lock.Ask(map[string]uint64{"one": 1}, 0))
		if info, err := os.Lstat(room); err != nil || info.Mode() != 0o600 || info.Size() < roomForAnswer {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if got := string(read(t, victim)); got != "untouched" {
			t.Errorf("%s: %d bytes were written to another file", name, len(got))
		}
		must(t, lock.Answered())
		lock.Release()
	}
}

// Room that a killed process left is given back by whoever asks next, for
// whatever key; room of one who is asking is not.
func TestRoomsOfTheKilled(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	one, err := v.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	must(t, one.Ask(map[string]uint64{"one": 1}, 0))
	room := func(n byte) string { return filepath.Join(cfg.Dir, "tokens", tokenKey(n)+".room") }
	write(t, room(2), []byte("left"))
	write(t, room(3), []byte("left"))
	stray := filepath.Join(cfg.Dir, "tokens", "notes.room")
	write(t, stray, []byte("not ours"))
	three, err := open(t, cfg).LockToken(t.Context(), tokenKey(3))
	must(t, err)
	if !exists(room(1)) || exists(room(2)) || !exists(stray) {
		t.Error("the wrong room was given back")
	}
	must(t, three.Ask(map[string]uint64{"one": 1}, 0))
	three.Release()
	one.Release()
	if exists(room(1)) || exists(room(3)) {
		t.Error("room is left")
	}
}

// Each write of a token, stopped right before and right after the document is
// replaced: the vault opens, with the old token or the new, and the note says
// what is not known.
func TestATokenStoppedAtEachStep(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock")), before: func() {}, after: func() {}}
	cfg.Store = hook
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "1")
	of := map[string]uint64{"one": 1}
	keepToken(t, v, tokenKey(1), 1, of, map[string]string{"access_token": "first"})
	look := func(name, token string, version uint64, asked bool) {
		c := testConfig(t)
		copyPrivate(t, cfg.Dir, c.Dir)
		copyPrivate(t, filepath.Dir(cfg.DefaultKeyFile), filepath.Dir(c.DefaultKeyFile))
		x := open(t, c)
		s := mustSnapshot(t, x)
		wantToken(t, s, tokenKey(1), map[string]string{"access_token": token})
		lock, err := x.LockToken(t.Context(), tokenKey(1))
		must(t, err)
		defer lock.Release()
		if s.Token(tokenKey(1)).Version != version || lock.Asked(of, version) != asked {
			t.Errorf("%s: version %d, asked %v", name, s.Token(tokenKey(1)).Version, lock.Asked(of, version))
		}
	}
	lock, err := v.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	look("locked", "first", 1, false)
	must(t, lock.Ask(of, 1))
	look("asked", "first", 1, true)
	lock.MakeRoom()
	look("room made", "first", 1, true)
	hook.before = func() { look("before the swap", "first", 1, true) }
	hook.after = func() { look("after the swap", "second", 2, false) }
	keepToken(t, v, tokenKey(1), 2, of, map[string]string{"access_token": "second"})
	look("written", "second", 2, false)
	must(t, lock.Answered())
	look("answered", "second", 2, false)
	lock.Release()
}

func copyPrivate(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
	must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

// Many who take turns: each sees the note of the one before, and no two are in
// at once.
func TestTokenLocksTakeTurns(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	of := map[string]uint64{"one": 1}
	vaults := []*Vault{v, open(t, cfg), open(t, cfg)}
	var wg sync.WaitGroup
	inside, last := 0, uint64(0)
	var mu sync.Mutex // the lock on a file orders nothing that the race detector could see
	for i := range 12 {
		wg.Go(func() {
			lock, err := vaults[i%3].LockToken(t.Context(), tokenKey(1))
			if err != nil {
				t.Error(err)
				return
			}
			defer lock.Release()
			mu.Lock()
			if inside++; inside != 1 || last > 0 && !lock.Asked(of, last) {
				t.Errorf("%d have the lock", inside)
			}
			last++
			at := last
			mu.Unlock()
			if err := lock.Ask(of, at); err != nil {
				t.Error(err)
			}
			mu.Lock()
			inside--
			mu.Unlock()
		})
	}
	wg.Wait()
}
