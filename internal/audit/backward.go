package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

const backwardBlock = 64 << 10

// errStop ends backward early.
var errStop = errors.New("stop")

// backward calls fn with each whole line of the first size bytes of f, the
// last one first, reading no more of f than fn wants. Bytes after the last
// newline are skipped and counted.
func backward(f io.ReaderAt, name string, size int64, fn func(line []byte) error) (torn int64, err error) {
	buf := make([]byte, backwardBlock+MaxLine)
	inLine := false // the last newline has been seen
	kept := 0       // bytes at buf[backwardBlock:] of a line whose start is still to come
	for pos := size; pos > 0; {
		n := min(backwardBlock, pos)
		pos -= n
		block := buf[backwardBlock-n : backwardBlock+int64(kept)]
		if _, err := f.ReadAt(block[:n], pos); err != nil {
			return 0, fmt.Errorf("audit: read log: %w", err)
		}
		for {
			newline := bytes.LastIndexByte(block, '\n')
			line := block[newline+1:]
			if inLine && len(line) >= MaxLine {
				return torn, &ChainError{File: name, Why: "it holds a line that is longer than a line can be"}
			}
			if newline < 0 && pos > 0 {
				break
			}
			if !inLine {
				torn += int64(len(line))
			} else if err := fn(line); err != nil {
				return torn, err
			}
			if newline < 0 {
				return torn, nil
			}
			inLine = true
			block = block[:newline]
		}
		if inLine {
			kept = copy(buf[backwardBlock:], block)
		} else {
			torn += int64(len(block))
		}
	}
	return torn, nil
}

// Tail returns the last n lines, oldest first. It checks nothing: of a log
// that was tampered with it shows what is there.
func (l *Log) Tail(n int) ([][]byte, error) {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	for i := len(names) - 1; i >= 0 && len(lines) < n; i-- {
		if lines, err = tailOf(l.cfg.Dir, names[i], lines, n); err != nil {
			return nil, err
		}
	}
	slices.Reverse(lines)
	return lines, nil
}

// tailOf appends a segment's lines to lines, the last one first, up to n.
func tailOf(dir, name string, lines [][]byte, n int) ([][]byte, error) {
	f, size, err := openFromEnd(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = backward(f, name, size, func(line []byte) error {
		lines = append(lines, bytes.Clone(line))
		if len(lines) == n {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	return lines, nil
}
