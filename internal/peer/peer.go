// Package peer asks the kernel who is at the other end of a unix socket.
//
// Nothing that the other end says is believed: its user, group and process
// come from the socket itself, and what /proc tells about that process is read
// while the kernel says that it is still the one that connected.
package peer

import (
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"moldable.sh/aivault/internal/grant"
)

// Lookup identifies peers and remembers the names and groups of users. The zero Lookup
// is ready to use; its methods may be called concurrently.
type Lookup struct {
	mu     sync.Mutex
	names  map[uint32]cachedName
	groups map[uint32]cachedGroups
}

type cachedName struct {
	name  string
	until time.Time
}

const (
	nameFor  = time.Minute // a renamed user, or another group of theirs, is seen after so long
	maxNames = 1024
)

// Of names the process that connected. Operator is set for the daemon's own
// user and root, unless the peer lives in a container: its pid is 0 or
// unreadable, it has more than one NSpid, or its user namespace is another.
// A peer whose groups cannot be told is an error: it may be that one of them
// is what limits it.
func (l *Lookup) Of(c *net.UnixConn) (grant.Caller, error) {
	who, err := identify(c)
	if err != nil {
		return grant.Caller{}, err
	}
	who.Operator = isOperator(who, uint32(os.Geteuid()))
	who.User = l.name(who.UID)
	if who.Groups, err = l.groupsOf(c, who); err != nil {
		return grant.Caller{}, err
	}
	return who, nil
}

// UID is the user at the other end alone: cheaper than Of, and enough to count
// connections.
func UID(c *net.UnixConn) (uint32, error) {
	cred, err := credentials(c)
	return cred.uid, err
}

// isOperator is the one place that says who may change the vault.
func isOperator(who grant.Caller, own uint32) bool {
	return !who.Contained && (who.UID == own || who.UID == 0)
}

// Self is this process as a caller: the operator.
func Self() grant.Caller {
	uid := uint32(os.Geteuid())
	return grant.Caller{
		UID:       uid,
		GID:       uint32(os.Getegid()),
		Groups:    selfGroups(),
		PID:       int32(os.Getpid()),
		StartedAt: selfStartedAt(),
		User:      new(Lookup).name(uid),
		Program:   selfProgram(),
		Operator:  true,
	}
}

// Listener is who listens at the other end of a client's connection: the
// process that called listen, as the kernel recorded it then.
func Listener(c *net.UnixConn) (uid uint32, pid int32, err error) {
	cred, err := credentials(c)
	return cred.uid, cred.pid, err
}

// ucred is what the kernel keeps with a socket.
type ucred struct {
	uid, gid uint32
	pid      int32
}

// name is the system's name for uid, "" where it knows none. Lookups may go
// to a directory server, so they are remembered for a while.
func (l *Lookup) name(uid uint32) string {
	now := time.Now()
	l.mu.Lock()
	n, ok := l.names[uid]
	l.mu.Unlock()
	if ok && now.Before(n.until) {
		return n.name
	}
	n = cachedName{until: now.Add(nameFor)}
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		n.name = printable(u.Username)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil || len(l.names) >= maxNames {
		l.names = make(map[uint32]cachedName)
	}
	l.names[uid] = n
	return n.name
}

// printable keeps what can be shown in a log or on a terminal without a
// second thought. Program names are chosen by the peer.
func printable(s string) string {
	b := make([]byte, 0, min(len(s), 64))
	for i := range len(s) {
		if len(b) == cap(b) {
			break
		}
		c := s[i]
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}

// control runs fn with the connection's file descriptor.
func control(c *net.UnixConn, fn func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}
