package vault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
)

// Whatever stands where a file of the vault has to be, what is refused names
// it, and its hint is the command after which the vault opens and changes again.
func TestNoFileInPlace(t *testing.T) {
	t.Parallel()
	directory := func(p string) error { return errors.Join(os.RemoveAll(p), os.Mkdir(p, 0o700)) }
	link := func(p string) error { return errors.Join(os.RemoveAll(p), os.Symlink("/dev/null", p)) }
	for file, stands := range map[string]map[string]func(string) error{
		"audit/checkpoints":    {"directory": directory, "link": link},
		"audit/00000002.jsonl": {"directory": directory, "link": link},
		"audit/lock":           {"directory": directory, "link": link},
		"vault.lock":           {"directory": directory, "link": link},
	} {
		for what, place := range stands {
			v, cfg := fileVault(t)
			put(t, v, "a", "1")
			must(t, v.Close())
			path := filepath.Join(cfg.Dir, file)
			must(t, place(path))
			x := open(t, cfg)
			_, err := tryPut(t.Context(), x, "b", "1")
			wantCode(t, err, api.VaultUnavailable, path+" is not private: is a ")
			var e *api.Error
			errors.As(err, &e)
			switch f := strings.Fields(e.Hint); {
			case len(f) == 4 && f[0] == "mv":
				must(t, os.Rename(f[2], f[3]))
			case len(f) == 2 && f[0] == "rm":
				must(t, os.Remove(f[1]))
			default:
				t.Fatalf("%s, %s: hint %q", file, what, e.Hint)
			}
			put(t, x, "b", "1")
			wantValue(t, x, "a", "1")
		}
	}
}

// Of what is wrong with the checkpoints alone the way out is the same as
// doctor's: the log is kept.
func TestHintOfCheckpointsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	must(t, v.Close())
	path := filepath.Join(cfg.Dir, "audit", "checkpoints")
	must(t, os.Truncate(path, audit.MaxCheckpoints+1))
	_, err := open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "larger than it can be")
	command, ok := strings.CutSuffix(api.AsError(err).Hint, " && "+audit.SignAnew)
	if !ok {
		t.Fatalf("hint %q", api.AsError(err).Hint)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-euc", command).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v %s", command, err, out)
	}
	wantValue(t, open(t, cfg), "a", "1")
}

// A document that nobody can read, and a log that is no directory: the hint
// says what brings the vault back.
func TestHintsOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, cfg := fileVault(t)
	write(t, filepath.Join(cfg.Dir, "vault.aiv"), []byte("x"))
	_, err := open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "aivault restore FILE")

	v, cfg := fileVault(t)
	must(t, v.Close())
	log := filepath.Join(cfg.Dir, "audit")
	must(t, os.RemoveAll(log))
	write(t, log, nil)
	must(t, os.Chmod(log, 0o600))
	_, err = open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "audit", "aivault restore --accept 1")
}

// What only a writer looks at, the first line of the log, leads to the same
// hint as all else, and so does what follows: with the generation in place.
func TestHintsOfAWriterNameTheGeneration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Vault) error{
		"change": func(v *Vault) error { _, err := tryPut(t.Context(), v, "b", "1"); return err },
		"lock":   func(v *Vault) error { return v.Lock(t.Context(), nil) },
		"backup": func(v *Vault) error {
			_, err := v.Backup(t.Context(), operatorAsked, secret.Value{})
			return err
		},
	} {
		v, cfg := fileVault(t)
		put(t, v, "a", "1")
		must(t, v.Close())
		log := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
		b := read(t, log)
		b[3] ^= 1
		write(t, log, b)
		err := change(open(t, cfg))
		wantCode(t, err, api.VaultUnavailable, "line 1", "aivault restore --accept 2")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// What could not be signed at the end is told with the way out.
func TestHintOfAKeyThatIsAnotherAtTheEnd(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	must(t, v.Close())
	path := filepath.Join(cfg.Dir, "audit", "key.pub")
	write(t, path, []byte("another\n"))
	x := open(t, cfg)
	put(t, x, "a", "1")
	wantCode(t, x.Close(), api.Internal, "key.pub", "not the key that signs", "aivault doctor")
	must(t, os.Chmod(path, 0o644))
	x = open(t, cfg)
	put(t, x, "b", "1")
	wantCode(t, x.Close(), api.Internal, "key.pub", "chmod 600 ")
}
