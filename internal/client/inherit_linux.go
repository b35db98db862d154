package client

import (
	"math"

	"golang.org/x/sys/unix"
)

// inheritNothing keeps descriptors that this process inherited itself from the
// daemon that it starts. Those that Go opened are kept by Go.
func inheritNothing() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == unix.ENOSYS || err == unix.EINVAL { // before Linux 5.11
		return inheritNothingOf("/proc/self/fd")
	}
	return err
}
