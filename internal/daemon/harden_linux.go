package daemon

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
)

// conceal makes the process not dumpable: then the kernel writes no core of
// it, also not to a program that collects cores, and its memory, environment
// and descriptors are root's, who alone may trace it.
func conceal() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// dropRights keeps this thread, and a program that it executes, from gaining
// rights by a set-user-id file or one with capabilities. It is the thread's
// own: what holds for the whole of a process has to be there when it starts.
func dropRights() bool { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == nil }

// rightsDropped says whether this program was started so.
func rightsDropped() bool {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && n == 1
}

// inForce fills in what Linux says, and tells what takes away from it.
func inForce(p *api.ProcessStatus) (notes []string) {
	p.Dumpable = true
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil {
		p.Dumpable = n != 0
	}
	p.NoNewPrivs = everyThreadDropped()
	if pid := tracer(); pid != 0 {
		// It came before Harden, or is root: it sees everything.
		notes = append(notes, fmt.Sprintf("process %d traces it", pid))
	}
	return notes
}

// everyThreadDropped asks for each thread, because it is a thread's property.
func everyThreadDropped() bool {
	const tasks = "/proc/self/task"
	entries, err := os.ReadDir(tasks)
	if err != nil || len(entries) == 0 {
		return false
	}
	for _, e := range entries {
		b, err := os.ReadFile(tasks + "/" + e.Name() + "/status")
		if err != nil {
			continue // the thread ended
		}
		if statusField(b, "NoNewPrivs") != 1 {
			return false
		}
	}
	return true
}

// tracer is the process that traces this one, 0 where none does.
func tracer() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return max(statusField(b, "TracerPid"), 0)
}

// statusField is a number of a status file of /proc, -1 where it is missing.
func statusField(status []byte, name string) int {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(rest))); err == nil {
				return n
			}
		}
	}
	return -1
}

// mayDump says whether a crash may write this process's memory: of one that is
// not dumpable nothing is written, and a program that collects cores gets them
// whatever the limit is.
func mayDump(dumpable bool, limit unix.Rlimit) bool {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	collected := err != nil || bytes.HasPrefix(pattern, []byte("|"))
	return dumpable && (limit.Max != 0 || collected)
}
