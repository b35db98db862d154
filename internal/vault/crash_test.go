package vault

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/keysource"
)

// crashes is how often a victim is killed: many times where
// AIVAULT_TEST_FULL=1 asks for it.
func crashes(short, full int) int {
	if os.Getenv("AIVAULT_TEST_FULL") == "1" {
		return full
	}
	return short
}

func victimConfig(root string) Config {
	return Config{Dir: filepath.Join(root, "vault"), DefaultKeyFile: filepath.Join(root, "keys", "kek.key"), Argon2id: cheap}
}

// rotations lead round all providers and places, and back.
func rotations(root string) []keysource.Request {
	return []keysource.Request{
		{Provider: keysource.File},
		{Provider: keysource.File, Path: filepath.Join(root, "keys", "second.key")},
		{Provider: keysource.File, Path: filepath.Join(root, "vault", "kek.key")},
		passRequest("p"),
		envRequest(envKey),
		{Provider: keysource.File},
		envRequest(strings.Repeat("cd", keysource.KeySize)),
	}
}

// unlockAny opens the vault by whatever of the test's keys its header names.
func unlockAny(ctx context.Context, v *Vault) error {
	_, err := v.Snapshot(ctx)
	if err == nil {
		return nil
	}
	for _, m := range []keysource.Material{pass("p"), envMaterial(envKey), envMaterial(strings.Repeat("cd", keysource.KeySize))} {
		if _, e := v.Unlock(ctx, who, m, 0); e == nil {
			return nil
		}
	}
	return err
}

// runVictim changes a vault until it is killed. It says "ready", and then the
// number of each change that was made.
func runVictim(job string) {
	kind, root, _ := strings.Cut(job, ":")
	if kind == "power" {
		if err := runPowerVictim(root); err != nil {
			fmt.Fprintln(os.Stderr, "failed:", err)
			os.Exit(1)
		}
		return
	}
	kind, room, full := strings.Cut(kind, "/")
	ctx := context.Background()
	v := New(victimConfig(root))
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	if kind != "init" && kind != "restore" {
		fail(unlockAny(ctx, v))
	}
	if full { // no file may grow beyond it: a full disk
		limitFiles(fail, room)
	}
	fmt.Println("ready")
	switch kind {
	case "restore":
		fail(restoreAsVictim(ctx, v, root))
		fmt.Println(1)
	case "init":
		fail(v.Init(ctx, who, keysource.Request{Provider: keysource.File}))
		fmt.Println(1)
	case "write":
		for n := len(v.current.Load().state.Secrets); ; n++ {
			_, err := tryPut(ctx, v, strconv.Itoa(n), "value-"+strconv.Itoa(n))
			fail(err)
			fmt.Println(n + 1)
		}
	case "rotate":
		for i := rand.IntN(7); ; i++ {
			// The key in use cannot follow itself: then the next is tried.
			if err := v.Rotate(ctx, who, rotations(root)[i%7]); err != nil && !strings.Contains(err.Error(), "in use") {
				fail(err)
			}
			fmt.Println(i)
		}
	}
}

// kill starts a victim, kills it a random time after it is ready, and returns
// the last number that it said, -1 for none.
func kill(t *testing.T, kind, root string, within time.Duration) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "AIVAULT_TEST_VICTIM="+kind+":"+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("the victim said %q %s", lines.Text(), rest)
	}
	timer := time.AfterFunc(rand.N(within), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	last := -1
	for lines.Scan() {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatalf("the victim said %q", lines.Text())
		}
	}
	_ = cmd.Wait() // killed, or done before it could be
	return last
}

func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	v := open(t, victimConfig(root))
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	made := 0
	for range crashes(40, 200) {
		said := kill(t, "write", root, 25*time.Millisecond)
		x := New(victimConfig(root))
		s, err := x.Snapshot(t.Context())
		if err != nil {
			t.Fatalf("after %d writes: %v", made, err)
		}
		n := len(s.State().Secrets)
		if least := max(said, made); n < least || n > least+1 {
			t.Fatalf("%d secrets, %d were acknowledged", n, least)
		}
		for i := range n {
			if got, err := s.Open(strconv.Itoa(i)); err != nil || string(got.Expose()) != "value-"+strconv.Itoa(i) {
				t.Fatalf("secret %d: %q, %v", i, got.Expose(), err)
			}
		}
		made = n
		must(t, x.Close())
	}
	put(t, v, "after", "all of it")
	t.Logf("%d writes", made)
}

