package peer

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/grant"
)

func credentials(c *net.UnixConn) (ucred, error) {
	var u ucred
	err := control(c, func(fd int) error {
		x, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return err
		}
		pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		if err != nil {
			return err
		}
		u = ucred{uid: x.Uid, pid: int32(pid)}
		if x.Ngroups > 0 {
			u.gid = x.Groups[0]
		}
		return nil
	})
	if err != nil {
		return ucred{}, fmt.Errorf("peer: credentials of the socket's peer: %w", err)
	}
	return u, nil
}

// identify: macOS has no pid or user namespaces, so that no peer is contained.
func identify(c *net.UnixConn) (grant.Caller, error) {
	cred, err := credentials(c)
	if err != nil {
		return grant.Caller{}, err
	}
	who := grant.Caller{UID: cred.uid, GID: cred.gid, PID: cred.pid}
	who.Program, who.StartedAt = kinfo(cred.pid)
	return who, nil
}

// kinfo is a process's name and its start in microseconds since 1970 (macOS
// does not count ticks since boot).
func kinfo(pid int32) (comm string, startedAt int64) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", int(pid))
	if err != nil {
		return "", 0
	}
	t := k.Proc.P_starttime
	return printable(unix.ByteSliceToString(k.Proc.P_comm[:])), t.Sec*1e6 + int64(t.Usec)
}

func selfStartedAt() int64 { _, t := kinfo(int32(os.Getpid())); return t }
func selfProgram() string  { s, _ := kinfo(int32(os.Getpid())); return s }
