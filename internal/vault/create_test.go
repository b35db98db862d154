package vault

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

// tree is every file below dir with its content.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(path, "lock") {
			b, e := os.ReadFile(path)
			out[path], err = string(b), e
		}
		return err
	}))
	return out
}

func wantUnchanged(t testing.TB, dir string, before map[string]string) {
	t.Helper()
	after := tree(t, dir)
	for path := range after {
		if before[path] != after[path] {
			t.Errorf("%s was made or changed", path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			t.Errorf("%s was removed", path)
		}
	}
}

func TestInitReplacesWhatNeverHeldASecret(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	first := mustSnapshot(t, v)
	other := open(t, cfg)
	mustSnapshot(t, other)
	must(t, v.Init(t.Context(), who, passRequest("p")))
	s := mustSnapshot(t, v)
	if s.header.ID != first.header.ID || s.Generation() != 2 || s.State().AuditKey != first.State().AuditKey {
		t.Errorf("replaced by %+v", s.header)
	}
	if exists(cfg.DefaultKeyFile) {
		t.Error("the key file of the vault before is left")
	}
	wantLocked(t, other)
	// And again, though this process cannot open it.
	blind := open(t, cfg)
	must(t, blind.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, blind, "one", "1")
	wantValue(t, open(t, cfg), "one", "1")
	wantValue(t, v, "one", "1")
	// Also a locked one.
	v2, cfg2 := fileVault(t)
	must(t, v2.Lock(t.Context(), who))
	must(t, v2.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	wantValue(t, open(t, cfg), "one", "1")
	mustSnapshot(t, open(t, cfg2))
}

func TestInitNeverReplacesAVaultWithSecrets(t *testing.T) {
	t.Parallel()
	old := func(t *testing.T, cfg Config) string { return filepath.Join(cfg.Dir, "vault.aiv") }
	for name, prepare := range map[string]func(t *testing.T, v *Vault, cfg Config){
		"holds one": func(*testing.T, *Vault, Config) {},
		"held one": func(t *testing.T, v *Vault, _ Config) {
			_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretDeleted}, func(tx *Tx) error {
				tx.State.Secrets = nil
				return nil
			})
			must(t, err)
		},
		"locked": func(t *testing.T, v *Vault, _ Config) { must(t, v.Lock(t.Context(), who)) },
		"flipped bit of used": func(t *testing.T, _ *Vault, cfg Config) {
			b, err := os.ReadFile(old(t, cfg))
			must(t, err)
			must(t, os.WriteFile(old(t, cfg), []byte(strings.Replace(string(b), `"used":true`, `"used":false`, 1)), 0o600))
		},
		"damaged header": func(t *testing.T, _ *Vault, cfg Config) {
			must(t, os.WriteFile(old(t, cfg), []byte("{}"), 0o600))
		},
		"empty file": func(t *testing.T, _ *Vault, cfg Config) {
			must(t, os.WriteFile(old(t, cfg), nil, 0o600))
		},
		"no log": func(t *testing.T, _ *Vault, cfg Config) {
			must(t, os.RemoveAll(filepath.Join(cfg.Dir, "audit")))
		},
		"no key": func(t *testing.T, _ *Vault, cfg Config) { must(t, os.Remove(cfg.DefaultKeyFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			v, cfg := fileVault(t)
			put(t, v, "one", "1")
			prepare(t, v, cfg)
			must(t, v.Close())
			root := filepath.Dir(cfg.Dir)
			before := tree(t, root)
			again := open(t, cfg)
			for _, r := range []keysource.Request{{Provider: keysource.File}, passRequest("p")} {
				wantCode(t, again.Init(t.Context(), who, r), api.AlreadyExists, cfg.Dir)
			}
			must(t, again.Ensure(t.Context(), who, passRequest("p")))
			wantUnchanged(t, root, before)
		})
	}
}

func TestInitRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]keysource.Request{
		"empty passphrase": {Provider: keysource.Passphrase},
		"no variable":      {Provider: keysource.Env},
		"bad key":          envRequest("abc"),
		"no provider":      {},
	} {
		cfg := testConfig(t)
		v := open(t, cfg)
		wantCode(t, v.Init(t.Context(), who, r), api.InvalidRequest)
		if len(tree(t, filepath.Dir(cfg.Dir))) != 0 {
			t.Errorf("%s left %v", name, tree(t, filepath.Dir(cfg.Dir)))
		}
		must(t, v.CanCreate())
	}
}

