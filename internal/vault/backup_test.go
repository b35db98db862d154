package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

var operatorAsked = audit.Record{RequestID: "R1", Caller: who}

// backUp is a backup of v; with a passphrase, one that stands alone.
func backUp(t testing.TB, v *Vault, passphrase string) []byte {
	t.Helper()
	b, err := v.Backup(t.Context(), operatorAsked, secret.FromString(passphrase))
	must(t, err)
	defer b.Close()
	var out bytes.Buffer
	must(t, b.Write(t.Context(), &out))
	return out.Bytes()
}

func restore(t testing.TB, v *Vault, backup []byte, accept uint64, m keysource.Material) Restored {
	t.Helper()
	r, err := v.Restore(t.Context(), operatorAsked, bytes.NewReader(backup), accept, m)
	must(t, err)
	return r
}

func tryRestore(t testing.TB, v *Vault, backup []byte, accept uint64, m keysource.Material) error {
	t.Helper()
	_, err := v.Restore(t.Context(), operatorAsked, bytes.NewReader(backup), accept, m)
	return err
}

// elsewhere is another machine: a directory of its own, with the key files of
// cfg.
func elsewhere(t testing.TB, cfg Config) Config {
	t.Helper()
	other := testConfig(t)
	if b, err := os.ReadFile(cfg.DefaultKeyFile); err == nil {
		must(t, os.MkdirAll(filepath.Dir(other.DefaultKeyFile), 0o700))
		write(t, other.DefaultKeyFile, b)
	}
	return other
}

// wantWhole checks that a vault opens anew, log and all, by m.
func wantWhole(t testing.TB, cfg Config, m keysource.Material) *Vault {
	t.Helper()
	x := open(t, cfg)
	if _, err := x.Snapshot(t.Context()); err != nil {
		if _, e := x.Unlock(t.Context(), who, m, 0); e != nil {
			t.Fatalf("%v; %v", err, e)
		}
	}
	s := mustSnapshot(t, x)
	if !s.confirmed {
		t.Error("the document is not confirmed")
	}
	log, err := x.Audit(t.Context())
	must(t, err)
	_, err = log.Walk(audit.Head{}, nil)
	must(t, err)
	for _, name := range []string{stagingName, restoringName} {
		if exists(x.path(name)) {
			t.Errorf("%s is left", name)
		}
	}
	return x
}

// full is a vault that has one of everything.
func full(t testing.TB) (*Vault, Config) {
	t.Helper()
	v, cfg := fileVault(t)
	put(t, v, "one", "value-one")
	vectorState(t, v)
	return v, cfg
}

// contents is what a state says, without what each sealing changes.
func contents(t testing.TB, v *Vault) (*State, map[string]string) {
	t.Helper()
	s := mustSnapshot(t, v)
	st := s.state.clone()
	st.AuditHead = audit.Head{}
	values := map[string]string{}
	for i := range st.Secrets {
		value, err := s.Open(st.Secrets[i].ID)
		must(t, err)
		values[st.Secrets[i].ID] = string(value.Expose())
		st.Secrets[i].DEK = ""
	}
	for i := range st.Tokens {
		plain, err := s.keys.open(sealingOfToken(s.header.ID, &st.Tokens[i]), st.Tokens[i].DEK, st.Tokens[i].Value)
		must(t, err)
		values[st.Tokens[i].Key] = string(plain)
		st.Tokens[i].DEK = ""
	}
	return st, values
}

func wantSame(t testing.TB, a, b *Vault) {
	t.Helper()
	sa, va := contents(t, a)
	sb, vb := contents(t, b)
	if d := cmp.Diff(sa, sb) + cmp.Diff(va, vb); d != "" {
		t.Errorf("the states differ:\n%s", d)
	}
}

