package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCheckPrivate(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.Mkdir(at("sub dir"), 0o700),
		os.Symlink(at("file"), at("link")), os.Symlink(at("sub dir"), at("dirlink")), syscall.Mkfifo(at("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []fs.FileMode{0o600, 0o400, 0o700, 0o000} {
		if err := errors.Join(os.Chmod(at("file"), m), CheckPrivate(at("file"))); err != nil {
			t.Errorf("mode %o: %v", m, err)
		}
	}
	for _, m := range []fs.FileMode{0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o644, 0o660, 0o777} {
		refused(t, os.Chmod(at("file"), m), at("file"), "by others (mode 0", "chmod 600 "+at("file"))
	}
	if err := CheckPrivate(at("sub dir")); err != nil {
		t.Error(err)
	}
	for _, m := range []fs.FileMode{0o701, 0o710, 0o750, 0o755, 0o770} {
		refused(t, os.Chmod(at("sub dir"), m), at("sub dir"), "can be entered", "chmod 700 '"+at("sub dir")+"'")
	}
	refused(t, nil, at("link"), "is a symbolic link", "rm "+at("link"))
	refused(t, nil, at("dirlink"), "is a symbolic link", "rm "+at("dirlink"))
	refused(t, nil, at("dirlink")+"/", "is a symbolic link", "rm "+at("dirlink"))
	refused(t, nil, at("fifo"), "is neither a file nor a directory", "rm "+at("fifo"))
	if err := CheckPrivate(at("none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func refused(t *testing.T, setup error, path, why, fix string) {
	t.Helper()
	err := CheckPrivate(path)
	var perm *PermissionError
	if setup != nil || !errors.As(err, &perm) {
		t.Errorf("%s: %v, %v", path, setup, err)
		return
	}
	if !strings.Contains(perm.Error(), why) || perm.Fix != fix {
		t.Errorf("got  %s; %s\nwant %s; %s", perm, perm.Fix, why, fix)
	}
}

func TestCheckPrivateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Chmod(0o600), CheckPrivateFile(f, path)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Chmod(0o640)); err != nil {
		t.Fatal(err)
	}
	var perm *PermissionError
	if err := CheckPrivateFile(f, path); !errors.As(err, &perm) {
		t.Errorf("0640: %v", err)
	}
}

// A directory is no file, and what else has a file's name is told.
func TestNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := PermissionError{path, "is a directory", "mv -n " + path + " " + path + ".aside"}
	var perm *PermissionError
	if err := CheckPrivateFile(f, path); !errors.As(err, &perm) || *perm != want {
		t.Errorf("opened: %v", err)
	}
	_, err = os.OpenFile(path, os.O_RDWR, 0)
	if err := CheckOpened(path, err); !errors.As(err, &perm) || *perm != want {
		t.Errorf("not opened: %v", err)
	}
	if err := CheckOpened(path, fs.ErrNotExist); err != fs.ErrNotExist {
		t.Errorf("another error: %v", err)
	}
}

// ownedBy is a private file's info with another owner: making a real one
// would need root.
type ownedBy struct {
	fs.FileInfo
	uid uint32
}

func (o ownedBy) Sys() any { return &syscall.Stat_t{Uid: o.uid} }

func TestOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		owner uint32
		euid  int
		fix   string
	}{
		{1000, 1000, ""}, {0, 1000, ""}, {0, 0, ""},
		{1001, 1000, "sudo chown 1000 " + path},
		{1000, 0, "chown 0 " + path},
		{4294967295, 1000, "sudo chown 1000 " + path},
	} {
		err := checkInfo(path, ownedBy{info, c.owner}, c.euid)
		var perm *PermissionError
		if errors.As(err, &perm) != (c.fix != "") || perm != nil && perm.Fix != c.fix {
			t.Errorf("owner %d, euid %d: %v", c.owner, c.euid, err)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/home/u/.aivault/x-1": "/home/u/.aivault/x-1",
		"":                     "''",
		"/a b":                 "'/a b'",
		"/it's":                `'/it'\''s'`,
		"/$(x)`y`;":            "'/$(x)`y`;'",
		"/a\nb\x1b[2J'\\":      `$'/a\012b\033[2J\'\\'`,
		"/é":                   `$'/\303\251'`,
		"~/x":                  "'~/x'",
	} {
		if got := ShellQuote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	if e := (&PermissionError{Path: "/a\x1b\u202e", Why: "is odd"}); e.Error() != `"/a\x1b\u202e" is odd` {
		t.Errorf("unquoted: %s", e)
	}
}
