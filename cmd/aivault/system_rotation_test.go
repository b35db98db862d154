//go:build system

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

const (
	rotationAt   = 16 << 20 // how long a part of the log grows: no program can be told otherwise
	rotationPage = 4096     // what a tmpfs gives out at a time
	rotationDisk = 1 << 30
)

// A rotation is a vault on a small file system, its daemon, and callers who
// never pause.
type rotation struct {
	t        *testing.T
	disk     string
	vault    string
	programs string
	env      []string
	sent     atomic.Int64 // requests that reached the upstream
	daemon   *exec.Cmd
	said     bytes.Buffer // by the daemon; read when it has ended

	mu       sync.Mutex
	answered int
	refused  int
	others   map[string]int
}

// The disk fills up exactly as the log goes from one part to the next: before
// the next one is made, in the last line of the old one, in the checkpoint that
// closes it, in the first line of the next, and while an older one is
// compressed. Calls are refused, none is answered that the log does not have,
// and with room again all goes on by itself, also by another daemon.
func TestSystemFullDiskWhileTheLogRotates(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("the system tests need root; run make test-system")
	}
	r := newRotation(t)
	r.launch()
	ended := make(chan struct{})
	var callers sync.WaitGroup
	defer callers.Wait()
	finish := sync.OnceFunc(func() { close(ended) })
	defer finish()
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					r.call()
				}
			}
		})
	}
	r.await("the first answer", func() bool { return r.count(&r.answered) > 0 })
	for i, round := range []struct {
		length int64 // of the part that is to be closed
		pages  int64 // of room
		files  bool  // whether another one can be made
		kill   bool  // the daemon, while the disk is full
	}{
		{rotationAt, 0, true, false},
		{rotationAt, 0, true, true},
		{rotationAt, 1, false, false},
		{rotationAt, 1, false, true},
		{rotationAt, 1, true, false},
		{rotationAt, 2, true, true},
		{rotationAt, 40, true, false},
		{rotationAt + rotationPage - 150, 0, true, false},
		{rotationAt + rotationPage - 100, 0, true, true},
		{rotationAt + rotationPage - 50, 1, true, false},
		{rotationAt - 3000, 1, true, false},
	} {
		r.round(round.length, round.pages, round.files, round.kill)
		if t.Failed() {
			t.Fatalf("in round %d: %+v", i+1, round)
		}
	}
	finish()
	callers.Wait()
	must(t, r.daemon.Process.Signal(syscall.SIGTERM))
	if err := r.daemon.Wait(); err != nil {
		t.Errorf("the daemon: %v\n%s", err, r.said.String())
	}
	r.judge()
}

func newRotation(t *testing.T) *rotation {
	r := &rotation{t: t, others: map[string]int{}, programs: filepath.Join(build(t), "release")}
	dir, err := os.MkdirTemp("/tmp", "avrot") // short: a socket lies in it
	must(t, err)
	r.disk = filepath.Join(dir, "disk")
	must(t, os.Mkdir(r.disk, 0o700))
	must(t, syscall.Mount("tmpfs", r.disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", rotationDisk)))
	t.Cleanup(func() {
		if r.daemon != nil {
			r.kill()
		}
		_ = exec.Command("umount", "-l", r.disk).Run()
		_ = os.RemoveAll(dir)
	})
	r.vault = filepath.Join(r.disk, "v")
	r.env = []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "AIVAULT_DIR=" + r.vault}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.sent.Add(1)
		_, _ = io.WriteString(w, "ok")
	})}
	t.Cleanup(func() { _ = srv.Close() })
	go func() { _ = srv.Serve(l) }()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	r.run("secrets", "create", "--name", "ACME", "--value", decoy)
	r.run("credential", "create", "acme", "--auth", "header", "--secret", "ACME", "--host", "localhost:"+port, "--allow-port", port, "--allow-http")
	r.run("capability", "create", "acme/any", "--method", "GET", "--path", "/")
	return r
}

// run runs the CLI beside the daemon.
func (r *rotation) run(args ...string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.programs, "aivault"), args...)
	cmd.Env, cmd.Dir = append(r.env, "AIVAULTD_DISABLE=1"), "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Errorf("aivault %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *rotation) launch() {
	r.daemon = exec.Command(filepath.Join(r.programs, "aivaultd"))
	r.daemon.Env, r.daemon.Dir, r.daemon.Stderr = r.env, "/", &r.said
	must(r.t, r.daemon.Start())
}

func (r *rotation) kill() {
	_ = r.daemon.Process.Kill()
	_ = r.daemon.Wait()
}

// call makes a call and remembers what came of it.
func (r *rotation) call() {
	came := r.once()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch came {
	case "":
		r.answered++
	case string(api.Internal):
		r.refused++
	default:
		r.others[came]++
	}
}

// once returns "" for an answer, and else what came in its place.
func (r *rotation) once() string {
	c, err := net.Dial("unix", filepath.Join(r.vault, "run", "aivaultd.sock"))
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return "no daemon"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	const body = `{"capability":"acme/any","request":{"method":"GET","path":"/v1/x"}}`
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", api.RouteProxy, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "gone"
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "gone"
	}
	if resp.Header.Get(api.HeaderAnswer) != "" {
		if code := resp.Trailer.Get(api.HeaderError); code != "" {
			return "broken off: " + code
		}
		return ""
	}
	var e api.Error
	if json.Unmarshal(text, &e) != nil || e.Code == api.Internal && !strings.Contains(e.Message, "could not be recorded") {
		return string(text)
	}
	return string(e.Code)
}