// Everything survives: with the key file, and with a passphrase of its own.
func TestRestoreElsewhere(t *testing.T) {
	t.Parallel()
	v, cfg := full(t)
	for _, phrase := range []string{"", "a passphrase"} {
		backup := backUp(t, v, phrase)
		other := elsewhere(t, cfg)
		if phrase != "" {
			other = testConfig(t) // nothing but the backup
		}
		x := open(t, other)
		if phrase != "" {
			wantCode(t, tryRestore(t, x, backup, 0, keysource.Material{}), api.VaultLocked, "passphrase")
			wantCode(t, tryRestore(t, x, backup, 0, pass("wrong")), api.VaultLocked, "wrong passphrase")
			if exists(other.Dir) {
				t.Error("a refused restore made the directory")
			}
		}
		out := restore(t, x, backup, 0, pass(phrase))
		if want := (Restored{From: mustSnapshot(t, v).Generation(), Reset: true, Alone: phrase != ""}); out != want {
			t.Errorf("restored %+v, want %+v", out, want)
		}
		wantSame(t, v, x)
		y := wantWhole(t, other, pass(phrase))
		wantSame(t, v, y)
		if got := events(t, y); !slices.Contains(got, audit.BackupMade) || !slices.Contains(got, audit.VaultRestored) {
			t.Errorf("log = %v", got)
		}
		put(t, y, "after", "1")
		must(t, y.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File, Path: filepath.Join(other.Dir, "kek.key")}))
		wantWhole(t, other, keysource.Material{})
	}
}

// A backup of any key provider opens by what the vault opened by.
func TestRestoreOfEachProvider(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]keysource.Request{
		"file": {Provider: keysource.File}, "passphrase": passRequest("p"), "env": envRequest(envKey),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			v := open(t, cfg)
			must(t, v.Init(t.Context(), who, r))
			put(t, v, "one", "1")
			backup := backUp(t, v, "")
			x := open(t, testConfig(t))
			err := tryRestore(t, x, backup, 0, keysource.Material{})
			switch name {
			case "file":
				wantCode(t, err, api.VaultUnavailable, "key file", "missing")
			default:
				wantCode(t, err, api.VaultLocked)
			}
			if exists(x.cfg.Dir) {
				t.Error("a refused restore made the directory")
			}
			m := keysource.Material{Passphrase: pass("p").Passphrase, EnvKey: envMaterial(envKey).EnvKey}
			other := elsewhere(t, cfg)
			y := open(t, other)
			restore(t, y, backup, 0, m)
			wantValue(t, y, "one", "1")
			wantValue(t, wantWhole(t, other, m), "one", "1")
		})
	}
}

func TestNoBackupOfALockedVault(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	must(t, v.Lock(t.Context(), who))
	_, err := v.Backup(t.Context(), operatorAsked, secret.Value{})
	wantCode(t, err, api.VaultLocked)
	_, err = open(t, testConfig(t)).Backup(t.Context(), operatorAsked, secret.Value{})
	wantCode(t, err, api.VaultUnavailable, "no vault")
	// What is locked stays locked, also when a backup takes its place.
	_, err = v.Unlock(t.Context(), who, keysource.Material{}, 0)
	must(t, err)
	put(t, v, "one", "1")
	old := backUp(t, v, "")
	put(t, v, "two", "2")
	must(t, v.Lock(t.Context(), who))
	restore(t, v, old, 2, keysource.Material{})
	if v.keys != nil {
		t.Error("a locked vault holds keys")
	}
	_, err = v.Snapshot(t.Context())
	wantCode(t, err, api.VaultLocked)
	_, err = v.Unlock(t.Context(), who, keysource.Material{}, 0)
	must(t, err)
	wantValue(t, wantWhole(t, cfg, keysource.Material{}), "one", "1")
}

// An older backup is refused with what would be lost, and accepted as the next
// generation.
func TestRestoreOlder(t *testing.T) {
	t.Parallel()
	for _, phrase := range []string{"", "a passphrase"} {
		v, cfg := full(t)
		before := mustSnapshot(t, v).Generation()
		backup := backUp(t, v, phrase)
		m := pass(phrase)
		// The newest of all: nothing to do, or nothing to accept.
		if out := restore(t, v, backup, 0, m); phrase == "" && (out.Reset || out.Notice == "") {
			t.Errorf("restored %+v", out)
		}
		st, values := contents(t, v)
		newest := read(t, v.path("vault.aiv"))
		put(t, v, "two", "2")
		put(t, v, "three", "3")
		last := mustSnapshot(t, v).Generation()
		newer := read(t, v.path("vault.aiv"))
		err := tryRestore(t, v, backup, 0, m)
		wantCode(t, err, api.AlreadyExists, "generation "+strconv.FormatUint(before, 10), `"N-two", "N-three"`, "changes since would be lost",
			fmt.Sprintf("aivault restore FILE --accept %d", before))
		wantCode(t, tryRestore(t, v, backup, before+1, m), api.InvalidRequest, "nothing was accepted")
		if !bytes.Equal(read(t, v.path("vault.aiv")), newer) {
			t.Fatal("a refused restore changed the vault")
		}
		out := restore(t, v, backup, before, m)
		if want := (Restored{From: before, Reset: true, Alone: phrase != ""}); out != want {
			t.Errorf("restored %+v, want %+v", out, want)
		}
		x := wantWhole(t, cfg, m)
		st2, values2 := contents(t, x)
		if d := cmp.Diff(st, st2) + cmp.Diff(values, values2); d != "" {
			t.Errorf("restored another state:\n%s", d)
		}
		if got := mustSnapshot(t, x).Generation(); got != last+1 {
			t.Errorf("generation %d, want %d", got, last+1)
		}
		// The log knows all of it, and every older copy is detected.
		all := strings.TrimSuffix(strings.Join(events(t, x), " "), " "+audit.VaultUnlocked)
		if n := strings.Count(all, audit.SecretCreated); n < 3 || !strings.HasSuffix(all, "vault.restored vault.committed") {
			t.Errorf("log = %s", all)
		}
		for _, old := range [][]byte{newest, newer} {
			good := read(t, x.path("vault.aiv"))
			write(t, x.path("vault.aiv"), old)
			_, err := open(t, cfg).Snapshot(t.Context())
			if phrase == "" || bytes.Equal(old, newer) && err == nil {
				wantCode(t, err, api.VaultUnavailable, "older")
			}
			write(t, x.path("vault.aiv"), good)
		}
		put(t, wantWhole(t, cfg, m), "four", "4")
	}
}

// The same vault without its document, or with a damaged one: the last backup
// is what was lost.
func TestRestoreLostDocument(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"removed": os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte("rubbish\nrubbish"), 0o600) },
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			b[len(b)-1] ^= 1
			return errors.Join(err, os.WriteFile(path, b, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := full(t)
			old := backUp(t, v, "")
			put(t, v, "two", "2")
			backup := backUp(t, v, "")
			must(t, v.Close())
			must(t, harm(v.path("vault.aiv")))
			x := open(t, cfg)
			_, err := x.Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable)
			wantCode(t, tryRestore(t, x, old, 0, keysource.Material{}), api.AlreadyExists, `two"`)
			restore(t, x, backup, 0, keysource.Material{})
			wantValue(t, wantWhole(t, cfg, keysource.Material{}), "two", "2")
			// And the older one is taken where that is what a person wants.
			must(t, x.Close())
			must(t, harm(x.path("vault.aiv")))
			y := open(t, cfg)
			restore(t, y, old, infoOfBackup(t, old).Generation, keysource.Material{})
			if s := mustSnapshot(t, wantWhole(t, cfg, keysource.Material{})); s.Secret("two") != nil {
				t.Error("the newer state is there")
			}
		})
	}
}

func infoOfBackup(t testing.TB, backup []byte) BackupInfo {
	t.Helper()
	line, rest, _ := bytes.Cut(backup, []byte("\n"))
	b, err := parseBackupHeader(line)
	must(t, err)
	second, _, _ := bytes.Cut(rest, []byte("\n"))
	h, err := parseHeader(second)
	must(t, err)
	return infoOf(b, h)
}

// Another vault is never replaced, nor is what is no vault at all.
func TestRestoreOverAnother(t *testing.T) {
	t.Parallel()
	v, _ := full(t)
	backup := backUp(t, v, "p")
	g := infoOfBackup(t, backup).Generation
	other, otherCfg := fileVault(t)
	put(t, other, "mine", "1")
	for _, accept := range []uint64{0, g} {
		wantCode(t, tryRestore(t, other, backup, accept, pass("p")), api.AlreadyExists, "another vault", "move "+otherCfg.Dir)
	}
	wantValue(t, other, "mine", "1")
	// Its log alone is not ours either.
	must(t, other.Close())
	must(t, os.Remove(other.path("vault.aiv")))
	for _, accept := range []uint64{0, g} {
		if err := tryRestore(t, open(t, otherCfg), backup, accept, pass("p")); err == nil {
			t.Error("the log of another vault was replaced")
		}
	}
	write(t, other.path("vault.aiv"), []byte("rubbish"))
	for _, accept := range []uint64{0, g} {
		wantCode(t, tryRestore(t, open(t, otherCfg), backup, accept, pass("p")), api.AlreadyExists, "another vault")
	}
	foreign := testConfig(t)
	must(t, os.MkdirAll(foreign.Dir, 0o700))
	write(t, filepath.Join(foreign.Dir, "photo.jpg"), nil)
	wantCode(t, tryRestore(t, open(t, foreign), backup, 0, pass("p")), api.VaultUnavailable, "not aivault's")
	// Where its key file is another vault's, that is said first.
	x := elsewhere(t, otherCfg)
	wantCode(t, tryRestore(t, open(t, x), backUp(t, v, ""), 0, keysource.Material{}), api.VaultUnavailable, "belongs to another vault")
}

