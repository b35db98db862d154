package peer

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/grant"
)

// groupsOf are the groups that the peer had when it connected, as the kernel
// kept them. A kernel that does not tell (before Linux 4.13) leaves what the
// user database says.
func (l *Lookup) groupsOf(c *net.UnixConn, who grant.Caller) ([]uint32, error) {
	groups, err := peerGroups(c)
	if errors.Is(err, unix.ENOPROTOOPT) {
		groups, err = l.listed(who.UID)
	}
	if err != nil {
		return nil, fmt.Errorf("peer: groups of the socket's peer: %w", err)
	}
	return together(who.GID, groups)
}

// peerGroups asks with as much room as the kernel says that it needs.
func peerGroups(c *net.UnixConn) (groups []uint32, err error) {
	err = control(c, func(fd int) error {
		for room := 64; room <= maxGroups; {
			groups = make([]uint32, room)
			needed, err := socketGroups(fd, groups)
			switch {
			case err == nil:
				groups = groups[:needed]
				return nil
			case !errors.Is(err, unix.ERANGE):
				return err
			}
			room = max(needed, room+1)
		}
		return errGroups
	})
	if err != nil {
		return nil, err
	}
	return groups, nil
}

// socketGroups fills groups, and says how many there are or, with ERANGE, would
// have been. x/sys has no call for an option that is a list.
func socketGroups(fd int, groups []uint32) (n int, err error) {
	const size = uint32(unsafe.Sizeof(groups[0]))
	length := uint32(len(groups)) * size
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&length)), 0)
	runtime.KeepAlive(groups)
	if errno != 0 {
		return int(length / size), errno
	}
	return min(int(length/size), len(groups)), nil
}
