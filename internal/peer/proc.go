package peer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// process is what a proc file system says about one process.
type process struct {
	comm      string
	startedAt int64 // clock ticks since boot
	uids      []uint32
	contained bool
}

// maxProcFile bounds what is read of a file below /proc: a status file is
// about 1.5 KiB, a uid_map has at most 340 lines.
const maxProcFile = 64 << 10

var errProc = errors.New("peer: unexpected content below /proc")

// readProcess reads what proc says about pid, and compares its namespaces with
// those of self. Whatever cannot be read or understood counts as a container:
// such a peer is a caller, never an operator.
func readProcess(proc string, pid int32) process {
	p := process{contained: true}
	if pid <= 0 {
		return p
	}
	dir := filepath.Join(proc, strconv.Itoa(int(pid)))
	if b, err := readSmall(filepath.Join(dir, "stat")); err == nil {
		if comm, started, err := parseStat(b); err == nil {
			p.comm, p.startedAt = printable(comm), started
		}
	}
	b, err := readSmall(filepath.Join(dir, "status"))
	if err != nil {
		return p
	}
	var levels int
	if levels, p.uids, err = parseStatus(b); err != nil || levels != 1 {
		return p
	}
	if p.startedAt == 0 {
		return p // stat was not readable: the process is gone
	}
	p.contained = !sameUserNamespace(proc, dir)
	return p
}

// sameUserNamespace compares the world-readable uid_map, and the namespace
// link where the kernel lets it be read (the same user, or root).
func sameUserNamespace(proc, dir string) bool {
	own, err := readSmall(filepath.Join(proc, "self", "uid_map"))
	if err != nil {
		return false
	}
	theirs, err := readSmall(filepath.Join(dir, "uid_map"))
	if err != nil || !bytes.Equal(bytes.Join(bytes.Fields(own), []byte(" ")), bytes.Join(bytes.Fields(theirs), []byte(" "))) {
		return false
	}
	ownLink, err := os.Readlink(filepath.Join(proc, "self", "ns", "user"))
	if err != nil {
		return true // a kernel without user namespaces has no other one either
	}
	theirLink, err := os.Readlink(filepath.Join(dir, "ns", "user"))
	return err != nil || ownLink == theirLink
}

// parseStat reads /proc/PID/stat: "pid (comm) state ...", where comm may hold
// spaces and parentheses, and field 22 is the start time.
func parseStat(b []byte) (comm string, startedAt int64, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return "", 0, errProc
	}
	fields := bytes.Fields(b[end+1:]) // the first is field 3
	if len(fields) < 20 {
		return "", 0, errProc
	}
	startedAt, err = strconv.ParseInt(string(fields[19]), 10, 64)
	if err != nil || startedAt < 0 {
		return "", 0, errProc
	}
	return string(b[open+1 : end]), startedAt, nil
}

// parseStatus counts the pid namespaces (NSpid) in which the process has a
// number, seen from here, and lists its user ids. Exactly one line of each is
// expected: the Name line is the process's own, and its newlines are escaped
// by the kernel, so that it cannot forge another.
func parseStatus(b []byte) (levels int, uids []uint32, err error) {
	nspid, uid := 0, 0
	for line := range bytes.Lines(b) {
		key, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		switch string(key) {
		case "NSpid":
			nspid++
			for _, f := range bytes.Fields(rest) {
				if _, err := strconv.ParseUint(string(f), 10, 31); err != nil {
					return 0, nil, errProc
				}
				levels++
			}
		case "Uid":
			uid++
			for _, f := range bytes.Fields(rest) {
				n, err := strconv.ParseUint(string(f), 10, 32)
				if err != nil {
					return 0, nil, errProc
				}
				uids = append(uids, uint32(n))
			}
		}
	}
	if nspid != 1 || uid != 1 || levels == 0 || len(uids) != 4 {
		return 0, nil, errProc
	}
	return levels, uids, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProcFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxProcFile {
		return nil, errProc
	}
	return b, nil
}
