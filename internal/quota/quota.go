// Package quota counts the calls of rate limits: in any 60 seconds at most N
// start. The count is kept in one file, under its lock, for every process that
// uses the vault, and on the boot clock, which nobody can set.
package quota

import (
	"context"
	"time"
)

// Window is the time over which calls are counted.
const Window = 60 * time.Second

// Demand is one limit that a call has to keep.
type Demand struct {
	Key       string // what is counted, e.g. capability:openai/models
	PerMinute int    // at least 1
}

// Exceeded says that a call would be one too many.
type Exceeded struct {
	Key  string
	Wait time.Duration // until the call would be let through, never zero
}

func (e *Exceeded) Error() string { panic("contract") }

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
type Book struct{}

// New makes a Book; it touches no file.
func New(cfg Config) *Book { panic("contract") }

// Begin makes the file, empty, where there is none: before the first limit
// is set. A file that is missing later counts as a full window.
func (b *Book) Begin(ctx context.Context) error { panic("contract") }

// Take counts a call against every demand, when it keeps every one of all
// and, unless any is empty, at least one of any; else it counts nothing and
// the error is an *Exceeded. Any other error means that the count is not
// known, and the call has to be refused.
func (b *Book) Take(ctx context.Context, all, any []Demand) error { panic("contract") }

// Check is Take without counting.
func (b *Book) Check(ctx context.Context, all, any []Demand) error { panic("contract") }
