package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
)

// examined is the installation of a new user, in this process.
func examined(t *testing.T) Config {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	env, err := daemon.ParseEnv([]string{"HOME=" + home, "AIVAULTD_DISABLE=1"})
	if err != nil {
		t.Fatal(err)
	}
	env.SharedSocket = filepath.Join(home, "shared") // never this machine's
	return Config{Client: client.Config{Env: env, Build: daemon.Build{Version: "test"}}}
}

func of(r Report, id string) []Finding {
	var all []Finding
	for _, f := range r.Checks {
		if f.ID == id {
			all = append(all, f)
		}
	}
	return all
}

func wantOne(t *testing.T, r Report, id string, level Level, parts ...string) {
	t.Helper()
	got := of(r, id)
	if len(got) != 1 || got[0].Level != level || (got[0].Hint != "") != (level == Warning || level == Problem) {
		t.Errorf("%s: %+v, want one that is %s", id, got, level)
		return
	}
	for _, p := range parts {
		if !strings.Contains(got[0].What+"\n"+got[0].Hint, p) {
			t.Errorf("%s: %+v, want %q in it", id, got[0], p)
		}
	}
}

func makeVault(t *testing.T, cfg Config) {
	t.Helper()
	c, err := client.Connect(t.Context(), cfg.Client)
	if err == nil {
		_, err = c.Init(t.Context(), api.KeyOptions{Provider: keysource.File})
	}
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoVaultIsMade(t *testing.T) {
	cfg := examined(t)
	r := Run(t.Context(), cfg)
	wantOne(t, r, "vault.files", OK, "there is no vault yet")
	if r.Count(Problem) > 0 {
		t.Errorf("%+v", r)
	}
	if entries, err := os.ReadDir(cfg.Client.Env.Home); err != nil || len(entries) > 0 {
		t.Errorf("the home holds %v, %v", entries, err)
	}
}

// A pipe in a segment's place is not waited for.
func TestClockWaitsForNoPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "00000002.jsonl")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 1)
	go func() { _, ok := lastRecord(path); done <- ok }()
	select {
	case ok := <-done:
		if ok {
			t.Error("it has a record")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a writer")
	}
}

// A clock that runs behind what was written already.
func TestClock(t *testing.T) {
	cfg := examined(t)
	makeVault(t, cfg)
	for behind, level := range map[time.Duration]Level{0: OK, time.Minute: OK, 3 * time.Minute: Problem, 365 * 24 * time.Hour: Problem} {
		cfg.Clock = func() time.Time { return time.Now().Add(-behind) }
		wantOne(t, Run(t.Context(), cfg), "clock", level)
	}
	// The files' own times say nothing where they were put back: the log does.
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(cfg.Client.Env.Dir, "vault.aiv"), past, past); err != nil {
		t.Fatal(err)
	}
	cfg.Clock = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	wantOne(t, Run(t.Context(), cfg), "clock", Problem, "the last record of the audit log")
	// Whatever the directory is called.
	odd := filepath.Join(cfg.Client.Env.Home, "[a")
	if err := os.Rename(cfg.Client.Env.Dir, odd); err != nil {
		t.Fatal(err)
	}
	e := &exam{cfg: cfg, dir: odd}
	e.clock()
	wantOne(t, e.report, "clock", Problem, "the last record of the audit log")
}

// What was not looked at is not called good.
func TestMoreFilesThanAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxEntries {
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(i)), os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := &exam{dir: dir}
	e.private("vault.files", dir)
	wantOne(t, e.report, "vault.files", Skipped, "more than 10000 files")
}

// The key beside the log, where there is nothing to compare it with.
func TestAuditKeyAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), keyName)
	if err := os.WriteFile(path, []byte("a+b+c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for why, e := range map[string]*exam{
		"nobody answers":            {},
		"only the operator is told": {client: new(client.Client), status: api.Status{Vault: api.VaultStatus{State: "unlocked"}}},
		"the vault is locked":       {client: new(client.Client), status: api.Status{Vault: api.VaultStatus{State: "locked"}, Caller: api.CallerStatus{Operator: true}}},
	} {
		e.auditKey(path, "")
		wantOne(t, e.report, "audit.key", Skipped, why)
	}
}