func TestInitBesideAnotherVaultsKeyFile(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	second := cfg
	second.Dir = filepath.Join(filepath.Dir(cfg.Dir), "second")
	before := tree(t, filepath.Dir(cfg.DefaultKeyFile))
	v2 := open(t, second)
	err := v2.Init(t.Context(), who, keysource.Request{Provider: keysource.File})
	wantCode(t, err, api.AlreadyExists, cfg.DefaultKeyFile, v.seen.header.ID, "--file-path")
	must(t, os.WriteFile(cfg.DefaultKeyFile, []byte("not a key file"), 0o600))
	err = v2.Init(t.Context(), who, keysource.Request{Provider: keysource.File})
	wantCode(t, err, api.VaultUnavailable, cfg.DefaultKeyFile, "--file-path")
	must(t, os.WriteFile(cfg.DefaultKeyFile, []byte(before[cfg.DefaultKeyFile]), 0o600))
	must(t, v2.CanCreate()) // the failed attempts left nothing in the way
	must(t, v2.Init(t.Context(), who, keysource.Request{Provider: keysource.File, Path: filepath.Join(second.Dir, "kek.key")}))
	must(t, v2.Rotate(t.Context(), who, passRequest("p")))
	wantUnchanged(t, filepath.Dir(cfg.DefaultKeyFile), before)
	wantValue(t, open(t, cfg), "one", "1")
}

func TestCanCreate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string // "" when a vault may be made
	}{
		"missing": {func(t *testing.T, dir string) { must(t, os.Remove(dir)) }, ""},
		"empty":   {func(*testing.T, string) {}, ""},
		"our own entries": {func(t *testing.T, dir string) {
			touch(t, dir, "vault.lock", ".vault.aiv.tmp-ABC234", "daemon.lock", "limits", "limits.lock", "limits.next", ".limits.tmp-ABC234")
		}, ""},
		"foreign":         {func(t *testing.T, dir string) { touch(t, dir, "vault.db") }, "vault.db"},
		"foreign aside":   {func(t *testing.T, dir string) { touch(t, dir, "vault.db.aside") }, "vault.db.aside"},
		"foreign old log": {func(t *testing.T, dir string) { touch(t, dir, movedLogName+"mine") }, movedLogName},
		"foreign temp":    {func(t *testing.T, dir string) { touch(t, dir, ".x.tmp-ABC") }, ".x.tmp-ABC"},
		"lost vault": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "audit"), 0o700))
		}, "vault.aiv is missing"},
		"open to others": {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) }, "chmod 700 "},
		"a forged mark": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "audit"), 0o700))
			touch(t, dir, creatingName)
		}, "vault.aiv is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			must(t, os.MkdirAll(cfg.Dir, 0o700))
			c.prepare(t, cfg.Dir)
			v := open(t, cfg)
			before := tree(t, filepath.Dir(cfg.Dir))
			err := v.CanCreate()
			if c.want == "" {
				must(t, err)
				must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
				return
			}
			wantCode(t, err, api.VaultUnavailable, cfg.Dir, c.want)
			wantCode(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}), api.VaultUnavailable, c.want)
			wantUnchanged(t, filepath.Dir(cfg.Dir), before)
		})
	}
}

