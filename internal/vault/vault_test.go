package vault

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

func TestMain(m *testing.M) {
	if victim := os.Getenv("AIVAULT_TEST_VICTIM"); victim != "" {
		runVictim(victim)
		return
	}
	if os.Getenv("AIVAULT_TEST_FULL") != "1" {
		// Each check writes and syncs dozens of files.
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

var who = &audit.Caller{UID: 1000, GID: 1000, User: "test", Operator: true}

// cheap parameters: the bounds are tested in keysource.
var cheap = keysource.Argon2Params{MemoryKiB: 8 << 10, Time: 1, Parallelism: 1}

func testConfig(t testing.TB) Config {
	root := t.TempDir()
	return Config{Dir: filepath.Join(root, "vault"), DefaultKeyFile: filepath.Join(root, "keys", "kek.key"), Argon2id: cheap}
}

func open(t testing.TB, cfg Config) *Vault {
	t.Helper()
	v := New(cfg)
	v.sleep = func(context.Context, time.Duration) error { return nil }
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return v
}

// fileVault is a new vault with a key file.
func fileVault(t testing.TB) (*Vault, Config) {
	t.Helper()
	cfg := testConfig(t)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	return v, cfg
}

func pass(s string) keysource.Material { return keysource.Material{Passphrase: secret.FromString(s)} }

func passRequest(s string) keysource.Request {
	return keysource.Request{Provider: keysource.Passphrase, Material: pass(s)}
}

const envKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func envMaterial(s string) keysource.Material {
	return keysource.Material{EnvKey: secret.FromString(s)}
}

func envRequest(s string) keysource.Request {
	return keysource.Request{Provider: keysource.Env, Material: envMaterial(s)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put stores a secret under an id that a test can name.
func put(t testing.TB, v *Vault, id, value string) *Snapshot {
	t.Helper()
	s, err := tryPut(t.Context(), v, id, value)
	must(t, err)
	return s
}

func tryPut(ctx context.Context, v *Vault, id, value string) (*Snapshot, error) {
	return v.Update(ctx, audit.Record{Event: audit.SecretCreated, Caller: who, Object: id}, func(tx *Tx) error {
		s := Secret{ID: id, Name: "N-" + id, Aliases: []string{"A"}, Scope: "global", Pin: "openai", Version: 1, CreatedAtMs: tx.Now()}
		if err := tx.Seal(&s, secret.FromString(value)); err != nil {
			return err
		}
		tx.State.Secrets = append(tx.State.Secrets, s)
		return nil
	})
}

func wantValue(t testing.TB, v *Vault, id, want string) {
	t.Helper()
	s, err := v.Snapshot(t.Context())
	must(t, err)
	got, err := s.Open(id)
	must(t, err)
	if string(got.Expose()) != want {
		t.Errorf("secret %s = %q, want %q", id, got.Expose(), want)
	}
	got.Wipe()
}

// wantCode checks an error's code, and that its text has the given parts.
func wantCode(t testing.TB, err error, code api.Code, parts ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error = %v (%T), want code %s", err, err, code)
	}
	for _, p := range parts {
		if !strings.Contains(e.Message+"\n"+e.Hint, p) {
			t.Errorf("error %q, hint %q: want %q in it", e.Message, e.Hint, p)
		}
	}
}

func events(t testing.TB, v *Vault) []string {
	t.Helper()
	log, err := v.Audit(t.Context())
	must(t, err)
	var out []string
	_, err = log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		_, rest, _ := strings.Cut(string(line), `"event":"`)
		event, _, _ := strings.Cut(rest, `"`)
		out = append(out, event)
		return nil
	})
	must(t, err)
	return out
}

func TestNothingIsMadeBeforeInit(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := open(t, cfg)
	if s := v.Status(t.Context()); s.State != None || s.Problem != nil {
		t.Errorf("status = %+v", s)
	}
	_, err := v.Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, cfg.Dir, "aivault init")
	_, err = tryPut(t.Context(), v, "a", "x")
	wantCode(t, err, api.VaultUnavailable, cfg.Dir)
	_, err = v.Audit(t.Context())
	wantCode(t, err, api.VaultUnavailable)
	wantCode(t, v.Lock(t.Context(), who), api.VaultUnavailable)
	_, err = v.Unlock(t.Context(), who, pass("x"), 0)
	wantCode(t, err, api.VaultUnavailable)
	wantCode(t, v.Rotate(t.Context(), who, passRequest("x")), api.VaultUnavailable)
	must(t, v.CanCreate())
	if exists(cfg.Dir) {
		t.Error("the directory was made")
	}
}

