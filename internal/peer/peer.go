// Package peer asks the kernel who is at the other end of a unix socket.
package peer

import (
	"net"

	"moldable.sh/aivault/internal/grant"
)

// Of names the process that connected. Operator is set for the daemon's own
// user and root, unless the peer lives in a container: its pid is 0 or
// unreadable, it has more than one NSpid, or its user namespace is another.
func Of(c *net.UnixConn) (grant.Caller, error) { panic("contract") }

// Self is this process as a caller: the operator.
func Self() grant.Caller { panic("contract") }

// Listener is who listens at the other end of a client's connection.
func Listener(c *net.UnixConn) (uid uint32, pid int32, err error) { panic("contract") }