func TestKilledWhileRotating(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	cfg := victimConfig(root)
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "sk-1")
	for i := range crashes(15, 50) {
		kill(t, "rotate", root, 120*time.Millisecond)
		x := New(cfg)
		if err := unlockAny(t.Context(), x); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		wantValue(t, x, "one", "sk-1")
		wantOneKey(t, x, cfg, root)
		put(t, x, strconv.Itoa(i), "x")
		must(t, x.Close())
	}
}

// wantOneKey checks that no key is left but the one in use.
func wantOneKey(t *testing.T, v *Vault, cfg Config, root string) {
	t.Helper()
	now := mustSnapshot(t, v).header.Key
	if exists(v.path(rekeyingName)) || exists(v.path(creatingName)) {
		t.Error("the mark of a change is left")
	}
	if keysource.Leftover(v.keyConfig(v.seen.header.ID), now) {
		t.Error("two keys are left")
	}
	inUse := ""
	if now.Provider == keysource.File {
		inUse = v.keyConfig("").KeyFile(now)
	}
	for _, path := range []string{cfg.DefaultKeyFile, filepath.Join(root, "keys", "second.key"), filepath.Join(root, "vault", "kek.key")} {
		if exists(path) && path != inUse {
			t.Errorf("%s is left, %s is in use", path, inUse)
		}
	}
}

func TestKilledWhileMaking(t *testing.T) {
	t.Parallel()
	for range crashes(10, 50) {
		root := t.TempDir()
		kill(t, "init", root, 30*time.Millisecond)
		x := New(victimConfig(root))
		must(t, x.Ensure(t.Context(), who, keysource.Request{Provider: keysource.File}))
		put(t, x, "one", "1")
		must(t, x.Close())
		y := New(victimConfig(root))
		wantValue(t, y, "one", "1")
		must(t, y.Close())
	}
}

// hookStore shows the directory as a crash before and after the swap leaves it.
type hookStore struct {
	*FileStore
	before, after func()
}

func (s *hookStore) CompareAndSwap(old Generation, blob []byte) (Generation, error) {
	s.before()
	defer s.after()
	return s.FileStore.CompareAndSwap(old, blob)
}

// Each rotation, stopped right before and right after the document is
// replaced: it opens with the old key or the new, and only that one is left.
func TestRotationStoppedAtEachStep(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	cfg := victimConfig(root)
	hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
	hook.before, hook.after = func() {}, func() {}
	cfg.Store = hook
	v := open(t, cfg)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "one", "sk-1")
	n := 0
	stop := func(name string) {
		n++
		saved := filepath.Join(t.TempDir(), "saved")
		must(t, os.Rename(root, saved)) // the paths in the header are absolute
		must(t, os.CopyFS(root, os.DirFS(saved)))
		must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return os.Chmod(path, 0o600)
		}))
		x := New(victimConfig(root))
		if err := unlockAny(t.Context(), x); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			wantValue(t, x, "one", "sk-1")
			wantOneKey(t, x, cfg, root)
			put(t, x, "two", "2")
		}
		must(t, x.Close())
		must(t, os.RemoveAll(root))
		must(t, os.Rename(saved, root))
	}
	for i, r := range rotations(root) {
		hook.before = func() { stop(fmt.Sprintf("rotation %d before", i)) }
		hook.after = func() { stop(fmt.Sprintf("rotation %d after", i)) }
		must(t, v.Rotate(t.Context(), who, r))
	}
	if n != 2*len(rotations(root)) {
		t.Errorf("%d stops", n)
	}
}

// Who lost a race may find two keys and hold an old header: the key that the
// document names now is not theirs to drop.
func TestTidyKeepsTheKeyInUse(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	hook := &hookStore{FileStore: NewFileStore(filepath.Join(cfg.Dir, "vault.aiv"), filepath.Join(cfg.Dir, "store.lock"))}
	hook.before, hook.after = func() {}, func() {}
	late := open(t, cfg)
	must(t, late.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, late, "one", "1")
	stale := mustSnapshot(t, late)
	cfg.Store = hook
	v := open(t, cfg)
	var both []byte
	hook.after = func() { both = read(t, cfg.DefaultKeyFile) }
	must(t, v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File}))
	write(t, cfg.DefaultKeyFile, both)
	late.mu.Lock()
	late.tidy(t.Context(), stale, true)
	late.mu.Unlock()
	cfg.Store = nil
	x := open(t, cfg)
	wantValue(t, x, "one", "1")
	if keysource.Leftover(x.keyConfig(x.seen.header.ID), x.seen.header.Key) {
		t.Error("the old key is left")
	}
}
