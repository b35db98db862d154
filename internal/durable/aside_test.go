package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Nothing that was there is written over: not when the next thing has to make
// way, and not by a command that is run again later.
func TestPutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "it's here")
	put := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(command string) {
		t.Helper()
		// What it says of a name that is taken differs from system to system.
		_ = exec.CommandContext(t.Context(), "sh", "-c", command).Run()
	}
	want := func(name, content string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != content {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, content)
		}
	}
	put("first")
	first := PutAside(path)
	run(first)
	want("it's here.aside", "first")
	put("second")
	run(first)
	want("it's here.aside", "first")
	want("it's here", "second")
	if err := os.Symlink("nowhere", path+".aside-2"); err != nil {
		t.Fatal(err)
	}
	run(PutAside(path))
	want("it's here.aside-3", "second")
	if target, err := os.Readlink(path + ".aside-2"); err != nil || target != "nowhere" {
		t.Errorf("the link: %q, %v", target, err)
	}
	if got := FreeName(path); got != path {
		t.Errorf("%q is free, got %q", path, got)
	}
	if got := FreeName(filepath.Join(path+".aside", "below")); got != filepath.Join(path+".aside", "below") {
		t.Errorf("below a file: %q", got)
	}
	for name, of := range map[string]string{
		"audit.aside": "audit", "vault.aiv.aside-12": "vault.aiv", "a.aside.aside": "a.aside",
		"audit": "", ".aside": "", "audit.aside-": "", "audit.aside-x": "", "audit.asides": "",
	} {
		if got, ok := IsAside(name); got != of || ok != (of != "") {
			t.Errorf("%q: of %q, %v", name, got, ok)
		}
	}
}
