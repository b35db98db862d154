package peer

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/grant"
)

// connectAs lets a process with these credentials connect, and says who the
// kernel says it is.
func connectAs(t *testing.T, cred *syscall.Credential) (grant.Caller, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for p, mode := range map[string]os.FileMode{dir: 0o755, path: 0o666} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	// By this name the child finds the program that it already is, whoever
	// may read the directory where it lies.
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestConnectAndStay$", "-test.count=1")
	cmd.Env = append(os.Environ(), "PEER_TEST_STAY="+path, "GORACE=atexit_sleep_ms=0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	stay, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	who, oferr := new(Lookup).Of(a)
	stay.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return who, oferr
}

// TestConnectAndStay is the process that connectAs starts; without its
// variable it checks nothing.
func TestConnectAndStay(t *testing.T) {
	path := os.Getenv("PEER_TEST_STAY")
	if path == "" {
		return
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A peer's groups are those that it had when it connected: all of them, and
// none that the user database gives its user beside.
func TestGroupsOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can start a process with other groups")
		return
	}
	numbers := func(n int) []uint32 {
		all := make([]uint32, n)
		for i := range all {
			all[i] = uint32(70000 + i)
		}
		return all
	}
	for _, groups := range [][]uint32{{}, {70123}, {70123, 70001, 70002}, numbers(64), numbers(65), numbers(300), numbers(maxGroups - 1)} {
		want := append([]uint32{60001}, groups...)
		slices.Sort(want)
		who, err := connectAs(t, &syscall.Credential{Uid: 60000, Gid: 60001, Groups: groups})
		if err != nil || !slices.Equal(who.Groups, want) {
			t.Errorf("%d groups: %d, %v", len(groups), len(who.Groups), err)
		}
		if who.UID != 60000 || who.GID != 60001 || who.Operator {
			t.Errorf("it is %+v", who)
		}
	}
	for _, n := range []int{maxGroups, maxGroups + 1, 65536} {
		if who, err := connectAs(t, &syscall.Credential{Uid: 60000, Gid: 60001, Groups: numbers(n)}); !errors.Is(err, errGroups) || who.Groups != nil {
			t.Errorf("%d groups: %d, %v", n, len(who.Groups), err)
		}
	}
}
