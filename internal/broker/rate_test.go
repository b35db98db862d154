package broker_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/vault"
)

// A watch is the clocks of a machine: the true time, and what the machine
// makes of it.
type watch struct {
	mu   sync.Mutex
	true time.Duration
	boot string
	from time.Duration // true time of the boot
	wall time.Duration // how far the wall clock is off
}

func (w *watch) now() (quota.Now, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return quota.Now{BootID: w.boot, SinceBoot: w.true - w.from, Wall: time.Unix(1_800_000_000, 0).Add(w.true + w.wall)}, nil
}

func (w *watch) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.true += d
}

func counted(t testing.TB) (*aivaulttest.Aivault, *watch) {
	w := &watch{boot: "boot-1", true: time.Hour}
	v := start(t, aivaulttest.Options{QuotaClock: w.now})
	acme(t, v, "acme-token-0123456789", bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/other", Methods: []string{"GET"}, Paths: []string{"/"}})
	return v, w
}

func as(uid uint32) grant.Caller {
	c := aivaulttest.Agent()
	c.UID, c.GID, c.Groups = uid, uid, []uint32{uid}
	return c
}

// in a quarter of a minute, say: the next call goes out exactly then.
func limited(t *testing.T, err error) time.Duration {
	t.Helper()
	e := api.AsError(err)
	if api.CodeOf(err) != api.RateLimited || e.RetryAfterMs < 1 || e.RetryAfterMs > 60_000 {
		t.Fatalf("%v (%+v), want rate_limited", err, e)
	}
	return time.Duration(e.RetryAfterMs) * time.Millisecond
}

func TestALimitHoldsForEveryProcess(t *testing.T) {
	v, w := counted(t)
	setPolicy(t, v, api.PolicyChange{
		Capability: "acme/all", RatePerMinute: ptr(5), DenyQuery: []string{"no"}, MaxRequestBodyBytes: ptr(int64(10)),
		RequireJSON: []api.RequireJSON{{Pointer: "/m", Values: []string{"1"}}},
	})
	second := v.Open(t)
	processes := []*aivaulttest.Process{&v.Process, &second}
	// What another check refuses is not counted, whichever it is.
	for range 6 {
		named := get("acme/all", "/status/200")
		named.Credential = "other"
		mustRefuse(t, v, named, api.CredentialNotFound)
		mustRefuse(t, v, api.Call{Capability: "acme/all", Request: api.Request{Method: "PUT", Path: "/"}}, api.PolicyViolation)
		mustRefuse(t, v, get("acme/all", "/a?access_token=x"), api.PolicyViolation)
		mustRefuse(t, v, get("acme/all", "/a?no=1"), api.PolicyViolation)
		mustRefuse(t, v, post("acme/all", "/a", "0123456789a"), api.RequestTooLarge)
		mustRefuse(t, v, post("acme/all", "/a", `{"m":2}`), api.PolicyViolation)
	}
	one := post("acme/all", "/status/200", `{"m":1}`)
	call := func(i int) error {
		_, _, err := do(processes[i%len(processes)], as(uint32(2000+i)), one, egress.Body{})
		return err
	}
	for i := range 5 {
		if err := call(i); err != nil {
			t.Fatal(err)
		}
		w.pass(10*time.Second + time.Microsecond)
	}
	wait := limited(t, call(5))
	if want := 10 * time.Second; wait != want {
		t.Errorf("the wait is %s, want %s", wait, want)
	}
	restarted := v.Open(t)
	processes = []*aivaulttest.Process{&restarted, &second}
	if got := limited(t, call(0)); got != wait {
		t.Errorf("after a restart the wait is %s", got)
	}
	// What was refused was not counted, nor what was only asked.
	for range 20 {
		if e, err := restarted.Broker.Explain(background, aivaulttest.Operator(), one, egress.Body{}); err != nil || e.Allowed || e.Error.Code != api.RateLimited || e.Error.RetryAfterMs != wait.Milliseconds() {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	w.pass(wait - time.Millisecond)
	limited(t, call(0))
	w.pass(time.Millisecond)
	if e, err := restarted.Broker.Explain(background, aivaulttest.Agent(), one, egress.Body{}); err != nil || !e.Allowed {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := call(0); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	limited(t, call(1))
	if n := len(v.API.Seen()); n != 6 {
		t.Errorf("the API saw %d calls", n)
	}
	// Another capability has a limit of its own, or none.
	mustInvoke(t, v, get("acme/other", "/status/200"))
}

func TestALimitOfEachCallerLeavesTheOthersAlone(t *testing.T) {
	v, _ := counted(t)
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerCallerPerMinute: ptr(2), RatePerMinute: ptr(5)})
	try := func(uid uint32) error {
		_, _, err := do(&v.Process, as(uid), get("acme/all", "/status/200"), egress.Body{})
		return err
	}
	for i, uid := range []uint32{1, 1, 2, 2} {
		if err := try(uid); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		if i == 1 {
			limited(t, try(1))
		}
	}
	limited(t, try(1))
	limited(t, try(2))
	if err := try(3); err != nil {
		t.Fatal(err)
	}
	limited(t, try(4)) // that was the fifth of all
}

// At no instant have more calls started within a minute than the limit says,
// whatever happens to processes and clocks.
func TestALimitHoldsWhateverTheClockDoes(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 100
	}
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 5))
		v, w := counted(t)
		setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(5)})
		second := v.Open(t)
		processes := []*aivaulttest.Process{&v.Process, &second}
		var started []time.Duration
		wallWhenWritten := time.Duration(0)
		booted := false
		for range rounds {
			switch rng.IntN(12) {
			case 0: // the wall clock is set
				w.wall = time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
			case 1: // a boot, with a wall clock that may have gone back
				w.boot = fmt.Sprintf("boot-%d", rng.Uint64())
				w.from = w.true
				w.wall = wallWhenWritten - time.Duration(rng.Int64N(int64(time.Hour)))
				booted = true
			case 2: // a process starts anew
				another := v.Open(t)
				processes[rng.IntN(2)] = &another
			}
			w.pass(time.Duration(rng.Int64N(int64(14 * time.Second))))
			_, _, err := do(processes[rng.IntN(2)], as(uint32(rng.IntN(3))), get("acme/all", "/status/200"), egress.Body{})
			if err == nil || booted { // the first look after a boot writes too
				wallWhenWritten, booted = w.wall, false
			}
			if err != nil {
				limited(t, err)
				continue
			}
			started = append(started, w.true)
		}
		for i := 5; i < len(started); i++ {
			if d := started[i] - started[i-5]; d < time.Minute {
				t.Fatalf("seed %d: six calls within %s", seed, d)
			}
		}
		if len(started) < rounds/12 {
			t.Errorf("seed %d: only %d of %d calls went out", seed, len(started), rounds)
		}
	}
}

