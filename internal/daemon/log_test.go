package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLogIsBounded(t *testing.T) {
	e := Env{LogDir: filepath.Join(t.TempDir(), "logs"), DiskLogs: true}
	log, done := openLog(e, nil)
	log.Info("first")
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(LogPath(e), maxLog+1); err != nil {
		t.Fatal(err)
	}
	log, done = openLog(e, nil)
	log.Info("second")
	if err := done(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(LogPath(e))
	if err != nil || len(b) > 1000 || !bytes.Contains(b, []byte("second")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if info, err := os.Stat(LogPath(e) + ".1"); err != nil || info.Size() != maxLog+1 {
		t.Errorf("the old log: %v", err)
	}
}

func TestDiskLogsCanBeTurnedOff(t *testing.T) {
	e := Env{LogDir: filepath.Join(t.TempDir(), "logs")}
	var console strings.Builder
	log, done := openLog(e, &console)
	log.Info("said")
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(e.LogDir); err == nil {
		t.Error("a log was made")
	}
	if !strings.Contains(console.String(), "said") {
		t.Error("the console got nothing")
	}
}

func TestALogThatCannotBeWrittenStopsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "logs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	log, done := openLog(Env{LogDir: filepath.Join(dir, "logs"), DiskLogs: true}, &console)
	log.Info("said")
	if err := done(); err != nil || !strings.Contains(console.String(), "said") {
		t.Errorf("%q %v", console.String(), err)
	}
	// Nor does a planted link lead the log elsewhere.
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "l")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	e := Env{LogDir: logs, DiskLogs: true}
	if err := os.Symlink(victim, LogPath(e)); err != nil {
		t.Fatal(err)
	}
	log, done = openLog(e, nil)
	log.Info("said")
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the file behind a link is %q now", b)
	}
}
