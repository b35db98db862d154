package broker_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
)

// openCall makes a call whose answer has not ended.
func openCall(t *testing.T, p *aivaulttest.Process) interface{ Close() error } {
	t.Helper()
	answer, err := p.Broker.Do(background, aivaulttest.Agent(), get("acme/all", "/sse"), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Body
}

func outcomesOf(t *testing.T, v *aivaulttest.Aivault) map[any][]any {
	t.Helper()
	of := map[any][]any{}
	for _, r := range aivaulttest.Events(v.Records(t), "call.allowed", "call.finished") {
		if r["event"] == "call.allowed" {
			if s, _ := r["session"].(string); len(s) != 26 {
				t.Errorf("allowed in the session %q", s)
			}
			of[r["requestId"]] = []any{}
			continue
		}
		of[r["requestId"]] = append(of[r["requestId"]], r["code"])
	}
	return of
}

// A process beside another that makes calls says nothing of them; when that
// one is gone without a word, the next one says that it does not know.
func TestOpenCallsOfOthers(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	stream := openCall(t, &v.Process)
	beside := v.Open(t)
	if _, _, err := beside.Invoke(get("acme/all", "/x")); err != nil {
		t.Fatal(err)
	}
	if n, err := beside.Broker.Recover(background); n != 0 || err != nil {
		t.Errorf("%d calls of a process that lives, %v", n, err)
	}
	for id, codes := range outcomesOf(t, v) {
		if len(codes) > 1 || len(codes) == 1 && codes[0] != nil {
			t.Errorf("%v has the outcomes %v", id, codes)
		}
	}
	// Closed with a call still open, as when the time to leave is up.
	v.Broker.Close()
	later := v.Open(t)
	if _, _, err := later.Invoke(get("acme/all", "/x")); err != nil {
		t.Fatal(err)
	}
	_ = stream.Close() // too late to say how it ended
	unknown := 0
	for id, codes := range outcomesOf(t, v) {
		if len(codes) != 1 {
			t.Errorf("%v has the outcomes %v", id, codes)
		} else if codes[0] == audit.UnknownOutcome {
			unknown++
		}
	}
	if unknown != 1 {
		t.Errorf("%d calls have an unknown outcome", unknown)
	}
}

// Who only asks and lists leaves nothing behind.
func TestOnlyCallsHaveASession(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	if _, err := v.Broker.Explain(background, aivaulttest.Agent(), get("acme/all", "/x"), egress.Body{}); err != nil {
		t.Fatal(err)
	}
	_, _, _ = v.Invoke(get("acme/none", "/x"))
	if _, err := os.Stat(v.Vault.CallsDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	mustInvoke(t, v, get("acme/all", "/x"))
	if files, err := os.ReadDir(v.Vault.CallsDir()); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	v.Broker.Close()
	if files, err := os.ReadDir(v.Vault.CallsDir()); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
	mustRefuse(t, v, get("acme/all", "/x"), api.Internal)
}

func TestARepeatedSecretIsAnEvent(t *testing.T) {
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			fmt.Fprint(w, r.Header.Get("Authorization"), " ", r.Header.Get("Authorization"))
		}
	})})
	acme(t, v, "acme-token-0123456789", bearer())
	mustInvoke(t, v, get("acme/all", "/quiet"))
	if body := mustInvoke(t, v, get("acme/all", "/echo")); strings.Contains(body, "acme-token") {
		t.Fatal(body)
	}
	records := v.Records(t)
	last := records[len(records)-3:]
	echo := last[1]
	if echo["event"] != "echo_redacted" || echo["requestId"] != last[0]["requestId"] || last[2]["event"] != "call.finished" || echo["redactions"] != last[2]["redactions"] {
		t.Errorf("%v", last)
	}
	for name, want := range map[string]any{"capability": "acme/all", "credential": "acme", "host": aivaulttest.CustomHost} {
		if echo[name] != want {
			t.Errorf("%s is %v", name, echo[name])
		}
	}
	if n := len(aivaulttest.Events(records, "echo_redacted")); n != 1 {
		t.Errorf("%d echoes in the log", n)
	}
}

// A caller who fills the log is told to wait, and explain says the same.
func TestTheLogsPatience(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	v.Vault.Desk().Spend(aivaulttest.Agent().UID, 2_000_000)
	err := mustRefuse(t, v, get("acme/all", "/x"), api.RateLimited)
	if err.RetryAfterMs < 1 || err.RetryAfterMs > 3_600_000 || len(v.API.Seen()) != 0 {
		t.Errorf("%+v", err)
	}
	e, failed := v.Broker.Explain(background, aivaulttest.Operator(), get("acme/all", "/x"), egress.Body{})
	if failed != nil || !e.Allowed {
		t.Errorf("another caller: %+v, %v", e, failed)
	}
	who := aivaulttest.Agent()
	who.Operator = true
	if e, failed = v.Broker.Explain(background, who, get("acme/all", "/x"), egress.Body{}); failed != nil || failing(t, e) != "audit log" {
		t.Errorf("%+v, %v", e, failed)
	}
}

const fullDiskChild = "BROKER_TEST_FULL_DISK"

// A full disk refuses calls rather than answer what is not in the log, and is
// over when there is room. The limit that stands in for it is a whole
// process's.
func TestAFullDiskRefusesCalls(t *testing.T) {
	if os.Getenv(fullDiskChild) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAFullDiskRefusesCalls$", "-test.v")
		cmd.Env = append(os.Environ(), fullDiskChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("child: %v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	mustInvoke(t, v, get("acme/all", "/x"))
	stream := openCall(t, &v.Process)
	var old syscall.Rlimit
	info, err := os.Stat(filepath.Join(v.Dir, "audit", "00000001.jsonl"))
	if err := errors.Join(err, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old)); err != nil {
		t.Fatal(err)
	}
	full := old
	full.Cur = uint64(info.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	seen := len(v.API.Seen())
	_ = stream.Close()
	for range 3 {
		err := mustRefuse(t, v, get("acme/all", "/x"), api.Internal)
		if !strings.Contains(err.Message, "could not be recorded") || !strings.Contains(err.Hint, "disk") {
			t.Errorf("%q, hint %q", err.Message, err.Hint)
		}
	}
	if n := len(v.API.Seen()); n != seen {
		t.Errorf("the API saw %d requests that are not in the log", n-seen)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	mustInvoke(t, v, get("acme/all", "/x"))
	calls := outcomesOf(t, v)
	for id, codes := range calls {
		if len(codes) != 1 || codes[0] == audit.UnknownOutcome {
			t.Errorf("%v has the outcomes %v", id, codes)
		}
	}
	if len(calls) != 3 {
		t.Errorf("%d calls are in the log", len(calls))
	}
}
