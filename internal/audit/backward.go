package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
