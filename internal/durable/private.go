package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A PermissionError says why a file or directory is not private enough, and
// Fix is the command that mends it.
type PermissionError struct{ Path, Why, Fix string }

// Error names the path, quoted, and the reason.
func (e *PermissionError) Error() string { return fmt.Sprintf("%+q %s", e.Path, e.Why) }

// CheckPrivate refuses (with a PermissionError) a file or directory that is a
// symbolic link or something else than a file or directory, that another user
// but root owns, or that others can read, write or enter. A missing one is
// os.ErrNotExist.
func CheckPrivate(path string) error {
	path = filepath.Clean(path) // a trailing slash would follow a link
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return checkInfo(path, info, os.Geteuid())
}

// CheckPrivateFile is CheckPrivate for a file that is open already, so that
// what is checked is what is used; path is the name to report. A directory is
// refused.
func CheckPrivateFile(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return directory(path)
	}
	return checkInfo(filepath.Clean(path), info, os.Geteuid())
}

// CheckOpened explains why a file could not be opened: a PermissionError where
// something else than a file has its name, and else err.
func CheckOpened(path string, err error) error {
	if !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENXIO) {
		return err
	}
	info, failed := os.Lstat(path)
	if failed == nil && info.IsDir() {
		return directory(path)
	}
	if perm := CheckPrivate(path); perm != nil {
		return perm
	}
	return err
}

// directory refuses one that has the name of a file. Whose it is nobody knows:
// it is moved away, whatever is in it.
func directory(path string) error {
	path = absolute(path)
	return &PermissionError{path, "is a directory", PutAside(path)}
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func checkInfo(path string, info fs.FileInfo, euid int) error {
	refuse := func(why string, command ...string) error {
		path = absolute(path)
		return &PermissionError{path, why, strings.Join(command, " ") + " " + ShellQuote(path)}
	}
	mode := info.Mode()
	switch {
	case mode&fs.ModeSymlink != 0:
		return refuse("is a symbolic link", "rm")
	case !mode.IsRegular() && !mode.IsDir():
		return refuse("is neither a file nor a directory", "rm")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return refuse("has an owner that cannot be told", "ls -l")
	}
	if st.Uid != 0 && int64(st.Uid) != int64(euid) {
		chown := []string{"chown", strconv.Itoa(euid)}
		if euid != 0 {
			chown = append([]string{"sudo"}, chown...)
		}
		return refuse(fmt.Sprintf("belongs to another user (uid %d)", st.Uid), chown...)
	}
	if mode.Perm()&0o077 == 0 {
		return nil
	}
	if mode.IsDir() {
		return refuse(fmt.Sprintf("can be entered, read or changed by others (mode %04o)", mode.Perm()), "chmod 700")
	}
	return refuse(fmt.Sprintf("can be read or changed by others (mode %04o)", mode.Perm()), "chmod 600")
}

// ShellQuote makes one word for sh of s; a name with control or other unusual
// characters is written so that bash and zsh read it and no terminal acts on it.
func ShellQuote(s string) string {
	plain, printable := s != "", true
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_-./+,:@%", c) >= 0:
		case ' ' <= c && c <= '~':
			plain = false
		default:
			plain, printable = false, false
		}
	}
	switch {
	case plain:
		return s
	case printable:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case ' ' <= c && c <= '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String() + "'"
}
