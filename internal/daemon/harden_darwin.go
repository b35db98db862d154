package daemon

import (
	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
)

// conceal refuses debuggers for as long as the process lives. Reading another
// process's memory needs root, or a debugger's entitlement, on macOS anyway.
func conceal() { _ = unix.PtraceDenyAttach() }

// macOS has nothing like NO_NEW_PRIVS: nothing is dropped, and nothing is
// waited for.
func rightsDropped() bool { return true }
func dropRights() bool    { return true }

// inForce fills in what macOS says. It does not tell whether debuggers are
// refused, but refusing them once more is an answer.
func inForce(p *api.ProcessStatus) (notes []string) {
	p.Dumpable = unix.PtraceDenyAttach() != nil
	return []string{"macOS knows no NO_NEW_PRIVS"}
}

// mayDump: macOS writes cores by the limit alone.
func mayDump(_ bool, limit unix.Rlimit) bool { return limit.Max != 0 }