func TestWriteAndReadAgain(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	s := put(t, v, "one", "sk-first")
	if s.Generation() != 2 || s.Secret("one") == nil || s.Secret("two") != nil {
		t.Errorf("generation %d, secrets %v", s.Generation(), s.State().Secrets)
	}
	put(t, v, "two", "sk-second")
	again := open(t, cfg)
	wantValue(t, again, "one", "sk-first")
	wantValue(t, again, "two", "sk-second")
	st := again.Status(t.Context())
	if st.State != Unlocked || st.Generation != 3 || !st.Used || st.Typed || st.Key.Provider != keysource.File {
		t.Errorf("status = %+v", st)
	}
	want := "vault.created vault.committed secret.created vault.committed secret.created vault.committed"
	if got := strings.Join(events(t, again), " "); got != want {
		t.Errorf("log = %s", got)
	}
	// A change of one secret leaves the other's bytes alone.
	if before, after := s.Secret("one").Value, mustSnapshot(t, again).Secret("one").Value; before != after {
		t.Error("another secret's value was sealed anew")
	}
	_, err := mustSnapshot(t, again).Open("three")
	wantCode(t, err, api.SecretNotFound)
}

func mustSnapshot(t testing.TB, v *Vault) *Snapshot {
	t.Helper()
	s, err := v.Snapshot(t.Context())
	must(t, err)
	return s
}

func TestNoPlaintextOnDisk(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "sk-very-secret-value")
	must(t, filepath.WalkDir(cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, leak := range []string{"sk-very", "N-one", "openai"} {
			if path != filepath.Join(cfg.Dir, "audit") && strings.Contains(string(b), leak) {
				t.Errorf("%s holds %q", path, leak)
			}
		}
		return err
	}))
}

func TestAnErrorOfTheChangeChangesNothing(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "x")
	before, err := os.ReadFile(filepath.Join(cfg.Dir, "vault.aiv"))
	must(t, err)
	logged := len(events(t, v))
	boom := errors.New("boom")
	_, err = v.Update(t.Context(), audit.Record{Event: audit.SecretDeleted}, func(tx *Tx) error {
		tx.State.Secrets[0].Name = "changed"
		tx.State.Secrets[0].Aliases[0] = "changed"
		tx.State.Secrets = nil
		return boom
	})
	if err != boom {
		t.Errorf("error = %v, want fn's own", err)
	}
	after, err := os.ReadFile(filepath.Join(cfg.Dir, "vault.aiv"))
	must(t, err)
	if string(before) != string(after) || len(events(t, v)) != logged {
		t.Error("something was written")
	}
	if s := mustSnapshot(t, v).Secret("one"); s == nil || s.Name != "N-one" || s.Aliases[0] != "A" {
		t.Errorf("the snapshot was edited: %+v", s)
	}
}

