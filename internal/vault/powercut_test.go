package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// powerVault closes a part of the log after a few records.
func powerVault(root string) *Vault {
	v := New(victimConfig(root))
	v.segmentSize = 4 << 10
	return v
}

// tendedVault is powerVault as the daemon has it: closed parts of the log are
// compressed, and those that are older than it keeps removed.
func tendedVault(root string, keep time.Duration) *Vault {
	v := powerVault(root)
	v.cfg.AuditTend, v.cfg.AuditRetain = true, keep
	v.cfg.AuditFailed = func(err error) { fmt.Fprintln(os.Stderr, "the log is not tended:", err) }
	return v
}

// tended waits until the log's first part is compressed, or removed.
func tended(root string, removed bool) error {
	first := filepath.Join(root, "vault", "audit", "00000001.jsonl")
	for range 6000 {
		if !exists(first) && exists(first+".gz") != removed {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the log's first part is not tended")
}

// runPowerVictim changes a vault, makes calls, rotates key and log, and says
// what of it is done: the number of secrets, and the last record that was
// synced.
func runPowerVictim(root string) error {
	ctx := context.Background()
	v := tendedVault(root, 0)
	secrets, synced := 0, uint64(0)
	said := func() { fmt.Printf("%d %d\n", secrets, synced) }
	if err := v.Init(ctx, who, keysource.Request{Provider: keysource.File}); err != nil {
		return err
	}
	said()
	put := func() error {
		s, err := tryPut(ctx, v, fmt.Sprint(secrets), fmt.Sprint("value-", secrets))
		if err == nil {
			secrets++
			synced = s.logEnd.Seq
			said()
		}
		return err
	}
	calls := func(n int) error {
		log, err := v.Audit(ctx)
		for i := 0; i < n && err == nil; i++ {
			_, err = log.Append(ctx, audit.Record{Event: audit.CallAllowed, RequestID: fmt.Sprint(i), Capability: "openai/chat-completions",
				Host: "api.openai.com", Method: "POST", Path: strings.Repeat("/v1", 30), Caller: who})
		}
		return err
	}
	for _, step := range []func() error{
		put, put,
		func() error { return calls(12) },
		put,
		func() error { return v.Rotate(ctx, who, keysource.Request{}) },
		func() error { return calls(9) },
		func() error { return v.Lock(ctx, who) },
		func() error { _, err := v.Unlock(ctx, who, keysource.Material{}, 0); return err },
		put,
		func() error { return calls(9) },
		func() error { return tended(root, false) },
		func() error { return v.Close() },
		func() error { v = tendedVault(root, time.Nanosecond); return nil },
		put,
		func() error { return calls(12) }, // closes a part, which wakes who removes
		func() error { return tended(root, true) },
		func() error { return v.Close() },
	} {
		if err := step(); err != nil {
			return err
		}
		said()
	}
	return nil
}

// A power cut at each moment at which it would leave something else: the vault
// and its log open together, nothing is lost that was confirmed, and the log
// verifies.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("/dev/shm", "aivault-test") // where nothing has to be written
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	root := filepath.Join(base, "root")
	must(t, os.Mkdir(root, 0o700))
	cmd := exec.Command(os.Args[0], "-test.run=^$") // its end is waited for by who traces it
	cmd.Env = append(os.Environ(), "AIVAULT_TEST_VICTIM=power:"+root)
	cmd.Stderr = os.Stderr
	events := traced(t, cmd, root)
	d := newDisk(root)
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[uint64]bool{}
	secrets, synced, cuts := -1, uint64(0), 0
	for i, e := range events {
		if e.kind == diskSaid {
			if _, err := fmt.Sscan(string(e.data), &secrets, &synced); err != nil {
				t.Fatalf("the victim said %q", e.data)
			}
			continue
		}
		if !d.apply(i, e) {
			continue
		}
		for j, l := range lucks(r) {
			// All of them where there is time; else each moment has its turn with some.
			if (i+j)%crashes(3, 1) != 0 && j > 0 {
				continue
			}
			files := d.left(l)
			if id := fingerprint(files); !seen[id] {
				seen[id] = true
				cuts++
				what := fmt.Sprintf("after event %d (%d %s), %s", i, e.kind, e.path, l.name)
				checkAfterPowerCut(t, what, files, root, secrets, synced)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d events, %d states", len(events), cuts)
}

func checkAfterPowerCut(t *testing.T, what string, files map[string][]byte, from string, secrets int, synced uint64) {
	t.Helper()
	root, err := os.MkdirTemp(filepath.Dir(from), "cut")
	must(t, err)
	defer os.RemoveAll(root)
	putFiles(t, files, from, root)
	logDir := filepath.Join(root, "vault", "audit")
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s; %d secrets confirmed, line %d synced: %s", what, secrets, synced, fmt.Sprintf(format, args...))
	}
	if _, made := files[filepath.Join(from, "vault", "vault.aiv")]; made {
		report, err := audit.Verify(audit.VerifyConfig{Dir: logDir, VaultID: idIn(t, filepath.Join(root, "vault", "vault.aiv"))})
		if err != nil || report.Problem != nil {
			fail("the log: %v, %v", err, report.Problem)
		}
		if report.LastSeq < synced {
			fail("the log ends with line %d", report.LastSeq)
		}
	}
	x := powerVault(root)
	defer x.Close()
	if secrets < 0 {
		if err := x.Ensure(t.Context(), who, keysource.Request{Provider: keysource.File}); err != nil {
			fail("it cannot be made: %v", err)
			return
		}
	}
	s, err := x.Snapshot(t.Context())
	if err != nil {
		// Locked is locked after a power cut, too.
		if _, err := x.Unlock(t.Context(), who, keysource.Material{}, 0); err != nil {
			fail("it does not open: %v", err)
			return
		}
		if s, err = x.Snapshot(t.Context()); err != nil {
			fail("it does not open: %v", err)
			return
		}
	}
	if n := len(s.State().Secrets); n < secrets || n > max(secrets, 0)+1 {
		fail("%d secrets", n)
	}
	for i := range s.State().Secrets {
		if got, err := s.Open(fmt.Sprint(i)); err != nil || string(got.Expose()) != fmt.Sprint("value-", i) {
			fail("secret %d: %v", i, err)
		}
	}
	if _, err := tryPut(t.Context(), x, "after", "x"); err != nil {
		fail("it cannot be changed: %v", err)
		return
	}
	s = mustSnapshot(t, x)
	public, err := s.auditPublic()
	must(t, err)
	key, err := audit.VerifierKey(s.header.ID, public)
	must(t, err)
	if err := x.Close(); err != nil {
		fail("it does not close: %v", err)
	}
	report, err := audit.Verify(audit.VerifyConfig{Dir: logDir, Key: key})
	if err != nil || report.Problem != nil || report.AfterCheckpoint != 0 {
		fail("afterwards the log: %v, %v, %d records not signed", err, report.Problem, report.AfterCheckpoint)
	}
}

func idIn(t *testing.T, path string) string {
	t.Helper()
	h, _, _, err := splitDocument(read(t, path))
	must(t, err)
	return h.ID
}
