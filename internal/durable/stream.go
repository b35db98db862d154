package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// WriteStream is WriteFile for what fill writes, which need not fit into
// memory. With replace false the path must not exist (os.ErrExist). An error
// of fill leaves nothing behind.
func WriteStream(path string, replace bool, fill func(io.Writer) error) error {
	tmp, err := writeTemp(path, fill)
	if err != nil {
		return err
	}
	if replace {
		if err := os.Rename(tmp, path); err != nil {
			return errors.Join(err, os.Remove(tmp))
		}
		return SyncDir(filepath.Dir(path))
	}
	// A link fails where a rename would replace.
	err = os.Link(tmp, path)
	if err := errors.Join(err, os.Remove(tmp)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}
