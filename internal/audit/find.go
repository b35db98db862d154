package audit

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
)

// A Query picks records. The zero Query picks all.
type Query struct {
	Limit      int    // the newest so many; 0: all
	SinceMs    int64  // at or after
	UntilMs    int64  // at or before; 0: no end
	BeforeMs   int64  // before: the next page of older ones; 0: no end
	Capability string // a pattern as of grants: openai/chat-completions, openai/*; of capability or set
	Caller     string // a uid or a user's name
	Denied     bool   // refusals alone
}

// Clocks are set back, so that the first line from before Query.SinceMs says
// little. Find looks no further after that many lines in a row that are older
// by more than that.
const (
	sinceLines   = 20_000
	sinceSlackMs = 24 * 60 * 60 * 1000
)

// Find returns the lines that q picks, oldest first. It reads the log from its
// end, no further than it must, and checks nothing: of a log that was tampered
// with it shows what is there, and among what q picks is every line that does
// not read as one. Of SinceMs it takes for granted that no clock was set back
// by more than a day for long.
func (l *Log) Find(q Query) ([][]byte, error) {
	var lines [][]byte
	err := l.findBackward(q, 0, func(line []byte) error {
		lines = append(lines, bytes.Clone(line))
		return nil
	})
	slices.Reverse(lines)
	return lines, err
}

// findBackward calls fn with the lines up to upTo (0: all) that q picks, the
// newest first.
func (l *Log) findBackward(q Query, upTo uint64, fn func(line []byte) error) error {
	names, err := segments(l.cfg.Dir)
	if err != nil {
		return err
	}
	f := newFilter(q)
	picked, older := 0, 0
	each := func(line []byte) error {
		if q.SinceMs > 0 {
			if at, _, ok := lineBody(line); ok && at < q.SinceMs-sinceSlackMs {
				if older++; older >= sinceLines {
					return errStop
				}
				return nil
			}
			older = 0
		}
		if !f.picks(line) {
			return nil
		}
		if seq, _, ok := parsePrefix(line); ok && upTo > 0 && seq > upTo {
			return nil
		}
		if err := fn(line); err != nil {
			return err
		}
		if picked++; picked == q.Limit {
			return errStop
		}
		return nil
	}
	for _, name := range slices.Backward(names) {
		err := eachBackward(l.cfg.Dir, name, each)
		switch {
		case errors.Is(err, errStop):
			return nil
		case errors.Is(err, fs.ErrNotExist):
			return l.gone(name)
		case err != nil:
			return err
		}
	}
	return nil
}

func eachBackward(dir, name string, fn func(line []byte) error) error {
	f, size, err := openFromEnd(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = backward(f, name, size, fn)
	return err
}

// gone says why a segment that was there is not: nil when it was removed
// because it is old.
func (l *Log) gone(name string) error {
	names, err := segments(l.cfg.Dir)
	if err == nil && segmentNumber(names[0]) <= segmentNumber(name) {
		err = missing(name)
	}
	return err
}

// Export calls fn with the lines that q picks, oldest first, over all that is
// kept of the log, checking that each line follows. Memory does not grow with
// the log. The line is valid only during the call.
func (l *Log) Export(ctx context.Context, q Query, fn func(line []byte) error) error {
	first, left := uint64(0), -1
	if q.Limit > 0 {
		left = 0
		err := l.findBackward(q, 0, func(line []byte) error {
			seq, _, _ := parsePrefix(line)
			first, left = seq, left+1
			return ctx.Err()
		})
		if err != nil || left == 0 {
			return err
		}
	}
	c, err := l.start(Head{})
	if err != nil {
		return err
	}
	f := newFilter(q)
	err = l.walkKept(&c, make([]byte, walkBuffer), func(line []byte, at *chain) error {
		if at.seq%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if at.seq < first || !f.picks(line) {
			return nil
		}
		if err := fn(line); err != nil {
			return err
		}
		if left--; left == 0 {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// walkKept is chain.walk for one who reads while old segments are removed: it
// goes on behind them.
func (l *Log) walkKept(c *chain, buf []byte, each func(line []byte, at *chain) error) error {
	for {
		err := c.walkWith(buf, l.cfg.Dir, each)
		var broken *ChainError
		if !errors.As(err, &broken) || l.gone(c.file) != nil {
			return err
		}
		if *c, err = l.start(Head{}); err != nil {
			return err
		}
	}
}
