package doctor

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// daemon says who answers, and whether it is what was installed.
func (e *exam) daemon() {
	const id = "daemon"
	d := e.status.Daemon
	switch own := e.cfg.Client.Build.Version; {
	case e.client == nil: // said already
	case d == nil:
		e.add(id, OK, "no daemon runs: this process looked itself", "")
	case d.Version != own && e.operator():
		e.add(id, Warning, fmt.Sprintf("the daemon is version %s, and this program %s", d.Version, own), "aivault restart")
	case d.Version != own:
		e.add(id, OK, fmt.Sprintf("the daemon is version %s, and this program %s: its operator can change that", d.Version, own), "")
	default:
		e.add(id, OK, fmt.Sprintf("version %s answers", d.Version), "")
	}
}

// process says which of the guards around keys in memory are in force where
// the vault is open.
func (e *exam) process() {
	const id = "process"
	if !e.operator() {
		e.add(id, Skipped, "what protects the daemon's memory: "+e.unseen(), "")
		return
	}
	p := e.status.Process
	if p == nil {
		return // an older daemon: said already
	}
	missing := 0
	for _, guard := range []struct {
		missing bool
		id, so  string
	}{
		{p.Dumpable, "dumpable", "other processes of this user can read its memory"},
		{p.CoreDumps, "cores", "a crash can write its memory to disk"},
		{!p.LockedMemory, "locked", "keys can be swapped to disk"},
		{!p.NoNewPrivs && runtime.GOOS == "linux", "privileges", "what it starts can gain rights"},
		{!p.CleanEnv, "environment", "its environment can steer it"},
	} {
		if guard.missing {
			missing++
			what := "the process that holds the keys: " + guard.so
			if p.Note != "" {
				what += " (" + p.Note + ")"
			}
			e.add(id+"."+guard.id, Warning, what, again(e.status.Daemon != nil))
		}
	}
	switch {
	case missing > 0:
	case p.Note != "" && runtime.GOOS == "linux":
		e.add(id, Warning, "the process that holds the keys: "+p.Note, again(e.status.Daemon != nil))
	default:
		e.add(id, OK, "its memory is closed to other processes, locked, and in no core dump", "")
	}
}

// again starts anew the process that holds keys.
func again(daemon bool) string {
	if daemon {
		return "aivault restart"
	}
	return "aivault daemon start"
}

// Of locked memory a process needs some pages for each vault that it opens,
// and a few more while keys are replaced.
const enoughToLock = 64 << 10

// memoryLimit says whether a daemon that this user starts may lock its keys.
func (e *exam) memoryLimit() {
	const id = "memory.limit"
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		e.add(id, Skipped, "the system does not say how much memory may be locked", "")
		return
	}
	if r.Cur >= enoughToLock {
		e.add(id, OK, "what this user starts may lock its keys in memory", "")
		return
	}
	hint := fmt.Sprintf("ulimit -S -l %d && aivault restart", enoughToLock>>10)
	if r.Max < enoughToLock {
		hint = fmt.Sprintf("sudo prlimit --pid $$ --memlock=%d && aivault restart", enoughToLock)
	}
	e.add(id, Warning, fmt.Sprintf("what this user starts may lock %d bytes of memory: keys can be swapped to disk", r.Cur), hint)
}
