//go:build system

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/audit"
)

// How long the soak takes when nobody says otherwise: AIVAULT_SOAK=1h does,
// AIVAULT_SOAK_SEED=N takes the decisions of an earlier run.
const soakShort = 25 * time.Second

const (
	soakWorkers = 8
	soakUID     = 61_000 // of the first worker
	soakDisk    = 2 << 30
)

// A soak is an hour of a daemon's life, or a short form of it: callers of
// several users, an upstream that repeats every secret it hears in whatever
// form it can think of, an operator who changes things by the daemon and
// beside it; and meanwhile the daemon is killed, the disk fills up, the clock
// jumps, upstreams reset and readers dawdle.
type soak struct {
	t      *testing.T
	seed   uint64
	length time.Duration
	start  time.Time
	dir    string // of the test
	vault  string // on a file system of its own
	cli    string
	env    []string // of the CLI
	agents string   // the socket of the callers
	keys   *soakKeys
	tls    *soakUpstream // HTTP/2: api.openai.com
	plain  *soakUpstream // HTTP/1.1: a credential of the operator's own
	daemon *soakDaemon
	ledger *soakLedger

	full  atomic.Bool // the disk, or it was a moment ago
	ended chan struct{}

	mu     sync.Mutex
	events []string // the last ones, for who reads a failure
	counts map[string]int
}

func TestSystemSoak(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("the system tests need root; run make test-system")
	}
	s := newSoak(t)
	defer func() {
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			fmt.Fprintf(os.Stderr, "soak: failed with AIVAULT_SOAK=%s AIVAULT_SOAK_SEED=%d; the last events:\n%s\n", s.length, s.seed, strings.Join(s.events, "\n"))
		}
	}()
	s.daemon.launch()
	s.prepare()
	s.start = time.Now()
	var wg, faults sync.WaitGroup
	for i := range soakWorkers {
		wg.Go(func() { s.newWorker(i).run() })
	}
	wg.Go(func() { s.operate(s.rand(100)) })
	wg.Go(func() { s.bystand(s.rand(101)) })
	faults.Go(func() { s.kill(s.rand(200)) })
	faults.Go(func() { s.fill(s.rand(201)) })
	faults.Go(func() { s.jump(s.rand(202)) })
	faults.Go(func() { s.watch() })
	for until := time.After(s.length); ; {
		select {
		case <-until:
		case <-time.After(min(time.Minute, s.length/5)):
			s.progress()
			if !t.Failed() {
				continue
			}
		}
		break
	}
	close(s.ended)
	faults.Wait()
	s.phase("the last fault")
	wg.Wait()
	s.phase("the last call")
	s.settle()
	s.progress()
	s.summary()
}

func newSoak(t *testing.T) *soak {
	s := &soak{t: t, length: soakShort, start: time.Now(), ended: make(chan struct{}), counts: map[string]int{}, seed: uint64(time.Now().UnixNano())}
	if v := os.Getenv("AIVAULT_SOAK"); v != "" {
		d, err := time.ParseDuration(v)
		must(t, err)
		s.length = d
	}
	if v := os.Getenv("AIVAULT_SOAK_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		must(t, err)
		s.seed = n
	}
	dir, err := os.MkdirTemp("/tmp", "avsoak") // short: sockets lie in it
	must(t, err)
	s.dir = dir
	must(t, os.Chmod(dir, 0o755))
	small := filepath.Join(dir, "disk")
	must(t, os.Mkdir(small, 0o700))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", soakDisk)))
	t.Cleanup(func() {
		_ = exec.Command("umount", "-l", small).Run()
		_ = os.RemoveAll(dir)
	})
	s.vault = filepath.Join(small, "v")
	s.agents = filepath.Join(dir, "run", "agents.sock")
	s.cli = filepath.Join(build(t), "dev", "aivault")
	s.keys = newSoakKeys(s.rand(1))
	s.tls, s.plain = newSoakUpstream(s, "tls"), newSoakUpstream(s, "plain")
	ca := filepath.Join(dir, "ca.pem")
	s.tls.startTLS(ca)
	s.plain.startPlain()
	s.daemon = newSoakDaemon(s, ca)
	s.env = []string{
		"HOME=" + dir, "PATH=/usr/bin:/bin", "AIVAULT_DIR=" + s.vault, "AIVAULTD_AUTOSTART=0",
		"AIVAULT_DEV_RESOLVE=api.openai.com=" + s.tls.addr, "AIVAULT_DEV_CA_CERT_PATH=" + ca,
	}
	s.ledger = newSoakLedger(s)
	return s
}