// The pair of document and log that is in place is an older one: the backup
// goes on from it, and nothing is lost.
func TestRestoreOverAnOlderPair(t *testing.T) {
	t.Parallel()
	v, cfg := full(t)
	pair := t.TempDir()
	copyVault(t, cfg.Dir, filepath.Join(pair, "vault"))
	put(t, v, "two", "2")
	backup := backUp(t, v, "")
	old := cfg
	old.Dir = filepath.Join(pair, "vault")
	x := open(t, old)
	out := restore(t, x, backup, 0, keysource.Material{})
	if !strings.HasPrefix(out.MovedLog, movedLogName) || !exists(x.path(out.MovedLog)) {
		t.Errorf("the log was moved to %q", out.MovedLog)
	}
	wantSame(t, v, wantWhole(t, old, keysource.Material{}))
}

func copyVault(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
	must(t, filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

// A log that is missing, broken or another: the backup's takes its place, when
// that is accepted.
func TestRestoreWithALogThatDoesNotHelp(t *testing.T) {
	t.Parallel()
	for name, harm := range logHarms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := full(t)
			backup := backUp(t, v, "")
			g := infoOfBackup(t, backup).Generation
			put(t, v, "two", "2")
			last := mustSnapshot(t, v).Generation()
			must(t, v.Close())
			harm(t, v.logDir())
			x := open(t, cfg)
			wantCode(t, tryRestore(t, x, backup, 0, keysource.Material{}), api.AlreadyExists, fmt.Sprintf("aivault restore FILE --accept %d", g))
			out := restore(t, x, backup, g, keysource.Material{})
			if (out.MovedLog == "") != (name == "missing") || out.MovedLog != "" && !exists(x.path(out.MovedLog)) {
				t.Errorf("the log was moved to %q", out.MovedLog)
			}
			y := wantWhole(t, cfg, keysource.Material{})
			s := mustSnapshot(t, y)
			if s.Secret("two") != nil || s.Generation() <= g || name != "missing" && s.Generation() <= last && s.Generation() != g+1 {
				t.Errorf("generation %d after %d and %d", s.Generation(), g, last)
			}
			wantValue(t, y, "one", "value-one")
		})
	}
}

func logHarms() map[string]func(t testing.TB, dir string) {
	edit := func(fn func([]byte) []byte) func(t testing.TB, dir string) {
		return func(t testing.TB, dir string) {
			path := filepath.Join(dir, "00000001.jsonl")
			write(t, path, fn(read(t, path)))
		}
	}
	return map[string]func(t testing.TB, dir string){
		"missing": func(t testing.TB, dir string) { must(t, os.RemoveAll(dir)) },
		"flipped": edit(func(b []byte) []byte {
			i := bytes.LastIndex(b, []byte(`"operator":true`))
			return bytes.Join([][]byte{b[:i], b[i+len(`"operator":true`):]}, []byte(`"operator":fals`))
		}),
		"without a line": edit(func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(lines[:2:2], lines[3:]...), nil)
		}),
		"without a segment": func(t testing.TB, dir string) { must(t, os.Remove(filepath.Join(dir, "00000001.jsonl"))) },
	}
}

