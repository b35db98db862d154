package audit

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// maxKeptBuffer is the largest write buffer that is kept for the next batch.
const maxKeptBuffer = 256 << 10

// errUncut says of records whose append failed that they may be in the log
// nevertheless.
var errUncut = errors.New("what was written of it could not be taken back")

// write appends a batch, all of it or nothing. The leader calls it, with the
// log's lock held.
func (l *Log) write(batch []*pending) error {
	if l.syncFail.Load() {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if err := l.catchUp(); err != nil {
		return err
	}
	at, end := l.cfg.Clock().UnixMilli(), l.tail
	buf := l.buf[:0]
	for _, p := range batch {
		start := len(buf)
		buf = end.appendPrefix(buf)
		buf = strconv.AppendInt(buf, at, 10)
		buf = append(append(buf, ','), p.body...)
		end.advance(buf[start:])
		buf = append(buf, '\n')
		p.head = end.head()
	}
	if l.buf = buf[:0]; cap(buf) > maxKeptBuffer {
		l.buf = nil
	}
	if _, err := l.file.WriteAt(buf, l.tail.offset); err != nil {
		for _, p := range batch {
			p.head = Head{}
		}
		// Without the cut the next to append finds the lines and keeps them:
		// too much in the log rather than too little.
		if cut := l.file.Truncate(l.tail.offset); cut != nil {
			err = errors.Join(err, errUncut, cut)
		}
		return fmt.Errorf("audit: append: %w", err)
	}
	l.tail = end
	return nil
}

// catchUp makes tail the end of the file, which others may have moved.
func (l *Log) catchUp() error {
	size, err := l.size()
	switch {
	case err != nil:
		return err
	case !l.known:
		if err := l.findTail(size); err != nil {
			return err
		}
	case size < l.tail.offset:
		return &ChainError{File: l.tail.file, Line: l.tail.seq, Why: "the log ends before it, though it was written"}
	}
	if size == l.tail.offset {
		return nil
	}
	next := l.tail
	if l.scan == nil {
		l.scan = make([]byte, 2*MaxLine)
	}
	torn, err := next.read(l.file, l.scan, nil)
	if err != nil {
		return err
	}
	l.tail = next
	if torn > 0 { // a killed writer's, never confirmed to anyone
		if err := l.file.Truncate(next.offset); err != nil {
			return fmt.Errorf("audit: cut off an unfinished line: %w", err)
		}
	}
	return nil
}

// size looks the file up by its name: another one in its place would take
// records that nobody reads.
func (l *Log) size() (int64, error) {
	var st syscall.Stat_t
	err := syscall.Lstat(l.path, &st)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, fmt.Errorf("audit: the log %+q was removed while in use", l.path)
	case err != nil:
		return 0, fmt.Errorf("audit: stat %+q: %w", l.path, err)
	case idOf(&st) != l.id:
		return 0, fmt.Errorf("audit: the log %+q was replaced while in use", l.path)
	}
	return st.Size, nil
}

// findTail reads the last line, once. What stands after it is left to
// catchUp.
func (l *Log) findTail(size int64) error {
	if err := l.checkFirst(); err != nil {
		return err
	}
	tail, err := lastOf(l.file, l.tail.file, size)
	if err != nil {
		return err
	}
	if tail.seq == 0 {
		if tail, err = l.lastOfEarlier(); err != nil {
			return err
		}
	}
	l.tail, l.known = tail, true
	end := position{tail.seq, tail.offset}
	l.mu.Lock()
	l.written = end
	l.mu.Unlock()
	l.syncMu.Lock()
	l.synced = end
	l.syncMu.Unlock()
	return nil
}

// checkFirst makes sure that the log is this vault's.
func (l *Log) checkFirst() error {
	f, size, err := openToRead(l.cfg.Dir, segmentName(1))
	if err != nil {
		return err
	}
	defer f.Close()
	c := genesis(l.cfg.VaultID)
	want := c.appendPrefix(nil)
	got := make([]byte, len(want))
	if size < int64(len(want)) {
		return nil // no whole line is so short
	}
	if _, err := f.ReadAt(got, 0); err != nil {
		return fmt.Errorf("audit: read log: %w", err)
	}
	if string(got) != string(want) {
		return c.broken("it does not begin this vault's log")
	}
	return nil
}

// lastOf is the position after a segment's last whole line; its seq is 0 when
// there is none.
func lastOf(f *os.File, name string, size int64) (chain, error) {
	c := chain{file: name}
	torn, err := backward(f, name, size, func(line []byte) error {
		seq, _, ok := parsePrefix(line)
		if !ok {
			return &ChainError{File: name, Why: "its last line does not begin as a line of the log does"}
		}
		c.seq = seq
		c.setHash(line)
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return c, err
	}
	c.offset = size - torn
	return c, nil
}

// lastOfEarlier is the position at the start of an empty current segment.
func (l *Log) lastOfEarlier() (chain, error) {
	n := segmentNumber(l.tail.file)
	if n == 1 {
		return genesis(l.cfg.VaultID), nil
	}
	name := segmentName(n - 1)
	f, size, err := openToRead(l.cfg.Dir, name)
	if err != nil {
		return chain{}, err
	}
	defer f.Close()
	c, err := lastOf(f, name, size)
	if err == nil && (c.seq == 0 || c.offset != size) {
		err = &ChainError{File: name, Why: "it has no whole last line, though another part of the log follows"}
	}
	c.file, c.offset = l.tail.file, 0
	return c, err
}