func TestTx(t *testing.T) {
	t.Parallel()
	v, _ := fileVault(t)
	clock := time.UnixMilli(1_700_000_000_123)
	v.cfg.Clock = func() time.Time { return clock }
	put(t, v, "one", "value")
	var id string
	_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretUpdated}, func(tx *Tx) error {
		if tx.Now() != clock.UnixMilli() {
			t.Errorf("now = %d", tx.Now())
		}
		id = tx.NewID()
		tx.Record.Object = id
		return tx.Reseal(&tx.State.Secrets[0], func(s *Secret) { s.Scope, s.Pin, s.PinTenant = "workspace:w", "stripe", "t" })
	})
	must(t, err)
	wantValue(t, v, "one", "value")
	if s := mustSnapshot(t, v).Secret("one"); s.Pin != "stripe" || s.ScopeOf().Workspace != "w" {
		t.Errorf("secret = %+v", s)
	}
	if !validID(id) {
		t.Errorf("id = %q", id)
	}
	for _, size := range []int{0, secret.MaxSize + 1} {
		_, err := tryPut(t.Context(), v, "size", strings.Repeat("x", size))
		wantCode(t, err, api.InvalidRequest)
	}
	put(t, v, "largest", strings.Repeat("x", secret.MaxSize))
}

// What binds a value to its place is not to be edited around the seal.
func TestChangedContextWithoutSealIsRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(st *State){
		"scope":   func(st *State) { st.Secrets[0].Scope = "workspace:w" },
		"pin":     func(st *State) { st.Secrets[0].Pin = "github" },
		"tenant":  func(st *State) { st.Secrets[0].PinTenant = "x" },
		"version": func(st *State) { st.Secrets[0].Version++ },
		"id":      func(st *State) { st.Secrets[0].ID = "other" },
		"swap": func(st *State) {
			a, b := &st.Secrets[0], &st.Secrets[1]
			a.DEK, a.Value, b.DEK, b.Value = b.DEK, b.Value, a.DEK, a.Value
		},
		"unsealed":  func(st *State) { st.Secrets = append(st.Secrets, Secret{ID: "new", Scope: "global"}) },
		"twice":     func(st *State) { st.Secrets = append(st.Secrets, st.Secrets[0]) },
		"bad scope": func(st *State) { st.Secrets[0].Scope = "galaxy" },
		"credential scope": func(st *State) {
			st.Credentials = append(st.Credentials, Credential{ID: "c", Scope: "x"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := fileVault(t)
			put(t, v, "one", "1")
			put(t, v, "two", "2")
			logged := len(events(t, v))
			_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretUpdated}, func(tx *Tx) error {
				edit(tx.State)
				return nil
			})
			wantCode(t, err, api.Internal)
			if len(events(t, v)) != logged {
				t.Error("it was recorded")
			}
			wantValue(t, v, "one", "1")
			wantValue(t, v, "two", "2")
		})
	}
}

func TestSnapshotIsCachedAndFollowsOthers(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	a, b := mustSnapshot(t, v), mustSnapshot(t, v)
	if a != b {
		t.Error("an unchanged vault was read again")
	}
	other := open(t, cfg)
	put(t, other, "two", "2")
	wantValue(t, v, "two", "2")
	if a.Secret("two") != nil {
		t.Error("an old snapshot changed")
	}
	if got, err := a.Open("one"); err != nil || string(got.Expose()) != "1" {
		t.Errorf("an old snapshot no longer opens: %v", err)
	}
}

func TestClosedVaultOpensNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := New(cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	s := put(t, v, "one", "1")
	must(t, v.Close())
	_, err := s.Open("one")
	wantCode(t, err, api.VaultLocked)
	_, err = v.Snapshot(t.Context())
	wantCode(t, err, api.VaultLocked)
}

func wantToken(t testing.TB, s *Snapshot, key string, want map[string]string) {
	t.Helper()
	fields, err := s.OpenToken(key)
	must(t, err)
	defer wipeFields(fields)
	if len(fields) != len(want) {
		t.Errorf("token %s has %d fields, want %d", key, len(fields), len(want))
	}
	for name, v := range want {
		if string(fields[name].Expose()) != v {
			t.Errorf("token %s: %s = %q, want %q", key, name, fields[name].Expose(), v)
		}
	}
}