func touch(t *testing.T, dir string, names ...string) {
	for _, n := range names {
		must(t, os.WriteFile(filepath.Join(dir, n), nil, 0o600))
	}
}

func TestDeletedVaultIsNotReplaced(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	s := mustSnapshot(t, v)
	must(t, os.Remove(filepath.Join(cfg.Dir, "vault.aiv")))
	// Not even with the mark of a creation, which anyone could have put back.
	must(t, os.WriteFile(v.path(creatingName), []byte(s.header.ID+"\n"), 0o600))
	before := tree(t, filepath.Dir(cfg.Dir))
	for _, x := range []*Vault{v, open(t, cfg)} {
		_, err := x.Snapshot(t.Context())
		wantCode(t, err, api.VaultUnavailable, cfg.Dir, "missing")
		wantCode(t, x.CanCreate(), api.VaultUnavailable, cfg.Dir)
		wantCode(t, x.Init(t.Context(), who, passRequest("p")), api.VaultUnavailable, cfg.Dir)
		wantCode(t, x.Ensure(t.Context(), who, passRequest("p")), api.VaultUnavailable, cfg.Dir)
		_, err = tryPut(t.Context(), x, "two", "2")
		wantCode(t, err, api.VaultUnavailable)
		if st := x.Status(t.Context()); st.State != Broken {
			t.Errorf("status = %+v", st)
		}
	}
	if _, err := s.Open("one"); err == nil {
		t.Error("a snapshot of a vault that is gone still opens values")
	}
	wantUnchanged(t, filepath.Dir(cfg.Dir), before)
}

// What is left of a vault that was lost, and what was put aside there, keeps
// neither a backup of it nor another vault out.
func TestWhatIsLeftOfALostVaultIsNotInTheWay(t *testing.T) {
	t.Parallel()
	v, cfg := full(t)
	lock, err := v.LockToken(t.Context(), tokenKey(1))
	must(t, err)
	lock.Release()
	backup := backUp(t, v, "")
	must(t, v.Close())
	log := v.logDir()
	must(t, os.CopyFS(v.path(movedLogName+"20260102T030405Z"), os.DirFS(log)))
	must(t, os.CopyFS(v.path(movedLogName+"20260102T030405Z-2"), os.DirFS(log)))
	for _, name := range []string{restoringName, "audit", callsName} {
		touch(t, cfg.Dir, name+".aside", name+".aside-2")
	}
	must(t, os.Remove(v.path("vault.aiv")))
	_, err = open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "vault.aiv is missing")
	_, hint, ok := strings.Cut(api.AsError(err).Hint, "to begin another vault: ")
	if !ok {
		t.Fatalf("hint %q", api.AsError(err).Hint)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-euc", hint).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v %s", hint, err, out)
	}
	if exists(log) || !exists(log+".aside-3") {
		t.Errorf("%q: the log is not where it says", hint)
	}
	before := tree(t, cfg.Dir)
	lost := filepath.Join(t.TempDir(), "vault")
	copyVault(t, cfg.Dir, lost)

	must(t, open(t, cfg).Init(t.Context(), who, passRequest("p")))
	second := cfg
	second.Dir = lost
	x := open(t, second)
	restore(t, x, backup, 0, keysource.Material{})
	wantValue(t, x, "one", "value-one")
	for path, content := range before {
		if strings.Contains(path, ".aside") || strings.Contains(path, movedLogName) {
			if now := tree(t, cfg.Dir)[path]; now != content {
				t.Errorf("%s was touched", path)
			}
		}
	}
}

