package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	// positionEvery is after how many calls a session writes down how far none
	// of its calls is open: whoever comes after a kill reads from there.
	positionEvery = 4096
	positionSize  = 192 // the file's length, always: what is written in place leaves no rest
	settleEvery   = time.Second
	// maxOwed bounds what is kept of outcomes that cannot be written. No call
	// begins while one is kept, so that it takes as many open calls to get there.
	maxOwed = 16384
)

var (
	errSessionEnded = fmt.Errorf("audit: the session has ended: %w", fs.ErrClosed)
)

// A Session is a process that makes calls, as the log knows it: by a file that
// the process holds locked for as long as it lives. Of a call that the log has
// as allowed it sees to it that the log gets the outcome, once: from this
// process, also when the disk was full for a while, or, where it was killed,
// from the next that comes (Recover). docs/audit-format.md describes the file.
type Session struct {
	log  *Log
	id   string
	path string
	lock *durable.Lock
	busy sync.WaitGroup // what appends, and the position's writing

	settling sync.Mutex  // held by the one who writes what is owed
	owing    atomic.Bool // there is something owed; changed under mu

	mu     sync.Mutex
	last   Head        // the newest line that this session knows of
	open   OpenCall    // ring of the calls without an outcome, the oldest next to it
	since  int         // calls since the position was written
	owed   []debt      // in order
	timer  *time.Timer // tries again to write it
	closed bool
}

// OpenCall is the place of one call in its session, from Allow to Finish. The
// zero OpenCall is ready to use, once.
type OpenCall struct {
	base       Head // a line before the call's first
	prev, next *OpenCall
}

// A debt is a record that could not be written, or for which that is not
// certain.
type debt struct {
	call    *OpenCall // ends with this record; nil where another follows
	record  Record
	base    Head
	unsure  bool // it may be in the log already
	ifThere bool // it is due only if the call's first record is in the log
}

// OpenSession begins a session whose file is in dir, $VAULT/calls.
func (l *Log) OpenSession(ctx context.Context, dir string) (*Session, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("audit: open session: %w", err)
	}
	if err := durable.CheckPrivate(dir); err != nil {
		return nil, fmt.Errorf("audit: open session: %w", err)
	}
	at, err := l.settledEnd(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit: open session: %w", err)
	}
	end := at.head()
	s := &Session{log: l, id: rand.Text(), last: end}
	s.open.prev, s.open.next = &s.open, &s.open
	s.path = filepath.Join(dir, s.id)
	if s.lock, err = durable.Acquire(ctx, s.path); err != nil {
		return nil, fmt.Errorf("audit: open session: %w", err)
	}
	// On disk before the first call is in the log: a power cut leaves no call
	// of a session that nobody knows of.
	err = s.lock.SetContent(encodePosition(end))
	if err == nil {
		err = s.lock.Sync()
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: open session: %w", errors.Join(err, os.Remove(s.path), s.lock.Release()))
	}
	return s, nil
}

// Of says whether the session is one of log.
func (s *Session) Of(log *Log) bool { return s.log == log }

// enter lets an append begin, unless the session has ended.
func (s *Session) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errSessionEnded
	}
	s.busy.Add(1)
	return nil
}

// Allow records that a call is about to be made. When it fails nothing may be
// sent. No call is allowed while the outcome of an earlier one waits to be
// written. A call that was allowed has to be finished.
func (s *Session) Allow(ctx context.Context, c *OpenCall, r Record) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.busy.Done()
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	c.base = s.last
	c.prev, c.next = s.open.prev, &s.open
	c.prev.next, c.next.prev = c, c
	s.mu.Unlock()

	r.Session = s.id
	head, err := s.log.Append(ctx, r)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(head)
	if err != nil {
		s.notSent(c, r, head, err)
		return err
	}
	if s.since++; s.since >= positionEvery {
		s.since = 0
		at := s.position()
		s.busy.Go(func() { s.writePosition(at) })
	}
	return nil
}

// notSent is for a call whose first record may be in the log though its
// append failed: then it needs an outcome, too. Called under mu.
func (s *Session) notSent(c *OpenCall, r Record, head Head, err error) {
	there, unsure := head.Seq != 0, errors.Is(err, errUncut)
	if !there && !unsure {
		c.unlink()
		return
	}
	r.Event, r.Session, r.Secrets = CallFinished, "", nil
	r.Code, r.Reason = "internal", "nothing was sent: the call could not be recorded for certain"
	s.owe(debt{call: c, record: r, base: c.base, ifThere: unsure})
}

// Note records something about a call that is open. When that cannot be done
// now, the record is kept and written later, before any other of this session.
func (s *Session) Note(c *OpenCall, r Record) error { return s.write(debt{record: r, base: c.base}) }

