package quota

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if what := os.Getenv("AIVAULT_TEST_QUOTA"); what != "" {
		runProcess(what)
		return
	}
	// Each check goes through hundreds of calls.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// runProcess is another process that calls: until the limit is reached
// ("once"), or on and on, a line for each ("on").
func runProcess(what string) {
	n, err := strconv.Atoi(os.Getenv("AIVAULT_TEST_QUOTA_N"))
	if err != nil {
		panic(err)
	}
	clock := newClock()
	b := New(Config{Path: os.Getenv("AIVAULT_TEST_QUOTA_PATH"), Clock: clock.read})
	for taken := 0; ; taken++ {
		err := b.Take(context.Background(), per(n, "k"), nil)
		switch {
		case errors.As(err, new(*Exceeded)) && what == "once":
			fmt.Println(taken)
			return
		case err != nil:
			fmt.Println("error:", err)
			return
		case what == "on":
			fmt.Println(taken)
		}
	}
}

func process(t *testing.T, what, path string, n int) *exec.Cmd {
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "AIVAULT_TEST_QUOTA="+what, "AIVAULT_TEST_QUOTA_PATH="+path, "AIVAULT_TEST_QUOTA_N="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	return cmd
}

// The clock of these processes stands still, so that the count is exact.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	const n, processes = 100, 4
	b, clock, path := begun(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for range processes {
		wg.Go(func() {
			out, err := process(t, "once", path, n).Output()
			taken, e := strconv.Atoi(string(out[:max(0, len(out)-1)]))
			if err != nil || e != nil {
				t.Errorf("%q: %v", out, errors.Join(err, e))
			}
			mu.Lock()
			defer mu.Unlock()
			sum += taken
		})
	}
	wg.Go(func() {
		for {
			err := b.Take(t.Context(), per(n, "k"), nil)
			if errors.As(err, new(*Exceeded)) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			sum++
			mu.Unlock()
		}
	})
	wg.Wait()
	if sum != n {
		t.Errorf("%d calls were let through, want %d", sum, n)
	}
	wantWait(t, open(t, path, clock).Take(t.Context(), per(n, "k"), nil), "k", Window)
}

// Processes that are killed on the way lose no count that they reported, and
// leave a file that the next one goes on with.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	_, clock, path := begun(t)
	reported := 0
	for i := range 8 {
		cmd := process(t, "on", path, MaxPerMinute)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 20 + 30*i {
			if !lines.Scan() {
				t.Fatalf("the process ended: %v", cmd.Wait())
			}
			reported++
		}
		must(t, cmd.Process.Kill())
		for lines.Scan() {
			reported++
		}
		_ = cmd.Wait() // it was killed
		b := open(t, path, clock)
		must(t, b.Check(t.Context(), per(1, "other"), nil)) // nothing was lost
	}
	l, err := parse(read(t, path))
	must(t, err)
	// Of each process one call more may have been counted than it could say.
	if got := len(l.counts[0].starts); got < reported || got > reported+8 {
		t.Errorf("%d calls are counted, %d were reported", got, reported)
	}
}

// Goroutines with one Book, and Books of their own, while the clock runs.
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	const n = 20
	_, clock, path := begun(t)
	shared := open(t, path, clock)
	var mu sync.Mutex
	var starts []time.Duration
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			var at time.Duration
			own := New(Config{Path: path, Clock: func() (Now, error) {
				now, err := clock.read()
				at = now.SinceBoot
				return now, err
			}})
			for j := range 150 {
				clock.pass(time.Duration(i*j) * time.Millisecond)
				if err := own.Take(t.Context(), per(n, "own"), nil); err == nil {
					mu.Lock()
					starts = append(starts, at)
					mu.Unlock()
				} else if !errors.As(err, new(*Exceeded)) {
					t.Error(err)
				}
				for _, call := range []func(context.Context, []Demand, []Demand) error{shared.Take, shared.Check} {
					if err := call(t.Context(), per(n, "shared"), per(3, "any", "other")); err != nil && !errors.As(err, new(*Exceeded)) {
						t.Error(err)
					}
				}
			}
			if err := own.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(starts)
	for i := n; i < len(starts); i++ {
		if starts[i]-starts[i-n] < Window {
			t.Fatalf("%d calls started within %s", n+1, starts[i]-starts[i-n])
		}
	}
	if len(starts) < n {
		t.Errorf("%d calls were let through", len(starts))
	}
}

// A Book that is full of callers stops exactly at its limit.
func TestTheLastPermittedCall(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	books := []*Book{b, open(t, filepath.Clean(path), clock)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	through := 0
	for i := range 40 {
		wg.Go(func() {
			if err := books[i%2].Take(t.Context(), per(7, "k"), nil); err == nil {
				mu.Lock()
				through++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if through != 7 {
		t.Errorf("%d calls were let through", through)
	}
}
