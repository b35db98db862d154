package vault

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
)

// What lies where a restore leaves what it has not finished takes no vault's
// place unless it is that. What is named as the way out leads out.
func TestWhatIsNoUnfinishedRestore(t *testing.T) {
	t.Parallel()
	good := func(t testing.TB) (cfg Config, older, other string) {
		v, cfg := full(t)
		must(t, v.Close())
		older = filepath.Join(t.TempDir(), "vault")
		copyVault(t, cfg.Dir, older)
		x := open(t, cfg)
		put(t, x, "new", "2")
		must(t, x.Close())
		y, otherCfg := full(t)
		must(t, y.Close())
		return cfg, older, otherCfg.Dir
	}
	part := func(t testing.TB, from, to string, names ...string) {
		must(t, os.Mkdir(to, 0o700))
		for _, name := range names {
			must(t, os.Rename(filepath.Join(from, name), filepath.Join(to, name)))
		}
	}
	flip := func(t testing.TB, path string) {
		b := read(t, path)
		b[len(b)-1] ^= 1
		write(t, path, b)
	}
	for name, c := range map[string]struct {
		put  func(t testing.TB, dir, here, older, other string)
		why  string
		hint string
	}{
		"a file": {func(t testing.TB, dir, _, _, _ string) { write(t, dir, []byte("x")) }, "it is no directory", "mv "},
		"a link": {func(t testing.TB, dir, _, older, _ string) { must(t, os.Symlink(older, dir)) }, "is a symbolic link", "rm "},
		"garbage": {func(t testing.TB, dir, _, _, _ string) {
			must(t, os.Mkdir(dir, 0o700))
			write(t, filepath.Join(dir, "vault.aiv"), []byte("garbage\n"))
		}, "its vault.aiv is damaged", "mv "},
		"cut off": {func(t testing.TB, dir, here, _, _ string) {
			must(t, os.Mkdir(dir, 0o700))
			b := read(t, filepath.Join(here, "vault.aiv"))
			write(t, filepath.Join(dir, "vault.aiv"), b[:len(b)-1])
		}, "is not the one that its log says", "mv "},
		"no document": {func(t testing.TB, dir, _, older, _ string) { part(t, older, dir, "audit") }, "its vault.aiv is missing", "mv "},
		"a pipe": {func(t testing.TB, dir, _, _, _ string) {
			must(t, os.Mkdir(dir, 0o700))
			must(t, syscall.Mkfifo(filepath.Join(dir, "vault.aiv"), 0o600))
		}, "is neither a file nor a directory", "rm "},
		"something else": {func(t testing.TB, dir, _, older, _ string) {
			part(t, older, dir, "audit", "vault.aiv")
			write(t, filepath.Join(dir, "notes.txt"), []byte("mine"))
		}, "it holds what no restore puts there", "mv "},
		"another vault":     {func(t testing.TB, dir, _, _, other string) { part(t, other, dir, "audit", "vault.aiv") }, "of another vault", "mv "},
		"an older pair":     {func(t testing.TB, dir, _, older, _ string) { part(t, older, dir, "audit", "vault.aiv") }, "older than the one in place", "mv "},
		"an older document": {func(t testing.TB, dir, _, older, _ string) { part(t, older, dir, "vault.aiv") }, "older than the one in place", "mv "},
		"a flipped document": {func(t testing.TB, dir, here, _, _ string) {
			leaveWhole(t, here, dir)
			flip(t, filepath.Join(dir, "vault.aiv"))
		}, "is not the one that its log says", "mv "},
		"a flipped log": {func(t testing.TB, dir, here, _, _ string) {
			leaveWhole(t, here, dir)
			path := filepath.Join(dir, "audit", "00000001.jsonl")
			write(t, path, bytes.Replace(read(t, path), []byte(`"uid":1000`), []byte(`"uid":1001`), 1))
		}, "one of the two was changed", "mv "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, older, other := good(t)
			dir := filepath.Join(cfg.Dir, restoringName)
			c.put(t, dir, cfg.Dir, older, other)
			document, log := read(t, filepath.Join(cfg.Dir, "vault.aiv")), read(t, filepath.Join(cfg.Dir, "audit", "00000001.jsonl"))
			v := open(t, cfg)
			_, err := v.Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, c.why)
			hint := api.AsError(err).Hint
			if !strings.HasPrefix(hint, c.hint) {
				t.Errorf("hint %q, want %q", hint, c.hint)
			}
			wantCode(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}), api.VaultUnavailable, c.why)
			if !bytes.Equal(document, read(t, filepath.Join(cfg.Dir, "vault.aiv"))) || !bytes.Equal(log, read(t, filepath.Join(cfg.Dir, "audit", "00000001.jsonl"))) {
				t.Fatal("the vault in place was touched")
			}
			// A second finding may stand behind the first.
			for i := 0; err != nil && i < 2; i++ {
				if out, err := exec.CommandContext(t.Context(), "sh", "-euc", api.AsError(err).Hint).CombinedOutput(); err != nil {
					t.Fatalf("%q: %v %s", hint, err, out)
				}
				_, err = v.Snapshot(t.Context())
			}
			must(t, err)
			wantValue(t, v, "new", "2")
			put(t, v, "after", "3")
			if exists(dir) {
				t.Error("it is still there")
			}
		})
	}
}

// leaveWhole copies the vault in here to dir, as a restore of it would leave it.
func leaveWhole(t testing.TB, here, dir string) {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "vault")
	copyVault(t, here, whole)
	must(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{"audit", "vault.aiv"} {
		must(t, os.Rename(filepath.Join(whole, name), filepath.Join(dir, name)))
	}
}

// What a restore leaves is taken up, at each of the places where it may have
// been broken off.
func TestUnfinishedRestoreIsTakenUp(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t testing.TB, here, dir string){
		"nothing in place": func(t testing.TB, here, dir string) {
			must(t, os.RemoveAll(filepath.Join(here, "audit")))
			must(t, os.Remove(filepath.Join(here, "vault.aiv")))
		},
		"old ones in place": func(testing.TB, string, string) {},
		"log in place": func(t testing.TB, here, dir string) {
			must(t, os.RemoveAll(filepath.Join(here, "audit")))
			must(t, os.Rename(filepath.Join(dir, "audit"), filepath.Join(here, "audit")))
		},
		"both in place": func(t testing.TB, here, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "audit"))) },
		"empty": func(t testing.TB, here, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "audit")))
			must(t, os.Remove(filepath.Join(dir, "vault.aiv")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, cfg := full(t)
			put(t, v, "new", "2")
			must(t, v.Close())
			dir := filepath.Join(cfg.Dir, restoringName)
			leaveWhole(t, cfg.Dir, dir)
			leave(t, cfg.Dir, dir)
			x := open(t, cfg)
			wantValue(t, x, "new", "2")
			if exists(dir) {
				t.Error("it is still there")
			}
			put(t, x, "after", "3")
		})
	}
}
