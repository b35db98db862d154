package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// withUmask runs f in a directory of its own under each umask that could take
// or leave too much.
func withUmask(t *testing.T, f func(t *testing.T, dir string)) {
	for _, mask := range []int{0, 0o022, 0o077, 0o377} {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			dir := t.TempDir()
			defer syscall.Umask(syscall.Umask(mask))
			f(t, dir)
		})
	}
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestModesWhateverTheUmask(t *testing.T) {
	withUmask(t, func(t *testing.T, top string) {
		dir := filepath.Join(top, "a", "b", "c")
		if err := MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"a", "a/b", "a/b/c"} {
			if m := mode(t, filepath.Join(top, d)); m != 0o700 {
				t.Errorf("%s has mode %o", d, m)
			}
		}
		file, made, lock := filepath.Join(dir, "file"), filepath.Join(dir, "made"), filepath.Join(dir, "lock")
		l, err := Acquire(t.Context(), lock)
		if err := errors.Join(err, WriteFile(file, []byte("x")), CreateFile(made, []byte("y"))); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{file, made, lock} {
			if m := mode(t, p); m != 0o600 {
				t.Errorf("%s has mode %o", p, m)
			}
		}
	})
}

func TestMkdirAll(t *testing.T) {
	top := t.TempDir()
	open := filepath.Join(top, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o755), MkdirAll(open+"/x/"), MkdirAll(open)); err != nil {
		t.Fatal(err)
	}
	if m := mode(t, open); m != 0o755 {
		t.Errorf("a directory that existed was changed to %o", m)
	}
	if err := os.WriteFile(filepath.Join(top, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(top, "nowhere"), filepath.Join(top, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"file", "file/below", "dangling", "dangling/below"} {
		if err := MkdirAll(filepath.Join(top, bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := MkdirAll(filepath.Join(top, "p/q/r/s")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []string{"one", "", strings.Repeat("three", 1<<18)} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if content(t, path) != want {
			t.Error("content differs")
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
}

func TestWriteFileReplacesALinkNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("theirs"), 0o644), os.Symlink(target, link), WriteFile(link, []byte("ours"))); err != nil {
		t.Fatal(err)
	}
	if content(t, target) != "theirs" || content(t, link) != "ours" {
		t.Error("wrote through a symbolic link")
	}
}

func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	if err := errors.Join(os.Mkdir(sub, 0o700), os.WriteFile(filepath.Join(sub, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(sub, []byte("x")); err == nil {
		t.Error("replaced a directory")
	}
	if err := CreateFile(sub, []byte("x")); !errors.Is(err, os.ErrExist) {
		t.Errorf("create over a directory: %v", err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
	if err := WriteFile(filepath.Join(dir, "none", "x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory missing: %v", err)
	}
}

func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var wg sync.WaitGroup
	won := make(chan string, 8)
	for i := range 8 {
		wg.Go(func() {
			mine := strings.Repeat(string(rune('a'+i)), 1000)
			switch err := CreateFile(path, []byte(mine)); {
			case err == nil:
				won <- mine
			case !errors.Is(err, os.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if close(won); len(won) != 1 {
		t.Fatalf("%d of 8 made the file", len(won))
	}
	if content(t, path) != <-won {
		t.Error("a loser's content is in the file")
	}
	if err := errors.Join(os.Remove(path), os.Symlink("nowhere", path)); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a dangling link: %v", err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
}

func TestRemoveTemp(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{".f.tmp-AB", ".f.tmp-", ".g.tmp-AB", "f", "f.tmp-AB", ".ff.tmp-A"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".f.tmp-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTemp(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(names(t, dir), " "), ".f.tmp-dir .ff.tmp-A .g.tmp-AB f f.tmp-AB"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	if err := RemoveTemp(filepath.Join(dir, "none", "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory missing: %v", err)
	}
}
