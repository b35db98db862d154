package cli

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"moldable.sh/aivault/internal/api"
)

// inTemp gives the demo a directory to be watched in.
func inTemp(t *testing.T) (left func() []os.DirEntry) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return func() []os.DirEntry {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
}

func TestDemo(t *testing.T) {
	defer goleak.VerifyNone(t)
	left := inTemp(t)
	o, out, errs := testOptions(t, nil)
	if exit := o.Run(t.Context(), []string{"demo", "--json"}); exit != 0 {
		t.Fatalf("exit %d: %s", exit, errs)
	}
	var run demoRun
	if err := json.Unmarshal(out.Bytes(), &run); err != nil {
		t.Fatal(err)
	}
	key := strings.TrimPrefix(run.APIReceived.Authorization, "Bearer ")
	if !strings.HasPrefix(key, "demo-") {
		t.Errorf("the API received %q", run.APIReceived.Authorization)
	}
	if strings.Contains(string(run.CallerGot.Body), key) {
		t.Error("the caller got the key")
	}
	for _, record := range run.Audit {
		if strings.Contains(string(record), key) {
			t.Error("the audit log has the key")
		}
	}
	if len(run.Attacks) != 3 || run.APIRequests != 1 {
		t.Errorf("%d attacks, %d requests", len(run.Attacks), run.APIRequests)
	}
	if l := left(); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

// TestDemoInterrupted: wherever it is stopped, nothing stays.
func TestDemoInterrupted(t *testing.T) {
	defer goleak.VerifyNone(t)
	left := inTemp(t)
	interrupted := 0
	for wait := time.Duration(0); wait < 100*time.Millisecond; wait += 7 * time.Millisecond {
		o, _, _ := testOptions(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if exit := o.Run(ctx, []string{"demo"}); exit == api.ExitInterrupted {
			interrupted++
		} else if exit != 0 {
			t.Errorf("after %v: exit %d", wait, exit)
		}
		cancel()
		if l := left(); len(l) > 0 {
			t.Fatalf("after %v, left behind: %v", wait, l)
		}
	}
	if interrupted == 0 {
		t.Error("no run was interrupted")
	}
}
