package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/standin"
)

// A hundred calls and twenty new secrets at once, half of them through the
// daemon and half in processes of their own: nothing is lost, nothing doubled,
// and all of them write one chain. The programs are built with the race
// detector where this test is.
func TestManyProcessesShareOneVault(t *testing.T) {
	bins := t.TempDir()
	args := []string{"build", "-tags", "aivault_dev", "-o", bins + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "moldable.sh/aivault/cmd/aivault", "moldable.sh/aivault/cmd/aivaultd")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	up, err := standin.Start(nil, "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	home, err := os.MkdirTemp("/tmp", "av") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	ca := filepath.Join(home, "ca.pem")
	if err := os.WriteFile(ca, up.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"HOME=" + home, "AIVAULT_DEV_RESOLVE=api.openai.com=" + up.Addr().String(), "AIVAULT_DEV_CA_CERT_PATH=" + ca, "AIVAULTD_AUTOSTART=0"}
	run := func(inProcess bool, args ...string) error {
		cmd := exec.Command(filepath.Join(bins, "aivault"), args...)
		cmd.Env = environ
		if inProcess {
			cmd.Env = append(slices.Clone(environ), "AIVAULTD_DISABLE=1")
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("aivault %s (in-process %v): %w: %s", strings.Join(args, " "), inProcess, err, &errs)
		}
		if strings.Contains(errs.String(), "DATA RACE") {
			return errors.New(errs.String())
		}
		return nil
	}
	if err := run(true, "secrets", "create", "--name", "OPENAI_API_KEY", "--value", "sk-many-0123456789"); err != nil {
		t.Fatal(err)
	}
	// Started by hand, so that its standard error and exit status, where the
	// race detector speaks, are seen.
	daemon := exec.Command(filepath.Join(bins, "aivaultd"))
	daemon.Env = environ
	var said bytes.Buffer
	daemon.Stderr = &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = daemon.Process.Kill(); _ = daemon.Wait() }()
	for i := 0; run(false, "daemon", "status") != nil; i++ {
		if i == 100 {
			t.Fatalf("the daemon does not answer: %s", &said)
		}
		time.Sleep(50 * time.Millisecond)
	}

	const calls, secrets = 100, 20
	failed := make(chan error, calls+secrets)
	limit := make(chan struct{}, 16) // processes at once; each may have 8 threads
	var wg sync.WaitGroup
	start := func(inProcess bool, args ...string) {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			if err := run(inProcess, args...); err != nil {
				failed <- err
			}
		})
	}
	for i := range calls {
		start(i%2 == 0, "invoke", "openai/chat-completions", "--body", fmt.Sprintf(`{"n":%d}`, i))
		if i%(calls/secrets) == 0 {
			start(i%2 == 1, "secrets", "create", "--name", fmt.Sprintf("KEY_%d", i), "--value", "sk-many-0123456789")
		}
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}

	bodies := map[string]int{}
	for _, s := range up.Seen() {
		bodies[string(s.Body)]++
	}
	for i := range calls {
		if n := bodies[fmt.Sprintf(`{"n":%d}`, i)]; n != 1 {
			t.Errorf("call %d arrived %d times", i, n)
		}
	}
	if err := run(false, "daemon", "stop"); err != nil {
		t.Error(err)
	}
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon: %v\n%s", err, &said)
	}
	events := readChain(t, filepath.Join(home, ".aivault/data/vault"))
	for event, want := range map[string]int{
		audit.CallAllowed: calls, audit.CallFinished: calls, audit.CallRefused: 0,
		audit.SecretCreated: secrets + 1, audit.VaultCommitted: secrets + 2,
	} {
		if events[event] != want {
			t.Errorf("%d records of %s, want %d", events[event], event, want)
		}
	}
	list := exec.Command(filepath.Join(bins, "aivault"), "secrets", "list")
	list.Env = []string{"HOME=" + home, "AIVAULTD_DISABLE=1"}
	out, err := list.Output()
	if err != nil || strings.Count(string(out), "KEY_") != secrets {
		t.Errorf("%v: %d secrets in\n%s", err, strings.Count(string(out), "KEY_"), out)
	}
}

// readChain counts the events of a vault's log, whose chain must hold.
func readChain(t *testing.T, dir string) map[string]int {
	t.Helper()
	header, err := os.ReadFile(filepath.Join(dir, "vault.aiv"))
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(string(header), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), VaultID: id, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	events := map[string]int{}
	if _, err := log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		l, err := audit.ParseLine(line)
		events[l.Event]++
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return events
}
