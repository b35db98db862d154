package daemon

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
)

func TestOneDaemonAVault(t *testing.T) {
	dir := short(t) + "/v"
	lock, err := acquireVault(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := listen(at(short(t) + "/s"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := Running{PID: os.Getpid(), Version: "1", Sockets: []string{s.Path}, StartedAtMs: 5}
	if err := lock.announce(want); err != nil {
		t.Fatal(err)
	}
	if got, ok := ReadRunning(dir); !ok || got.PID != want.PID || got.Sockets[0] != s.Path {
		t.Errorf("the lock says %+v %v", got, ok)
	}
	start := time.Now()
	_, err = acquireVault(t.Context(), dir)
	if api.CodeOf(err) != api.AlreadyExists || !strings.Contains(err.Error(), s.Path) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("a second daemon: %v", err)
	}
	if time.Since(start) > startPatience/2 {
		t.Error("a daemon that answers was waited for")
	}
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
	if _, ok := ReadRunning(dir); ok {
		t.Error("a daemon that left is still named")
	}
	again, err := acquireVault(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
}

// What takes the name of the lock's file while it is held is not written to,
// and not written through.
func TestALockThatWasReplacedIsNotWrittenThrough(t *testing.T) {
	dir := short(t)
	lock, err := acquireVault(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	vault := dir + "/vault.aiv"
	if err := os.WriteFile(vault, []byte("all the secrets"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(LockFile(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("vault.aiv", LockFile(dir)); err != nil {
		t.Fatal(err)
	}
	_ = lock.announce(Running{PID: 1, Sockets: []string{"/s"}})
	_ = lock.release()
	if b, err := os.ReadFile(vault); err != nil || string(b) != "all the secrets" {
		t.Errorf("behind the link there is now %q %v", b, err)
	}
}

// One that is leaving is waited for: its lock is held, its sockets are gone.
func TestALeavingDaemonIsWaitedFor(t *testing.T) {
	dir := short(t)
	lock, err := acquireVault(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.announce(Running{PID: 1, Sockets: []string{dir + "/gone"}}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = lock.release() })
	next, err := acquireVault(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer next.release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := acquireVault(ctx, dir); api.CodeOf(err) != api.AlreadyExists {
		t.Errorf("the lock was taken twice: %v", err)
	}
}

func TestReadRunningBelievesLittle(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"", "{}", "x", `{"pid":1,"version":"","sockets":[],"startedAtMs":0}`, `{"pid":-1,"version":"","sockets":["/s"],"startedAtMs":0}`,
		`{"pid":1,"pid":2,"sockets":["/s"]}`, strings.Repeat(" ", maxLockFile) + `{"pid":1,"version":"","sockets":["/s"],"startedAtMs":0}`} {
		if err := os.WriteFile(LockFile(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, ok := ReadRunning(dir); ok {
			t.Errorf("%.40q was read as %+v", content, r)
		}
	}
	good := `{"pid":1,"version":"1","sockets":["/s"],"startedAtMs":0}`
	if err := os.WriteFile(LockFile(dir), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := ReadRunning(dir); !ok {
		t.Error("a good one was not read")
	}
	if err := os.Chmod(LockFile(dir), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, ok := ReadRunning(dir); ok {
		t.Error("one that everyone can write was read")
	}
}

// What stands where the lock has to be is put aside by the command of the hint.
func TestHintOfALockThatIsADirectory(t *testing.T) {
	dir := short(t) + "/v"
	if err := os.MkdirAll(LockFile(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := acquireVault(t.Context(), dir)
	want := "mv -n " + LockFile(dir) + " " + LockFile(dir) + ".aside"
	if e := api.AsError(err); e.Code != api.VaultUnavailable || e.Hint != want {
		t.Errorf("%v, hint %q, want %q", e, e.Hint, want)
	}
}