// A crash at each step of making a vault leaves what the next attempt takes
// up without a question.
func TestInitAfterACrashAtEachStep(t *testing.T) {
	t.Parallel()
	steps := map[string]func(t *testing.T, v *Vault, id string){
		"marked": func(*testing.T, *Vault, string) {},
		"key stored": func(t *testing.T, v *Vault, id string) {
			_, err := keysource.Prepare(t.Context(), v.keyConfig(id), keysource.Request{Provider: keysource.File})
			must(t, err)
		},
		"log directory": func(t *testing.T, v *Vault, id string) { must(t, os.Mkdir(v.logDir(), 0o700)) },
		"log": func(t *testing.T, v *Vault, id string) {
			_, err := v.createLog(id)
			must(t, err)
		},
		"recorded": func(t *testing.T, v *Vault, id string) {
			log, err := v.createLog(id)
			must(t, err)
			for range 2 { // two attempts that crashed here
				_, err = log.AppendSync(t.Context(), audit.Record{Event: audit.VaultCreated, Caller: who, Object: id, Generation: 1})
				must(t, err)
			}
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			v := open(t, cfg)
			must(t, durable.MkdirAll(cfg.Dir))
			id, err := newID(v.cfg.Rand)
			must(t, err)
			must(t, durable.WriteFile(v.path(creatingName), []byte(id+"\n")))
			step(t, v, id)
			if name == "recorded" {
				steps["key stored"](t, v, id)
				must(t, durable.WriteFile(v.path(".vault.aiv.tmp-ABCDEF234567"), []byte("half a vault")))
			}
			again := open(t, cfg)
			if st := again.Status(t.Context()); st.State != None {
				t.Errorf("status = %+v", st)
			}
			must(t, again.CanCreate())
			must(t, again.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
			put(t, again, "one", "1")
			fresh := open(t, cfg)
			wantValue(t, fresh, "one", "1")
			if got := mustSnapshot(t, fresh).header.ID; got != id {
				t.Errorf("the vault's id is %s, the mark said %s", got, id)
			}
			for _, left := range []string{creatingName, ".vault.aiv.tmp-ABCDEF234567"} {
				if exists(v.path(left)) {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}

func TestEnsureByMany(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	var wg sync.WaitGroup
	for i := range 8 {
		v := open(t, cfg)
		wg.Go(func() {
			if err := v.Ensure(t.Context(), who, keysource.Request{Provider: keysource.File}); err != nil {
				t.Error(err)
				return
			}
			if _, err := tryPut(t.Context(), v, string(rune('a'+i)), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(mustSnapshot(t, open(t, cfg)).State().Secrets); n != 8 {
		t.Errorf("%d secrets, want 8", n)
	}
}

func TestUnsafePermissionsAreNamed(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]func(cfg Config) string{
		"directory": func(cfg Config) string { return cfg.Dir },
		"vault":     func(cfg Config) string { return filepath.Join(cfg.Dir, "vault.aiv") },
		"key":       func(cfg Config) string { return cfg.DefaultKeyFile },
		"log":       func(cfg Config) string { return filepath.Join(cfg.Dir, "audit") },
	} {
		t.Run(name, func(t *testing.T) {
			v, cfg := fileVault(t)
			put(t, v, "one", "1")
			p := path(cfg)
			info, err := os.Stat(p)
			must(t, err)
			must(t, os.Chmod(p, info.Mode().Perm()|0o044))
			_, err = open(t, cfg).Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, cfg.Dir, p, "chmod ")
			must(t, os.Chmod(p, info.Mode().Perm()))
			wantValue(t, open(t, cfg), "one", "1")
		})
	}
}

func TestDevAndReleaseVaults(t *testing.T) {
	t.Parallel()
	for _, dev := range []bool{false, true} {
		cfg := testConfig(t)
		cfg.Dev = dev
		v := open(t, cfg)
		must(t, v.Init(t.Context(), who, passRequest("p")))
		cfg.Dev = !dev
		other := open(t, cfg)
		want := map[bool]string{true: "development build", false: "release build"}[dev]
		for range 2 {
			_, err := other.Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, cfg.Dir, want)
		}
		_, err := other.Unlock(t.Context(), who, pass("p"), 0)
		wantCode(t, err, api.VaultUnavailable, want)
		wantCode(t, other.Init(t.Context(), who, passRequest("p")), api.AlreadyExists)
	}
}

func TestErrorsStayReachable(t *testing.T) {
	t.Parallel()
	v := open(t, testConfig(t))
	_, err := v.Snapshot(t.Context())
	if !errors.Is(err, errNoDocument) {
		t.Errorf("error = %v", err)
	}
}

// The header's own word counts, too: a secret may come by a change that the
// log has another name for.
func TestInitBelievesTheHeaderToo(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	_, err := v.Update(t.Context(), audit.Record{Event: "vault.restored"}, func(tx *Tx) error {
		s := Secret{ID: "one", Scope: "global", Version: 1}
		err := tx.Seal(&s, secret.FromString("1"))
		tx.State.Secrets = append(tx.State.Secrets, s)
		return err
	})
	must(t, err)
	wantCode(t, open(t, cfg).Init(t.Context(), who, passRequest("p")), api.AlreadyExists)
	wantValue(t, open(t, cfg), "one", "1")
}

// Whatever event a first secret came with, the log tells of it, though the
// header no longer does.
func TestInitBelievesTheLogOfEveryFirstSecret(t *testing.T) {
	t.Parallel()
	for _, event := range []string{audit.SecretCreated, audit.SecretsImported, audit.LoginFinished, audit.VaultRestored} {
		v, cfg := fileVault(t)
		_, err := v.Update(t.Context(), audit.Record{Event: event}, func(tx *Tx) error {
			s := Secret{ID: "one", Scope: "global", Version: 1}
			err := tx.Seal(&s, secret.FromString("1"))
			tx.State.Secrets = append(tx.State.Secrets, s)
			return err
		})
		must(t, err)
		must(t, v.Close())
		path := filepath.Join(cfg.Dir, "vault.aiv")
		flipped := strings.Replace(string(read(t, path)), `"used":true`, `"used":false`, 1)
		write(t, path, []byte(flipped))
		wantCode(t, open(t, cfg).Init(t.Context(), who, passRequest("p")), api.AlreadyExists, "its audit log says")
		if string(read(t, path)) != flipped {
			t.Errorf("%s: the vault was replaced", event)
		}
	}
}

// What could not be written is told as one sentence, whichever way it failed.
func TestUnavailableReadsAsASentence(t *testing.T) {
	v := &Vault{cfg: Config{Dir: "/v"}}
	for _, err := range []error{&fs.PathError{Op: "open", Path: "/v/x", Err: fs.ErrPermission}, fs.ErrPermission} {
		got := v.unavailable("vault.aiv is not written:", err)
		if strings.Contains(got.Message, "::") || !strings.HasPrefix(got.Message, "vault /v: vault.aiv is not written: ") {
			t.Errorf("%q", got.Message)
		}
	}
}

// Below a directory that everyone can change, another user could rename the
// vault away and put one of their own there.
func TestAVaultThatOthersCouldReplaceIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	above := filepath.Dir(cfg.Dir)
	mode := func(m os.FileMode) { must(t, os.Chmod(above, m)) }
	mode(0o777)
	wantRefused := func(err error) {
		t.Helper()
		wantCode(t, err, api.VaultUnavailable, above, "everyone", "o-w "+above)
	}
	v := open(t, cfg)
	wantRefused(v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	if exists(cfg.Dir) {
		t.Error("a directory was made for it")
	}
	_, err := v.Snapshot(t.Context())
	wantRefused(err)
	mode(0o777 | os.ModeSticky)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "value")
	mode(0o777)
	other := open(t, cfg)
	_, err = other.Snapshot(t.Context())
	wantRefused(err)
	_, err = tryPut(t.Context(), other, "two", "value")
	wantRefused(err)
	if st := other.Status(t.Context()); st.State != Broken {
		t.Errorf("status %s", st.State)
	}
	mode(0o755)
	wantValue(t, other, "one", "value")
}