// A copy in place that is older than its log, or whose log is gone, is
// accepted as what it is.
func TestAcceptInPlace(t *testing.T) {
	t.Parallel()
	harms := logHarms()
	harms["older document"] = nil
	harms["cut short"] = func(t testing.TB, dir string) {
		path := filepath.Join(dir, "00000001.jsonl")
		lines := bytes.SplitAfter(read(t, path), []byte("\n"))
		write(t, path, bytes.Join(lines[:2], nil))
	}
	// Where nothing that was signed says so, it is an older log, and whole.
	harms["shorter"] = func(t testing.TB, dir string) {
		harms["cut short"](t, dir)
		must(t, os.Remove(filepath.Join(dir, "checkpoints")))
		must(t, os.Remove(filepath.Join(dir, "key.pub")))
	}
	for name, harm := range harms {
		for _, r := range []keysource.Request{{Provider: keysource.File}, passRequest("p")} {
			t.Run(name+" "+r.Provider, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(t)
				v := open(t, cfg)
				must(t, v.Init(t.Context(), who, r))
				put(t, v, "one", "1")
				g := mustSnapshot(t, v).Generation()
				old := read(t, v.path("vault.aiv"))
				last := g
				if harm == nil {
					put(t, v, "two", "2")
					last++
				}
				must(t, v.Close())
				write(t, v.path("vault.aiv"), old)
				if harm != nil {
					harm(t, v.logDir())
				}
				x := open(t, cfg)
				err := unlockAny(t.Context(), x)
				if err == nil {
					t.Fatal("the vault opens")
				}
				_, err = x.Accept(t.Context(), operatorAsked, g+1, pass("p"))
				wantCode(t, err, api.InvalidRequest, fmt.Sprintf("aivault restore --accept %d", g))
				if r.Provider == keysource.Passphrase {
					_, err = x.Accept(t.Context(), operatorAsked, g, keysource.Material{})
					wantCode(t, err, api.VaultLocked)
				}
				out, err := x.Accept(t.Context(), operatorAsked, g, pass("p"))
				must(t, err)
				kept := name == "older document" || name == "shorter"
				if out.From != g || !out.Reset || (out.MovedLog != "") == (kept || name == "missing") {
					t.Errorf("accepted %+v", out)
				}
				y := wantWhole(t, cfg, pass("p"))
				wantValue(t, y, "one", "1")
				if got := mustSnapshot(t, y).Generation(); got != last+1 {
					t.Errorf("generation %d, want %d", got, last+1)
				}
				all := events(t, y)
				if kept && all[0] != audit.VaultCreated || !kept && all[0] != audit.VaultRestored {
					t.Errorf("log = %v", all)
				}
				if !kept {
					// A vault with such a log has held who knows what, whatever its header says.
					good := read(t, y.path("vault.aiv"))
					write(t, y.path("vault.aiv"), bytes.Replace(good, []byte(`"used":true`), []byte(`"used":false`), 1))
					wantCode(t, open(t, cfg).Init(t.Context(), who, keysource.Request{Provider: keysource.File}), api.AlreadyExists, "audit log says")
					write(t, y.path("vault.aiv"), good)
					y = wantWhole(t, cfg, pass("p"))
				}
				put(t, y, "three", "3")
				out, err = y.Accept(t.Context(), operatorAsked, last+2, pass("p"))
				if err != nil || out.Reset || out.Notice == "" {
					t.Errorf("a vault that is whole: %+v, %v", out, err)
				}
			})
		}
	}
}

// A log that was changed before the line from which an opening reads it keeps
// nobody from the vault; that the vault is kept and the log begins anew is
// accepted all the same, and until then there is no backup.
func TestAcceptWithALogThatWasChangedEarly(t *testing.T) {
	t.Parallel()
	v, cfg := full(t)
	put(t, v, "two", "2")
	must(t, v.Close())
	path := filepath.Join(v.logDir(), "00000001.jsonl")
	lines := bytes.SplitAfter(read(t, path), []byte("\n"))
	lines[2] = bytes.Replace(lines[2], []byte(`"uid":1000`), []byte(`"uid":1001`), 1)
	write(t, path, bytes.Join(lines, nil))
	x := open(t, cfg)
	g := mustSnapshot(t, x).Generation()
	b, err := x.Backup(t.Context(), operatorAsked, secret.Value{})
	must(t, err)
	wantCode(t, b.Write(t.Context(), io.Discard), api.VaultUnavailable, "line 4", fmt.Sprintf("aivault restore --accept %d", g))
	b.Close()
	out, err := x.Accept(t.Context(), operatorAsked, g, keysource.Material{})
	must(t, err)
	if out.From != g || !out.Reset || out.MovedLog == "" || !exists(x.path(out.MovedLog)) {
		t.Errorf("accepted %+v", out)
	}
	wantValue(t, x, "two", "2") // who had it open goes on
	y := wantWhole(t, cfg, keysource.Material{})
	wantValue(t, y, "two", "2")
	if all := events(t, y); all[0] != audit.VaultRestored {
		t.Errorf("log = %v", all)
	}
	backUp(t, y, "")
	out, err = y.Accept(t.Context(), operatorAsked, g+1, keysource.Material{})
	if err != nil || out.Reset || out.Notice == "" {
		t.Errorf("again: %+v, %v", out, err)
	}
}

