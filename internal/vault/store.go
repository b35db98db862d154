package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/durable"
)

// Generation identifies one version of the stored document. It can be
// compared; it says nothing about order.
type Generation string

// Store keeps the one document. The embedded default is a file; anything with
// the same three calls will do.
type Store interface {
	// Generation is cheap. fs.ErrNotExist: there is no document.
	Generation() (Generation, error)
	// Load returns the document and its generation.
	Load() ([]byte, Generation, error)
	// CompareAndSwap replaces the document when its generation is still old
	// ("" for none), else ErrConflict. It returns when the document is durable.
	CompareAndSwap(old Generation, blob []byte) (Generation, error)
}

// ErrConflict says that the document is not the one that was to be replaced.
var ErrConflict = errors.New("vault: the document was changed by another writer")

var errTooLarge = errors.New("is larger than a vault can be")

// lockTimeout bounds the wait for the store's own lock, which is held for no
// longer than it takes to write one file.
const lockTimeout = time.Minute

// FileStore is the Store of one file.
type FileStore struct {
	path, lock string

	mu   sync.Mutex
	held *os.File // the document last read or written: open, so that its inode number cannot come back

	last atomic.Pointer[namedFile] // what Generation saw last
}

type namedFile struct {
	id   fileID
	name Generation
}

// NewFileStore keeps the document in path, and locks the file lock beside it
// while it replaces path. It opens nothing yet.
func NewFileStore(path, lock string) *FileStore { return &FileStore{path: path, lock: lock} }

// fileID tells two versions of a file apart.
type fileID struct {
	dev, ino            uint64
	size                int64
	mtimeSec, mtimeNsec int64
	ctimeSec, ctimeNsec int64
}

func idOf(st *unix.Stat_t) fileID {
	// The fields' types differ from system to system.
	return fileID{uint64(st.Dev), uint64(st.Ino), int64(st.Size),
		int64(st.Mtim.Sec), int64(st.Mtim.Nsec), int64(st.Ctim.Sec), int64(st.Ctim.Nsec)}
}

func (id fileID) generation() Generation {
	b := make([]byte, 0, 80)
	b = strconv.AppendUint(b, id.dev, 36)
	for _, n := range []int64{int64(id.ino), id.size, id.mtimeSec, id.mtimeNsec, id.ctimeSec, id.ctimeNsec} {
		b = append(b, '.')
		b = strconv.AppendInt(b, n, 36)
	}
	return Generation(b)
}

// Generation implements Store by one stat.
func (s *FileStore) Generation() (Generation, error) {
	var st unix.Stat_t
	for {
		err := unix.Lstat(s.path, &st)
		if err == nil {
			return s.name(idOf(&st)), nil
		}
		if err != unix.EINTR {
			return "", &fs.PathError{Op: "stat", Path: s.path, Err: err}
		}
	}
}

// name spares the caller of each request the spelling of the same answer.
func (s *FileStore) name(id fileID) Generation {
	if last := s.last.Load(); last != nil && last.id == id {
		return last.name
	}
	n := &namedFile{id, id.generation()}
	s.last.Store(n)
	return n.name
}

// Load implements Store. It refuses a file that is not its owner's alone.
func (s *FileStore) Load() ([]byte, Generation, error) {
	f, id, err := s.open()
	if err != nil {
		return nil, "", err
	}
	blob, err := readDocument(f, id.size)
	if err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	s.hold(f)
	return blob, s.name(id), nil
}

func (s *FileStore) open() (*os.File, fileID, error) {
	if err := durable.CheckPrivate(s.path); err != nil {
		return nil, fileID{}, err
	}
	f, err := os.OpenFile(s.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileID{}, durable.CheckOpened(s.path, err)
	}
	if err := durable.CheckPrivateFile(f, s.path); err != nil {
		return nil, fileID{}, errors.Join(err, f.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fileID{}, errors.Join(&fs.PathError{Op: "stat", Path: s.path, Err: err}, f.Close())
	}
	return f, idOf(&st), nil
}

func readDocument(f *os.File, size int64) ([]byte, error) {
	if size > maxFile {
		return nil, errTooLarge
	}
	blob := make([]byte, size+1) // one more, to notice a file that grew
	n, err := io.ReadFull(f, blob)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if int64(n) != size {
		return nil, errDamaged
	}
	return blob[:n], nil
}

// hold keeps f open and lets go of the one before.
func (s *FileStore) hold(f *os.File) {
	s.mu.Lock()
	old := s.held
	s.held = f
	s.mu.Unlock()
	if old != nil {
		_ = old.Close() // it was only read
	}
}

// CompareAndSwap implements Store. Its own lock makes it right whoever else
// writes, whatever locks they hold besides.
func (s *FileStore) CompareAndSwap(old Generation, blob []byte) (gen Generation, err error) {
	if len(blob) > maxFile {
		return "", errTooLarge
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	lock, err := durable.Acquire(ctx, s.lock)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	now, err := s.Generation()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if now != old {
		return "", ErrConflict
	}
	if err := durable.RemoveTemp(s.path); err != nil {
		return "", err
	}
	write := durable.WriteFile
	if old == "" {
		write = durable.CreateFile
	}
	if err := write(s.path, blob); errors.Is(err, fs.ErrExist) {
		return "", ErrConflict
	} else if err != nil {
		return "", err
	}
	f, id, err := s.open()
	if err != nil {
		return "", err
	}
	s.hold(f)
	return s.name(id), nil
}

// Close lets go of the open file.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.held
	s.held = nil
	if f == nil {
		return nil
	}
	return f.Close()
}
