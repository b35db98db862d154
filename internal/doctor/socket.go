package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/durable"
)

// sockets says who can connect.
func (e *exam) sockets() {
	paths := []string{e.cfg.Client.Env.OwnSocket}
	if r, ok := daemon.ReadRunning(e.cfg.Client.Env.Dir); ok {
		paths = append(paths, r.Sockets...)
	}
	if d := e.status.Daemon; d != nil && d.Socket != "" {
		paths = append(paths, d.Socket)
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		e.socket(p)
	}
}

func (e *exam) socket(path string) {
	const id = "socket.reach"
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		e.add(id, Skipped, fmt.Sprintf("%s cannot be looked at by this user", path), "")
		return
	}
	if info.Mode()&fs.ModeSocket == 0 {
		remove := "rm "
		if info.IsDir() {
			remove = "rmdir "
		}
		e.add(id, Problem, fmt.Sprintf("%s is no socket", path), remove+durable.ShellQuote(path))
		return
	}
	var above *durable.PermissionError
	if err := durable.CheckAbove(path); errors.As(err, &above) {
		e.add(id, Problem, fmt.Sprintf("%s, above the socket %s", above.Error(), path), above.Fix)
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o007 != 0:
		e.add(id, Problem, fmt.Sprintf("every user of this machine can connect to %s (mode %04o)", path, mode), "chmod o= "+durable.ShellQuote(path))
	case mode&0o070 != 0:
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			e.add(id, Skipped, fmt.Sprintf("the group of %s cannot be told", path), "")
			return
		}
		e.add(id, OK, fmt.Sprintf("to %s can connect: %s", path, e.members(st.Gid)), "")
	default:
		e.add(id, OK, fmt.Sprintf("to %s can connect: this user and root", path), "")
	}
}

// maxGroupFile bounds what is read of the list of groups.
const maxGroupFile = 1 << 20

// members names a group and, as far as this machine's own file tells, who is
// in it beside those whose primary group it is.
func (e *exam) members(gid uint32) string {
	number := strconv.FormatUint(uint64(gid), 10)
	name := "group " + number
	if g, err := user.LookupGroupId(number); err == nil {
		name = "group " + g.Name
	}
	f, err := os.Open(e.cfg.groupFile)
	if err != nil {
		return name
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxGroupFile))
	if err != nil {
		return name
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) == 4 && fields[2] == number && fields[3] != "" {
			return name + " (" + strings.ReplaceAll(fields[3], ",", ", ") + ")"
		}
	}
	return name + " (no further members are listed)"
}

// grants says whether others who can connect may call everything.
func (e *exam) grants(ctx context.Context) {
	const id = "grants"
	d := e.status.Daemon
	if d == nil || !d.Shared || !e.operator() {
		return // nobody else can connect, or it is not ours to see
	}
	if !e.open() {
		e.add(id, Skipped, "grants: "+e.unseen(), "")
		return
	}
	list, err := e.client.Grants(ctx)
	switch {
	case err != nil:
		e.add(id, Problem, api.AsError(err).Message, orElse(api.AsError(err).Hint, "aivault grant list"))
	case list.Default == api.GrantAllow && len(list.Grants) == 0:
		e.add(id, Warning, "other users can connect, and without a grant each of them may make every call", "aivault grant default deny")
	case list.Default == api.GrantAllow:
		e.add(id, OK, "other users can connect: those without a grant of theirs may make every call that is not a tenant's", "")
	default:
		e.add(id, OK, "other users can connect, and may do what they were granted", "")
	}
}