// Finish records the outcome of a call. As Note it keeps what cannot be
// written now.
func (s *Session) Finish(c *OpenCall, r Record) error {
	return s.write(debt{call: c, record: r, base: c.base})
}

func (s *Session) write(d debt) error {
	if err := s.enter(); err != nil {
		return err // whoever finds the session's file says that the outcome is unknown
	}
	defer s.busy.Done()
	// The record outlives the call that was cut short.
	ctx := context.Background()
	if err := s.settle(ctx); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.owe(d)
		return err
	}
	head, err := s.log.Append(ctx, d.record)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(head)
	if err != nil && head.Seq == 0 {
		d.unsure = errors.Is(err, errUncut)
		s.owe(d)
	} else if d.call != nil {
		d.call.unlink()
	}
	return err
}

// owe keeps a record for later. Called under mu.
func (s *Session) owe(d debt) {
	if len(s.owed) >= maxOwed {
		return // the call stays open, and its outcome becomes unknown
	}
	s.owed = append(s.owed, d)
	s.owing.Store(true)
	if s.timer == nil {
		s.timer = time.AfterFunc(settleEvery, s.settleLater)
	}
}

// settleLater writes what is owed also when no call comes.
func (s *Session) settleLater() {
	if s.enter() != nil {
		return
	}
	defer s.busy.Done()
	err := s.settle(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer = nil; err != nil && !s.closed {
		s.timer = time.AfterFunc(settleEvery, s.settleLater)
	}
}

// settle writes what is owed, in order.
func (s *Session) settle(ctx context.Context) error {
	if !s.owing.Load() {
		return nil
	}
	s.settling.Lock()
	defer s.settling.Unlock()
	for {
		s.mu.Lock()
		if len(s.owed) == 0 {
			s.owed = nil
			s.owing.Store(false)
			s.mu.Unlock()
			return nil
		}
		d := s.owed[0]
		s.mu.Unlock()
		head, err := s.pay(ctx, &d)
		s.mu.Lock()
		s.advance(head)
		if err != nil {
			s.owed[0] = d
			s.mu.Unlock()
			return err
		}
		if d.call != nil {
			d.call.unlink()
		}
		s.owed[0] = debt{}
		s.owed = s.owed[1:]
		s.mu.Unlock()
	}
}

// pay writes one record, unless it turns out to be there or not to be due.
func (s *Session) pay(ctx context.Context, d *debt) (Head, error) {
	if d.unsure || d.ifThere {
		first, this, err := s.log.holds(d.base, &d.record)
		if err != nil {
			return Head{}, err
		}
		if this || d.ifThere && !first {
			return Head{}, nil
		}
		d.unsure, d.ifThere = false, false
	}
	head, err := s.log.Append(ctx, d.record)
	if head.Seq != 0 {
		return head, nil // it is in the file, whether or not it could be synced
	}
	d.unsure = errors.Is(err, errUncut)
	return head, err
}

// advance remembers the newest line. Called under mu.
func (s *Session) advance(head Head) {
	if head.Seq > s.last.Seq {
		s.last = head
	}
}

func (c *OpenCall) unlink() {
	if c.next != nil {
		c.prev.next, c.next.prev = c.next, c.prev
		c.prev, c.next = nil, nil
	}
}

// position is a line up to which no call of this session is open. Called
// under mu.
func (s *Session) position() Head {
	if oldest := s.open.next; oldest != &s.open {
		return oldest.base
	}
	return s.last
}

// writePosition writes at down once the log is on disk that far: after a power
// cut an outcome before it would be missed.
func (s *Session) writePosition(at Head) {
	if s.log.Sync() == nil {
		_ = s.lock.SetContent(encodePosition(at)) // the older one is as true
	}
}

// Close ends the session. When every call has its outcome in the log nothing
// is left of it; else its file stays, for Recover to find.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.busy.Wait()
	err := s.settle(context.Background())
	if err == nil && s.open.next == &s.open {
		// The outcomes first: they could be lost while the file's end is not.
		if err = s.log.Sync(); err == nil {
			err = os.Remove(s.path)
		}
	}
	return errors.Join(err, s.lock.Release())
}

// encodePosition is a session file's content.
func encodePosition(at Head) []byte {
	text, err := strictjson.Marshal(at)
	if err != nil || len(text) >= positionSize {
		text = []byte("{}") // no position: from the log's start
	}
	return []byte(string(text) + strings.Repeat(" ", positionSize-1-len(text)) + "\n")
}

// decodePosition returns the zero Head for what is no position.
func decodePosition(content []byte) (at Head) {
	if strictjson.Unmarshal(content, &at) != nil {
		return Head{}
	}
	return at
}
