package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
)

const walkBuffer = 256 << 10

// Walk calls fn with every line after from, in order, and checks that each
// follows from the one before; it returns the last position. fn may be nil.
// The line is without its newline and valid only during the call. A line that
// does not follow is a *ChainError, and so is a log that does not hold from.
func (l *Log) Walk(from Head, fn func(line []byte, at Head) error) (Head, error) {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return Head{}, err
	}
	c := genesis(l.cfg.VaultID)
	if from != (Head{}) {
		if c, err = l.resume(names, from); err != nil {
			return Head{}, err
		}
	}
	var each func(line []byte, at *chain) error
	if fn != nil {
		each = func(line []byte, at *chain) error { return fn(line, at.head()) }
	}
	buf := make([]byte, walkBuffer)
	for i := segmentNumber(c.file) - 1; i < len(names); i++ {
		if c.file != names[i] {
			c.file, c.offset = names[i], 0
		}
		torn, err := c.readSegment(l.cfg.Dir, buf, each)
		if err != nil {
			return c.head(), err
		}
		if torn > 0 && i < len(names)-1 {
			return c.head(), c.broken("it has no newline, though another part of the log follows")
		}
	}
	return c.head(), nil
}

func (c *chain) readSegment(dir string, buf []byte, each func([]byte, *chain) error) (torn int64, err error) {
	f, size, err := openToRead(dir, c.file)
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
	f, size, err := openToRead(l.cfg.Dir, from.File)
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
	c := chain{seq: seq, file: from.File, offset: from.Offset}
	copy(c.hash[:], from.Hash)
	return c, nil
}

// lineBefore returns the line whose newline is the last byte before offset,
// or nil when there is none.
func lineBefore(f *os.File, offset int64) ([]byte, error) {
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
