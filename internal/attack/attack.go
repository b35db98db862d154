// Package attack is the attack suite: what products of this kind have been
// broken by, each as a program that speaks raw HTTP to a daemon's socket, as a
// caller who is no operator, and calls an upstream of its own that misbehaves.
//
// The same table is what `go test` runs against this tree's daemon, what
// `aivault doctor --attack` runs against an installation's, and what
// docs/security/attacks.md is made from.
//
// Every attack has a twin: the nearest honest request, which has to be let
// through. A guard that refuses everything would pass all attacks and no twin.
package attack

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/standin"
)

// An Attack is one way of getting at a secret, or round a rule.
type Attack struct {
	ID    string   // stable; kebab-case
	Class string   // one of Classes
	Title string   // what is tried
	Harm  string   // what would be broken if it worked, in one sentence
	Run   func(*T) // tries it
	Twin  func(*T) // the nearest honest request
	// Long marks what takes more than about a second; Full what only a test
	// has time for.
	Long, Full bool
}

// Classes are the parts of the table, in its order.
func Classes() []string {
	return []string{"destination", "path", "header", "framing", "echo", "policy", "local", "audit", "installation"}
}

// Table lists every attack, class by class.
func Table() []Attack {
	return slices.Concat(destinationAttacks(), pathAttacks(), headerAttacks(), framingAttacks(), echoAttacks(), policyAttacks(),
		localAttacks(), auditAttacks(), installationAttacks())
}

// A Result is what came of one attack.
type Result struct {
	ID         string   `json:"id"`
	Class      string   `json:"class"`
	Title      string   `json:"title"`
	OK         bool     `json:"ok"`
	Outcome    string   `json:"outcome"`  // e.g. "refused: policy_violation", "scrubbed"
	Variants   int      `json:"variants"` // how many different requests were tried
	Twins      int      `json:"twins"`    // honest requests that were let through
	Failures   []string `json:"failures,omitzero"`
	DurationMs int64    `json:"durationMs"`
}

// maxFailures is how many failures of one attack are told in full.
const maxFailures = 12

// T is one attack under way: what Run and Twin work with.
type T struct {
	*Stand
	attack   *Attack
	capID    string // the attack's own capability, once made
	failures []string
	more     int
	outcomes map[string]bool
	variants int
	twins    int
	expected []expected
	cleanup  []func()
}

// expected is a record that has to be in the log.
type expected struct {
	event, capability, code, what string
}

// Errorf tells that the attack succeeded, or could not be tried.
func (t *T) Errorf(format string, args ...any) {
	if len(t.failures) == maxFailures {
		t.more++
		return
	}
	t.failures = append(t.failures, hide([]string{fmt.Sprintf(format, args...)}, t.Stand))
}

// Fatalf is Errorf that ends the attack.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// must ends the attack where the ground for it could not be prepared.
func (t *T) must(err error) {
	if err != nil {
		t.Fatalf("the attack could not be prepared: %v", err)
	}
}

// came notes an outcome for the report.
func (t *T) came(outcome string) { t.outcomes[outcome] = true }

// defers has something done when the attack and its twin are over.
func (t *T) defers(do func()) { t.cleanup = append(t.cleanup, do) }

// run makes one attack and its twin.
func (s *Stand) run(ctx context.Context, a *Attack) Result {
	started := time.Now()
	t := &T{Stand: s, attack: a, outcomes: map[string]bool{}}
	steps := []struct {
		name string
		do   func(*T)
	}{{"attack", a.Run}, {"twin", a.Twin}}
	for _, step := range steps {
		s.reset()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("the %s panicked: %v", step.name, p)
				}
			}()
			step.do(t)
			t.audited()
		}()
		<-done
		if ctx.Err() != nil {
			break
		}
	}
	for _, do := range slices.Backward(t.cleanup) {
		do()
	}
	if t.more > 0 {
		t.failures = append(t.failures, fmt.Sprintf("and %d more", t.more))
	}
	if t.twins == 0 && len(t.failures) == 0 {
		t.Errorf("no honest request was let through")
	}
	if t.variants == 0 && len(t.failures) == 0 {
		t.Errorf("nothing was tried")
	}
	return Result{
		ID: a.ID, Class: a.Class, Title: a.Title, OK: len(t.failures) == 0, Outcome: t.outcome(), Variants: t.variants, Twins: t.twins,
		Failures: t.failures, DurationMs: time.Since(started).Milliseconds(),
	}
}

// outcome says in a few words what became of all variants: the refusals
// first, with their codes.
func (t *T) outcome() string {
	var codes, others []string
	for _, o := range slices.Sorted(maps.Keys(t.outcomes)) {
		if code, ok := strings.CutPrefix(o, "refused: "); ok {
			codes = append(codes, code)
		} else {
			others = append(others, o)
		}
	}
	if len(codes) > 0 {
		others = append([]string{"refused: " + strings.Join(codes, ", ")}, others...)
	}
	return strings.Join(others, "; ")
}