// Where the count is lost, it may have been anything.
func TestADamagedCountIsAFullMinute(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"garbage": func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"missing": os.Remove,
	} {
		v, w := counted(t)
		setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(5)})
		mustInvoke(t, v, get("acme/all", "/status/200"))
		if err := damage(filepath.Join(v.Dir, "limits")); err != nil {
			t.Fatal(err)
		}
		_, _, err := v.Invoke(get("acme/all", "/status/200"))
		if wait := limited(t, err); wait != time.Minute {
			t.Errorf("%s: the wait is %s", name, wait)
		}
		mustInvoke(t, v, get("acme/other", "/status/200"))
		w.pass(59 * time.Second)
		_, _, err = v.Invoke(get("acme/all", "/status/200"))
		limited(t, err)
		w.pass(time.Second)
		mustInvoke(t, v, get("acme/all", "/status/200"))
	}
}

func TestWhatCannotBeCountedIsRefused(t *testing.T) {
	v, w := counted(t)
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(5)})
	path := filepath.Join(v.Dir, "limits")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	before := len(v.API.Seen())
	_, _, err := v.Invoke(get("acme/all", "/status/200"))
	if code := api.CodeOf(err); code != api.Internal || len(v.API.Seen()) != before {
		t.Errorf("%v", err)
	}
	if e, err := v.Broker.Explain(background, aivaulttest.Agent(), get("acme/all", "/status/200"), egress.Body{}); err != nil || e.Allowed || e.Error.Code != api.Internal {
		t.Errorf("%+v, %v", e, err)
	}
	mustInvoke(t, v, get("acme/other", "/status/200"))
	_ = w
}

