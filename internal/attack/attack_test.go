package attack_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/attack"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/strictjson"
)

var only = flag.String("only", "", "run these attacks alone: ids, separated by commas")

// aivaultd builds this tree's daemon, as it is released.
func aivaultd(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aivaultd")
	if text, err := exec.Command("go", "build", "-o", file, "moldable.sh/aivault/cmd/aivaultd").CombinedOutput(); err != nil {
		t.Fatalf("build aivaultd: %v\n%s", err, text)
	}
	return file
}

// daemon starts one on a vault of its own, and stops it when t ends.
func daemon(t testing.TB) (cfg attack.Config) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "av") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	vault := filepath.Join(dir, "vault")
	socket, agent := filepath.Join(vault, "run", "aivaultd.sock"), filepath.Join(dir, "agent", "agent.sock")
	cmd := exec.Command(aivaultd(t), "--agent-socket", agent)
	cmd.Env = []string{"HOME=" + dir, "AIVAULT_DIR=" + vault, "AIVAULT_DISABLE_DISK_LOGS=1"}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil || t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the daemon: %v\n%s", err, text)
		}
		_ = log.Close()
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err1 := net.Dial("unix", agent)
		b, err2 := net.Dial("unix", socket)
		if err1 == nil && err2 == nil {
			_ = a.Close()
			_ = b.Close()
			return attack.Config{Socket: socket, AgentSocket: agent, Dir: vault}
		}
		if time.Now().After(until) {
			t.Fatalf("the daemon does not answer: %v, %v", err1, err2)
		}
	}
}

// TestAttacks runs the table against a real daemon: each attack is refused, or
// comes to nothing, and its twin is let through. AIVAULT_TEST_FULL=1 asks for
// the largest answers, too; the race detector would make their reader slow, and
// is not in the daemon.
func TestAttacks(t *testing.T) {
	cfg := daemon(t)
	cfg.Full = os.Getenv("AIVAULT_TEST_FULL") == "1"
	cfg.Only = func(a *attack.Attack) bool {
		if *only != "" {
			return slices.Contains(strings.Split(*only, ","), a.ID)
		}
		return !testing.Short() || !a.Long
	}
	results := map[string]attack.Result{}
	cfg.Ended = func(r attack.Result) {
		results[r.ID] = r
		t.Run(r.Class+"/"+r.ID, func(t *testing.T) {
			for _, f := range r.Failures {
				t.Error(f)
			}
			t.Logf("%s; %d variants, %d twins, %d ms", r.Outcome, r.Variants, r.Twins, r.DurationMs)
		})
	}
	if _, err := attack.Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	checkPage(t, results)
}

// A caller may have ten thousand refusals an hour in the log, each unlike the
// others, and is then told so. What they did before is still there, the log
// grows no further, and the operator is served.
func TestACallerWhoFillsTheLog(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests")
	}
	cfg, c := operatorOf(t)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", cfg.AgentSocket)
	}}
	defer tr.CloseIdleConnections()
	call := func(n int) api.Error {
		t.Helper()
		resp, err := (&http.Client{Transport: tr}).Post("http://aivault"+api.RouteProxy, "application/json", strings.NewReader(fmt.Sprintf(`{"capability":"no/such-%d","request":{}}`, n)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var e api.Error
		if err := strictjson.Unmarshal(text, &e); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return e
	}
	n := 0
	for ; n < 10_000; n++ {
		if e := call(n); e.Code != api.CapabilityNotFound {
			t.Fatalf("the refusal %d: %+v", n, e)
		}
	}
	for ; n < 10_100; n++ {
		if e := call(n); e.Code != api.RateLimited || e.RetryAfterMs <= 0 {
			t.Fatalf("the refusal %d: %+v", n, e)
		}
	}
	refused := func() (n int) {
		list, err := c.Audit(t.Context(), audit.Query{Limit: api.MaxAuditRecords, Capability: "no/*"})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Records)
	}
	if n := refused(); n != 10_000 {
		t.Errorf("%d refusals are in the log", n)
	}
	if _, err := c.Secrets(t.Context()); err != nil {
		t.Errorf("the operator is told: %v", err)
	}
}
