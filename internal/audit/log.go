package audit

import (
	"context"
	"crypto"
	"errors"
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

	mu        sync.Mutex // guards what follows, up to the next blank line
	queue     []*pending
	leading   bool
	closed    bool
	armed     bool        // the timer will sync
	timer     *time.Timer // nil before the first use
	written   position
	signer    crypto.Signer // nil: none
	news      bool          // something was appended and is not signed yet
	signArmed bool          // the timer will sign
	signTimer *time.Timer   // nil before the first use
	signFault error         // why signing failed last
	signDelay time.Duration
	inflight  sync.WaitGroup // appends, and the timer's function
	followers []chan struct{}

	// The leader's own.
	lock      *durable.LockFile
	file      *os.File // the current segment; written under syncMu and mu
	path      string   // of file; written under mu
	id        fileID   // of file; written under mu
	begunMs   int64    // when the first line of file was written; 0: not looked at
	known     bool     // tail is the file's end as we left it
	tail      chain
	buf       []byte // for writing
	scan      []byte // for reading what others wrote
	batch     []*pending
	crowd     int    // how many batches more to expect company
	published string // the verifier key that is known to be beside the log
	thinned   int64  // size of the checkpoints when they were last thinned out

	syncMu   sync.Mutex // guards synced; held during an fsync
	synced   position
	syncFail atomic.Bool // written under syncMu
	fsync    func(*os.File) error

	signFor time.Duration // that Close waits for the lock

	life       context.Context // ends when the log is closed
	stop       context.CancelFunc
	tender     sync.WaitGroup
	wakeTender chan struct{} // nil: this process does not tend the log
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
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = segmentSize
	}
	if cfg.segmentAge == 0 {
		cfg.segmentAge = segmentAge
	}
	if err := durable.CheckPrivate(cfg.Dir); err != nil {
		return nil, err
	}
	f, current, err := openCurrent(cfg.Dir)
	if err != nil {
		return nil, err
	}
	id, err := identify(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &Log{
		cfg:   cfg,
		pool:  sync.Pool{New: func() any { return &pending{wake: make(chan bool, 1)} }},
		lock:  durable.NewLockFile(filepath.Join(cfg.Dir, lockName)),
		file:  f,
		path:  f.Name(),
		id:    id,
		tail:  chain{file: current},
		fsync: (*os.File).Sync, signFor: signTimeout,

		signDelay: signDelay,
	}
	if _, err := l.start(Head{}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.life, l.stop = context.WithCancel(context.Background())
	if cfg.Tend {
		l.wakeTender = make(chan struct{}, 1)
		l.tender.Go(func() { l.tend(l.life) })
	}
	return l, nil
}

// Check says whether the log is still the one that was opened, as the next
// Append would find it.
func (l *Log) Check() error {
	for {
		l.mu.Lock()
		file, path, id := l.file, l.path, l.id
		l.mu.Unlock()
		_, err := sizeOf(path, id)
		if !errors.Is(err, errRemoved) {
			return err
		}
		// Unless others have closed it since, and compressed it.
		closed, failed := isClosed(file, filepath.Base(path))
		if closed {
			return nil
		}
		l.mu.Lock()
		same := l.file == file
		l.mu.Unlock()
		if same {
			return errors.Join(err, failed)
		}
	}
}

// isClosed says whether a segment's last line closes it.
func isClosed(f *os.File, name string) (bool, error) {
	size, err := sizeOfFile(f)
	if err != nil {
		return false, err
	}
	end, err := lastOf(f, name, size)
	return end.closed && end.offset == size, err
}

// Close waits for appends under way, syncs, signs what is not signed yet, and
// closes the log. It may be called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.stop()
	if l.armed && l.timer.Stop() {
		l.armed = false
		l.inflight.Done()
	}
	if l.signArmed && l.signTimer.Stop() {
		l.signArmed = false
		l.inflight.Done()
	}
	l.mu.Unlock()
	l.tender.Wait()
	l.inflight.Wait()
	return errors.Join(l.sync(), l.signAtClose(), l.lock.Close(), l.file.Close())
}

func idOf(st *syscall.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }
