package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ChainError names the first line that does not follow.
type ChainError struct {
	File string `json:"file"`
	Line uint64 `json:"line,omitzero"` // seq that was expected there; of the checkpoints, the line of the file; 0: the file as a whole
	Why  string `json:"why"`
}

// Error names segment and line; both are quoted or numbers.
func (e *ChainError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("audit: log %+q: %s", e.File, e.Why)
	}
	return fmt.Sprintf("audit: log %+q, line %d: %s", e.File, e.Line, e.Why)
}

// chain is a position in the log as the code moves along it: after line seq,
// whose hash is hash, at offset in file.
type chain struct {
	seq    uint64
	hash   [2 * sha256.Size]byte // hex
	file   string
	offset int64
	closed bool  // line seq closes file
	before place // while offset is 0: where line seq is
}

type place struct {
	file   string
	offset int64
}

// enter moves on to a segment, at its start.
func (c *chain) enter(file string) {
	c.before = place{c.file, c.offset}
	c.file, c.offset, c.closed = file, 0, false
}

// genesis is the position before the first line of a vault's log.
func genesis(vaultID string) chain {
	c := chain{file: segmentName(1)}
	c.setHash([]byte("aivault audit v1\n" + vaultID))
	return c
}

func (c *chain) setHash(b []byte) {
	sum := sha256.Sum256(b)
	hex.Encode(c.hash[:], sum[:])
}

func (c *chain) head() Head {
	if c.seq == 0 {
		return Head{}
	}
	at := place{c.file, c.offset}
	if c.offset == 0 && c.before.file != "" {
		at = c.before
	}
	return Head{Seq: c.seq, Hash: string(c.hash[:]), File: at.file, Offset: at.offset}
}

// appendPrefix appends what the next line begins with.
func (c *chain) appendPrefix(b []byte) []byte {
	b = strconv.AppendUint(append(b, prefixSeq...), c.seq+1, 10)
	b = append(append(b, prefixPrev...), c.hash[:]...)
	return append(b, prefixAt...)
}

// advance moves past line, which is without its newline.
func (c *chain) advance(line []byte) {
	c.seq++
	c.setHash(line)
	c.offset += int64(len(line)) + 1
}

// follow checks that line is the next one, and moves past it.
func (c *chain) follow(line []byte) error {
	var room [len(prefixSeq) + 20 + len(prefixPrev) + 64 + len(prefixAt)]byte
	want := c.appendPrefix(room[:0])
	if !bytes.HasPrefix(line, want) {
		return c.broken(c.why(line))
	}
	c.advance(line)
	return nil
}

func (c *chain) broken(why string) error {
	return &ChainError{File: c.file, Line: c.seq + 1, Why: why}
}

// why says what is wrong with a line that does not follow.
func (c *chain) why(line []byte) string {
	seq, _, ok := parsePrefix(line)
	switch {
	case !ok:
		return "it does not begin as a line of the log does"
	case seq != c.seq+1:
		return fmt.Sprintf("line %d stands in its place", seq)
	case c.seq == 0:
		return "it does not begin this vault's log"
	}
	return fmt.Sprintf("it does not follow from line %d: one of the two was changed", c.seq)
}

// parsePrefix reads seq and prev of a line.
func parsePrefix(line []byte) (seq uint64, prev []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(prefixSeq))
	if !ok {
		return 0, nil, false
	}
	digits, rest, ok := bytes.Cut(rest, []byte(prefixPrev))
	if !ok || len(digits) > 20 || len(rest) < 64+len(prefixAt) || string(rest[64:64+len(prefixAt)]) != prefixAt {
		return 0, nil, false
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || seq == 0 || digits[0] == '0' || digits[0] == '+' {
		return 0, nil, false
	}
	for _, c := range rest[:64] {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return 0, nil, false
		}
	}
	return seq, rest[:64], true
}

const tooLong = "it is longer than a line can be"

// read follows every whole line of f from the chain's offset on, and reports
// how many bytes stand after the last of them. buf is longer than a line.
//
// No line holds a zero byte: where one is, a power cut has left room that was
// never written, and what comes after it, be it whole, came after what is lost.
// All of it is the torn end. Whether more is missing than may be is for those
// to say who know a position that has to be there.
func (c *chain) read(f io.ReaderAt, buf []byte, fn func(line []byte, at *chain) error) (torn int64, err error) {
	have := 0 // bytes of an unfinished line at the start of buf
	for {
		n, err := f.ReadAt(buf[have:], c.offset+int64(have))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("audit: read log: %w", err)
		}
		all := have + n
		hole := bytes.IndexByte(buf[have:all], 0)
		if hole >= 0 {
			all = have + hole
		}
		data, err2 := c.readLines(buf[:all], fn)
		if err2 != nil {
			return 0, err2
		}
		if hole >= 0 {
			return c.toEnd(f, buf)
		}
		if err != nil {
			return int64(len(data)), nil
		}
		if len(data) >= MaxLine {
			return c.skipTorn(f, buf)
		}
		have = copy(buf, data)
	}
}

// toEnd measures what is left.
func (c *chain) toEnd(f io.ReaderAt, buf []byte) (n int64, err error) {
	for {
		got, err := f.ReadAt(buf, c.offset+n)
		n += int64(got)
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, fmt.Errorf("audit: read log: %w", err)
		}
	}
}

// readLines follows the whole lines of data and returns what is after them.
func (c *chain) readLines(data []byte, fn func(line []byte, at *chain) error) ([]byte, error) {
	var last []byte
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			if last != nil {
				c.closed = closes(last)
			}
			return data, nil
		}
		if end >= MaxLine {
			return nil, c.broken(tooLong)
		}
		if err := c.follow(data[:end]); err != nil {
			return nil, err
		}
		if fn != nil {
			if err := fn(data[:end], c); err != nil {
				c.closed = closes(data[:end])
				return nil, err
			}
		}
		last, data = data[:end], data[end+1:]
	}
}

// skipTorn measures what stands at the chain's offset and is too long for a
// line. Up to the end of the file it is a torn tail; with a newline in it, it
// is a line that cannot be.
func (c *chain) skipTorn(f io.ReaderAt, buf []byte) (torn int64, err error) {
	for {
		n, err := f.ReadAt(buf, c.offset+torn)
		if bytes.IndexByte(buf[:n], '\n') >= 0 {
			return 0, c.broken(tooLong)
		}
		torn += int64(n)
		if errors.Is(err, io.EOF) {
			return torn, nil
		} else if err != nil {
			return 0, fmt.Errorf("audit: read log: %w", err)
		}
	}
}
