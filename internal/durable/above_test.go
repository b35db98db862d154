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

func TestCheckAbove(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(MkdirAll(at("open/vault")), os.Symlink(at("open/vault"), at("link")), os.Symlink("open", at("rel")),
		os.Symlink("open/../open/./vault", at("dots")), os.Symlink("loop", at("loop"))); err != nil {
		t.Fatal(err)
	}
	want := func(path, why, fix string) {
		t.Helper()
		var perm *PermissionError
		switch err := CheckAbove(path); {
		case fix == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case fix != "" && (!errors.As(err, &perm) || perm.Path != at("open") || !strings.Contains(perm.Why, why) || perm.Fix != fix+" "+at("open")):
			t.Errorf("%s: %#v, want %q", path, err, fix)
		}
	}
	group, both := "chmod g-w", "chmod go-w"
	if isOwnGroup(uint32(os.Geteuid()), uint32(os.Getegid())) {
		group, both = "", "chmod o-w"
	}
	for _, c := range []struct {
		mode     fs.FileMode
		why, fix string
	}{
		{0o755, "", ""}, {0o700, "", ""}, {0o777 | fs.ModeSticky, "", ""}, {0o770 | fs.ModeSticky, "", ""},
		{0o702, "by everyone (mode 0702)", "chmod o-w"}, {0o757, "by everyone (mode 0757)", "chmod o-w"},
		{0o777, "by everyone (mode 0777)", both}, {0o775, "by its group (mode 0775)", group},
	} {
		if err := os.Chmod(at("open"), c.mode); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"open/vault", "open/missing", "open/missing/vault", "link/x", "rel/vault", "dots/x", "missing/../open/vault"} {
			want(at(p), c.why, c.fix)
		}
		want(at("open"), "", "") // what is inside it does not matter to it
		want(at("link"), "", "")
	}
	if err := CheckAbove(at("loop/x")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}

// parentOf is a directory's info with another owner and mode: making a real
// one would need root.
type parentOf struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (p parentOf) Mode() fs.FileMode { return p.mode }
func (p parentOf) Sys() any          { return &syscall.Stat_t{Uid: p.uid, Gid: p.gid} }

func TestWhoMayChangeAParent(t *testing.T) {
	const nobodys = 4_000_000_001 // a group that no system knows
	for _, c := range []struct {
		name     string
		mode     fs.FileMode
		uid, gid uint32
		fix      string
	}{
		{"ours", fs.ModeDir | 0o755, 1000, 1000, ""},
		{"root's", fs.ModeDir | 0o755, 0, 0, ""},
		{"another's", fs.ModeDir | 0o700, 1001, 1001, "sudo chown -h root /p"},
		{"another's, sticky", fs.ModeDir | fs.ModeSticky | 0o777, 1001, 1001, "sudo chown -h root /p"},
		{"another's link", fs.ModeSymlink | 0o777, 1001, 1001, "sudo chown -h root /p"},
		{"our link", fs.ModeSymlink | 0o777, 1000, 1000, ""},
		{"a group's", fs.ModeDir | 0o775, 1000, nobodys, "chmod g-w /p"},
		{"a group's of root", fs.ModeDir | 0o775, 0, nobodys, "sudo chmod g-w /p"},
		{"a group's, sticky", fs.ModeDir | fs.ModeSticky | 0o775, 0, nobodys, ""},
		{"everyone's", fs.ModeDir | 0o777, 1000, nobodys, "chmod go-w /p"},
	} {
		err := checkParent("/p", parentOf{mode: c.mode, uid: c.uid, gid: c.gid}, 1000)
		var perm *PermissionError
		if errors.As(err, &perm) != (c.fix != "") || perm != nil && perm.Fix != c.fix {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if b, err := os.ReadFile("/etc/group"); err == nil && strings.HasPrefix(string(b), "root:x:0:") && !isOwnGroup(0, 0) {
		t.Error("root's own group counts as another's")
	}
	if isOwnGroup(0, 1) || isOwnGroup(nobodys, nobodys) {
		t.Error("another group counts as a user's own")
	}
}
