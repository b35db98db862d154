package audit

import (
	"context"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
)

// Bounds of what the log takes of refusals and callers. docs/audit-format.md
// states them.
const (
	sameFor      = time.Minute // in which equal refusals are one record
	maxKinds     = 4096        // of refusals, held at once
	budgetWindow = time.Hour
	maxRefusals  = 10_000 // records of refusals of one caller in a window
	maxRecords   = 2_000_000
)

// A Desk records what callers are refused, so that none of them can fill the
// log: refusals that are equal within a minute are one record and one more
// that counts the rest, and of each caller the log takes so many records an
// hour. Everyone who refuses in a process uses the same Desk. Its methods may
// be called concurrently.
type Desk struct {
	open  func(context.Context) (*Log, error)
	clock func() time.Time
	busy  sync.WaitGroup // counts that are being written

	mu     sync.Mutex
	closed bool
	last   time.Time
	age    time.Duration // of the Desk, by a clock that is never set back
	kinds  map[kind]*refusal
	spent  map[uint32]*spending
}

// kind is what equal refusals have in common.
type kind struct {
	uid                                     uint32
	event, code, capability, method, object string
}

func kindOf(r *Record) kind {
	k := kind{event: r.Event, code: r.Code, capability: r.Capability, method: r.Method, object: r.Object}
	if r.Caller != nil {
		k.uid = r.Caller.UID
	}
	return k
}

// refusal is the latest of a kind: the first of its minute, and those that
// followed.
type refusal struct {
	record  Record        // of the first
	since   time.Duration // age of the Desk then
	writing bool          // somebody writes it
	told    bool          // it is in the log
	more    int           // how many followed
	timer   *time.Timer   // tells of them when the minute is over; nil while there are none
}

// spending is what the log took of one caller since a window began.
type spending struct {
	since             time.Duration
	records, refusals int
}

// NewDesk makes a Desk. open gives the log to write to, and an error where
// there is none. clock may be nil.
func NewDesk(open func(context.Context) (*Log, error), clock func() time.Time) *Desk {
	if clock == nil {
		clock = time.Now
	}
	return &Desk{open: open, clock: clock, kinds: map[kind]*refusal{}, spent: map[uint32]*spending{}}
}

// Refuse records a refusal in log, or, where that is nil, in the one that the
// Desk opens. Its error, rate_limited, takes the place of what the caller
// would have been told. A record that cannot be written is no error: the
// caller is refused all the same.
func (d *Desk) Refuse(ctx context.Context, log *Log, r Record) (over error) {
	ctx = context.WithoutCancel(ctx) // the record outlives a request that was given up
	if log == nil {
		var err error
		if log, err = d.open(ctx); err != nil {
			return nil // no vault: there is no log to write to
		}
	}
	d.mu.Lock()
	mine, over := d.take(&r)
	d.mu.Unlock()
	if mine == nil {
		return over
	}
	_, err := log.Append(ctx, r)
	d.mu.Lock()
	defer d.mu.Unlock()
	mine.writing, mine.told = false, err == nil
	return over
}

// take counts a refusal, or says by not returning nil that r, which may have
// become another, is to be written now. Called under mu.
func (d *Desk) take(r *Record) (mine *refusal, over error) {
	age, k := d.grow(), kindOf(r)
	held := d.held(k, age)
	if held == nil || held.more == 0 { // it takes a line, or one for the count
		if wait := d.spend(k.uid, age, 1, 1); wait > 0 {
			over = overBudget(wait)
			*r = Record{Event: r.Event, RequestID: r.RequestID, Caller: r.Caller,
				Code: string(api.RateLimited), Reason: over.Error()}
			k = kindOf(r)
			held = d.held(k, age)
		}
	}
	switch {
	case d.closed:
		return &refusal{}, over
	case held == nil:
		if len(d.kinds) >= maxKinds {
			d.tellAll()
		}
		held = &refusal{record: *r, since: age, writing: true}
		d.kinds[k] = held
		return held, over
	}
	d.count(k, held)
	if held.told || held.writing {
		return nil, over
	}
	held.writing = true // the first could not be written
	*r = held.record
	return held, over
}

