package quota

import "golang.org/x/sys/unix"

// bootClock is mach_continuous_time: it counts from the boot on, also while
// the machine sleeps, and no adjustment of the wall clock touches it.
const bootClock = unix.CLOCK_MONOTONIC_RAW

func bootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }
