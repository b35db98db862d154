package durable

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

const childVar = "DURABLE_TEST_CHILD_DIR"

// A limit on the size of files stands in for a full disk: the write stops
// part way with an error. The limit is a process's own, so a child takes it.
func TestDiskFull(t *testing.T) {
	if dir := os.Getenv(childVar); dir != "" {
		writeWithoutRoom(t, dir)
		return
	}
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "f"), []byte("old")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), childVar+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("the disk was full")) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	if content(t, filepath.Join(dir, "f")) != "old" {
		t.Error("the old content is gone")
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
}

func writeWithoutRoom(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 10000)
	if err := WriteFile(filepath.Join(dir, "f"), big); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("WriteFile: %v", err)
	}
	if err := CreateFile(filepath.Join(dir, "g"), big); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("CreateFile: %v", err)
	}
	if !t.Failed() {
		t.Log("the disk was full")
	}
}