func TestTheLastPermittedCallIsOne(t *testing.T) {
	v, _ := counted(t)
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(5), RatePerCallerPerMinute: ptr(5)})
	second := v.Open(t)
	for range 4 {
		mustInvoke(t, v, get("acme/all", "/status/200"))
	}
	const callers = 16
	results := make(chan error, callers)
	begin := make(chan struct{})
	for i := range callers {
		p := &v.Process
		if i%2 == 0 {
			p = &second
		}
		go func() {
			<-begin
			_, _, err := do(p, as(2000), get("acme/all", "/status/200"), egress.Body{})
			results <- err
		}()
	}
	close(begin)
	out := 0
	for range callers {
		if err := <-results; err == nil {
			out++
		} else {
			limited(t, err)
		}
	}
	if seen := len(v.API.Seen()); out != 1 || seen != 5 {
		t.Errorf("%d calls went out at once, the API saw %d in all", out, seen)
	}
}

// A call is counted in every grant that permits it, so that no removal of a
// grant lets more through.
func TestGrantsRates(t *testing.T) {
	v, w := counted(t)
	with := func(grants ...api.Grant) {
		tamper(t, v, func(tx *vault.Tx) error {
			for i := range grants {
				grants[i].Consumer = api.Consumer{UID: ptr(uint32(7))}
				if grants[i].Capabilities == nil {
					grants[i].Capabilities = []string{"acme/*"}
				}
			}
			tx.State.Grants = grants
			return nil
		})
	}
	try := func(id string) error {
		_, _, err := do(&v.Process, as(7), get(id, "/status/200"), egress.Body{})
		return err
	}
	many := func(id string) int {
		for n := range 40 {
			if err := try(id); err != nil {
				limited(t, err)
				return n
			}
		}
		return 40
	}
	// The setup of the first counted limit, as a command does it.
	setPolicy(t, v, api.PolicyChange{Capability: "acme/other", RatePerMinute: ptr(30)})
	three, six, free := api.Grant{ID: "three", RatePerMinute: 3}, api.Grant{ID: "six", RatePerMinute: 6}, api.Grant{ID: "free"}
	with(three)
	if n := many("acme/all"); n != 3 {
		t.Errorf("%d calls under 3 a minute", n)
	}
	with(three, six)
	if n := many("acme/all"); n != 6 {
		t.Errorf("%d calls more under 3 or 6 a minute", n)
	}
	with(three)
	if n := many("acme/all"); n != 0 {
		t.Errorf("%d calls more when the 6 a minute were gone", n)
	}
	w.pass(time.Minute)
	with(three, six)
	if n := many("acme/all"); n != 6 {
		t.Errorf("%d calls under 3 or 6 a minute", n)
	}
	with(six)
	if n := many("acme/all"); n != 0 {
		t.Errorf("%d calls more when the 3 a minute were gone", n)
	}
	w.pass(time.Minute)
	with(three, free)
	if n := many("acme/all"); n != 40 {
		t.Errorf("%d calls under no limit", n)
	}
	w.pass(30 * time.Second)
	if err := try("acme/all"); err != nil {
		t.Error(err)
	}
	with(three)
	if n := many("acme/all"); n != 0 {
		t.Errorf("%d calls more when the unlimited grant was gone", n)
	}
	w.pass(30 * time.Second)
	if n := many("acme/all"); n != 2 {
		t.Errorf("%d calls half a minute later", n)
	}
	w.pass(time.Minute)
	// A policy's rate stands beside those of grants.
	with(three, free)
	if n := many("acme/other"); n != 30 {
		t.Errorf("%d calls under a policy's 30 a minute", n)
	}
	// Another user of the same grant, as a group's, has a count of its own.
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "theirs", Consumer: api.Consumer{GID: ptr(uint32(50))}, Capabilities: []string{"*"}, RatePerMinute: 1}}
		return nil
	})
	for _, uid := range []uint32{8, 9} {
		who := as(uid)
		who.Groups = append(who.Groups, 50)
		if _, _, err := do(&v.Process, who, get("acme/all", "/status/200"), egress.Body{}); err != nil {
			t.Errorf("uid %d: %v", uid, err)
		}
		_, _, err := do(&v.Process, who, get("acme/all", "/status/200"), egress.Body{})
		limited(t, err)
	}
}

// A limit that can be set can be counted.
func TestEveryRateCanBeCounted(t *testing.T) {
	if policy.MaxRate > quota.MaxPerMinute {
		t.Errorf("a policy takes %d calls a minute, of which %d are counted", policy.MaxRate, quota.MaxPerMinute)
	}
	v, _ := counted(t)
	setPolicy(t, v, api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(policy.MaxRate), RatePerCallerPerMinute: ptr(policy.MaxRate)})
	mustInvoke(t, v, get("acme/all", "/status/200"))
}
