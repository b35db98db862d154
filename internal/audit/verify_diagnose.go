package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// diagnose names the first bad line where line n does not follow from line
// n-1. That alone says that one of the two was changed, or that another log
// goes on with line n; what comes after tells these apart. As long as it
// follows from line n, up to a line that is signed, line n is what was written
// and line n-1 is not.
func (v *verification) diagnose(err error) error {
	var broken *ChainError
	if !errors.As(err, &broken) || broken.Line != v.at.seq+1 || v.at.seq == v.start {
		return err
	}
	before, _, e := v.lineAt(v.last)
	if e != nil {
		return e
	}
	here := place{v.at.file, v.at.offset}
	line, after, e := v.lineAt(here)
	if e != nil {
		return e
	}
	seq, prev, ok := parsePrefix(line)
	_, prevBefore, _ := parsePrefix(before)
	switch {
	case len(before) == 0:
		return err // taken back since by who wrote it
	case bytes.Contains(before[1:], []byte(prefixSeq)):
		return v.bad("it holds another line: the newline between them was changed")
	case ok && seq == v.at.seq && bytes.Equal(prev, prevBefore) && !bytes.Equal(line, before):
		// Two that follow from line n-2: the log goes on from one of them.
		next, _, e := v.lineAt(after)
		if e != nil {
			return e
		}
		c := chain{seq: seq - 1}
		c.advance(line)
		if c.follow(next) == nil {
			return v.bad("it was put in before the line that has its number")
		}
		return err
	case !ok || seq != v.at.seq+1:
		return err
	case v.matched == v.at.seq:
		return v.at.broken(fmt.Sprintf("it does not follow from line %d, which is signed", v.at.seq))
	}
	return v.runOn(prev)
}

// runOn believes what the next line says of the one before it, and looks how
// far what follows holds together.
func (v *verification) runOn(prev []byte) error {
	c := chain{seq: v.at.seq, file: v.at.file, offset: v.at.offset, before: v.at.before}
	copy(c.hash[:], prev)
	right := false
	err := c.walk(v.cfg.Dir, func(_ []byte, at *chain) error {
		for _, e := range v.signed[v.next:] {
			if e.Seq > at.seq {
				break
			}
			if e.Seq == at.seq {
				right = at.head().Hash == e.Hash
				return errStop
			}
		}
		return nil
	})
	var broken *ChainError
	switch {
	case errors.Is(err, errStop) && right:
		return v.bad("it was changed: what follows it is as it was written")
	case errors.Is(err, errStop):
		return v.at.broken(fmt.Sprintf("it does not follow from line %d: another log goes on here", v.at.seq))
	case errors.As(err, &broken) && broken.Line == v.at.seq+2:
		return v.at.broken(fmt.Sprintf("it was changed: it does not follow from line %d, nor line %d from it", v.at.seq, v.at.seq+2))
	case err != nil && broken == nil:
		return err
	}
	return v.bad("it was changed, or another log goes on after it")
}

// bad is about the last line that was read.
func (v *verification) bad(why string) error {
	return &ChainError{File: v.last.file, Line: v.at.seq, Why: why}
}

// lineAt reads one whole line, whatever is in it, and says where the next
// begins. At the end of a segment it is empty.
func (v *verification) lineAt(p place) (line []byte, after place, err error) {
	f, _, err := openText(v.cfg.Dir, p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, p, missing(p.file) // removed for its age meanwhile
	}
	if err != nil {
		return nil, p, err
	}
	defer f.Close()
	buf := make([]byte, MaxLine)
	n, err := f.ReadAt(buf, p.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, p, err
	}
	line, _, whole := bytes.Cut(buf[:n], []byte("\n"))
	if !whole {
		return nil, p, nil
	}
	return line, place{p.file, p.offset + int64(len(line)) + 1}, nil
}
