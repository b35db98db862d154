package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// scene is a place where something is restored: what is in it before, what is
// done, and which of its secrets tells old from new.
type scene struct {
	name    string
	opens   bool // the old vault opens
	inPlace bool // what is in place is accepted; else the backup is restored
	accept  bool
}

func scenes() []scene {
	return []scene{
		{name: "nothing there"},
		{name: "an older pair", opens: true},
		{name: "a newer vault", opens: true, accept: true},
		{name: "no document"},
		{name: "no log", accept: true},
		{name: "older in place", inPlace: true, accept: true},
		{name: "no log in place", inPlace: true, accept: true},
	}
}

// set prepares root for a scene. The vault to come has the secret "new", and
// the old one has not.
func (sc scene) set(t testing.TB, root string) (accept uint64) {
	t.Helper()
	cfg := victimConfig(root)
	v := New(cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "1")
	keep := func() string {
		dir := filepath.Join(t.TempDir(), "vault")
		copyVault(t, cfg.Dir, dir)
		return dir
	}
	before := keep()
	g := put(t, v, "new", "2").Generation()
	backup := backUp(t, v, "")
	document := read(t, v.path("vault.aiv"))
	write(t, filepath.Join(root, "backup"), backup)
	switch sc.name {
	case "a newer vault", "older in place":
		_, err := v.Update(t.Context(), audit.Record{Event: audit.SecretDeleted, Caller: who}, func(tx *Tx) error {
			tx.State.Secrets = tx.State.Secrets[:1]
			return nil
		})
		must(t, err)
	}
	must(t, v.Close())
	switch sc.name {
	case "nothing there":
		must(t, os.RemoveAll(cfg.Dir))
	case "an older pair":
		must(t, os.RemoveAll(cfg.Dir))
		copyVault(t, before, cfg.Dir)
	case "no document":
		must(t, os.Remove(v.path("vault.aiv")))
	case "no log", "no log in place":
		must(t, os.RemoveAll(v.logDir()))
	case "older in place":
		write(t, v.path("vault.aiv"), document)
	}
	if sc.accept {
		accept = g
		write(t, filepath.Join(root, "accept"), []byte(strconv.FormatUint(g, 10)))
	}
	if sc.inPlace {
		must(t, os.Remove(filepath.Join(root, "backup")))
	}
	return accept
}

// restoreAsVictim does what root says.
func restoreAsVictim(ctx context.Context, v *Vault, root string) error {
	var accept uint64
	if b, err := os.ReadFile(filepath.Join(root, "accept")); err == nil {
		if accept, err = strconv.ParseUint(string(b), 10, 64); err != nil {
			return err
		}
	}
	backup, err := os.ReadFile(filepath.Join(root, "backup"))
	if errors.Is(err, os.ErrNotExist) {
		_, err = v.Accept(ctx, operatorAsked, accept, keysource.Material{})
		return err
	}
	if err == nil {
		_, err = v.Restore(ctx, operatorAsked, bytes.NewReader(backup), accept, keysource.Material{})
	}
	return err
}

func limitFiles(fail func(error), room string) {
	n, err := strconv.ParseUint(room, 10, 64)
	fail(err)
	signal.Ignore(syscall.SIGXFSZ)
	fail(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}))
}

// settled checks what a restore that was broken off left: the old vault or the
// new one, and where the old one did not open, what the same command mends.
func (sc scene) settled(t testing.TB, root, when string) (isNew bool) {
	t.Helper()
	cfg := victimConfig(root)
	x := New(cfg)
	s, err := x.Snapshot(t.Context())
	switch {
	case err == nil:
		isNew = s.Secret("new") != nil
		if !isNew && !sc.opens {
			t.Errorf("%s, %s: another vault opens", sc.name, when)
		}
	case api.CodeOf(err) != api.VaultUnavailable:
		t.Errorf("%s, %s: %v", sc.name, when, err)
	case sc.opens:
		t.Errorf("%s, %s: the vault does not open: %v", sc.name, when, err)
	case sc.name == "nothing there" && !errors.Is(err, errNoDocument):
		t.Errorf("%s, %s: %v", sc.name, when, err)
	}
	must(t, x.Close())
	if !isNew {
		y := New(cfg)
		if err := restoreAsVictim(t.Context(), y, root); err != nil {
			t.Errorf("%s, %s, and once more: %v", sc.name, when, err)
		}
		must(t, y.Close())
	}
	z := New(cfg)
	wantValue(t, z, "new", "2")
	wantValue(t, z, "one", "1")
	put(t, z, "after", "3")
	log, err := z.Audit(t.Context())
	must(t, err)
	_, err = log.Walk(audit.Head{}, nil)
	must(t, err)
	must(t, z.verifyLog(z.seen.header.ID))
	must(t, z.Close())
	if exists(z.path(restoringName)) {
		t.Errorf("%s, %s: %s is left", sc.name, when, restoringName)
	}
	return isNew
}

// Each kind of restore, stopped at each of its steps.
func TestRestoreStoppedAtEachStep(t *testing.T) {
	t.Parallel()
	for _, sc := range scenes() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			sc.set(t, root)
			cfg := victimConfig(root)
			hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
			cfg.Store = hook
			v := open(t, cfg)
			steps, fresh := 0, 0
			stop := func(when string) {
				steps++
				crashed := t.TempDir()
				copyVault(t, root, filepath.Join(crashed, "root"))
				if sc.settled(t, filepath.Join(crashed, "root"), when) {
					fresh++
				}
			}
			v.step = stop
			hook.before, hook.after = func() { stop("before the document") }, func() { stop("after the document") }
			must(t, restoreAsVictim(t.Context(), v, root))
			if steps < 2 || fresh == 0 || fresh == steps {
				t.Errorf("of %d stops %d left the new vault", steps, fresh)
			}
			hook.before, hook.after, v.step = func() {}, func() {}, func(string) {}
			sc.settled(t, root, "at the end")
		})
	}
}

func TestKilledWhileRestoring(t *testing.T) {
	t.Parallel()
	for _, sc := range scenes() {
		for range crashes(2, 25) {
			root := t.TempDir()
			sc.set(t, root)
			kill(t, "restore", root, 30*time.Millisecond)
			sc.settled(t, root, "killed")
		}
	}
}

// A disk that is full wherever it may be leaves the old vault or the new one.
func TestRestoreOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, sc := range scenes() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			failed := 0
			for i, room := range []int{100, 1500, 0, 700, 2500} {
				if i >= crashes(2, 5) {
					break
				}
				root := t.TempDir()
				sc.set(t, root)
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
				cmd.Env = append(os.Environ(), fmt.Sprintf("AIVAULT_TEST_VICTIM=restore/%d:%s", room, root))
				out, err := cmd.Output()
				if err != nil {
					failed++
					if !strings.Contains(string(out), "failed: ") {
						t.Errorf("with room for %d: %s", room, out)
					}
				}
				sc.settled(t, root, fmt.Sprintf("room for %d bytes", room))
			}
			if failed == 0 {
				t.Error("the disk was never full")
			}
		})
	}
}
