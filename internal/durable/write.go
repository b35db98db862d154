package durable

import (
	"crypto/rand"
	"errors"
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
func WriteFile(path string, data []byte) error {
	tmp, err := writeTemp(path, data)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a path that must not exist yet (os.ErrExist).
func CreateFile(path string, data []byte) error {
	tmp, err := writeTemp(path, data)
	if err != nil {
		return err
	}
	// A link fails where a rename would replace.
	err = os.Link(tmp, path)
	if err := errors.Join(err, os.Remove(tmp)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
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

// writeTemp leaves data, synced, in a new file beside path, or nothing.
func writeTemp(path string, data []byte) (name string, err error) {
	name = filepath.Join(filepath.Dir(path), tempPrefix(path)+rand.Text()[:12])
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return "", err
	}
	err = f.Chmod(fileMode) // the umask may have taken bits away
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	return name, nil
}