func TestFilesThatOthersReach(t *testing.T) {
	cfg := examined(t)
	makeVault(t, cfg)
	dir := cfg.Client.Env.Dir
	wantOne(t, Run(t.Context(), cfg), "vault.files", OK)
	for what, spoil := range map[string]func(path string) error{
		"can be entered":          func(string) error { return os.Chmod(filepath.Join(dir, "audit"), 0o755) },
		"can be read":             func(string) error { return os.Chmod(filepath.Join(dir, "vault.aiv"), 0o640) },
		"is a symbolic link":      func(p string) error { return os.Symlink("/etc/passwd", p) },
		"can be changed by every": func(string) error { return os.Chmod(filepath.Dir(dir), 0o777) },
	} {
		extra := filepath.Join(dir, "extra")
		if err := spoil(extra); err != nil {
			t.Fatal(err)
		}
		got := of(Run(t.Context(), cfg), "vault.files")
		if len(got) != 1 || got[0].Level != Problem || !strings.Contains(got[0].What, what) || got[0].Hint == "" {
			t.Errorf("%s: %+v", what, got)
		}
		_ = os.Remove(extra)
		for path, mode := range map[string]os.FileMode{filepath.Join(dir, "audit"): 0o700, filepath.Join(dir, "vault.aiv"): 0o600, filepath.Dir(dir): 0o700} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What is private and no directory keeps calls from being recorded.
	calls := filepath.Join(dir, "calls")
	if err := os.WriteFile(calls, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := of(Run(t.Context(), cfg), "vault.files")
	if len(got) == 0 || got[len(got)-1].Hint != "mv -n "+calls+" "+calls+".aside" {
		t.Errorf("a file in the place of calls: %+v", got)
	}
	if err := os.Remove(calls); err != nil {
		t.Fatal(err)
	}
	// Where everything is open, it ends.
	for i := range 3 * maxFindings {
		if err := os.WriteFile(filepath.Join(dir, "f"+string(rune('A'+i))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "f"+string(rune('A'+i))), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := of(Run(t.Context(), cfg), "vault.files"); len(got) != maxFindings+1 || got[maxFindings].What != "and more" {
		t.Errorf("%d findings: %+v", len(got), got[len(got)-1])
	}
}

// What a status tells becomes findings with their commands.
func TestWhatTheStatusTells(t *testing.T) {
	cfg := examined(t)
	cfg.Client.Build.Version = "2"
	e := &exam{cfg: cfg, client: new(client.Client)}
	e.status = api.Status{
		Vault: api.VaultStatus{State: "unlocked"}, Caller: api.CallerStatus{Operator: true}, Daemon: &api.DaemonStatus{Version: "1"},
		Key:      &api.KeyStatus{Provider: keysource.Env},
		Problems: []api.Problem{{What: "credential a", Why: "w", Hint: "aivault secrets list"}, {What: "credential b", Why: "w", Soon: true}},
		Process:  &api.ProcessStatus{Dumpable: true, CoreDumps: true, Note: "n"},
	}
	e.daemon()
	e.key()
	e.entries()
	e.process()
	wantOne(t, e.report, "daemon", Warning, "aivault restart")
	wantOne(t, e.report, "key.provider", Warning, "AIVAULT_KEY", "aivault rotate-master --provider passphrase")
	if got := of(e.report, "entries"); len(got) != 2 || got[0].Level != Problem || got[1].Level != Warning || got[1].Hint == "" {
		t.Errorf("entries: %+v", got)
	}
	for _, id := range []string{"dumpable", "cores", "locked", "environment"} {
		wantOne(t, e.report, "process."+id, Warning, "aivault restart", "(n)")
	}
	if e.report.Healthy() {
		t.Error("all that is healthy")
	}
	// A caller is told what a caller may know.
	e = &exam{cfg: cfg, client: new(client.Client), status: api.Status{Vault: api.VaultStatus{State: "unlocked"}, Daemon: &api.DaemonStatus{Version: "1"}}}
	e.daemon()
	e.files()
	e.key()
	e.entries()
	e.process()
	if e.report.Count(Problem)+e.report.Count(Warning) > 0 || e.report.Count(Skipped) != 4 {
		t.Errorf("%+v", e.report)
	}
}

// What has the socket's name is taken away by the command that can.
func TestNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct {
		hint string
		make func() error
	}{
		{"rm " + path, func() error { return os.WriteFile(path, nil, 0o600) }},
		{"rmdir " + path, func() error { return os.Mkdir(path, 0o700) }},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		e := &exam{}
		e.socket(path)
		wantOne(t, e.report, "socket.reach", Problem, c.hint)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Where nobody answers, nobody is said to know.
func TestNobodyAnswers(t *testing.T) {
	e := &exam{}
	e.process()
	wantOne(t, e.report, "process", Skipped, "nobody answers")
}

func TestMembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(path, []byte("bad\nroot:x:4000001:\ncallers:x:4000002:anna,boris\nmore:x:4000003:eve:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &exam{cfg: Config{groupFile: path}}
	for gid, want := range map[uint32]string{
		4000001: "group 4000001 (no further members are listed)", 4000002: "group 4000002 (anna, boris)", 4000003: "group 4000003 (no further members are listed)",
	} {
		if got := e.members(gid); got != want {
			t.Errorf("%d: %s", gid, got)
		}
	}
}
