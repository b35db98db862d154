package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
)

const socketName = "aivaultd.sock"

// A Socket is one path to listen at.
type Socket struct {
	Path    string
	Mode    fs.FileMode
	DirMode fs.FileMode
	Agent   bool // nobody on it is operator
}

// socket is a listening Socket.
type socket struct {
	Socket
	*net.UnixListener
	dev, ino uint64 // of the file: only our own is removed
}

// listen makes the socket. It is bound in a directory that nobody else can
// enter and moved into place once its mode is right, so that there is no
// instant at which it can be reached by more than the mode says. What a
// crashed daemon left is replaced; a socket at which somebody listens is not.
func listen(s Socket) (_ *socket, err error) {
	dir := filepath.Dir(s.Path)
	private := filepath.Join(dir, "."+strings.ToLower(rand.Text()[:6]))
	bound := filepath.Join(private, "s")
	if longest := max(len(s.Path), len(bound)); longest > maxSocketPath {
		return nil, api.Errorf(api.InvalidRequest, "the socket's path %q is too long by %d bytes for this system", s.Path, longest-maxSocketPath).
			WithHint("choose a shorter one with AIVAULTD_SOCKET, or a shorter AIVAULT_DIR")
	}
	if err := prepareDir(dir, s.DirMode); err != nil {
		return nil, err
	}
	if err := checkFree(s.Path); err != nil {
		return nil, err
	}
	fail := func(err error) error { return api.Errorf(api.Internal, "daemon: listen at %q: %w", s.Path, err) }
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, fail(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, fail(err)
	}
	l.SetUnlinkOnClose(false) // its name changes below
	made, err := place(s, bound)
	if err != nil {
		return nil, errors.Join(fail(err), l.Close())
	}
	made.UnixListener = l
	return made, nil
}

// place gives the bound socket its mode and group, and moves it to its path.
func place(s Socket, bound string) (*socket, error) {
	if s.Mode&0o070 != 0 {
		// The directory's group is the one that is let in, also where files
		// do not inherit it.
		if err := followGroup(filepath.Dir(s.Path), bound); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(bound, s.Mode); err != nil {
		return nil, err
	}
	made := &socket{Socket: s}
	var err error
	if made.dev, made.ino, err = inode(bound); err != nil {
		return nil, err
	}
	return made, os.Rename(bound, s.Path)
}

func followGroup(dir, path string) error {
	var want, have unix.Stat_t
	if err := errors.Join(unix.Lstat(dir, &want), unix.Lstat(path, &have)); err != nil {
		return err
	}
	if want.Gid == have.Gid {
		return nil
	}
	if err := unix.Lchown(path, -1, int(want.Gid)); err != nil {
		return fmt.Errorf("give the socket to its directory's group %d: %w", want.Gid, err)
	}
	return nil
}

// remove takes the socket's file away if it is still ours: another daemon may
// have replaced it.
func (s *socket) remove() {
	if dev, ino, err := inode(s.Path); err == nil && dev == s.dev && ino == s.ino {
		_ = os.Remove(s.Path)
	}
}

func inode(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Dev), st.Ino, nil
}

// checkFree refuses a path at which somebody listens, or which is no socket.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return api.Errorf(api.Internal, "daemon: look at the socket %q: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return api.Errorf(api.AlreadyExists, "%q is in the way: it is no socket", path).WithHint("move it away, or choose another path with --socket")
	case answers(path):
		return api.Errorf(api.AlreadyExists, "another daemon listens at %q", path).WithHint("aivault daemon stop")
	}
	return nil
}

// answers says whether anybody listens at path. A socket whose queue is full
// has a listener; only a refused connection shows that there is none.
func answers(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return true
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
}

// prepareDir makes the socket's directory, or checks the one that is there.
func prepareDir(dir string, mode fs.FileMode) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.MkdirAll(dir); err != nil {
			return api.Errorf(api.Internal, "daemon: make the socket's directory: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return api.Errorf(api.Internal, "daemon: make the socket's directory: %w", err)
		}
		info, err = os.Lstat(dir)
	}
	if err != nil {
		return api.Errorf(api.Internal, "daemon: look at the socket's directory: %w", err)
	}
	if err := checkDir(dir, info, mode&0o020 != 0); err != nil {
		return err
	}
	return checkAbove(dir)
}

// checkDir refuses a directory in which somebody else could put another
// socket in ours' place.
func checkDir(dir string, info fs.FileInfo, group bool) error {
	refuse := func(why string) *api.Error {
		return api.Errorf(api.PolicyViolation, "the socket's directory %q %s", dir, why)
	}
	switch perm := info.Mode().Perm(); {
	case info.Mode()&fs.ModeSymlink != 0:
		return refuse("is a symbolic link")
	case !info.IsDir():
		return refuse("is no directory")
	case !ownedByUs(info):
		return refuse("belongs to another user")
	case perm&0o002 != 0:
		return refuse(fmt.Sprintf("can be changed by everyone (mode %04o)", perm)).WithHint("chmod o-w %q", dir)
	case perm&0o020 != 0 && !group:
		return refuse(fmt.Sprintf("can be changed by its group (mode %04o)", perm)).WithHint("chmod g-w %q, or AIVAULTD_SOCKET_DIR_MODE=0770 if that is meant", dir)
	}
	return nil
}

// checkAbove refuses a directory that another user could rename, because one
// above it belongs to them or is open to everyone without the sticky bit.
func checkAbove(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return api.Errorf(api.Internal, "daemon: look at the socket's directory: %w", err)
	}
	for parent := filepath.Dir(real); ; parent = filepath.Dir(parent) {
		info, err := os.Lstat(parent)
		switch {
		case err != nil:
			return api.Errorf(api.Internal, "daemon: look above the socket's directory: %w", err)
		case info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
			return api.Errorf(api.PolicyViolation, "%q, above the socket %q, can be changed by everyone", parent, dir).WithHint("chmod o-w %q", parent)
		case !ownedByUs(info):
			return api.Errorf(api.PolicyViolation, "%q, above the socket's directory %q, belongs to another user", parent, dir)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int64(st.Uid) == int64(os.Geteuid()))
}

// acceptPause is how long a listener waits after a failure that may pass,
// such as too many open files.
const acceptPause = 20 * time.Millisecond
