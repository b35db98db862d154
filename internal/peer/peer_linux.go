package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/grant"
)

const procDir = "/proc"

func credentials(c *net.UnixConn) (ucred, error) {
	var u *unix.Ucred
	err := control(c, func(fd int) (err error) {
		u, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return ucred{}, fmt.Errorf("peer: credentials of the socket's peer: %w", err)
	}
	return ucred{uid: u.Uid, gid: u.Gid, pid: u.Pid}, nil
}

// identify reads the peer's process while a pidfd of the very process that
// connected shows it alive: a pid alone could be another process's by now.
func identify(c *net.UnixConn) (grant.Caller, error) {
	cred, err := credentials(c)
	if err != nil {
		return grant.Caller{}, err
	}
	who := grant.Caller{UID: cred.uid, GID: cred.gid, PID: max(cred.pid, 0), Contained: true}
	fd, err := peerPidfd(c)
	switch {
	case err == nil:
		defer unix.Close(fd)
	case !errors.Is(err, unix.ENOPROTOOPT):
		return who, nil // the process is gone: nothing can be said about it
	}
	p := readProcess(procDir, who.PID)
	if err == nil {
		if !alive(fd) {
			return who, nil
		}
	} else if !slices.Contains(p.uids, who.UID) || readProcess(procDir, who.PID).startedAt != p.startedAt {
		// Before Linux 6.5 there is no such pidfd: at least the number must
		// belong to a process of the user who connected.
		return who, nil
	}
	who.StartedAt, who.Program, who.Contained = p.startedAt, p.comm, p.contained
	return who, nil
}

func peerPidfd(c *net.UnixConn) (pidfd int, err error) {
	err = control(c, func(fd int) (err error) {
		pidfd, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		return err
	})
	return pidfd, err
}

// alive says whether the process of a pidfd has not exited: a pidfd becomes
// readable when it does.
func alive(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

func selfStartedAt() int64 { return readProcess(procDir, int32(os.Getpid())).startedAt }
func selfProgram() string  { return readProcess(procDir, int32(os.Getpid())).comm }
