package egress

import (
	"errors"
	"net"
)

// maxUnasked is how much an upstream may say, in bytes, on a connection while
// no call is made there: the ends of what was cancelled, a session ticket, an
// answer to our ping. HTTP/2 has frames that are answered or passed over
// whether or not anybody asked, as fast as they come.
const maxUnasked = 256 << 10

var errUnasked = errors.New("egress: the upstream goes on though nothing was asked")

// A listened is a connection on which is counted what nobody asked for.
type listened struct {
	net.Conn
	inUse   func() bool
	unasked int // one goroutine reads
}

// Read implements net.Conn.
func (l *listened) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.inUse() {
		l.unasked = 0
		return n, err
	}
	if l.unasked += n; l.unasked > maxUnasked {
		_ = l.Conn.Close()
		return 0, errUnasked
	}
	return n, err
}
