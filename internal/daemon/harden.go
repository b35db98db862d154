package daemon

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// Harden closes this process's memory to the other processes of its user, and
// keeps it out of core dumps. It comes before anything secret is read. The
// kernel undoes the first when a program is executed, so that the process that
// Cleanse started does it again.
//
// What a system does not let it do is no error: status, strength and doctor
// say what is in force.
func Harden() {
	conceal()
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // the hard limit too: nobody raises it again
}

// WithoutRights calls start, which starts a process, so that neither that
// process nor what it starts can gain rights by executing a file: a daemon
// that was started so need not start again for it.
func WithoutRights(start func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		dropRights()
		ended <- start()
	}()
	return <-ended
}

// processStatus is what is in force in this process, as the kernel says it
// now. held says that the vault holds keys, and locked that all of them are in
// locked memory; while it holds none, it is tried whether they would be.
func processStatus(held, locked bool) *api.ProcessStatus {
	p := &api.ProcessStatus{CoreDumps: true}
	notes := inForce(p)
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil {
		p.CoreDumps = mayDump(p.Dumpable, core)
	}
	if p.LockedMemory = locked; !held {
		p.LockedMemory = secret.CanLock()
	}
	if !p.LockedMemory {
		notes = append(notes, "keys are not in locked memory: "+lockLimit())
	}
	if _, keys, dirty := split(os.Environ(), nil); dirty || len(keys) > 0 {
		notes = append(notes, "its environment is its parent's")
	} else {
		p.CleanEnv = true
	}
	p.Note = strings.Join(notes, "; ")
	return p
}

// lockLimit says how much memory this process may lock.
func lockLimit() string {
	var r unix.Rlimit
	switch err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); {
	case err != nil:
		return "the system does not say how many may be"
	case r.Cur >= 1<<40:
		return "the system refuses it"
	}
	return fmt.Sprintf("RLIMIT_MEMLOCK is %d bytes", r.Cur)
}