// While changes and records go on, each backup is one generation with a log
// that holds together.
func TestBackupWhileInUse(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "0", "value-0")
	// As many of each as the backups take, and no more: the log is copied whole.
	changes, records := make(chan struct{}, 2), make(chan struct{}, 100)
	var wg sync.WaitGroup
	x := open(t, cfg) // another process's
	wg.Go(func() {
		n := 0
		for range changes {
			n++
			if _, err := tryPut(t.Context(), x, strconv.Itoa(n), "value-"+strconv.Itoa(n)); err != nil {
				t.Error(err)
			}
		}
	})
	log, err := v.Audit(t.Context())
	must(t, err)
	wg.Go(func() {
		for range records {
			if _, err := log.Append(t.Context(), audit.Record{Event: audit.CallAllowed}); err != nil {
				t.Error(err)
			}
		}
	})
	backups := make([][]byte, 50)
	for i := range backups {
		for range cap(records) {
			select {
			case changes <- struct{}{}:
			case records <- struct{}{}:
			default:
			}
		}
		backups[i] = backUp(t, v, "")
	}
	close(changes)
	close(records)
	wg.Wait()
	last := uint64(0)
	for i, b := range backups {
		if i%5 != 0 && os.Getenv("AIVAULT_TEST_FULL") != "1" {
			continue
		}
		x := open(t, elsewhere(t, cfg))
		restore(t, x, b, 0, keysource.Material{})
		s := mustSnapshot(t, wantWhole(t, x.cfg, keysource.Material{}))
		g := infoOfBackup(t, b).Generation
		if s.Generation() != g || uint64(len(s.state.Secrets)) != g-1 || g < last {
			t.Errorf("backup %d: generation %d with %d secrets, after %d", i, s.Generation(), len(s.state.Secrets), last)
		}
		last = g
		for id := range s.state.Secrets {
			wantValue(t, x, strconv.Itoa(id), "value-"+strconv.Itoa(id))
		}
	}
	t.Logf("generations up to %d", last)
}

// A backup is streamed: neither side's memory grows with the log.
func TestBackupIsStreamed(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	log, err := v.Audit(t.Context())
	must(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				_, err := log.Append(t.Context(), audit.Record{Event: audit.CallAllowed, Reason: strings.Repeat("x", 900)})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b, err := v.Backup(t.Context(), operatorAsked, secret.Value{})
	must(t, err)
	defer b.Close()
	r, w := io.Pipe()
	largest := 0
	go func() {
		w.CloseWithError(b.Write(t.Context(), writerFunc(func(p []byte) (int, error) {
			largest = max(largest, len(p))
			return w.Write(p)
		})))
	}()
	x := open(t, elsewhere(t, cfg))
	_, err = x.Restore(t.Context(), operatorAsked, r, 0, keysource.Material{})
	must(t, err)
	if largest > chunkSize+tagSize {
		t.Errorf("%d bytes were written at once", largest)
	}
	wantWhole(t, x.cfg, keysource.Material{})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A vault whose directory others can enter is whole, not broken: it is closed
// to them before anything takes its place.
func TestNoRestoreInADirectoryOfOthers(t *testing.T) {
	t.Parallel()
	v, cfg := full(t)
	backup := backUp(t, v, "")
	g := mustSnapshot(t, v).Generation()
	put(t, v, "two", "2")
	must(t, v.Close())
	must(t, os.Chmod(cfg.Dir, 0o755))
	for _, accept := range []uint64{0, g} {
		wantCode(t, tryRestore(t, open(t, cfg), backup, accept, keysource.Material{}), api.VaultUnavailable, "chmod 700 "+cfg.Dir)
	}
	must(t, os.Chmod(cfg.Dir, 0o700))
	x := open(t, cfg)
	wantValue(t, x, "two", "2")
	must(t, tryRestore(t, x, backup, g, keysource.Material{}))
}
