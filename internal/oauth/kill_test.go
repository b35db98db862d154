package oauth

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/standin"
	"moldable.sh/aivault/internal/strictjson"
	"moldable.sh/aivault/internal/vault"
)

// A job is what a process of its own is told to do.
type job struct {
	Dir   string        `json:"dir"`
	At    string        `json:"at"` // the provider's address
	CA    []byte        `json:"ca"`
	NowMs int64         `json:"nowMs"`
	Step  string        `json:"step"`  // where it kills itself; "": nowhere
	Calls int           `json:"calls"` // at once
	Spec  *api.AuthSpec `json:"spec"`
	// Secrets are the want's.
	Secrets map[string]string `json:"secrets"`
}

// runVictim is the other process. It says what it got: a line of a hash for
// each call.
func runVictim(text string) {
	var j job
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = strictjson.Unmarshal(raw, &j)
	}
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	now := func() time.Time { return time.UnixMilli(j.NowMs) }
	v := vault.New(vault.Config{Dir: filepath.Join(j.Dir, "vault"), DefaultKeyFile: filepath.Join(j.Dir, "kek.key"), Clock: now})
	s := New(Config{Vault: v, Egress: newEgress(j.CA, netip.MustParseAddrPort(j.At)), Clock: now})
	s.step = func(name string) {
		if name == j.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	fmt.Println("ready")
	var wg sync.WaitGroup
	for range j.Calls {
		wg.Go(func() {
			got, err := s.Token(background, Want{Spec: *j.Spec, Secrets: j.Secrets, Provider: "acme"})
			if err != nil {
				fmt.Println("failed:", err)
				return
			}
			fmt.Println("got", digest([]string{access(got)}))
		})
	}
	wg.Wait()
	s.Close()
	_ = v.Close()
}

// process starts another process; lines are what it says until it ends.
func (b *bench) process(t *testing.T, w Want, step string, calls int) (wait func() []string) {
	t.Helper()
	text, err := strictjson.Marshal(job{b.dir, b.api.Addr().String(), b.api.CAPEM(), b.clock.Now().UnixMilli(), step, calls, &w.Spec, w.Secrets})
	must(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "AIVAULT_TEST_VICTIM="+base64.StdEncoding.EncodeToString(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the other process said %q", lines.Text())
	}
	return func() []string {
		var said []string
		for lines.Scan() {
			said = append(said, lines.Text())
		}
		_ = cmd.Wait() // killed, or done
		return said
	}
}

// Two real processes and two in this one, fifty callers each.
func TestOneAskOfRealProcesses(t *testing.T) {
	t.Parallel()
	b := newBench(t, standin.IDPOptions{Rotate: true})
	w := b.refreshing(t, nil)
	mustToken(t, b.source(t), w)
	b.clock.Add(time.Hour)
	release := b.idp.Hold()
	waits := []func() []string{b.process(t, w, "", 50), b.process(t, w, "", 50)}
	sources := []*Source{b.source(t), b.source(t)}
	said := make(chan string, 200)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			token, err := sources[i%2].Token(background, w)
			if err != nil {
				t.Error(err)
				return
			}
			said <- "got " + digest([]string{access(token)})
		})
	}
	b.idp.Await(2)
	time.Sleep(50 * time.Millisecond)
	release()
	wg.Wait()
	for _, wait := range waits {
		for _, line := range wait() {
			said <- line
		}
	}
	close(said)
	first, n := <-said, 1
	for line := range said {
		if n++; line != first || !strings.HasPrefix(line, "got ") {
			t.Fatalf("%q, and %q", first, line)
		}
	}
	if n != 200 {
		t.Errorf("%d callers have a token", n)
	}
	b.counts(t, standin.IDPCounts{Asked: 2, Given: 2})
}

// A kill at each step of an ask: what was written is used, what was not is
// never, and no refresh token is sent a second time but one that is known to
// stay good.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	steps := []string{"locked", "asked", "answered", "room made", "written"}
	for name, c := range map[string]struct {
		o       standin.IDPOptions
		earlier int
		stays   bool
	}{
		"a new login":        {o: standin.IDPOptions{Rotate: true}},
		"one that rotates":   {o: standin.IDPOptions{Rotate: true}, earlier: 2},
		"one that stays":     {o: standin.IDPOptions{}, earlier: 1, stays: true},
		"one, not yet known": {o: standin.IDPOptions{}},
	} {
		for i, step := range steps {
			t.Run(name+", "+step, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, c.o)
				w := b.refreshing(t, nil)
				for range c.earlier {
					mustToken(t, b.source(t), w)
					b.clock.Add(time.Hour)
				}
				if said := b.process(t, w, step, 3)(); len(said) != 0 {
					t.Fatalf("it was not killed: %q", said)
				}
				sent := 0
				if i >= 2 { // it had been answered
					sent = 1
				}
				b.counts(t, standin.IDPCounts{Asked: c.earlier + sent, Given: c.earlier + sent})
				rooms, _ := filepath.Glob(filepath.Join(b.dir, "vault", "tokens", "*.room"))
				if want := map[string]int{"asked": 1, "answered": 1}[step]; len(rooms) != want {
					t.Errorf("%d reserved rooms", len(rooms))
				}
				s := b.source(t)
				switch lost := step != "locked" && step != "written"; {
				case lost && !c.stays:
					refuse(t, s, w, api.OAuthRefreshFailed, "not sent again")
					b.counts(t, standin.IDPCounts{Asked: c.earlier + sent, Given: c.earlier + sent})
					b.put(t, "login", login(b.idp.Login())) // a person logs in again
					mustToken(t, s, w)
				case step == "written":
					if got := mustToken(t, s, w); got.Version != uint64(c.earlier+1) {
						t.Errorf("version %d", got.Version)
					}
					b.counts(t, standin.IDPCounts{Asked: c.earlier + 1, Given: c.earlier + 1})
				default:
					mustToken(t, s, w)
				}
				// Whatever happened, it goes on from there.
				for range 2 {
					b.clock.Add(time.Hour)
					mustToken(t, b.source(t), w)
				}
				if got := b.idp.Counts(); got.Reused != 0 {
					t.Errorf("a refresh token was used twice: %+v", got)
				}
				if left, _ := filepath.Glob(filepath.Join(b.dir, "vault", "tokens", "*.[ar]*")); len(left) != 0 {
					t.Errorf("left: %q", left)
				}
				b.nowhere(t)
			})
		}
	}
}
