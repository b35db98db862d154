package quota

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bootClock counts from the boot on, also while the machine sleeps.
const bootClock = unix.CLOCK_BOOTTIME

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
