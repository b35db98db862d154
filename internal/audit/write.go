package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	at := l.cfg.Clock().UnixMilli()
	if due, err := l.due(at); err != nil {
		return err
	} else if due {
		if err := l.rotate(at); err != nil {
			return err
		}
	}
	end := l.tail
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
	l.moveTail(end)
	return nil
}

// moveTail goes on in the current segment. With its first line the tender has
// one more that is settled: an empty one may be what a killed rotation left.
func (l *Log) moveTail(to chain) {
	first := l.tail.offset == 0 && to.offset > 0
	if l.tail = to; first {
		l.kick()
	}
}

// catchUp makes tail the end of the log, which others may have moved.
func (l *Log) catchUp() error {
	for {
		if err := l.catchUpHere(); err != nil || !l.tail.closed {
			return err
		}
		if err := l.moveOn(); err != nil {
			return err
		}
	}
}

// catchUpHere makes tail the end of the segment that this process has open.
func (l *Log) catchUpHere() error {
	size, err := sizeOf(l.path, l.id)
	removed := err
	if errors.Is(err, errRemoved) {
		// Others may have closed and compressed it since. It is still open here.
		size, err = sizeOfFile(l.file)
	}
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
	if size > l.tail.offset {
		next := l.tail
		if l.scan == nil {
			l.scan = make([]byte, 2*MaxLine)
		}
		torn, err := next.read(l.file, l.scan, nil)
		if err != nil {
			return err
		}
		l.moveTail(next)
		if torn > 0 && removed == nil { // a killed writer's, never confirmed to anyone
			if err := l.file.Truncate(next.offset); err != nil {
				return fmt.Errorf("audit: cut off an unfinished line: %w", err)
			}
		}
	}
	if removed != nil && !l.tail.closed {
		return removed
	}
	return nil
}

// sizeOf looks a file up by its name: another one in its place would take
// records that nobody reads.
func sizeOf(path string, id fileID) (int64, error) {
	var st syscall.Stat_t
	err := syscall.Lstat(path, &st)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, fmt.Errorf("audit: the log %+q %w", path, errRemoved)
	case err != nil:
		return 0, fmt.Errorf("audit: stat %+q: %w", path, err)
	case idOf(&st) != id:
		return 0, fmt.Errorf("audit: the log %+q was replaced while in use", path)
	}
	return st.Size, nil
}

func sizeOfFile(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("audit: stat log: %w", err)
	}
	return info.Size(), nil
}

// findTail reads the last line, once. What stands after it is left to
// catchUpHere.
func (l *Log) findTail(size int64) error {
	start, err := l.checkFirst()
	if err != nil {
		return err
	}
	passed := l.tail.seq // by a process that slept; else 0
	if size, err = unbroken(l.cfg.Dir, l.tail.file, l.file, size); err != nil {
		return err
	}
	tail, err := lastOf(l.file, l.tail.file, size)
	if err != nil {
		return err
	}
	if tail.seq == 0 {
		if tail, err = l.lastOfEarlier(start); err != nil {
			return err
		}
	}
	if tail.seq < passed {
		return &ChainError{File: l.tail.file, Line: passed, Why: "the log ends before it, though it was written"}
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

// unbroken is how much of a segment, up to size, holds no room that a power cut
// left empty. What a checkpoint covers was on disk before it.
func unbroken(dir, name string, f io.ReaderAt, size int64) (int64, error) {
	file, err := openCheckpoints(dir, nil)
	if err != nil {
		return 0, err
	}
	if err := file.close(); err != nil {
		return 0, err
	}
	at := int64(0)
	if file.last != nil && file.last.Head.File == name {
		at = min(file.last.Head.Offset, size)
	}
	buf := make([]byte, walkBuffer)
	for at < size {
		n, err := f.ReadAt(buf[:min(walkBuffer, size-at)], at)
		if hole := bytes.IndexByte(buf[:n], 0); hole >= 0 {
			return at + int64(hole), nil
		}
		if n == 0 {
			return 0, fmt.Errorf("audit: read log: %w", err)
		}
		at += int64(n)
	}
	return size, nil
}

// checkFirst makes sure that the log is this vault's, and returns the position
// before its first line.
func (l *Log) checkFirst() (chain, error) {
	c, err := l.start(Head{})
	if err != nil {
		return chain{}, err
	}
	f, size, err := openText(l.cfg.Dir, c.file)
	if err != nil {
		return chain{}, err
	}
	defer f.Close()
	got := make([]byte, min(size, MaxLine))
	if _, err := f.ReadAt(got, 0); err != nil {
		return chain{}, fmt.Errorf("audit: read log: %w", err)
	}
	// Without a newline it is no line, but what a power cut left of one.
	if size < MaxLine && bytes.IndexByte(got, '\n') < 0 || bytes.HasPrefix(got, c.appendPrefix(nil)) {
		return c, nil
	}
	return chain{}, c.broken("it does not begin this vault's log")
}

// lastOf is the position after a segment's last whole line; its seq is 0 when
// there is none.
func lastOf(f io.ReaderAt, name string, size int64) (chain, error) {
	c := chain{file: name}
	torn, err := backward(f, name, size, func(line []byte) error {
		seq, _, ok := parsePrefix(line)
		if !ok {
			return &ChainError{File: name, Why: "its last line does not begin as a line of the log does"}
		}
		c.seq = seq
		c.setHash(line)
		c.closed = closes(line)
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return c, err
	}
	c.offset = size - torn
	return c, nil
}

// lastIn is lastOf by a segment's name.
func lastIn(dir, name string) (c chain, whole bool, err error) {
	f, size, err := openFromEnd(dir, name)
	if err != nil {
		return chain{}, false, err
	}
	defer f.Close()
	end, err := unbroken(dir, name, f, size)
	if err != nil {
		return chain{}, false, err
	}
	c, err = lastOf(f, name, end)
	return c, c.offset == size, err
}

// lastOfEarlier is the position at the start of an empty current segment;
// start is where the log begins.
func (l *Log) lastOfEarlier(start chain) (chain, error) {
	if start.file == l.tail.file {
		return start, nil
	}
	before := segmentName(segmentNumber(l.tail.file) - 1)
	c, whole, err := lastIn(l.cfg.Dir, before)
	if err == nil && (!c.closed || !whole) {
		err = &ChainError{File: before, Why: "it was not closed, though another part of the log follows"}
	}
	c.enter(l.tail.file)
	return c, err
}
