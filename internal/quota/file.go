package quota

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/durable"
)

// file is the count on disk. All of it is used under its lock.
//
// A call is written in place, because a rename costs the disk a turn on some
// file systems, and every call pays for it. So that a process that is killed
// while it writes leaves the old count or the new one, the new one is first
// written beside it, whole, and is struck out there when it is in place: who
// finds a damaged count and beside it a whole one of this boot goes on with
// that.
//
// Nothing is synced: what a process wrote is there for the next one, however
// it ended, because the system keeps it. Only when the system itself stops at
// once, by a power cut say, the calls of the last seconds before it may be
// missing in the next boot's count.
type file struct {
	path  string
	lock  *durable.LockFile
	main  *os.File // kept open, so that its inode is not used again
	next  *os.File
	known *ledger // what was last written or read,
	bytes []byte  // and its encoding; nil when that is not known
	spare []byte
}

func newFile(path string) file {
	return file{path: path, lock: durable.NewLockFile(path + ".lock")}
}

func (f *file) close() error {
	f.forget()
	err := f.lock.Close()
	for _, open := range []**os.File{&f.main, &f.next} {
		if *open != nil {
			err = errors.Join(err, (*open).Close())
			*open = nil
		}
	}
	return err
}

func (f *file) forget() { f.known, f.bytes = nil, nil }

func (f *file) exists() (bool, error) {
	_, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// load returns the count, or errLost where there is none to be read. What it
// returns may be changed, and must then be saved.
func (f *file) load(now instant) (*ledger, error) {
	if err := f.open(); err != nil {
		return nil, err
	}
	data, err := readAll(f.main, f.spare)
	if err != nil {
		return nil, err
	}
	if f.known != nil && bytes.Equal(data, f.bytes) {
		f.spare = data
		return f.known, nil
	}
	f.forget()
	l, err := parse(data)
	if err == nil {
		f.known, f.bytes, f.spare = l, data, nil
		return l, nil
	}
	// The writer may have been killed on the way. After another boot nobody
	// knows what of the two reached the disk.
	if err := f.openNext(); err != nil {
		return nil, err
	}
	if data, err = readAll(f.next, nil); err != nil {
		return nil, err
	}
	l, err = parse(data)
	if err != nil || l.at.bootID != now.bootID {
		return nil, errLost
	}
	return l, f.save(l)
}

// save writes a count. When it fails, the count on disk is the old one or the
// new one.
func (f *file) save(l *ledger) error {
	err := f.openNext()
	if err == nil {
		err = f.saveOpen(l)
	}
	if err != nil {
		f.forget() // it may have been changed in memory alone
	}
	return err
}

func (f *file) saveOpen(l *ledger) error {
	data, err := l.encode(f.spare)
	f.spare = nil
	if err != nil {
		return err
	}
	if err := put(f.next, data); err != nil {
		return err
	}
	if err := put(f.main, data); err != nil {
		return err
	}
	if _, err := f.next.WriteAt([]byte{0}, 0); err != nil {
		return err
	}
	f.known, f.bytes, f.spare = l, data, f.bytes
	return nil
}

// replace makes the file anew, and makes sure that it is there to stay.
func (f *file) replace(l *ledger) error {
	f.forget()
	data, err := l.encode(nil)
	if err != nil {
		return err
	}
	// What a killed writer left beside an earlier file is none of this one.
	if err := f.openNext(); err != nil {
		return err
	}
	if err := f.next.Truncate(0); err != nil {
		return err
	}
	if err := durable.RemoveTemp(f.path); err != nil {
		return err
	}
	return durable.WriteFile(f.path, data)
}

// put makes data the content of a file, in place.
func put(f *os.File, data []byte) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if st.Size > int64(len(data)) {
		return f.Truncate(int64(len(data)))
	}
	return nil
}

// readAll reads a file into buf; more than maxFile is cut off, and no
// document then.
func readAll(f *os.File, buf []byte) ([]byte, error) {
	buf = buf[:0]
	if cap(buf) == 0 {
		buf = make([]byte, 0, 4096)
	}
	for len(buf) <= maxFile {
		n, err := f.ReadAt(buf[len(buf):cap(buf)], int64(len(buf)))
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		grown := make([]byte, len(buf), 4*cap(buf))
		copy(grown, buf)
		buf = grown
	}
	return buf, nil
}

// open opens the file that is at path now. What is not a private file of this
// user or root is no count that could be trusted: errLost.
func (f *file) open() error {
	err := reopen(&f.main, f.path, os.O_RDWR)
	var perm *durable.PermissionError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &perm) {
		return errLost
	}
	return err
}

func (f *file) openNext() error { return reopen(&f.next, f.path+".next", os.O_RDWR|os.O_CREATE) }

// reopen keeps a file open as long as it is the one at path.
func reopen(open **os.File, path string, flags int) (err error) {
	if *open != nil {
		var at, is unix.Stat_t
		if unix.Lstat(path, &at) == nil && unix.Fstat(int((*open).Fd()), &is) == nil && at.Dev == is.Dev && at.Ino == is.Ino {
			return nil
		}
		err = (*open).Close()
		*open = nil
	}
	if err == nil {
		*open, err = openPrivate(path, flags)
	}
	return err
}

func openPrivate(path string, flags int) (*os.File, error) {
	if err := durable.CheckPrivate(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // said before a link or a device is opened
	}
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.CheckPrivateFile(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// bare takes the path out of a file's error.
func bare(err error) error {
	var perm *durable.PermissionError
	if errors.As(err, &perm) {
		return errors.New("their files are not private")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError // of a rename
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
