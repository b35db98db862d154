package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"moldable.sh/aivault/internal/api"
)

// desk is a Desk over a log, with a clock that the test sets.
type desk struct {
	*Desk
	l   *Log
	now time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{l: create(t, config(t)), now: time.Unix(1_700_000_000, 0)}
	d.Desk = NewDesk(func(context.Context) (*Log, error) { return d.l, nil }, func() time.Time { return d.now })
	t.Cleanup(d.Close)
	return d
}

func refused(uid uint32, capability string) Record {
	return Record{Event: CallRefused, RequestID: capability, Caller: &Caller{UID: uid}, Capability: capability, Code: "policy_violation", Reason: "no"}
}

// refuse fails when the refusal is answered with anything but its own error.
func (d *desk) refuse(t *testing.T, r Record) {
	t.Helper()
	if err := d.Refuse(t.Context(), nil, r); err != nil {
		t.Fatal(err)
	}
}

// told are the records of the log: request, code and count.
func (d *desk) told(t *testing.T) (out []string) {
	t.Helper()
	d.busy.Wait()
	if _, err := d.l.Walk(Head{}, func(line []byte, _ Head) error {
		r, err := ParseLine(line)
		out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %s +%d", r.RequestID, r.Code, r.Count), " +0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func (d *desk) wants(t *testing.T, want ...string) {
	t.Helper()
	if got := d.told(t); strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

func TestEqualRefusalsAreOneRecord(t *testing.T) {
	d := newDesk(t)
	for range 42 {
		d.refuse(t, refused(1, "a/b"))
	}
	d.wants(t, "a/b policy_violation") // at once
	// Whoever differs in anything is a record of their own.
	other := refused(2, "a/b")
	d.refuse(t, other)
	other = refused(1, "a/b")
	other.Method = "PUT"
	d.refuse(t, other)
	other.Object = "GET /x"
	d.refuse(t, other)
	other.Code = "invalid_request"
	d.refuse(t, other)
	other.Event = OperatorRefused
	d.refuse(t, other)
	if n := len(d.told(t)); n != 6 {
		t.Errorf("%d records", n)
	}
	other.Reason, other.RequestID, other.Caller = "another word for it", "later", &Caller{UID: 1, PID: 5}
	d.refuse(t, other) // no difference
	if n := len(d.told(t)); n != 6 {
		t.Errorf("%d records", n)
	}
	d.now = d.now.Add(time.Minute)
	d.refuse(t, refused(1, "a/b"))
	got := d.told(t)
	if len(got) != 8 || got[6] != "a/b policy_violation +41" && got[7] != "a/b policy_violation +41" {
		t.Errorf("after the minute: %q", got)
	}
	d.Close()
	if got := d.told(t); len(got) != 9 || got[8] != "a/b invalid_request +1" {
		t.Errorf("at the end: %q", got)
	}
	d.refuse(t, refused(1, "a/b"))
	d.refuse(t, refused(1, "a/b"))
	if n := len(d.told(t)); n != 11 {
		t.Errorf("%d records, with one for each after the end", n)
	}
}

// The count comes when the minute is over, without anybody's asking.
func TestCountsComeByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := create(t, config(t))
		d := &desk{l: l, Desk: NewDesk(func(context.Context) (*Log, error) { return l, nil }, nil)}
		d.refuse(t, refused(1, "alone"))
		d.refuse(t, refused(1, "a/b"))
		time.Sleep(20 * time.Second)
		d.refuse(t, refused(1, "a/b"))
		d.refuse(t, refused(1, "a/b"))
		time.Sleep(39 * time.Second)
		d.wants(t, "alone policy_violation", "a/b policy_violation")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		d.wants(t, "alone policy_violation", "a/b policy_violation", "a/b policy_violation +2")
		d.Close()
		l.Close()
		d.wants(t, "alone policy_violation", "a/b policy_violation", "a/b policy_violation +2")
	})
}

func TestManyKindsAreBounded(t *testing.T) {
	d := newDesk(t)
	d.refuse(t, refused(7, "a/b"))
	d.refuse(t, refused(7, "a/b"))
	for uid := range uint32(maxKinds - 1) {
		d.kinds[kind{uid: uid}] = &refusal{told: true}
	}
	d.refuse(t, refused(7, "a/b"))
	d.wants(t, "a/b policy_violation")
	d.refuse(t, refused(7, "c/d"))
	if len(d.kinds) != 1 {
		t.Errorf("%d kinds are held", len(d.kinds))
	}
	if got := d.told(t); len(got) != 3 || got[1] != "a/b policy_violation +2" && got[2] != "a/b policy_violation +2" {
		t.Errorf("%q", got)
	}
}

// A caller's refusals use up the log's patience with them, and with nobody else.
func TestTheBudgetOfRefusals(t *testing.T) {
	d := newDesk(t)
	d.refuse(t, refused(1, "a/0"))
	d.spent[1].refusals += maxRefusals - 2
	d.refuse(t, refused(1, "a/1"))
	from := len(d.told(t))
	d.now = d.now.Add(10 * time.Minute)
	for i := range 5 {
		err := d.Refuse(t.Context(), nil, refused(1, fmt.Sprint("b/", i)))
		if e := api.AsError(err); e == nil || e.Code != api.RateLimited || e.RetryAfterMs != (50*time.Minute).Milliseconds() {
			t.Fatalf("%+v", e)
		}
	}
	if got := d.told(t); len(got) != from+1 || got[from] != "b/0 rate_limited" {
		t.Errorf("%d records, then %q", from, got[from:])
	}
	if err := d.Room(1); err != nil {
		t.Errorf("what would be allowed is not: %v", err)
	}
	d.refuse(t, refused(2, "b/0")) // another caller
	// Setting the clock back gives nothing, and costs nothing.
	d.now = d.now.Add(-100 * time.Hour)
	if e := api.AsError(d.Refuse(t.Context(), nil, refused(1, "c/1"))); e == nil || e.RetryAfterMs != (50*time.Minute).Milliseconds() {
		t.Errorf("with the clock set back: %+v", e)
	}
	d.now = d.now.Add(50 * time.Minute)
	d.refuse(t, refused(1, "c/2"))
}

// A count is a record too, and is paid for before it is promised.
func TestCountsAreInTheBudget(t *testing.T) {
	d := newDesk(t)
	d.refuse(t, refused(1, "a/0"))
	d.refuse(t, refused(1, "a/1"))
	d.spent[1].refusals = maxRefusals - 1
	d.refuse(t, refused(1, "a/0")) // its count is all that the budget has room for
	d.refuse(t, refused(1, "a/0"))
	if err := d.Refuse(t.Context(), nil, refused(1, "a/1")); api.CodeOf(err) != api.RateLimited {
		t.Errorf("a second kind is counted, too: %v", err)
	}
	d.Close()
	own := 0
	for _, line := range d.told(t) {
		if !strings.Contains(line, "rate_limited") {
			own++
		}
	}
	if own != 3 {
		t.Errorf("%d records of refusals", own)
	}
}

func TestTheBudgetOfRecords(t *testing.T) {
	d := newDesk(t)
	d.Spend(1, maxRecords-1)
	if err := d.Room(1); err != nil {
		t.Error(err)
	}
	d.Spend(1, 2)
	err := d.Room(1)
	if e := api.AsError(err); e == nil || e.Code != api.RateLimited || e.RetryAfterMs != time.Hour.Milliseconds() {
		t.Errorf("%+v", e)
	}
	// The refusal that follows is one record, however it is varied.
	for i := range 3 {
		r := refused(1, fmt.Sprint("a/", i))
		r.Code = string(api.RateLimited)
		if err := d.Refuse(t.Context(), nil, r); api.CodeOf(err) != api.RateLimited {
			t.Error(err)
		}
	}
	d.wants(t, "a/0 rate_limited")
	if d.Room(2) != nil {
		t.Error("another caller has no room")
	}
	d.now = d.now.Add(time.Hour)
	if err := d.Room(1); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// The first of a kind that could not be written is written by the next.
func TestARefusalThatCouldNotBeWritten(t *testing.T) {
	d := newDesk(t)
	works := d.l
	broken := create(t, config(t))
	broken.Close()
	d.l = broken
	d.refuse(t, refused(1, "a/b"))
	d.refuse(t, refused(1, "a/b"))
	d.l = works
	d.refuse(t, refused(1, "a/b"))
	d.refuse(t, refused(1, "a/b"))
	d.Close()
	d.wants(t, "a/b policy_violation", "a/b policy_violation +3")

	none := NewDesk(func(context.Context) (*Log, error) { return nil, syscall.ENOENT }, nil)
	defer none.Close()
	if err := none.Refuse(t.Context(), nil, refused(1, "a/b")); err != nil || len(none.kinds) != 0 {
		t.Errorf("without a log: %v, %d kinds", err, len(none.kinds))
	}
}

// A request that was given up is recorded all the same.
func TestARefusalOutlivesItsRequest(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Refuse(ctx, nil, refused(1, "a/b")); err != nil {
		t.Fatal(err)
	}
	d.wants(t, "a/b policy_violation")
}

func TestManyRefuseAtOnce(t *testing.T) {
	d := newDesk(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 100 {
				if err := d.Refuse(context.Background(), nil, refused(uint32(w%4), fmt.Sprint("a/", i%3))); err != nil {
					t.Error(err)
				}
				d.Spend(uint32(w), 2)
				_ = d.Room(uint32(w))
			}
		})
	}
	wg.Wait()
	d.Close()
	sum := 0
	if _, err := d.l.Walk(Head{}, func(line []byte, _ Head) error {
		r, err := ParseLine(line)
		if sum += r.Count; r.Count == 0 {
			sum++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if sum != 1600 || len(d.told(t)) != 24 {
		t.Errorf("%d refusals in %d records", sum, len(d.told(t)))
	}
}

func TestTheHoursOfCallersAreForgotten(t *testing.T) {
	d := newDesk(t)
	for uid := range uint32(1024) {
		d.Spend(uid, 1)
	}
	d.now = d.now.Add(time.Hour)
	d.Spend(5000, 1)
	if n := len(d.spent); n != 1 {
		t.Errorf("%d callers are remembered", n)
	}
}
