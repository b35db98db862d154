//go:build system

package main_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"moldable.sh/aivault/internal/audit"
)

// A soakEvent is what a caller saw of one call.
type soakEvent struct {
	known  bool // else there may be a record of it or not
	status int
	bytes  int64
	code   string
}

// A soakCall is what the log says of one call.
type soakCall struct {
	id       string
	uid      uint32
	session  bool
	finished int
	status   int
	bytes    int64
	code     string
}

// soakLedger compares what callers saw with what the log says.
type soakLedger struct {
	s  *soak
	mu sync.Mutex

	seen    map[uint32][]soakEvent
	denied  map[uint32]map[string]bool // codes
	besides int

	at      audit.Head
	records int
	calls   map[string]*soakCall
	order   map[uint32][]*soakCall
	refusal map[uint32]map[string]int
}

func newSoakLedger(s *soak) *soakLedger {
	return &soakLedger{s: s, seen: map[uint32][]soakEvent{}, denied: map[uint32]map[string]bool{}, calls: map[string]*soakCall{}, order: map[uint32][]*soakCall{}, refusal: map[uint32]map[string]int{}}
}

func (l *soakLedger) tell(uid uint32, e soakEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[uid] = append(l.seen[uid], e)
}

func (l *soakLedger) refused(uid uint32, code string) {
	if l.s.full.Load() {
		return // it is refused all the same, and not recorded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.denied[uid] == nil {
		l.denied[uid] = map[string]bool{}
	}
	l.denied[uid][code] = true
}

// beside counts a call that a process of its own made to its end.
func (l *soakLedger) beside() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.besides++
}

// read goes on reading the log from where it was left.
func (l *soakLedger) read() error {
	header, err := os.ReadFile(filepath.Join(l.s.vault, "vault.aiv"))
	if err != nil {
		return err
	}
	_, id, _ := strings.Cut(string(header), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(l.s.vault, "audit"), VaultID: id, Clock: time.Now})
	if err != nil {
		return err
	}
	defer log.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	at, err := log.Walk(l.at, func(line []byte, at audit.Head) error {
		l.s.clean("the log", line)
		r, err := audit.ParseLine(line)
		if err != nil {
			return err
		}
		l.take(&r)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.at = at
	return nil
}

func (l *soakLedger) take(r *audit.Line) {
	l.records++
	switch r.Event {
	case audit.CallAllowed:
		c := &soakCall{id: r.RequestID, uid: r.Caller.UID, session: r.Session != ""}
		if l.calls[r.RequestID] != nil {
			l.s.fail("line %d: the call %s is allowed twice", r.Seq, r.RequestID)
		}
		l.calls[r.RequestID] = c
		l.order[c.uid] = append(l.order[c.uid], c)
	case audit.CallFinished:
		c := l.calls[r.RequestID]
		if c == nil {
			l.s.fail("line %d: an outcome of the call %s, which was not allowed", r.Seq, r.RequestID)
			return
		}
		if c.finished++; c.finished > 1 {
			l.s.fail("line %d: the call %s has %d outcomes", r.Seq, r.RequestID, c.finished)
		}
		c.status, c.bytes, c.code = r.Status, r.Bytes, r.Code
	case audit.CallRefused:
		of := l.refusal[r.Caller.UID]
		if of == nil {
			of = map[string]int{}
			l.refusal[r.Caller.UID] = of
		}
		of[r.Code]++
	}
}

const soakUnknown = "unknown_outcome"

// compare is called when nothing runs any more and everything was read.
func (l *soakLedger) compare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, unknown := 0, 0
	for _, c := range l.calls {
		switch {
		case c.finished == 0 && c.session:
			l.s.fail("the call %s of uid %d has no outcome", c.id, c.uid)
		case c.finished == 0:
			lost++
		case c.code == soakUnknown:
			unknown++
		}
	}
	if l.s.counts["kills"] > 0 && lost+unknown == 0 {
		l.s.t.Log("no call was running when the daemon was killed")
	}
	l.s.t.Logf("%d calls in the log, %d of them with an unknown outcome, %d without one", len(l.calls), unknown, lost)
	for uid, events := range l.seen {
		l.match(uid, events, l.order[uid])
	}
	if n := len(l.order[0]); n < l.besides {
		l.s.fail("%d calls of processes of their own ended well, and %d are in the log", l.besides, n)
	}
	for uid, codes := range l.denied {
		for code := range codes {
			if l.refusal[uid][code] == 0 {
				l.s.t.Logf("uid %d was told %s, and no refusal of it is in the log (a call that ended so has its outcome)", uid, code)
			}
		}
	}
}

// match goes through what one caller saw, in order, and what the log says of
// that caller. What the caller saw whole is in the log just so; what broke off
// may be there or not.
func (l *soakLedger) match(uid uint32, events []soakEvent, calls []*soakCall) {
	next, credit := 0, 0
	for i, e := range events {
		if !e.known {
			credit++
			continue
		}
		for ; next < len(calls) && !e.is(calls[next]); next++ {
			if credit--; credit < 0 {
				l.s.fail("uid %d: of its call %d it saw %+v, and the log says %+v (before: %+v, %s)", uid, i, e, *calls[next], events[max(0, i-4):i], tellCalls(calls[max(0, next-4):min(next+4, len(calls))]))
				return
			}
		}
		if next == len(calls) {
			l.s.fail("uid %d: of its call %d it saw %+v, and the log says nothing (before: %+v, %s)", uid, i, e, events[max(0, i-4):i], tellCalls(calls[max(0, next-4):]))
			return
		}
		next++
	}
	if rest := len(calls) - next; rest > credit {
		l.s.fail("uid %d: the log has %d calls more than it made", uid, rest-credit)
	}
}

func tellCalls(calls []*soakCall) string {
	var b strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&b, "%+v ", *c)
	}
	return b.String()
}

// is says whether the log tells of what the caller saw. A failure that could
// not be recorded at once, and then was lost with its daemon, is unknown.
func (e soakEvent) is(c *soakCall) bool {
	switch {
	case e.code != "":
		return c.code == e.code || c.code == soakUnknown || c.finished == 0
	case c.finished == 0:
		return !c.session
	}
	return c.code == "" && c.status == e.status && c.bytes == e.bytes
}

func (l *soakLedger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d records up to line %d", l.records, l.at.Seq)
}
