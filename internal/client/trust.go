package client

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/peer"
	"moldable.sh/aivault/internal/strictjson"
)

// sharedFile is where `aivault setup agent-access` writes, as root, which user
// runs the shared daemon.
const sharedFile = "/etc/aivault/shared.json"

// shared is its content.
type shared struct {
	DaemonUID *uint32 `json:"daemonUid"`
	Socket    string  `json:"socket,omitzero"` // "": the system's shared socket
}

// vouch refuses a listener that is neither this user, nor root, nor the user
// whom root named for this socket.
func vouch(conn *net.UnixConn, path, file string) error {
	uid, pid, err := peer.Listener(conn)
	if err != nil {
		return api.Errorf(api.PolicyViolation, "the kernel does not say who listens at %q: nothing is sent there", path)
	}
	if file == "" {
		file = sharedFile
	}
	if trusted(uid, uint32(os.Geteuid()), path, file) {
		return nil
	}
	return stranger(uid, pid, uint32(os.Geteuid()), path)
}

// stranger is why nothing was sent to a listener that is not trusted. A daemon
// takes its own user and root for its operator: whoever is neither would hear
// the same from the daemon.
func stranger(uid uint32, pid int32, own uint32, path string) error {
	if own != 0 {
		return api.Errorf(api.OperatorRequired, "this is for the operator: uid %d (pid %d) listens at %q, and nothing was sent to it", uid, pid, path).
			WithHint("run this as the user who owns the daemon")
	}
	return api.Errorf(api.PolicyViolation, "uid %d (pid %d) listens at %q, and nothing says that it may be trusted", uid, pid, path).
		WithHint("run this as the user who owns the daemon")
}

// trusted says whether a listener of user uid may have what user own sends to
// the socket at path.
func trusted(uid, own uint32, path, file string) bool {
	if uid == own || uid == 0 {
		return true
	}
	named, ok := sharedDaemon(file, path)
	return ok && named == uid
}

// sharedDaemon reads whom root named as the daemon's user for a socket. Only
// what root alone can write counts: the file, and the directory it is in.
func sharedDaemon(file, socket string) (uid uint32, ok bool) {
	dir, err := os.Lstat(filepath.Dir(file))
	if err != nil || !dir.IsDir() || !rootsAlone(dir) {
		return 0, false
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !rootsAlone(info) {
		return 0, false
	}
	return parseShared(f, socket)
}

func parseShared(r io.Reader, socket string) (uid uint32, ok bool) {
	var s shared
	if strictjson.Read(r, 4<<10, &s) != nil || s.DaemonUID == nil {
		return 0, false
	}
	return *s.DaemonUID, s.Socket == "" || s.Socket == socket
}

func rootsAlone(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode().Perm()&0o022 == 0
}