// refused makes a call that has to be refused with one of the codes (any
// refusal, where none is given), and looks that nothing of it got anywhere.
func (t *T) refused(what string, c call, codes ...api.Code) answer {
	t.variants++
	before := t.up.Connections()
	a := t.Stand.call(c)
	t.checkRefusal(what, c.capability, a, codes...)
	if n := t.up.Connections(); n != before {
		t.Errorf("%s: it was refused (%s), and %d connections were made to the upstream all the same", what, a.code, n-before)
	}
	return a
}

// checkRefusal looks at the answer to what must be refused.
func (t *T) checkRefusal(what, capability string, a answer, codes ...api.Code) {
	switch {
	case a.err != nil:
		t.Errorf("%s: no answer: %v", what, a.err)
	case a.code == "":
		t.Errorf("%s: it was not refused: status %d", what, a.status)
	case len(codes) > 0 && !slices.Contains(codes, a.code), len(codes) == 0 && !refusal(a.code):
		t.Errorf("%s: refused with %s (%s), want %v", what, a.code, a.message, codes)
	default:
		t.came("refused: " + string(a.code))
	}
	t.noLeak(what, a)
	t.nothingSent(what)
	if a.code != "" {
		t.expect(expected{audit.CallRefused, capability, string(a.code), what})
	}
}

// refusal says whether a code is that of a call which was not let through.
func refusal(c api.Code) bool {
	switch api.OutcomeOf(c).Exit {
	case 2, 3, 6:
		return true
	}
	return false
}

// partial is in the path of calls that the daemon begins to send before it
// sees that they are wrong: their heads may reach the upstream after the
// refusal has reached the caller, but never as whole requests.
const partial = "/v1/below/partial"

// late is in the path of calls whose caller is gone: they reach the upstream
// or not, and when they do nobody knows.
const late = "/v1/below/late"

// take returns what was sent, but for calls that were broken off.
func (t *T) take() []standin.Taken {
	return slices.DeleteFunc(t.up.Take(), func(r standin.Taken) bool {
		_, target, _ := bytes.Cut(r.Head, []byte(" "))
		broken := bytes.HasPrefix(target, []byte(partial))
		if broken && r.Whole {
			t.Errorf("the upstream was sent a whole request of what was refused: %q, %q", clip(string(r.Head)), clip(string(r.Body)))
		}
		return broken || bytes.HasPrefix(target, []byte(late))
	})
}

// nothingSent looks that no request reached the upstream.
func (t *T) nothingSent(what string) {
	for _, r := range t.take() {
		t.Errorf("%s: the upstream was sent %q", what, clip(string(r.Head)))
	}
}

// reached makes a call that has to reach the upstream exactly as it is, and
// returns its answer, of which it looks that no secret is in it.
func (t *T) reached(what string, c call) answer {
	a := t.Stand.call(c)
	t.arrived(what, c)
	t.noLeak(what, a)
	if a.err != nil {
		t.Errorf("%s: no answer: %v", what, a.err)
	}
	t.expect(expected{audit.CallAllowed, c.capability, "", what})
	return a
}

// arrived looks that exactly what was asked reached the upstream, once.
func (t *T) arrived(what string, c call) {
	seen := t.take()
	if len(seen) != 1 {
		t.Errorf("%s: the upstream was sent %d requests, want 1", what, len(seen))
		return
	}
	if err := c.sameAs(&seen[0], t.Stand); err != nil {
		t.Errorf("%s: what was sent is not what was asked: %v", what, err)
	}
}

// passes makes a twin: an honest call, which has to reach the upstream as it
// is, and be answered.
func (t *T) passes(what string, c call) answer {
	a := t.reached("twin: "+what, c)
	switch {
	case a.err != nil:
	case a.code != "":
		t.Errorf("twin: %s: %s: %s", what, a.code, a.message)
	default:
		t.twins++
		t.expect(expected{audit.CallFinished, c.capability, "", what})
	}
	return a
}

// noLeak looks that no secret, whole or in part, is in an answer: as it came,
// and its framing undone.
func (t *T) noLeak(what string, a answer) {
	how := t.finder.find(a.raw)
	if how == "" && (!bytes.Contains(a.raw, a.body) || len(unpack(a.body)) > 0) {
		how = t.finder.find(a.body)
	}
	if how != "" {
		t.Errorf("%s: the answer holds a secret (%s)", what, how)
	}
}

// expect notes a record that has to be in the log when the attack is over.
func (t *T) expect(e expected) { t.expected = append(t.expected, e) }

// audited looks for the records that have to be there.
func (t *T) audited() {
	if len(t.expected) == 0 {
		return
	}
	records, err := t.records()
	if err != nil {
		t.Errorf("the audit log could not be read: %v", err)
		return
	}
	for _, e := range t.expected {
		if !slices.ContainsFunc(records, e.is) {
			t.Errorf("%s: no record %s of %q with code %q", e.what, e.event, e.capability, e.code)
		}
	}
	t.expected = nil
}

// is says whether a record is the one expected. One of a call that could not
// be read names no capability. A finished call may have failed.
func (e expected) is(r record) bool {
	return r.Event == e.event && (r.Capability == e.capability || r.Capability == "" && e.event == audit.CallRefused) &&
		(r.Code == e.code || e.event == audit.CallFinished && e.code == "")
}

// clip shortens what is shown of a request or an answer.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
