package audit

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"time"
)

// Sync puts everything that Append wrote on disk.
func (l *Log) Sync() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("audit: sync: %w", fs.ErrClosed)
	}
	l.inflight.Add(1)
	l.mu.Unlock()
	defer l.inflight.Done()
	return l.sync()
}

func (l *Log) sync() error { return l.syncTo(math.MaxUint64) }

// syncTo returns when line seq is on disk, or all that is written by now. One
// fsync serves all who wait for the mutex meanwhile.
func (l *Log) syncTo(seq uint64) error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	failed := l.syncFail.Load()
	l.mu.Lock()
	target := l.written
	l.mu.Unlock()
	if !failed && l.synced.seq >= min(seq, target.seq) {
		return nil
	}
	if failed {
		if err := l.rewrite(l.synced.offset, target.offset); err != nil {
			return err
		}
	}
	if err := l.fsync(l.file); err != nil {
		l.syncFail.Store(true)
		return fmt.Errorf("audit: sync log: %w", err)
	}
	l.syncFail.Store(false)
	l.synced = target
	return nil
}

// rewrite writes the same bytes to the same place. After an fsync that failed
// a kernel may hold what was lost for clean, and the next fsync would succeed
// without writing it. Whole lines never change, so this needs no lock.
func (l *Log) rewrite(from, to int64) error {
	buf := make([]byte, walkBuffer)
	for from < to {
		n, err := l.file.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 && err == io.EOF {
			return nil // cut short: the next append tells
		}
		if n == 0 {
			return fmt.Errorf("audit: sync log: %w", err)
		}
		if _, err := l.file.WriteAt(buf[:n], from); err != nil {
			return fmt.Errorf("audit: sync log: %w", err)
		}
		from += int64(n)
	}
	return nil
}

// arm makes sure that what was just written is synced soon. Called under
// l.mu.
func (l *Log) arm() {
	if l.armed || l.closed {
		return
	}
	l.armed = true
	l.inflight.Add(1)
	if l.timer == nil {
		l.timer = time.AfterFunc(syncDelay, l.syncInBackground)
	} else {
		l.timer.Reset(syncDelay)
	}
}

// syncInBackground leaves a failure to the next append, which fails with it
// unless it can be mended.
func (l *Log) syncInBackground() {
	defer l.inflight.Done()
	l.mu.Lock()
	l.armed = false
	l.mu.Unlock()
	_ = l.sync()
}
