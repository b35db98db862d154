//go:build system

package main_test

import (
	"net"
	"runtime"
	"syscall"
	"time"
)

// dialAs connects as another user. The kernel names the peer of a socket by
// the thread that connected: this one changes its user alone, keeps its group,
// by which it may open the socket, and ends.
func dialAs(uid uint32, path string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread goes with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{nil, errno}
			return
		}
		c, err := net.DialTimeout("unix", path, 5*time.Second)
		done <- result{c, err}
	}()
	r := <-done
	return r.conn, r.err
}
