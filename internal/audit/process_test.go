package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file start the test binary again. A child reads from its
// environment which log it has, and what it is to do there.
const (
	childDir  = "AUDIT_TEST_CHILD_DIR"
	childName = "AUDIT_TEST_CHILD_NAME"
)

func child(t *testing.T, cfg Config, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+cfg.Dir, childName+"="+name)
	return cmd
}

// asChild opens the log that the parent made, in the child.
func asChild(t *testing.T) (l *Log, name string, ok bool) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return nil, "", false
	}
	return open(t, Config{Dir: dir, VaultID: vaultID}), os.Getenv(childName), true
}

func TestOneChainForAllProcesses(t *testing.T) {
	const processes, workers, each = 4, 4, 60
	if l, name, ok := asChild(t); ok {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					r := sample(i)
					r.RequestID = fmt.Sprint(name, "-", w, "-", i)
					if _, err := l.Append(t.Context(), r); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return
	}
	cfg := config(t)
	l := create(t, cfg)
	var wg sync.WaitGroup
	for p := range processes {
		cmd := child(t, cfg, strconv.Itoa(p))
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	got, last := ids(t, l)
	seen := map[string]bool{}
	next := map[string]int{}
	for _, id := range got {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		i := strings.LastIndexByte(id, '-')
		if n, _ := strconv.Atoi(id[i+1:]); n != next[id[:i]] {
			t.Errorf("%s: out of its caller's order", id)
		}
		next[id[:i]]++
	}
	if want := processes * workers * each; len(got) != want || int(last.Seq) != want {
		t.Errorf("%d lines, last %d, want %d", len(got), last.Seq, want)
	}
}

// A writer that is killed at any instant leaves a log that goes on, holding
// every record that it was told is there.
func TestKilledWriters(t *testing.T) {
	if l, _, ok := asChild(t); ok {
		var out sync.Mutex
		for w := range 3 {
			go func() {
				for i := 0; ; i++ {
					r := sample(i)
					r.RequestID = fmt.Sprint(os.Getpid(), "-", w, "-", i)
					r.Reason = strings.Repeat("long ", i%150)
					h, err := l.Append(t.Context(), r)
					out.Lock()
					fmt.Printf("confirmed %s %d %v\n", r.RequestID, h.Seq, err)
					out.Unlock()
				}
			}()
		}
		time.Sleep(time.Minute)
		return
	}
	cfg := config(t)
	create(t, cfg).Close()
	confirmed := map[string]string{} // request id -> seq
	for round := range 12 {
		for _, line := range killWriter(t, cfg) {
			f := strings.Fields(line)
			if len(f) != 4 || f[0] != "confirmed" {
				continue // the last one may be torn, too
			}
			if f[3] != "<nil>" {
				t.Fatal(line)
			}
			confirmed[f[1]] = f[2]
		}
		l, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := sample(0)
		r.RequestID = fmt.Sprint("after-", round)
		h, err := l.Append(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		confirmed[r.RequestID] = fmt.Sprint(h.Seq)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := ids(t, open(t, cfg))
	if len(confirmed) < 24 || len(got) < len(confirmed) {
		t.Fatalf("%d records confirmed, %d in the log", len(confirmed), len(got))
	}
	at := map[string]string{}
	for i, id := range got {
		at[id] = fmt.Sprint(i + 1)
	}
	for id, seq := range confirmed {
		if at[id] != seq {
			t.Errorf("%s was confirmed as line %s, and is at %q", id, seq, at[id])
		}
	}
}

// killWriter starts a child, kills it while it writes, and returns what it
// said until then.
func killWriter(t *testing.T, cfg Config) (said []string) {
	t.Helper()
	cmd := child(t, cfg, "")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	for sc := bufio.NewScanner(pipe); sc.Scan(); {
		if said = append(said, sc.Text()); timer == nil && strings.HasPrefix(sc.Text(), "confirmed") {
			timer = time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return said
}

// A full disk fails every record of the batch and leaves whole lines only;
// when there is room again, the log goes on.
func TestDiskFull(t *testing.T) {
	const room = 8000
	if l, _, ok := asChild(t); ok {
		signal.Ignore(syscall.SIGXFSZ)
		var old syscall.Rlimit
		if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old),
			syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: old.Max})); err != nil {
			t.Fatal(err)
		}
		in, failed := fillUp(t, l)
		got, last := ids(t, l)
		if len(got) != in || failed == 0 {
			t.Errorf("%d confirmed, %d failed, %d in the log", in, failed, len(got))
		}
		if size := len(read(t, current(l.cfg))); int64(size) != last.Offset {
			t.Errorf("%d bytes, the last line ends at %d", size, last.Offset)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		add(t, l, 1, 3)
		if got, _ := ids(t, l); len(got) != in+3 {
			t.Errorf("after there was room again: %d lines, want %d", len(got), in+3)
		}
		return
	}
	cfg := config(t)
	create(t, cfg).Close()
	if out, err := child(t, cfg, "").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("child: %v\n%s", err, out)
	}
	if got, _ := ids(t, open(t, cfg)); len(got) < 4 {
		t.Errorf("%d lines", len(got))
	}
}

func fillUp(t *testing.T, l *Log) (in, failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				h, err := l.Append(t.Context(), sample(w*20+i))
				mu.Lock()
				switch {
				case err == nil:
					in++
				case !errors.Is(err, syscall.EFBIG) || h != (Head{}):
					t.Errorf("%+v, %v", h, err)
				default:
					failed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return in, failed
}
