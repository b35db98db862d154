package daemon

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
)

// short is a directory whose path leaves room for a socket's name.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "av")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func at(path string) Socket { return Socket{Path: path, Mode: 0o600, DirMode: 0o700} }

func TestListenMakesASocketOfTheRightMode(t *testing.T) {
	old := unix.Umask(0) // the worst umask there is
	defer unix.Umask(old)
	for _, c := range []struct{ socket, dir fs.FileMode }{{0o600, 0o700}, {0o660, 0o750}, {0o660, 0o770}} {
		path := filepath.Join(short(t), "new", "run", "s.sock")
		s, err := listen(Socket{Path: path, Mode: c.socket, DirMode: c.dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for p, want := range map[string]fs.FileMode{path: c.socket, filepath.Dir(path): c.dir, filepath.Dir(filepath.Dir(path)): 0o700} {
			info, err := os.Lstat(p)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %04o, want %04o", p, info.Mode().Perm(), want)
			}
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v %v", entries, err)
		}
		if !answers(path) {
			t.Error("nobody answers there")
		}
	}
}

func TestListenReplacesAStaleSocketAndRespectsALiveOne(t *testing.T) {
	path := filepath.Join(short(t), "s.sock")
	first, err := listen(at(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(at(path)); api.CodeOf(err) != api.AlreadyExists {
		t.Errorf("a live socket was not respected: %v", err)
	}
	if !answers(path) {
		t.Fatal("the live socket is gone")
	}
	first.Close() // as after a kill: the file stays
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if answers(path) {
		t.Error("a closed socket answers")
	}
	second, err := listen(at(path))
	if err != nil {
		t.Fatalf("a stale socket was not replaced: %v", err)
	}
	defer second.Close()
	first.remove()
	if !answers(path) {
		t.Error("the first daemon removed the second one's socket")
	}
	second.remove()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a daemon left its socket behind")
	}
}

// A full queue is a listener too.
func TestABusySocketIsRespected(t *testing.T) {
	path := filepath.Join(short(t), "s.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := net.Dial("unix", path)
		if err != nil {
			break // full
		}
		defer c.Close()
	}
	if _, err := listen(at(path)); api.CodeOf(err) != api.AlreadyExists {
		t.Errorf("a busy daemon's socket was taken: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) (path string)
		code api.Code
		says string
	}{
		{"a file in the way", func(dir string) string {
			p := filepath.Join(dir, "s")
			_ = os.WriteFile(p, []byte("precious"), 0o600)
			return p
		}, api.AlreadyExists, "no socket"},
		{"a link in the way", func(dir string) string {
			p := filepath.Join(dir, "s")
			_ = os.Symlink("/etc/passwd", p)
			return p
		}, api.AlreadyExists, "no socket"},
		{"a directory open to everyone", func(dir string) string {
			_ = os.Chmod(dir, 0o777)
			return filepath.Join(dir, "s")
		}, api.PolicyViolation, "everyone"},
		{"a sticky directory open to everyone", func(dir string) string {
			_ = os.Chmod(dir, 0o777|fs.ModeSticky)
			return filepath.Join(dir, "s")
		}, api.PolicyViolation, "everyone"},
		{"a directory open to its group", func(dir string) string {
			_ = os.Chmod(dir, 0o770)
			return filepath.Join(dir, "s")
		}, api.PolicyViolation, "group"},
		{"a link to a directory", func(dir string) string {
			_ = os.Mkdir(filepath.Join(dir, "real"), 0o700)
			_ = os.Symlink("real", filepath.Join(dir, "link"))
			return filepath.Join(dir, "link", "s")
		}, api.PolicyViolation, "symbolic link"},
		{"a file for a directory", func(dir string) string {
			_ = os.WriteFile(filepath.Join(dir, "d"), nil, 0o600)
			return filepath.Join(dir, "d", "s")
		}, api.PolicyViolation, "no directory"},
		{"an open directory above", func(dir string) string {
			_ = os.Chmod(dir, 0o777)
			_ = os.Mkdir(filepath.Join(dir, "d"), 0o700)
			return filepath.Join(dir, "d", "s")
		}, api.PolicyViolation, "everyone"},
		{"a path that is too long", func(dir string) string {
			return filepath.Join(dir, strings.Repeat("x", maxSocketPath))
		}, api.InvalidRequest, "too long"},
		{"a directory that is too long for the private one", func(dir string) string {
			return filepath.Join(dir, strings.Repeat("d", maxSocketPath-len(dir)-4), "s")
		}, api.InvalidRequest, "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := listen(at(c.make(short(t))))
			if err == nil {
				s.Close()
			}
			if api.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestADirectoryOfAnotherUserIsRefused(t *testing.T) {
	dir := short(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 12345, -1); err != nil {
			t.Fatal(err)
		}
	} else {
		dir = "/proc/1" // root's: allowed, so that what is tested is the other rule below
	}
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = checkDir(dir, info, false)
	if os.Geteuid() == 0 && (err == nil || !strings.Contains(err.Error(), "another user")) {
		t.Errorf("a directory of uid 12345: %v", err)
	}
	if os.Geteuid() != 0 && err != nil {
		t.Errorf("a directory of root's: %v", err)
	}
}

func TestGroupFollowsTheDirectory(t *testing.T) {
	dir := filepath.Join(short(t), "run")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	want := os.Getegid()
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		groups = append(groups, 54321)
	}
	for _, g := range groups {
		want = g // the last: any but the process's own where there is one
	}
	if err := os.Chown(dir, -1, want); err != nil {
		t.Fatal(err)
	}
	s, err := listen(Socket{Path: filepath.Join(dir, "s"), Mode: 0o660, DirMode: 0o750})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var st unix.Stat_t
	if err := unix.Lstat(s.Path, &st); err != nil || int(st.Gid) != want {
		t.Errorf("the socket's group is %d, its directory's %d", st.Gid, want)
	}
}
