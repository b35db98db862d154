package durable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The longest sleep between two looks at a lock that another holds. flock
// itself would wait better, but nothing can call it off.
const maxPoll = time.Millisecond

// Lock is an advisory lock on a file (flock), held between processes and
// between goroutines of one process. The file stays when it is released. Go's
// memory model knows nothing of it: memory that goroutines share needs a mutex
// besides.
type Lock struct {
	mu sync.Mutex
	f  *LockFile // nil once released
}

// Acquire waits for the lock on path, which is made when it is missing.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	f := NewLockFile(path)
	if err := f.Lock(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f: f}, nil
}

// TryAcquire returns nil and no error when another holds the lock.
func TryAcquire(path string) (*Lock, error) {
	f := NewLockFile(path)
	ok, err := f.TryLock()
	if !ok || err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f: f}, nil
}

// Release gives the lock back. It may be called twice.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.f
	l.f = nil
	if f == nil {
		return nil
	}
	return errors.Join(f.Unlock(), f.Close())
}

// SetContent writes into the locked file what there is to say about its holder.
// It goes through the descriptor that holds the lock: a link or another file
// that took its name since is left as it is. Who is killed in between leaves
// the new content, and behind it what the old one had more.
func (l *Lock) SetContent(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil || l.f.f == nil {
		return fs.ErrClosed
	}
	if _, err := l.f.f.WriteAt(b, 0); err != nil {
		return err
	}
	return l.f.f.Truncate(int64(len(b)))
}

// Sync puts the content on disk. That the file has its name there is for
// SyncDir to see to.
func (l *Lock) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil || l.f.f == nil {
		return fs.ErrClosed
	}
	return l.f.f.Sync()
}

// LockFile is a lock for one who takes it again and again: it stays open
// between two uses. It must not be used by two goroutines at once.
type LockFile struct {
	path     string
	f        *os.File
	dev, ino uint64 // of f, which keeps the inode from being used again
}

// NewLockFile makes and opens no file yet.
func NewLockFile(path string) *LockFile { return &LockFile{path: path} }

// Lock waits for the lock until ctx ends.
func (l *LockFile) Lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var timer *time.Timer
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, maxPoll) {
		ok, err := l.TryLock()
		if ok || err != nil {
			return err
		}
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// TryLock is false when another holds the lock.
func (l *LockFile) TryLock() (bool, error) {
	for {
		if err := l.open(); err != nil {
			return false, err
		}
		err := flock(l.f, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			// Whoever holds it may hold a file that was removed since.
			if current, err := l.isCurrent(); current || err != nil {
				return false, err
			}
		} else if err != nil {
			return false, &fs.PathError{Op: "lock", Path: l.path, Err: err}
		} else if current, err := l.isCurrent(); current {
			return true, nil
		} else if err != nil {
			return false, errors.Join(err, l.Unlock())
		}
		// The file was removed or replaced: others now lock the new one.
		if err := l.Close(); err != nil {
			return false, err
		}
	}
}

// Unlock gives the lock back and keeps the file open.
func (l *LockFile) Unlock() error {
	if l.f == nil {
		return nil
	}
	if err := flock(l.f, unix.LOCK_UN); err != nil {
		return &fs.PathError{Op: "unlock", Path: l.path, Err: err}
	}
	return nil
}

// Close closes the file, which also gives the lock back.
func (l *LockFile) Close() error {
	f := l.f
	l.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

func (l *LockFile) open() error {
	if l.f != nil {
		return nil
	}
	const flags = os.O_RDWR | syscall.O_NOFOLLOW
	f, err := os.OpenFile(l.path, flags|os.O_CREATE|os.O_EXCL, fileMode)
	if err == nil {
		err = f.Chmod(fileMode)
	} else if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(l.path, flags, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return l.open() // it was removed between the two calls
		}
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return CheckOpened(l.path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return errors.Join(&fs.PathError{Op: "stat", Path: l.path, Err: err}, f.Close())
	}
	l.f, l.dev, l.ino = f, uint64(st.Dev), st.Ino
	return nil
}

// isCurrent says whether the open file is still the one at path.
func (l *LockFile) isCurrent() (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(l.path, &st); errors.Is(err, unix.ENOENT) {
		return false, nil
	} else if err != nil {
		return false, &fs.PathError{Op: "stat", Path: l.path, Err: err}
	}
	return uint64(st.Dev) == l.dev && st.Ino == l.ino, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
