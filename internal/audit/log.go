package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/durable"
)

// syncDelay leaves time for the fsync itself within the 50 ms that Config
// promises.
const syncDelay = 35 * time.Millisecond

// Log is a vault's audit log. Its methods may be called concurrently.
//
// Appending is done by one goroutine at a time, the leader: whoever comes
// first. Who comes while it works leaves a record in the queue, and the first
// of them leads next, with all the others' records in its batch.
type Log struct {
	cfg  Config
	pool sync.Pool // of *pending

	mu       sync.Mutex // guards what follows, up to the next blank line
	queue    []*pending
	leading  bool
	closed   bool
	armed    bool        // the timer will sync
	timer    *time.Timer // nil before the first use
	written  position
	inflight sync.WaitGroup // appends, and the timer's function

	// The leader's own.
	lock  *durable.LockFile
	file  *os.File
	path  string
	id    fileID
	known bool // tail is the file's end as we left it
	tail  chain
	buf   []byte // for writing
	scan  []byte // for reading what others wrote
	batch []*pending
	crowd int // how many batches more to expect company

	syncMu   sync.Mutex // guards synced; held during an fsync
	synced   position
	syncFail atomic.Bool // written under syncMu
	fsync    func(*os.File) error
}

// position is how far the log was written, or synced.
type position struct {
	seq    uint64
	offset int64
}

type fileID struct{ dev, ino uint64 }

// Create makes the directory and an empty log; a log that is there already is
// os.ErrExist.
func Create(cfg Config) (*Log, error) {
	if err := durable.MkdirAll(cfg.Dir); err != nil {
		return nil, err
	}
	if err := durable.CheckPrivate(cfg.Dir); err != nil {
		return nil, err
	}
	switch _, err := segments(cfg.Dir); {
	case err == nil:
		return nil, &fs.PathError{Op: "create", Path: cfg.Dir, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := durable.CreateFile(filepath.Join(cfg.Dir, segmentName(1)), nil); err != nil {
		return nil, err
	}
	return Open(cfg)
}

// Open opens a log. A missing one is os.ErrNotExist.
func Open(cfg Config) (*Log, error) {
	if cfg.VaultID == "" {
		return nil, errors.New("audit: open log: no vault id")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if err := durable.CheckPrivate(cfg.Dir); err != nil {
		return nil, err
	}
	names, err := segments(cfg.Dir)
	if err != nil {
		return nil, err
	}
	current := names[len(names)-1]
	f, err := openSegment(cfg.Dir, current, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("audit: stat log: %w", err), f.Close())
	}
	return &Log{
		cfg:   cfg,
		pool:  sync.Pool{New: func() any { return &pending{wake: make(chan bool, 1)} }},
		lock:  durable.NewLockFile(filepath.Join(cfg.Dir, lockName)),
		file:  f,
		path:  f.Name(),
		id:    idOf(&st),
		tail:  chain{file: current},
		fsync: (*os.File).Sync,
	}, nil
}

// Check says whether the log is still the file that was opened, as the next
// Append would find it.
func (l *Log) Check() error {
	_, err := l.size()
	return err
}

// Close waits for appends under way, syncs and closes the log. It may be
// called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.armed && l.timer.Stop() {
		l.armed = false
		l.inflight.Done()
	}
	l.mu.Unlock()
	l.inflight.Wait()
	return errors.Join(l.sync(), l.lock.Close(), l.file.Close())
}

func idOf(st *syscall.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }
