package term

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Unread returns once nobody reads what is written to f any more, or when ctx
// has ended; it says which. A writer that waits for news would learn of the
// first only when it next has something to write. What is no pipe or socket
// is read as long as ctx lasts.
func Unread(ctx context.Context, f any) bool {
	file, ok := f.(*os.File)
	if !ok || file == nil {
		<-ctx.Done()
		return false
	}
	raw, err := file.SyscallConn()
	if err != nil {
		<-ctx.Done()
		return false
	}
	for ctx.Err() == nil {
		gone := false
		// Asked for nothing, poll tells of errors and hang-ups alone.
		err := raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}}
			_, _ = unix.Poll(p, 0)
			gone = p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		})
		if gone || err != nil {
			return gone
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return false
}
