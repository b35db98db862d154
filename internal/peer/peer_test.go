package peer

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/grant"
)

// pair connects to a socket of its own and returns both ends.
func pair(t *testing.T) (accepted, dialled *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); c.Close() })
	return a, c
}

func TestOfThisProcess(t *testing.T) {
	a, c := pair(t)
	who, err := new(Lookup).Of(a)
	if err != nil {
		t.Fatal(err)
	}
	if !who.Operator || who.Contained || int(who.UID) != os.Geteuid() || int(who.PID) != os.Getpid() {
		t.Errorf("this process is %+v to itself", who)
	}
	if who.StartedAt == 0 || who.Program == "" {
		t.Errorf("start or program is missing: %+v", who)
	}
	self := Self()
	if self.UID != who.UID || self.PID != who.PID || self.StartedAt != who.StartedAt || !self.Operator || self.User != who.User {
		t.Errorf("Self is %+v, but the kernel says %+v", self, who)
	}
	uid, pid, err := Listener(c)
	if err != nil || int(uid) != os.Geteuid() || int(pid) != os.Getpid() {
		t.Errorf("listener is uid %d pid %d (%v)", uid, pid, err)
	}
	if uid, err := UID(a); err != nil || uid != who.UID {
		t.Errorf("UID is %d (%v)", uid, err)
	}
}

// A process that connected and is gone cannot be looked at any more, so that
// nothing lets it be an operator, even if it ran as this user.
func TestOfADeadProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("macOS has no containers to be taken for")
		return
	}
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
	cmd := exec.Command(os.Args[0], "-test.run=^TestConnectAndLeave$", "-test.count=1")
	cmd.Env = append(os.Environ(), "PEER_TEST_SOCKET="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := io.Copy(io.Discard, out); err != nil { // ends when the process does
		t.Fatal(err)
	}
	proc := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	for { // dead in all its threads, and not yet buried: /proc still tells of it
		b, err := os.ReadFile(proc + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		threads, err := os.ReadDir(proc + "/task")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), ") Z ") && len(threads) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // the kernel tells its waiters a moment later
	check := func(state string) grant.Caller {
		who, err := new(Lookup).Of(a)
		if err != nil {
			t.Fatal(err)
		}
		if who.Operator || !who.Contained || who.Program != "" {
			t.Errorf("a process that is %s is %+v", state, who)
		}
		return who
	}
	check("dead")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	who := check("gone")
	if int(who.UID) != os.Geteuid() || int(who.PID) != cmd.Process.Pid {
		t.Errorf("the kernel's part is missing: %+v", who)
	}
}

// TestConnectAndLeave is the process that TestOfADeadProcess starts; without
// its variable it checks nothing.
func TestConnectAndLeave(t *testing.T) {
	path := os.Getenv("PEER_TEST_SOCKET")
	if path == "" {
		return
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
}

func TestIsOperator(t *testing.T) {
	for _, c := range []struct {
		who  grant.Caller
		own  uint32
		want bool
	}{
		{grant.Caller{UID: 1000}, 1000, true},
		{grant.Caller{UID: 0}, 1000, true},
		{grant.Caller{UID: 1001}, 1000, false},
		{grant.Caller{UID: 1000}, 0, false},
		{grant.Caller{UID: 1000, Contained: true}, 1000, false},
		{grant.Caller{UID: 0, Contained: true}, 1000, false},
		{grant.Caller{UID: 0, Contained: true}, 0, false},
	} {
		if got := isOperator(c.who, c.own); got != c.want {
			t.Errorf("%+v of a daemon of %d: %v", c.who, c.own, got)
		}
	}
}

func TestNamesAreRemembered(t *testing.T) {
	var l Lookup
	first := l.name(uint32(os.Geteuid()))
	l.names[uint32(os.Geteuid())] = cachedName{"remembered", l.names[uint32(os.Geteuid())].until}
	if got := l.name(uint32(os.Geteuid())); got != "remembered" {
		t.Errorf("the name %q was looked up again: %q", first, got)
	}
	if got := l.name(4294967294); got != "" && got != "nobody" {
		t.Errorf("an unknown uid is called %q", got)
	}
	for i := range uint32(maxNames + 10) {
		l.names[1<<20+i] = cachedName{}
	}
	l.name(4294967293)
	if len(l.names) > maxNames {
		t.Errorf("%d names are remembered", len(l.names))
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"aivault": "aivault", "a b": "a?b", "a\x1b[2Jb": "a?[2Jb", "a\nb\"\\": "a?b??", "ü": "??", "": "",
		strings.Repeat("x", 100): strings.Repeat("x", 64),
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