func (r *rotation) count(n *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *n
}

func (r *rotation) await(what string, ok func() bool) {
	r.t.Helper()
	for until := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s: not within a minute; %d calls were answered, %d refused, and %v", what, r.answered, r.refused, r.others)
		}
	}
}

// openLog opens the log as another process does, one without the key: it
// closes no part.
func (r *rotation) openLog() *audit.Log {
	r.t.Helper()
	header, err := os.ReadFile(filepath.Join(r.vault, "vault.aiv"))
	must(r.t, err)
	_, id, _ := strings.Cut(string(header), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(r.vault, "audit"), VaultID: id, Clock: time.Now})
	must(r.t, err)
	return log
}

// fill makes the log's last part so long, to the byte.
func (r *rotation) fill(length int64) {
	r.t.Helper()
	log := r.openLog()
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	add := func(chars int64) int64 {
		head, err := log.Append(ctx, audit.Record{Event: "test.filler", Reason: strings.Repeat("x", int(chars))})
		must(r.t, err)
		return head.Offset
	}
	before := add(500)
	at := add(500)
	empty := at - before - 500 // the length of a line without a reason
	for ; length-at > 2*(empty+500); at = add(500) {
	}
	if at = add((length-at)/2 - empty); length-at > empty {
		at = add(length - at - empty)
	}
	if at < length-20 || at > length+20 {
		r.t.Fatalf("the log has %d bytes, want %d", at, length)
	}
}

// pause stops the daemon where nothing of the log is locked.
func (r *rotation) pause() {
	r.t.Helper()
	for {
		must(r.t, r.daemon.Process.Signal(syscall.SIGSTOP))
		r.await("the daemon stands still", func() bool {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.daemon.Process.Pid))
			for _, task := range tasks {
				if text, err := os.ReadFile(task); err == nil && !bytes.Contains(text, []byte(") T ")) {
					return false
				}
			}
			return len(tasks) > 0
		})
		log := r.openLog()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		_, err := log.Append(ctx, audit.Record{Event: "test.filler"})
		cancel()
		must(r.t, log.Close())
		if err == nil {
			return
		}
		must(r.t, r.daemon.Process.Signal(syscall.SIGCONT))
		time.Sleep(time.Millisecond)
	}
}

func (r *rotation) remount(options string) {
	r.t.Helper()
	must(r.t, syscall.Mount("tmpfs", r.disk, "tmpfs", syscall.MS_REMOUNT, options))
}

// parts is the number of the log's last part.
func (r *rotation) parts() int {
	names, err := filepath.Glob(filepath.Join(r.vault, "audit", "0*.jsonl"))
	must(r.t, err)
	n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(names[len(names)-1]), ".jsonl"))
	must(r.t, err)
	return n
}

func (r *rotation) round(length, pages int64, files, kill bool) {
	r.pause()
	before := r.parts()
	r.fill(length)
	var st syscall.Statfs_t
	must(r.t, syscall.Statfs(r.disk, &st))
	inodes := int64(100_000)
	if !files {
		inodes = int64(st.Files - st.Ffree)
	}
	r.remount(fmt.Sprintf("size=%d,nr_inodes=%d", (int64(st.Blocks-st.Bfree)+pages)*rotationPage, inodes))
	refused := r.count(&r.refused)
	must(r.t, r.daemon.Process.Signal(syscall.SIGCONT))
	r.await("calls are refused", func() bool { return r.count(&r.refused) > refused+100 })
	r.run("audit", "verify", "--from", filepath.Join(r.vault, "audit"))
	if kill {
		r.kill()
	}
	r.remount(fmt.Sprintf("size=%d,nr_inodes=100000", rotationDisk))
	if kill {
		r.launch()
	}
	answered := r.count(&r.answered)
	r.await("calls are answered again", func() bool { return r.count(&r.answered) > answered+20 })
	if n := r.parts(); n != before+1 {
		r.t.Errorf("the log's last part is %d, and it was %d", n, before)
	}
	r.run("audit", "verify")
}

// judge compares what callers and the upstream saw with what the log says.
func (r *rotation) judge() {
	outcomes, good := map[string]int{}, 0
	log := r.openLog()
	defer log.Close()
	_, err := log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		record, err := audit.ParseLine(line)
		if err != nil {
			return err
		}
		switch record.Event {
		case audit.CallAllowed:
			if _, twice := outcomes[record.RequestID]; twice {
				r.t.Errorf("line %d: the call was allowed before", record.Seq)
			}
			outcomes[record.RequestID] = 0
		case audit.CallFinished:
			outcomes[record.RequestID]++
			// The daemon was killed before there was room for what it knew.
			if record.Status == http.StatusOK && record.Code == "" || record.Code == audit.UnknownOutcome {
				good++
			}
		}
		return nil
	})
	if err != nil {
		r.t.Errorf("the log: %v", err)
	}
	for id, n := range outcomes {
		if n != 1 {
			r.t.Errorf("the call %s has %d outcomes", id, n)
		}
	}
	if sent := int(r.sent.Load()); sent > len(outcomes) || good < r.answered {
		r.t.Errorf("%d requests were sent and %d calls answered; the log has %d, %d of them with a good end or an unknown one", sent, r.answered, len(outcomes), good)
	}
	r.t.Logf("%d calls were answered, %d refused, and %v; the log has %d", r.answered, r.refused, r.others, len(outcomes))
}