// held is the refusal of a kind that is less than a minute old. An older one
// is told of and forgotten. Called under mu.
func (d *Desk) held(k kind, age time.Duration) *refusal {
	held := d.kinds[k]
	if held == nil || age-held.since < sameFor {
		return held
	}
	d.write(d.forget(nil, k, held))
	return nil
}

// count counts one more. Called under mu.
func (d *Desk) count(k kind, held *refusal) {
	held.more++
	if held.timer != nil {
		return
	}
	held.timer = time.AfterFunc(sameFor-(d.age-held.since), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.kinds[k] == held {
			d.write(d.forget(nil, k, held))
		}
	})
}

// forget ends a kind's minute and appends what there is to tell of it. Called
// under mu.
func (d *Desk) forget(records []Record, k kind, held *refusal) []Record {
	delete(d.kinds, k)
	if held.timer != nil {
		held.timer.Stop()
	}
	if held.more == 0 && (held.told || held.writing) {
		return records
	}
	r := held.record
	r.Count = held.more
	return append(records, r)
}

func (d *Desk) tellAll() {
	var records []Record
	for k, held := range d.kinds {
		records = d.forget(records, k, held)
	}
	d.write(records)
}

// write writes without making anyone wait. Called under mu.
func (d *Desk) write(records []Record) {
	if len(records) == 0 || d.closed {
		return
	}
	d.busy.Go(func() {
		ctx := context.Background()
		log, err := d.open(ctx)
		for i := 0; i < len(records) && err == nil; i++ {
			_, err = log.Append(ctx, records[i]) // what is lost is a count
		}
	})
}

// Room says (nil) that the log takes more records of a caller's calls in this
// hour, or else rate_limited.
func (d *Desk) Room(uid uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if wait := d.spend(uid, d.grow(), 0, 0); wait > 0 {
		return overBudget(wait)
	}
	return nil
}

// Spend counts records of a call that was allowed.
func (d *Desk) Spend(uid uint32, records int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spend(uid, d.grow(), records, 0)
}

// spend counts records of a caller, so many of them refusals, unless the
// hour's are used up: then it says how long the hour lasts. Called under mu.
func (d *Desk) spend(uid uint32, age time.Duration, records, refusals int) (wait time.Duration) {
	s := d.spent[uid]
	switch {
	case s == nil:
		d.sweep(age)
		s = &spending{since: age}
		d.spent[uid] = s
	case age-s.since >= budgetWindow:
		*s = spending{since: age}
	}
	if s.records >= maxRecords || s.refusals+refusals > maxRefusals {
		return s.since + budgetWindow - age
	}
	s.records += records
	s.refusals += refusals
	return 0
}

// sweep forgets callers whose hour is over, each time that there are twice as
// many. Called under mu.
func (d *Desk) sweep(age time.Duration) {
	if n := len(d.spent); n < 1024 || n&(n-1) != 0 {
		return
	}
	for uid, s := range d.spent {
		if age-s.since >= budgetWindow {
			delete(d.spent, uid)
		}
	}
}

// grow makes the Desk as old as the clock says. One that is set back stands
// still: that gives nobody anything, and makes nobody wait. Called under mu.
func (d *Desk) grow() time.Duration {
	now := d.clock()
	if !d.last.IsZero() {
		d.age += max(0, now.Sub(d.last))
	}
	d.last = now
	return d.age
}

func overBudget(wait time.Duration) error {
	e := api.Errorf(api.RateLimited, "the audit log takes no more records of this user within the hour")
	e.RetryAfterMs = max(1, (wait + time.Millisecond - 1).Milliseconds())
	return e
}

// Close tells of what was counted. A refusal that comes later is a record of
// its own.
func (d *Desk) Close() {
	d.mu.Lock()
	d.tellAll()
	d.closed = true
	d.mu.Unlock()
	d.busy.Wait()
}
