package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/durable"
)

// When a segment is closed: when it is that large, or its first line that old.
const (
	segmentSize = 16 << 20
	segmentAge  = 30 * 24 * time.Hour
)

// errRemoved is wrapped by size's error when the segment's name is gone.
var errRemoved = errors.New("was removed while in use")

// due says whether the current segment is to be closed before more is written
// at atMs. Only what is signed is closed: the checkpoint is what a pruned log
// starts from. A locked vault's log goes on in the old segment.
func (l *Log) due(atMs int64) (bool, error) {
	if l.tail.offset == 0 {
		return false, nil
	}
	if l.begunMs == 0 {
		var err error
		if l.begunMs, err = firstTime(l.file); err != nil {
			return false, err
		}
	}
	old := l.tail.offset >= l.cfg.SegmentSize || atMs-l.begunMs >= l.cfg.segmentAge.Milliseconds()
	return old && l.canSign(), nil
}

// firstTime is when a segment's first line was written.
func firstTime(f *os.File) (atMs int64, err error) {
	head := make([]byte, maxPrefix+len(prefixEvent))
	n, err := f.ReadAt(head, 0)
	if n == 0 {
		return 0, fmt.Errorf("audit: read log: %w", err)
	}
	atMs, _, ok := lineBody(head[:n])
	if !ok {
		return 0, &ChainError{File: filepath.Base(f.Name()), Why: "its first line does not begin as a line of the log does"}
	}
	return atMs, nil
}

// rotate closes the current segment and goes on in a new one. The new one is
// made first, so that a closed segment without one after it is never an
// accident. Killed at any point, it is taken up by whoever appends next:
// before the closing line is whole the old segment goes on, after it moveOn
// does the rest. The leader calls it, with the log's lock held.
func (l *Log) rotate(atMs int64) error {
	next := segmentName(segmentNumber(l.tail.file) + 1)
	if err := makeNext(l.cfg.Dir, next); err != nil {
		return fmt.Errorf("audit: begin another part of the log: %w", err)
	}
	line, err := appendBody(nil, &Record{Event: LogRotated, Object: next})
	if err != nil {
		return err
	}
	end := l.tail
	line = append(append(strconv.AppendInt(end.appendPrefix(nil), atMs, 10), ','), line...)
	end.advance(line)
	if _, err := l.file.WriteAt(append(line, '\n'), l.tail.offset); err != nil {
		return fmt.Errorf("audit: append: %w", errors.Join(err, l.file.Truncate(l.tail.offset)))
	}
	l.tail = end
	l.tail.closed = true
	return l.moveOn()
}

// makeNext makes an empty segment, or takes one that a killed rotation left.
func makeNext(dir, name string) error {
	path := filepath.Join(dir, name)
	if err := durable.RemoveTemp(path); err != nil {
		return err
	}
	err := durable.CreateFile(path, nil)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, size, err := openToRead(dir, name)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if size > 0 {
		return &ChainError{File: name, Why: "it is not empty, though the part of the log before it was not closed"}
	}
	return durable.SyncDir(dir) // of a killed rotation it may not be on disk
}

// moveOn goes from a closed segment to the one after it, and signs the closed
// one first. The leader calls it.
func (l *Log) moveOn() error {
	// All of it is on disk before anything follows, also what others wrote.
	l.mu.Lock()
	l.written = position{l.tail.seq, l.tail.offset}
	l.mu.Unlock()
	if err := l.sync(); err != nil {
		return err
	}
	next := segmentName(segmentNumber(l.tail.file) + 1)
	f, err := openSegment(l.cfg.Dir, next, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return l.reopen()
	}
	if err != nil {
		return err
	}
	size, err := sizeOfFile(f)
	if err == nil && size == 0 {
		// Nobody went on yet. Where somebody did, and had no key, whoever signs
		// next signs this end, too.
		_, err = l.signTail()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c := l.tail
	c.enter(next)
	return l.use(f, c, true)
}

// reopen is for a process that slept while others closed more than one
// segment: it finds the end as if it had opened the log just now.
func (l *Log) reopen() error {
	f, name, err := openCurrent(l.cfg.Dir)
	if err != nil {
		return err
	}
	if segmentNumber(name) <= segmentNumber(l.tail.file) {
		return errors.Join(missing(segmentName(segmentNumber(l.tail.file)+1)), f.Close())
	}
	return l.use(f, chain{file: name, seq: l.tail.seq}, false)
}

// use makes f the current segment and c the position in it; unless it is
// known, c.seq is one that the log has left behind.
func (l *Log) use(f *os.File, c chain, known bool) error {
	id, err := identify(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.syncMu.Lock()
	l.mu.Lock()
	old := l.file
	l.file, l.path, l.id = f, f.Name(), id
	l.written = position{c.seq, 0}
	l.synced = l.written
	l.mu.Unlock()
	l.syncMu.Unlock()
	l.tail, l.known, l.begunMs = c, known, 0
	l.kick()
	if err := old.Close(); err != nil {
		return fmt.Errorf("audit: close log: %w", err)
	}
	return nil
}

func identify(f *os.File) (fileID, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return fileID{}, fmt.Errorf("audit: stat log: %w", err)
	}
	return idOf(&st), nil
}
