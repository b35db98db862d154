package vault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

func passVault(t testing.TB, passphrase string) (*Vault, Config) {
	t.Helper()
	cfg := testConfig(t)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, passRequest(passphrase)))
	return v, cfg
}

func unlock(t testing.TB, v *Vault, m keysource.Material, want bool) {
	t.Helper()
	changed, err := v.Unlock(t.Context(), who, m, 0)
	must(t, err)
	if changed != want {
		t.Errorf("changed = %v, want %v", changed, want)
	}
}

func wantLocked(t testing.TB, v *Vault) {
	t.Helper()
	_, err := v.Snapshot(t.Context())
	wantCode(t, err, api.VaultLocked)
	if st := v.Status(t.Context()); st.State != Locked || st.Problem == nil || st.Typed || st.Key.Provider == "" {
		t.Errorf("status = %+v", st)
	}
}

func TestPassphraseVault(t *testing.T) {
	t.Parallel()
	v, cfg := passVault(t, "correct")
	put(t, v, "one", "1")
	if st := v.Status(t.Context()); st.State != Unlocked || !st.Typed {
		t.Errorf("status after init = %+v", st)
	}
	restarted := open(t, cfg)
	_, err := restarted.Snapshot(t.Context())
	wantCode(t, err, api.VaultLocked, "vault is locked", "aivault unlock")
	wantLocked(t, restarted)
	_, err = restarted.Unlock(t.Context(), who, pass("wrong"), 0)
	wantCode(t, err, api.VaultLocked, "wrong passphrase", cfg.Dir)
	_, err = restarted.Unlock(t.Context(), who, keysource.Material{}, 0)
	wantCode(t, err, api.VaultLocked)
	wantLocked(t, restarted)
	unlock(t, restarted, pass("correct"), true)
	wantValue(t, restarted, "one", "1")
	// Unlocking an open vault checks the passphrase.
	unlock(t, restarted, pass("correct"), false)
	_, err = restarted.Unlock(t.Context(), who, pass("wrong"), 0)
	wantCode(t, err, api.VaultLocked, "wrong passphrase")
	wantValue(t, restarted, "one", "1")
	want := []string{"vault.unlock_failed", "vault.unlocked", "vault.unlock_failed"}
	if got := events(t, v); !slices.Equal(got[len(got)-3:], want) {
		t.Errorf("log ends in %v, want %v", got, want)
	}
	// The other process goes on, and sees what this one changes.
	put(t, restarted, "two", "2")
	wantValue(t, v, "two", "2")
}

func TestLockHoldsEverywhereUntilUnlock(t *testing.T) {
	t.Parallel()
	for _, r := range []keysource.Request{{Provider: keysource.File}, envRequest(envKey), passRequest("p")} {
		t.Run(r.Provider, func(t *testing.T) {
			cfg := testConfig(t)
			v := open(t, cfg)
			must(t, v.Init(t.Context(), who, r))
			s := put(t, v, "one", "1")
			other := open(t, cfg)
			if r.Provider == keysource.File {
				wantValue(t, other, "one", "1")
			} else {
				unlock(t, other, r.Material, true)
			}
			must(t, v.Lock(t.Context(), who))
			for _, key := range []secret.Value{s.keys.state, s.keys.wrap} {
				if !bytes.Equal(key.Expose(), make([]byte, keysource.KeySize)) {
					t.Error("a key is still in memory")
				}
			}
			if r.Provider != keysource.File { // what a process still has in memory does not count
				_, err := other.Unlock(t.Context(), who, keysource.Material{}, 0)
				wantCode(t, err, api.VaultLocked)
			}
			wantLocked(t, v)
			wantLocked(t, other)
			wantLocked(t, open(t, cfg)) // a restart
			_, err := s.Open("one")
			wantCode(t, err, api.VaultLocked)
			_, err = tryPut(t.Context(), other, "two", "2")
			wantCode(t, err, api.VaultLocked)
			wantCode(t, v.Rotate(t.Context(), who, keysource.Request{}), api.VaultLocked)
			must(t, v.Lock(t.Context(), who)) // again: nothing new

			unlock(t, v, r.Material, true)
			wantValue(t, v, "one", "1")
			unlock(t, v, r.Material, false)
			if r.Provider == keysource.File {
				wantValue(t, other, "one", "1")
			}
			got := strings.Join(events(t, v), " ")
			if strings.Count(got, "vault.locked") != 1 || !strings.HasSuffix(got, "vault.unlocked") {
				t.Errorf("log = %s", got)
			}
		})
	}
}

func TestMarkerThatCannotBeReadLocks(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{}", `{"aivaultLocked":2,"fromMs":9999999999999}`, `{"aivaultLocked":1,"fromMs":-1}`,
		`{"aivaultLocked":1,"fromMs":9999999999999,"x":1}`, strings.Repeat(" ", 5000)} {
		v, _ := fileVault(t)
		must(t, os.WriteFile(v.marker.path, []byte(content), 0o600))
		wantLocked(t, v)
		unlock(t, v, keysource.Material{}, true)
		mustSnapshot(t, v)
	}
	v, _ := fileVault(t)
	must(t, os.Mkdir(v.marker.path, 0o700))
	wantLocked(t, v)
}

func TestUnlockForATime(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{keysource.File, keysource.Passphrase} {
		t.Run(provider, func(t *testing.T) {
			now := time.Now()
			var mu sync.Mutex
			clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
			pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
			cfg := testConfig(t)
			cfg.Clock = clock
			v := open(t, cfg)
			r := keysource.Request{Provider: provider}
			if provider == keysource.Passphrase {
				r = passRequest("p")
			}
			must(t, v.Init(t.Context(), who, r))
			must(t, v.Lock(t.Context(), who))
			changed, err := v.Unlock(t.Context(), who, r.Material, time.Hour)
			if err != nil || !changed {
				t.Fatalf("unlock: %v, %v", changed, err)
			}
			pass(59 * time.Minute)
			mustSnapshot(t, v)
			pass(2 * time.Minute)
			wantLocked(t, v)
			wantLocked(t, open(t, cfg)) // also after a restart
			pass(-time.Hour)
			wantLocked(t, v) // a clock that goes back unlocks nothing
			got := events(t, v)
			if n := len(got); got[n-1] != "vault.locked" || got[n-2] != "vault.unlocked" {
				t.Errorf("log = %v", got)
			}
			// A plain unlock has no end.
			_, err = v.Unlock(t.Context(), who, r.Material, time.Hour)
			must(t, err)
			unlock(t, v, r.Material, false)
			pass(100 * time.Hour)
			mustSnapshot(t, v)
			_, err = v.Unlock(t.Context(), who, r.Material, -1)
			wantCode(t, err, api.InvalidRequest)
		})
	}
}

func TestTimerLocksWithoutACall(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	start := time.Now()
	cfg.Clock = func() time.Time { return start } // a clock that stands still
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, passRequest("p")))
	s := put(t, v, "one", "1")
	_, err := v.Unlock(t.Context(), who, pass("p"), 20*time.Millisecond)
	must(t, err)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if got := events(t, v); got[len(got)-1] == "vault.locked" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the timer locked nothing")
		}
	}
	_, err = s.Open("one")
	wantCode(t, err, api.VaultLocked)
	wantLocked(t, v)
}

