package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

const (
	// followPoll is how often a follower looks for what other processes append:
	// nothing tells of that.
	followPoll = 200 * time.Millisecond
	// followRest is how long it leaves a busy log alone between two looks.
	followRest = 10 * time.Millisecond

	followBuffer = 4 * MaxLine
)

// Follow is what calls fn with the lines that q picks as they are appended, by
// whatever process, until ctx ends or fn fails. It begins behind the line that
// is the last now, so that nothing is missed which comes after Follow returned;
// with a Limit it first gives the newest so many up to there. The line is valid
// only during the call. What does not follow ends it with a *ChainError.
func (l *Log) Follow(ctx context.Context, q Query) (func(ctx context.Context, fn func(line []byte) error) error, error) {
	at, err := l.settledEnd(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, fn func(line []byte) error) error { return l.follow(ctx, q, at, fn) }, nil
}

func (l *Log) follow(ctx context.Context, q Query, at chain, fn func(line []byte) error) error {
	news := make(chan struct{}, 1)
	news <- struct{}{} // of what came since
	l.mu.Lock()
	l.followers = append(l.followers, news)
	l.mu.Unlock()
	defer l.unfollow(news)
	if q.Limit > 0 {
		if err := l.newest(q, at.seq, fn); err != nil {
			return err
		}
	}
	f := newFilter(q)
	buf := make([]byte, followBuffer)
	poll := time.NewTicker(followPoll)
	defer poll.Stop()
	seen := int64(-1) // size of the current segment when the end was looked for; -1: unknown
	for {
		var until uint64
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.life.Done():
			return fmt.Errorf("audit: follow: %w", fs.ErrClosed)
		case <-news:
			l.mu.Lock()
			until = l.written.seq
			l.mu.Unlock()
		case <-poll.C:
			size := l.currentSize()
			if size == seen && size >= 0 {
				continue
			}
			end, err := l.settledEnd(ctx)
			if err != nil {
				return err
			}
			until, seen = end.seq, size
		}
		if err := l.pass(ctx, &at, until, buf, f, fn); err != nil {
			return err
		}
	}
}

// pass reads on from at to line until, and rests a while.
func (l *Log) pass(ctx context.Context, at *chain, until uint64, buf []byte, f *filter, fn func(line []byte) error) error {
	if at.seq >= until {
		return nil
	}
	err := l.walkKept(at, buf, func(line []byte, at *chain) error {
		if f.picks(line) {
			if err := fn(line); err != nil {
				return err
			}
		}
		if at.seq >= until {
			return errStop
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	rest := time.NewTimer(followRest)
	defer rest.Stop()
	select {
	case <-ctx.Done():
	case <-rest.C:
	}
	return nil
}

// newest gives the newest lines up to a line, oldest first.
func (l *Log) newest(q Query, upTo uint64, fn func(line []byte) error) error {
	var lines [][]byte
	err := l.findBackward(q, upTo, func(line []byte) error {
		lines = append(lines, slices.Clone(line))
		return nil
	})
	for _, line := range slices.Backward(lines) {
		if err == nil {
			err = fn(line)
		}
	}
	return err
}

// settledEnd is the log's end, whoever wrote it. What a process is just
// writing is not in the log until it gives the lock back: a full disk may yet
// take it away.
func (l *Log) settledEnd(ctx context.Context) (end chain, err error) {
	err = l.asLeader(ctx, func() error {
		err := l.catchUp()
		end = l.tail
		return err
	})
	return end, err
}

// currentSize is the size of the current segment, -1 when it cannot be told.
func (l *Log) currentSize() int64 {
	l.mu.Lock()
	path, id := l.path, l.id
	l.mu.Unlock()
	size, err := sizeOf(path, id)
	if err != nil {
		return -1
	}
	return size
}

// wakeFollowers tells of what was just written. Called under l.mu.
func (l *Log) wakeFollowers() {
	for _, news := range l.followers {
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

func (l *Log) unfollow(news chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.followers, news)
	l.followers = slices.Delete(l.followers, i, i+1)
}
