package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const walkBuffer = 256 << 10

// Walk calls fn with every line after from, in order, and checks that each
// follows from the one before; it returns the last position. fn may be nil.
// The line is without its newline and valid only during the call. A line that
// does not follow is a *ChainError, and so is a log that does not hold from.
// The zero from is the start of what is kept of the log.
func (l *Log) Walk(from Head, fn func(line []byte, at Head) error) (Head, error) {
	c, err := l.start(from)
	if err != nil {
		return Head{}, err
	}
	var each func(line []byte, at *chain) error
	if fn != nil {
		each = func(line []byte, at *chain) error { return fn(line, at.head()) }
	}
	err = c.walk(l.cfg.Dir, each)
	return c.head(), err
}

func (l *Log) start(from Head) (chain, error) {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return chain{}, err
	}
	if from != (Head{}) {
		return l.resume(names, from)
	}
	return startOf(l.cfg.Dir, l.cfg.VaultID, segmentNumber(names[0]), nil)
}

// walk follows every line after c to the end of the log, over all segments.
func (c *chain) walk(dir string, each func(line []byte, at *chain) error) error {
	return c.walkWith(make([]byte, walkBuffer), dir, each)
}

// walkWith is walk with a buffer, which is longer than a line.
func (c *chain) walkWith(buf []byte, dir string, each func(line []byte, at *chain) error) error {
	for again := false; ; {
		torn, err := c.readSegment(dir, buf, each)
		if err != nil {
			return err
		}
		// Looked at after the segment was read: what closed it came later than
		// the next one.
		next, err := c.next(dir)
		switch {
		case err != nil || next == "":
			return err
		case c.closed && torn > 0:
			return c.broken("something follows the line that closes this part of the log")
		case c.closed:
			c.enter(next)
			again = false
		case again && torn > 0:
			return c.broken("it has no newline, though another part of the log follows")
		case again:
			return c.broken("another part of the log follows, and this one was not closed")
		default:
			again = true // it may have been closed while it was read
		}
	}
}

// next is the segment that follows the one that was read to its end, "" for
// none.
func (c *chain) next(dir string) (string, error) {
	n := segmentNumber(c.file)
	next := segmentName(n + 1)
	names, err := segments(dir)
	var gap *ChainError
	if errors.As(err, &gap) && segmentNumber(gap.File) > n+1 {
		return next, nil // a later one is missing, and missed when it is its turn
	}
	if err != nil {
		return "", err
	}
	switch last := segmentNumber(names[len(names)-1]); {
	case last <= n && c.closed:
		return "", missing(next)
	case last <= n:
		return "", nil
	case last == n+1 && !c.closed:
		// Empty, it is what a rotation begins with: the old one goes on.
		info, err := os.Lstat(filepath.Join(dir, next))
		if errors.Is(err, fs.ErrNotExist) {
			return next, nil // compressed
		}
		if err != nil {
			return "", fmt.Errorf("audit: read log: %w", err)
		}
		if info.Size() == 0 {
			return "", nil
		}
	}
	return next, nil
}

func (c *chain) readSegment(dir string, buf []byte, each func([]byte, *chain) error) (torn int64, err error) {
	f, size, err := openText(dir, c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, missing(c.file)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if size < c.offset {
		return 0, c.broken("the log ends before it")
	}
	return c.read(io.NewSectionReader(f, 0, size), buf, each)
}

// resume turns a position known from elsewhere into a place in the chain, if
// the log holds that very line there.
func (l *Log) resume(names []string, from Head) (chain, error) {
	lost := func(why string) (chain, error) {
		return chain{}, &ChainError{File: from.File, Line: from.Seq, Why: why}
	}
	if !slices.Contains(names, from.File) {
		return lost("this part of the log is missing")
	}
	f, size, err := openText(l.cfg.Dir, from.File)
	if err != nil {
		return chain{}, err
	}
	defer f.Close()
	if from.Offset <= 0 || from.Offset > size {
		return lost(fmt.Sprintf("the log ends before it: %d bytes where at least %d were", size, from.Offset))
	}
	line, err := lineBefore(f, from.Offset)
	if err != nil {
		return chain{}, err
	}
	seq, _, ok := parsePrefix(line)
	sum := sha256.Sum256(line)
	if !ok || seq != from.Seq || hex.EncodeToString(sum[:]) != from.Hash {
		return lost("another line stands where this one was")
	}
	c := chain{seq: seq, file: from.File, offset: from.Offset, closed: closes(line)}
	copy(c.hash[:], from.Hash)
	return c, nil
}

// lineBefore returns the line whose newline is the last byte before offset,
// or nil when there is none.
func lineBefore(f io.ReaderAt, offset int64) ([]byte, error) {
	window := min(offset, MaxLine+1)
	buf := make([]byte, window)
	if _, err := f.ReadAt(buf, offset-window); err != nil {
		return nil, fmt.Errorf("audit: read log: %w", err)
	}
	line, ok := bytes.CutSuffix(buf, []byte("\n"))
	if !ok {
		return nil, nil
	}
	if i := bytes.LastIndexByte(line, '\n'); i >= 0 {
		return line[i+1:], nil
	}
	if window < offset {
		return nil, nil // it began further up: too long for a line
	}
	return line, nil
}
