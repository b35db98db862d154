package quota

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// systemClock is the system's clocks. The boot is asked for once: no process
// outlives it.
func systemClock() func() (Now, error) {
	id := sync.OnceValues(bootID)
	return func() (Now, error) {
		boot, err := id()
		if err != nil {
			return Now{}, fmt.Errorf("the system's boot cannot be told: %w", err)
		}
		var ts unix.Timespec
		if err := unix.ClockGettime(bootClock, &ts); err != nil {
			return Now{}, fmt.Errorf("the boot clock cannot be read: %w", err)
		}
		return Now{BootID: boot, SinceBoot: time.Duration(ts.Nano()), Wall: time.Now()}, nil
	}
}
