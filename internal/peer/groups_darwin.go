package peer

import (
	"fmt"
	"net"

	"moldable.sh/aivault/internal/grant"
)

// groupsOf are the groups of the peer's user. The kernel keeps no more than
// sixteen of a process's with a socket, so that the user database is asked.
func (l *Lookup) groupsOf(_ *net.UnixConn, who grant.Caller) ([]uint32, error) {
	groups, err := l.listed(who.UID)
	if err != nil {
		return nil, fmt.Errorf("peer: groups of the socket's peer: %w", err)
	}
	return together(who.GID, groups)
}
