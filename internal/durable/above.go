package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through, as the kernel
// counts them.
const maxLinks = 40

// CheckAbove refuses (with a PermissionError) a path whose file or directory
// another user could rename, or replace by one of their own: every directory
// above it must belong to root or to this user, and may be changed by others
// only where the sticky bit keeps them to what is theirs. Of groups, only the
// directory's owner's own is let in, the one with the owner's name that many
// systems make for each user. Links on the way are followed and must belong to
// root or this user too. What is missing on the way is no error: whoever makes
// it makes it private.
func CheckAbove(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	euid := os.Geteuid()
	at, links := "/", 0
	for rest := append([]string{"/"}, strings.Split(filepath.Dir(path), "/")...); len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := checkParent(next, info, euid); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

func checkParent(path string, info fs.FileInfo, euid int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	refuse := func(why, command string) error {
		if euid != 0 && (!ok || int64(st.Uid) != int64(euid)) {
			command = "sudo " + command // what is not ours is root's to change
		}
		return &PermissionError{path, why, command + " " + ShellQuote(path)}
	}
	if !ok {
		return refuse("has an owner that cannot be told", "ls -ld")
	}
	if st.Uid != 0 && int64(st.Uid) != int64(euid) {
		return refuse(fmt.Sprintf("belongs to another user (uid %d), who could put something else in its place", st.Uid), "chown -h root")
	}
	mode := info.Mode()
	if !mode.IsDir() || mode&fs.ModeSticky != 0 {
		return nil
	}
	group := mode.Perm()&0o020 != 0 && !isOwnGroup(st.Uid, st.Gid)
	what := fmt.Sprintf("(mode %04o), who could put something else in its place", mode.Perm())
	switch {
	case mode.Perm()&0o002 != 0 && group:
		return refuse("can be changed by everyone "+what, "chmod go-w")
	case mode.Perm()&0o002 != 0:
		return refuse("can be changed by everyone "+what, "chmod o-w")
	case group:
		return refuse("can be changed by its group "+what, "chmod g-w")
	}
	return nil
}

// isOwnGroup says whether a group is the one that was made for one user alone:
// that user's primary group, of the same name.
func isOwnGroup(uid, gid uint32) bool {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil || u.Gid != strconv.FormatUint(uint64(gid), 10) {
		return false
	}
	g, err := user.LookupGroupId(u.Gid)
	return err == nil && g.Name == u.Username
}
