package durable

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// WriteFile replaces path by data with mode 0600: temporary file in the same
// directory (".name.tmp-*"), fsync, rename, fsync of the directory. A
// symbolic link at path is itself replaced. Only when the last step fails,
// the fsync of the directory, an error leaves the new content behind.
func WriteFile(path string, data []byte) error { return WriteStream(path, true, whole(data)) }

// CreateFile is WriteFile for a path that must not exist yet (os.ErrExist).
func CreateFile(path string, data []byte) error { return WriteStream(path, false, whole(data)) }

func whole(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// RemoveTemp removes temporary files that a crashed WriteFile left for path.
// Who calls it holds the lock under which path is written.
func RemoveTemp(path string) error {
	dir, prefix := filepath.Dir(path), tempPrefix(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), prefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

func tempPrefix(path string) string { return "." + filepath.Base(path) + ".tmp-" }

// writeTemp leaves what fill writes, synced, in a new file beside path, or nothing.
func writeTemp(path string, fill func(io.Writer) error) (name string, err error) {
	name = filepath.Join(filepath.Dir(path), tempPrefix(path)+rand.Text()[:12])
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return "", err
	}
	err = f.Chmod(fileMode) // the umask may have taken bits away
	if err == nil {
		err = fill(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	return name, nil
}
