// Package quota counts the calls of rate limits: in any 60 seconds at most N
// start. The count is kept in one file, under its lock, for every process that
// uses the vault, and on the boot clock, which nobody can set.
// docs/vault-format.md specifies the file.
//
// What is not known is never taken for room: a file that is missing or damaged
// counts as a full window, and whatever else fails is an error that refuses
// the call.
package quota

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moldable.sh/aivault/internal/api"
)

// Window is the time over which calls are counted. A call that starts exactly
// so long after another is in another window.
const Window = 60 * time.Second

// MaxPerMinute is the greatest limit that is counted: every start of a window
// is kept and written with each call.
const MaxPerMinute = 60_000

// MaxKeyBytes is how long a Demand's key may be.
const MaxKeyBytes = 256

// Demand is one limit that a call has to keep.
type Demand struct {
	Key       string // what is counted, e.g. capability:openai/models: printable ASCII without quotes and backslashes
	PerMinute int    // 1 to MaxPerMinute; 0 among any: no limit
}

// Exceeded says that a call would be one too many.
type Exceeded struct {
	Key  string
	Wait time.Duration // until the call would be let through, never zero
}

// Error names the limit and the time to wait.
func (e *Exceeded) Error() string {
	return fmt.Sprintf("the rate limit %s has room in %s", e.Key, e.Wait)
}

// Now is the time on the clocks that quota needs.
type Now struct {
	BootID    string        // changes with each boot
	SinceBoot time.Duration // monotonic, counts while the machine sleeps
	Wall      time.Time
}

// Config is what a Book needs.
type Config struct {
	Path  string              // $VAULT/limits
	Clock func() (Now, error) // default: the system's
}

// A Book counts calls. Its methods may be called concurrently, by any number
// of processes.
type Book struct {
	clock func() (Now, error)
	turn  chan struct{} // holds a token while a goroutine has the file
	file  file
}

// New makes a Book; it touches no file.
func New(cfg Config) *Book {
	if cfg.Clock == nil {
		cfg.Clock = systemClock()
	}
	return &Book{clock: cfg.Clock, turn: make(chan struct{}, 1), file: newFile(cfg.Path)}
}

// Begin makes the file, empty, where there is none: before the first limit
// is set. A file that is missing later counts as a full window.
func (b *Book) Begin(ctx context.Context) error {
	return b.locked(ctx, func(now instant) error {
		if there, err := b.file.exists(); there || err != nil {
			return err
		}
		return b.file.replace(&ledger{at: now})
	})
}

// Take counts a call against every demand, when it keeps every one of all
// and, unless any is empty, at least one of any; else it counts nothing and
// the error is an *Exceeded. Any other error means that the count is not
// known, and the call has to be refused.
//
// A demand among any that has no limit always has room. The others among any
// are counted all the same, for the day when they have to hold on their own.
func (b *Book) Take(ctx context.Context, all, any []Demand) error {
	return b.decide(ctx, all, any, true)
}

// Check is Take without counting.
func (b *Book) Check(ctx context.Context, all, any []Demand) error {
	return b.decide(ctx, all, any, false)
}

// Close closes the files that the Book keeps open. A call after it opens
// them again.
func (b *Book) Close() error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	return b.file.close()
}

func (b *Book) decide(ctx context.Context, all, any []Demand, count bool) error {
	limited := false
	for i, list := range [][]Demand{all, any} {
		for _, d := range list {
			if err := d.check(1 - i); err != nil {
				return err
			}
			limited = limited || d.PerMinute > 0
		}
	}
	if !limited {
		return ctx.Err() // nothing is to be counted
	}
	return b.locked(ctx, func(now instant) error {
		l, err := b.read(now)
		if err != nil {
			return err
		}
		if over := l.exceeded(now, all, any); over != nil {
			return over
		}
		if !count {
			return nil
		}
		l.count(now, all, any)
		return b.file.save(l)
	})
}

func (d Demand) check(least int) error {
	if !printable(d.Key, MaxKeyBytes) {
		return api.Errorf(api.Internal, "quota: %+q is no key of a limit", d.Key[:min(len(d.Key), MaxKeyBytes)])
	}
	if d.PerMinute < least || d.PerMinute > MaxPerMinute {
		return api.Errorf(api.Internal, "quota: a limit of %d a minute is out of bounds", d.PerMinute)
	}
	return nil
}

// read returns what was counted, on the clock of this boot. What it finds out
// about the file, it writes down: the time from which a lost count is a full
// window, and where the starts of an earlier boot lie on this boot's clock,
// must be the same for whoever looks next.
func (b *Book) read(now instant) (*ledger, error) {
	l, err := b.file.load(now)
	if err == errLost {
		l = &ledger{at: now, full: true, fullFrom: now.boot}
		return l, b.file.replace(l)
	}
	if err != nil || !l.rebase(now) {
		return l, err
	}
	return l, b.file.save(l)
}

// locked runs fn while no other goroutine and no other process has the file.
// The clock is read under the lock, so that starts are counted in the order in
// which they are let through.
func (b *Book) locked(ctx context.Context, fn func(now instant) error) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := b.file.lock.Lock(ctx); err != nil {
		return unknown(ctx, err)
	}
	err := b.run(fn)
	if e := b.file.lock.Unlock(); e != nil {
		_ = b.file.lock.Close() // which gives the lock back
	}
	return unknown(ctx, err)
}

func (b *Book) run(fn func(now instant) error) error {
	t, err := b.clock()
	if err != nil {
		return err
	}
	now, err := instantOf(t)
	if err != nil {
		return err
	}
	return fn(now)
}

// unknown gives an error that is no answer the code under which the call is
// refused. It leaves the path out, which callers need not know.
func unknown(ctx context.Context, err error) error {
	switch err.(type) {
	case nil, *Exceeded, *api.Error:
		return err
	}
	if e := ctx.Err(); e != nil && errors.Is(err, e) {
		return e
	}
	return api.Errorf(api.VaultUnavailable, "the vault's rate limits cannot be counted: %w", bare(err))
}