// rand is a stream of decisions of its own for each who decides.
func (s *soak) rand(who uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, who)) }

// note keeps an event for who reads a failure.
func (s *soak) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("%8.2fs ", time.Since(s.start).Seconds()) + fmt.Sprintf(format, args...)
	if s.events = append(s.events, line); len(s.events) > 120 {
		s.events = slices.Delete(s.events, 0, 40)
	}
}

// phase tells when something was over, of which one wants to know how long it
// took.
func (s *soak) phase(what string) {
	s.note("after %s", what)
	s.t.Logf("%s after the end: %s", (time.Since(s.start) - s.length).Round(time.Millisecond), what)
}

func (s *soak) count(what string) {
	s.mu.Lock()
	s.counts[what]++
	s.mu.Unlock()
}

func (s *soak) fail(format string, args ...any) {
	s.note("FAILED: "+format, args...)
	s.t.Errorf(format, args...)
}

// pause is false when the soak has ended meanwhile.
func (s *soak) pause(d time.Duration) bool {
	select {
	case <-s.ended:
		return false
	case <-time.After(d):
		return true
	}
}

// clean fails where anything of a secret can be read.
func (s *soak) clean(what string, text []byte) {
	if why := s.keys.leak(text); why != "" {
		s.fail("a secret is in %s: %s", what, why)
		_ = os.WriteFile(filepath.Join(os.TempDir(), fmt.Sprintf("soak-leak-%d", s.seed)), text, 0o600)
	}
}

