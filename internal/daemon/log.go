package daemon

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"moldable.sh/aivault/internal/durable"
)

// maxLog is the size beyond which a starting daemon puts the diagnostic log
// aside and begins a new one.
const maxLog = 5 << 20

// LogPath is where the daemon writes its diagnostic log.
func LogPath(e Env) string { return filepath.Join(e.LogDir, "aivaultd.log") }

// openLog returns the diagnostic log and what closes it. It says what the
// daemon did, never what went through it. A log that cannot be written does
// not keep the daemon from working: the audit log is another thing.
func openLog(e Env, console io.Writer) (*slog.Logger, func() error) {
	none := func() error { return nil }
	out := io.Discard
	if console != nil {
		out = console
	}
	if !e.DiskLogs {
		return slog.New(slog.NewTextHandler(out, nil)), none
	}
	f, err := openLogFile(LogPath(e))
	if err != nil {
		l := slog.New(slog.NewTextHandler(out, nil))
		l.Warn("no diagnostic log on disk", "why", err.Error())
		return l, none
	}
	if console != nil {
		out = io.MultiWriter(f, console)
	} else {
		out = f
	}
	return slog.New(slog.NewTextHandler(out, nil)), f.Close
}

func openLogFile(path string) (*os.File, error) {
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	for _, p := range []string{filepath.Dir(path), path} {
		if err := durable.CheckPrivate(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if info, err := os.Lstat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