func TestWrongPassphrasesWait(t *testing.T) {
	t.Parallel()
	_, cfg := passVault(t, "right")
	var waits []time.Duration
	try := func(v *Vault, p string) error {
		v.sleep = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		_, err := v.Unlock(t.Context(), who, pass(p), 0)
		return err
	}
	v := open(t, cfg)
	for range 5 {
		wantCode(t, try(v, "wrong"), api.VaultLocked)
	}
	if len(waits) != 0 {
		t.Errorf("the first five waited: %v", waits)
	}
	for range 7 {
		v = open(t, cfg) // a restart does not forget
		wantCode(t, try(v, "wrong"), api.VaultLocked)
	}
	s := time.Second
	if want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}; !slices.Equal(waits, want) {
		t.Errorf("waits = %v, want %v", waits, want)
	}
	must(t, try(v, "right")) // waits, too
	waits = nil
	wantCode(t, try(v, "wrong"), api.VaultLocked)
	if len(waits) != 0 {
		t.Errorf("a success did not reset the count: %v", waits)
	}
	must(t, os.WriteFile(v.path(attemptsName), []byte("nonsense"), 0o600))
	wantCode(t, try(v, "wrong"), api.VaultLocked)
	if len(waits) != 1 {
		t.Error("a damaged count was taken for none")
	}
}

// A count that is no file is one that cannot be read, and holds nobody up.
func TestAttemptsThatAreNoFile(t *testing.T) {
	v, _ := passVault(t, "right")
	path := v.path(attemptsName)
	for what, put := range map[string]func() error{
		"a FIFO":   func() error { return syscall.Mkfifo(path, 0o600) },
		"a link":   func() error { return os.Symlink("vault.aiv", path) },
		"a folder": func() error { return os.Mkdir(path, 0o700) },
	} {
		must(t, put())
		read := make(chan int, 1)
		go func() { read <- v.readAttempts() }()
		select {
		case n := <-read:
			if n != freeAttempts {
				t.Errorf("%s: %d attempts, want %d", what, n, freeAttempts)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s holds up the reader", what)
		}
		must(t, os.Remove(path))
	}
}

func TestWaitingCanBeCalledOff(t *testing.T) {
	t.Parallel()
	v, _ := passVault(t, "right")
	must(t, v.writeAttempts(20))
	v.sleep = sleep
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := v.Unlock(ctx, who, pass("right"), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v", err)
	}
	if n := v.readAttempts(); n != 20 {
		t.Errorf("attempts = %d", n)
	}
}

// forgetfulStore is a restore, or another vault in the making, by another
// process: both remove what was counted.
type forgetfulStore struct {
	*FileStore
	attempts string
}

func (s forgetfulStore) Generation() (Generation, error) {
	_ = os.Remove(s.attempts)
	return s.FileStore.Generation()
}

func TestAttemptsThatAnotherForgets(t *testing.T) {
	t.Parallel()
	_, cfg := passVault(t, "right")
	cfg.Store = forgetfulStore{NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock")), filepath.Join(cfg.Dir, attemptsName)}
	unlock(t, open(t, cfg), pass("right"), true)
}

func TestAttemptsCountFromAllProcesses(t *testing.T) {
	t.Parallel()
	_, cfg := passVault(t, "right")
	var wg sync.WaitGroup
	for range 6 {
		v := open(t, cfg)
		wg.Go(func() {
			if _, err := v.Unlock(t.Context(), who, pass("wrong"), 0); api.CodeOf(err) != api.VaultLocked {
				t.Errorf("error = %v", err)
			}
		})
	}
	wg.Wait()
	if n := open(t, cfg).readAttempts(); n != 6 {
		t.Errorf("attempts = %d, want 6", n)
	}
}

func TestEnvVault(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.Env, EnvVar: "MY_KEY", Material: envMaterial(envKey)}))
	put(t, v, "one", "1")
	again := open(t, cfg)
	_, err := again.Snapshot(t.Context())
	wantCode(t, err, api.VaultLocked, "MY_KEY", "export MY_KEY=")
	_, err = again.Unlock(t.Context(), who, envMaterial(strings.Repeat("ab", 32)), 0)
	wantCode(t, err, api.VaultLocked, "MY_KEY", cfg.Dir)
	_, err = again.Unlock(t.Context(), who, envMaterial("short"), 0)
	wantCode(t, err, api.VaultLocked, "MY_KEY")
	unlock(t, again, envMaterial(envKey), true)
	wantValue(t, again, "one", "1")
}

