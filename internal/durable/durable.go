// Package durable writes files so that a crash, a full disk or a kill leaves
// the old content or the new one, and keeps everything it makes private.
package durable

import (
	"context"
)

// MkdirAll makes dir and what is missing above it, each with mode 0700
// whatever the umask, and syncs the parents.
func MkdirAll(dir string) error { panic("contract") }

// WriteFile replaces path by data with mode 0600: temporary file in the same
// directory (".name.tmp-*"), fsync, rename, fsync of the directory.
func WriteFile(path string, data []byte) error { panic("contract") }

// CreateFile is WriteFile for a path that must not exist yet (os.ErrExist).
func CreateFile(path string, data []byte) error { panic("contract") }

// RemoveTemp removes temporary files that a crashed WriteFile left for path.
func RemoveTemp(path string) error { panic("contract") }

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error { panic("contract") }

// A PermissionError says why a file or directory is not private enough, and
// Fix is the command that mends it.
type PermissionError struct{ Path, Why, Fix string }

func (e *PermissionError) Error() string { panic("contract") }

// CheckPrivate refuses (with a PermissionError) a file or directory that is a
// symbolic link, that another user but root owns, or that others can read,
// write or enter. A missing one is os.ErrNotExist.
func CheckPrivate(path string) error { panic("contract") }

// Lock is an advisory lock on a file (flock), held between processes and
// between goroutines of one process. The file stays when it is released.
type Lock struct{}

// Acquire waits for the lock on path, which is made when it is missing.
func Acquire(ctx context.Context, path string) (*Lock, error) { panic("contract") }

// TryAcquire returns nil and no error when another holds the lock.
func TryAcquire(path string) (*Lock, error) { panic("contract") }

// Release gives the lock back. It may be called twice.
func (l *Lock) Release() error { panic("contract") }