// run runs the CLI, by the daemon or beside it, and checks what it says.
func (s *soak) run(inProcess bool, after time.Duration, args ...string) (out string, exit int) {
	limit := time.Minute
	if after > 0 { // it is killed
		limit = after
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.cli, args...)
	cmd.Env = s.env
	if inProcess {
		cmd.Env = append(slices.Clone(s.env), "AIVAULTD_DISABLE=1")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, "/"
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) && after == 0 || cmd.ProcessState == nil {
		s.fail("aivault %s: %v", args[0], err)
		return "", -1
	}
	exit = cmd.ProcessState.ExitCode()
	said := stdout.String() + stderr.String()
	s.clean("the output of aivault "+args[0], []byte(said))
	for _, bad := range []string{"panic:", "DATA RACE", "goroutine "} {
		if strings.Contains(said, bad) {
			s.fail("aivault %s: %s", strings.Join(args, " "), said)
		}
	}
	s.note("aivault %s (in-process %v): exit %d %s", strings.Join(args[:min(2, len(args))], " "), inProcess, exit, firstLine(stderr.String()))
	return stdout.String(), exit
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// must runs the CLI beside the daemon and has it succeed.
func (s *soak) must(args ...string) {
	s.t.Helper()
	if out, exit := s.run(true, 0, args...); exit != 0 {
		s.t.Fatalf("aivault %s: exit %d, %s\n%s", strings.Join(args, " "), exit, out, strings.Join(s.events, "\n"))
	}
}

func (s *soak) prepare() {
	for name, k := range s.keys.all {
		s.must("secrets", "create", "--name", name, "--value", k.value())
	}
	port := s.plain.addr[strings.LastIndexByte(s.plain.addr, ':')+1:]
	s.must("credential", "create", "acme", "--auth", "header", "--secret", soakAcme, "--host", "localhost:"+port, "--allow-port", port, "--allow-http")
	s.must("capability", "create", "acme/any", "--method", "GET", "--method", "POST", "--path", "/")
	s.extra(true, "create")
}

// extra makes or removes an account that comes and goes.
func (s *soak) extra(inProcess bool, what string) {
	port := s.plain.addr[strings.LastIndexByte(s.plain.addr, ':')+1:]
	if what == "create" {
		s.run(inProcess, 0, "credential", "create", "extra", "--auth", "header", "--secret", soakExtra, "--host", "localhost:"+port, "--allow-port", port, "--allow-http")
		s.run(inProcess, 0, "capability", "create", "extra/any", "--method", "GET", "--method", "POST", "--path", "/")
		return
	}
	s.run(inProcess, 0, "credential", "delete", "extra")
}

// operate changes the vault all the time, now by the daemon and now in a
// process of its own.
func (s *soak) operate(r *rand.Rand) {
	locked := false
	for s.pause(time.Duration(100+r.IntN(900)) * time.Millisecond) {
		s.count("changes")
		in := r.IntN(3) == 0
		if locked {
			s.run(in, 0, "unlock")
			_, exit := s.run(false, 0, "unlock")
			locked = exit != 0
			continue
		}
		switch n := r.IntN(100); {
		case n < 25:
			names := []string{soakOpenAI, soakAcme, soakExtra}
			s.rotate(in, names[r.IntN(len(names))])
		case n < 35:
			s.extra(in, "delete")
		case n < 47:
			s.extra(in, "create")
		case n < 52:
			s.run(in, 0, "secrets", "create", "--name", "SPARE", "--value", s.keys.fresh())
		case n < 57:
			s.run(in, 0, "secrets", "delete", "SPARE")
		case n < 63:
			s.run(in, 0, "capability", "policy", "set", "openai/models", "--rate-limit-per-minute", strconv.Itoa(1+r.IntN(2000)))
		case n < 68:
			s.run(in, 0, "capability", "policy", "clear", "openai/models")
		case n < 72:
			s.run(in, 0, "capability", "disable", "openai/models")
		case n < 77:
			s.run(in, 0, "capability", "enable", "openai/models")
		case n < 81:
			s.run(in, 0, "grant", "add", "--uid", strconv.Itoa(70_000+r.IntN(3)), "--capability", "acme/*", "--expires", "1h")
		case n < 84:
			s.run(in, 0, "grant", "reset", "--uid", strconv.Itoa(70_000+r.IntN(3)))
		case n < 87:
			_, exit := s.run(in, 0, "lock")
			locked = exit == 0
		case n < 90:
			s.run(in, 0, "rotate-master")
		case n < 94:
			s.run(in, 0, "audit", "--limit", "50")
		case n < 97:
			s.run(in, 0, "secrets", "list", "--json")
		default:
			s.run(in, 0, "status", "--json")
		}
	}
	if locked {
		s.run(true, 0, "unlock")
	}
}

// rotate gives a secret another value. Whether the old one may still be
// repeated depends on whether this daemon, and no later one, sent it.
func (s *soak) rotate(inProcess bool, name string) {
	k, next := s.keys.all[name], s.keys.fresh()
	life := s.daemon.life.Load()
	k.replacing(next)
	_, exit := s.run(inProcess, 0, "secrets", "rotate", name, "--value", next)
	k.replaced(next, exit == 0, life == s.daemon.life.Load())
}

// bystand makes calls in processes of its own, some of which are killed.
func (s *soak) bystand(r *rand.Rand) {
	for s.pause(time.Duration(200+r.IntN(1200)) * time.Millisecond) {
		s.count("in-process calls")
		after := time.Duration(0)
		if r.IntN(4) == 0 {
			after = time.Duration(5+r.IntN(150)) * time.Millisecond
		}
		plan := soakPlan(r, "beside")
		args := []string{"invoke", "acme/any", "--path", "/beside", "-X", "GET", "-H", "X-Soak: " + plan.Encode(), "--timeout", "5s"}
		if r.IntN(3) == 0 {
			args[1], args[3] = "openai/models", "/v1/models"
		}
		if _, exit := s.run(true, after, args...); exit == 0 {
			s.ledger.beside()
		}
	}
}

// kill ends the daemon as nothing else does, and starts another. Of the end of
// the time it leaves a sixth, in which a daemon that lives on must not grow.
func (s *soak) kill(r *rand.Rand) {
	every := min(time.Minute, s.length/6)
	for {
		if !s.pause(every/2 + time.Duration(r.Int64N(int64(every)))) {
			return
		}
		if time.Since(s.start) > s.length*5/6 {
			return
		}
		s.note("kill -9 of the daemon")
		s.count("kills")
		s.daemon.kill()
		s.verify()
		s.daemon.launch()
	}
}

// fill lets the disk be full for some seconds.
func (s *soak) fill(r *rand.Rand) {
	every := min(3*time.Minute, s.length/4)
	for s.pause(every/2 + time.Duration(r.Int64N(int64(every)))) {
		if s.remount(0) != nil {
			continue
		}
		s.note("the disk is full")
		s.count("full disks")
		s.full.Store(true)
		s.pause(min(every/5, time.Duration(1+r.IntN(6))*time.Second))
		if err := s.remount(soakDisk); err != nil {
			s.fail("remount: %v", err)
		}
		s.note("there is room again")
		s.full.Store(false)
	}
}

// remount changes how large the disk is; 0: as much as is in use.
func (s *soak) remount(size int64) error {
	at := filepath.Dir(s.vault)
	if size == 0 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(at, &st); err != nil {
			return err
		}
		size = int64(st.Blocks-st.Bfree)*st.Bsize + int64(st.Bsize) // a page more than is in use
	}
	return syscall.Mount("tmpfs", at, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
}

// jump sets the daemon's clock by hours, either way, and sometimes right.
func (s *soak) jump(r *rand.Rand) {
	every := min(20*time.Second, s.length/8)
	for s.pause(every/2 + time.Duration(r.Int64N(int64(every)))) {
		by := time.Duration(r.Int64N(int64(60*time.Hour))) - 30*time.Hour
		if r.IntN(4) == 0 {
			by = 0
		}
		s.note("the clock is off by %s", by)
		s.count("clock jumps")
		s.daemon.setClock(by)
	}
}

// verify checks the chain as far as it is written, and takes note of what it
// says.
func (s *soak) verify() {
	if err := s.ledger.read(); err != nil {
		var broken *audit.ChainError
		if errors.As(err, &broken) {
			s.fail("the log does not hold: %v", err)
			return
		}
		s.fail("the log cannot be read: %v", err)
	}
	if out, exit := s.run(true, 0, "audit", "verify", "--from", filepath.Join(s.vault, "audit")); exit != 0 {
		s.fail("audit verify: exit %d: %s", exit, out)
	}
}

// settle ends the daemon in good order, lets another put right what earlier
// ones left, and compares what callers saw with what the log says.
func (s *soak) settle() {
	s.daemon.stop()
	s.phase("the daemon's leaving")
	s.verify()
	s.daemon.setClock(0)
	s.daemon.launch()
	if _, exit := s.run(false, 0, "status"); exit != 0 {
		s.fail("after all of it the daemon has no status: exit %d", exit)
	}
	if _, exit := s.run(false, 0, "unlock"); exit != 0 {
		s.fail("after all of it the vault does not open: exit %d", exit)
	}
	if _, exit := s.run(false, 0, "invoke", "openai/chat-completions", "--body", `{}`, "--fail"); exit != 0 {
		s.fail("after all of it a call fails: exit %d", exit)
	} else {
		s.ledger.beside()
	}
	s.daemon.stop()
	s.verify()
	s.ledger.compare()
	s.daemon.judge()
	s.leftovers()
}

// leftovers looks for files that nobody will remove.
func (s *soak) leftovers() {
	entries, err := os.ReadDir(s.vault)
	must(s.t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), "tmp") {
			s.fail("a temporary file is left in the vault: %s", e.Name())
		}
	}
	if len(entries) > 30 {
		s.fail("%d files are left in the vault", len(entries))
	}
}

func (s *soak) progress() {
	s.mu.Lock()
	var parts []string
	for what, n := range s.counts {
		parts = append(parts, fmt.Sprintf("%s %d", what, n))
	}
	s.mu.Unlock()
	slices.Sort(parts)
	fmt.Fprintf(os.Stderr, "soak %s of %s, seed %d: %s; %s; %s\n", time.Since(s.start).Round(time.Second), s.length, s.seed, strings.Join(parts, ", "), s.ledger, s.daemon)
}

func (s *soak) summary() {
	s.t.Logf("seed %d, %s: %v; %s; %s", s.seed, s.length, s.counts, s.ledger, s.daemon)
	for _, need := range []string{"kills", "full disks", "clock jumps", "changes", "answered", "refused", "broken", "in-process calls", "dawdled", "uploads"} {
		if s.counts[need] == 0 {
			s.fail("there were no %s: this proves nothing", need)
		}
	}
	if s.tls.echoes.Load()+s.plain.echoes.Load() == 0 {
		s.fail("no upstream repeated a secret: this proves nothing")
	}
}