// All the ways from one provider to another, with the old key refused each
// time.
func TestRotateBetweenAllProviders(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := open(t, cfg)
	other := open(t, cfg)
	elsewhere := t.TempDir() + "/keys/other.key"
	must(t, v.Init(t.Context(), who, passRequest("p1")))
	put(t, v, "one", "sk-1")
	audit1 := mustSnapshot(t, v).State().AuditKey
	sealed := mustSnapshot(t, v).Secret("one").Value
	unlock(t, other, pass("p1"), true)
	given := func(path string) keysource.Request {
		return keysource.Request{Provider: keysource.File, Path: path}
	}
	for i, step := range []struct {
		to   keysource.Request
		open keysource.Material
	}{
		{to: passRequest("p2"), open: pass("p2")},
		{to: given("")},
		{to: given("")},
		{to: given(elsewhere)},
		{to: keysource.Request{Provider: keysource.File, Key: secret.FromString(envKey)}},
		{to: envRequest(envKey), open: envMaterial(envKey)},
		{to: given(elsewhere)},
		{to: passRequest("p3"), open: pass("p3")},
		{to: keysource.Request{Material: pass("p4")}, open: pass("p4")}, // the same provider
		{to: envRequest(strings.Repeat("ef", 32)), open: envMaterial(strings.Repeat("ef", 32))},
	} {
		must(t, v.Rotate(t.Context(), who, step.to))
		wantValue(t, v, "one", "sk-1")
		restarted := open(t, cfg)
		now := restarted.Status(t.Context()).Key
		if now.Provider != keysource.File {
			wantLocked(t, restarted)
			wantLocked(t, other) // its key no longer opens the vault
			unlock(t, restarted, step.open, true)
			unlock(t, other, step.open, true)
			for _, old := range []keysource.Material{pass("p1"), envMaterial(strings.Repeat("11", 32))} {
				if now.Provider == keysource.Passphrase != old.Passphrase.IsZero() {
					_, err := restarted.Unlock(t.Context(), who, old, 0)
					wantCode(t, err, api.VaultLocked)
				}
			}
		}
		wantValue(t, restarted, "one", "sk-1")
		wantValue(t, other, "one", "sk-1")
		for _, path := range []string{cfg.DefaultKeyFile, elsewhere} {
			used := now.Provider == keysource.File && (now.Path == "" && path == cfg.DefaultKeyFile || now.Path == path)
			if exists(path) != used {
				t.Errorf("step %d: %s there: %v, used: %v", i, path, exists(path), used)
			}
		}
		if keysource.Leftover(v.keyConfig(v.seen.header.ID), now) {
			t.Errorf("step %d: an old key was left", i)
		}
	}
	s := mustSnapshot(t, v)
	if s.State().AuditKey != audit1 {
		t.Error("the audit key did not outlive the rotation")
	}
	if s.Secret("one").Value != sealed {
		t.Error("a rotation sealed a value anew")
	}
}

func TestRotateRefused(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	must(t, v.Rotate(t.Context(), who, envRequest(envKey)))
	for name, r := range map[string]keysource.Request{
		"the same key":     envRequest(envKey),
		"no passphrase":    {Provider: keysource.Passphrase},
		"no variable":      {Provider: keysource.Env},
		"unknown provider": {Provider: "vault-in-the-sky"},
		"mixed":            {Provider: keysource.Passphrase, Path: "/x", Material: pass("p")},
		"relative":         {Provider: keysource.File, Path: "x/y"},
		"not a key":        {Provider: keysource.File, Key: secret.FromString("abc")},
	} {
		before := len(events(t, v))
		wantCode(t, v.Rotate(t.Context(), who, r), api.InvalidRequest)
		if len(events(t, v)) != before {
			t.Errorf("%s was recorded", name)
		}
	}
	if exists(cfg.DefaultKeyFile) {
		t.Error("a refused rotation left a key file")
	}
	wantValue(t, v, "one", "1")
}
