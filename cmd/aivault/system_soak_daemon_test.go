//go:build system

package main_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/daemon"
)

// asSoakDaemon is the variable by which this program becomes a daemon whose
// clock can be set. It names a file with soakDaemonConfig.
const asSoakDaemon = "AIVAULT_TEST_SOAK_DAEMON"

type soakDaemonConfig struct {
	Environ []string // as a daemon's
	Socket  string   // for callers
	CA      string
	Resolve map[string]string
	Clock   string // file with how far the clock is off, in ns
	Stats   string // file that tells of the process
}

// TestSoakDaemon is the daemon of TestSystemSoak.
func TestSoakDaemon(t *testing.T) {
	path := os.Getenv(asSoakDaemon)
	if path == "" {
		return
	}
	b, err := os.ReadFile(path)
	must(t, err)
	var c soakDaemonConfig
	must(t, json.Unmarshal(b, &c))
	env, err := daemon.ParseEnv(c.Environ)
	must(t, err)
	env.SocketMode, env.SocketDirMode = 0o660, 0o750
	pem, err := os.ReadFile(c.CA)
	must(t, err)
	dev := &daemon.Dev{Resolve: map[string]netip.AddrPort{}, Roots: x509.NewCertPool()}
	dev.Roots.AppendCertsFromPEM(pem)
	for host, at := range c.Resolve {
		dev.Resolve[host] = netip.MustParseAddrPort(at)
	}
	var off atomic.Int64
	go func() {
		for ; ; time.Sleep(50 * time.Millisecond) {
			if b, err := os.ReadFile(c.Clock); err == nil {
				if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
					off.Store(n)
				}
			}
			_ = os.WriteFile(c.Stats, fmt.Appendf(nil, "%d", runtime.NumGoroutine()), 0o600)
		}
	}()
	// As the program's start has it.
	log.SetOutput(io.Discard)
	syscall.Umask(0o077)
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	must(t, daemon.Run(ctx, daemon.Config{
		Env: env, Build: daemon.NewBuild("soak", dev), AgentSocket: c.Socket,
		Clock: func() time.Time { return time.Now().Add(time.Duration(off.Load())) },
	}))
}

// A soakDaemon is the daemon that runs, and those before it.
type soakDaemon struct {
	s      *soak
	config string
	stats  string
	clock  string
	life   atomic.Int64 // counts daemons

	mu      sync.Mutex
	cmd     *exec.Cmd
	said    *bytes.Buffer // to be read when it has died
	died    <-chan struct{}
	since   time.Time
	samples []soakSample
}

// A soakSample is how large a daemon was.
type soakSample struct {
	life  int64
	age   time.Duration
	rss   int // KiB
	files int // descriptors
	runs  int // goroutines
	names int // in the vault's directory
}

func newSoakDaemon(s *soak, ca string) *soakDaemon {
	d := &soakDaemon{
		s: s, config: filepath.Join(s.dir, "daemon.json"), stats: filepath.Join(s.dir, "stats"), clock: filepath.Join(s.dir, "clock"),
	}
	b, err := json.Marshal(soakDaemonConfig{
		Environ: []string{"HOME=" + s.dir, "AIVAULT_DIR=" + s.vault}, Socket: s.agents, CA: ca,
		Resolve: map[string]string{"api.openai.com": s.tls.addr}, Clock: d.clock, Stats: d.stats,
	})
	must(s.t, err)
	must(s.t, os.WriteFile(d.config, b, 0o600))
	d.setClock(0)
	return d
}

func (d *soakDaemon) setClock(off time.Duration) {
	must(d.s.t, os.WriteFile(d.clock+".new", []byte(strconv.FormatInt(int64(off), 10)), 0o600))
	must(d.s.t, os.Rename(d.clock+".new", d.clock))
}

// launch starts a daemon and waits until it answers. While the disk is full it
// may not be able to.
func (d *soakDaemon) launch() {
	self, err := os.Executable()
	must(d.s.t, err)
	for until := time.Now().Add(time.Minute); ; {
		for _, k := range d.s.keys.all {
			k.forget()
		}
		d.life.Add(1)
		cmd := exec.Command(self, "-test.run", "^TestSoakDaemon$", "-test.timeout", "0")
		cmd.Env = []string{asSoakDaemon + "=" + d.config, "GOTRACEBACK=all"}
		said := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr, cmd.Dir = said, said, "/"
		must(d.s.t, cmd.Start())
		died := make(chan struct{})
		go func() { _ = cmd.Wait(); close(died) }()
		if d.answers(died) {
			d.mu.Lock()
			d.cmd, d.said, d.died, d.since = cmd, said, died, time.Now()
			d.mu.Unlock()
			d.s.note("daemon %d is there", cmd.Process.Pid)
			return
		}
		_ = cmd.Process.Kill()
		<-died
		d.s.note("a daemon did not start: %s", said)
		if !d.s.full.Load() && time.Now().After(until) {
			d.s.fail("the daemon does not start: %s", said)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (d *soakDaemon) answers(died <-chan struct{}) bool {
	for range 600 {
		select {
		case <-died:
			return false
		default:
		}
		if c, err := dialAs(0, d.s.agents); err == nil {
			_ = c.Close()
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func (d *soakDaemon) kill() {
	select {
	case <-d.died:
		d.s.fail("the daemon had ended by itself: %s", tail(d.said.String(), 6000))
	default:
	}
	_ = d.cmd.Process.Kill()
	<-d.died
	if d.said.Len() > 0 {
		d.s.fail("the daemon said something: %s", tail(d.said.String(), 6000))
	}
}

// stop asks the daemon to leave, which it does in good time.
func (d *soakDaemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.died:
	case <-time.After(45 * time.Second):
		d.s.fail("the daemon does not leave")
		_ = d.cmd.Process.Signal(syscall.SIGQUIT)
		<-d.died
	}
	if text := d.said.String(); strings.TrimSpace(text) != "PASS" {
		d.s.fail("the daemon ended badly: %s", tail(text, 6000))
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// watch takes samples of the daemon that runs.
func (s *soak) watch() {
	for s.pause(max(200*time.Millisecond, s.length/7200)) {
		s.daemon.sample()
	}
}

func (d *soakDaemon) sample() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return
	}
	sample := soakSample{life: d.life.Load(), age: time.Since(d.since)}
	proc := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			sample.rss, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil || sample.rss == 0 {
		return
	}
	sample.files = len(fds)
	if b, err := os.ReadFile(d.stats); err == nil {
		sample.runs, _ = strconv.Atoi(string(b))
	}
	if names, err := os.ReadDir(d.s.vault); err == nil {
		sample.names = len(names)
	}
	d.samples = append(d.samples, sample)
}

// medians are those of the samples that pick picks.
func (d *soakDaemon) medians(pick func(soakSample) bool) (m soakSample, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []soakSample
	for _, one := range d.samples {
		if pick(one) {
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return m, 0
	}
	middle := func(of func(soakSample) int) int {
		v := make([]int, len(all))
		for i := range all {
			v[i] = of(all[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return soakSample{
		rss: middle(func(s soakSample) int { return s.rss }), files: middle(func(s soakSample) int { return s.files }),
		runs: middle(func(s soakSample) int { return s.runs }), names: middle(func(s soakSample) int { return s.names }),
	}, len(all)
}

// judge compares the daemon that lived longest, early and late, and the first
// daemons with the last, at the same age.
func (d *soakDaemon) judge() {
	ages := map[int64]time.Duration{}
	for _, one := range d.samples {
		ages[one.life] = max(ages[one.life], one.age)
	}
	longest, last := int64(0), int64(0)
	for life, age := range ages {
		if age > ages[longest] {
			longest = life
		}
		last = max(last, life)
	}
	grew := func(what string, early, late soakSample, n, m int) {
		d.s.t.Logf("%s: early (%d samples) %v, late (%d) %v", what, n, early, m, late)
		if n == 0 || m == 0 {
			d.s.fail("%s: there are no samples to compare", what)
			return
		}
		// In its first minute a process takes what it will need.
		rss := early.rss*5/4 + 16<<10
		if d.s.length < 10*time.Minute {
			rss = 256 << 10
		}
		if late.rss > rss || late.files > early.files*3/2+16 || late.runs > early.runs*3/2+32 || late.names > early.names+8 {
			d.s.fail("%s: the daemon grows: %v early, %v late", what, early, late)
		}
	}
	age := ages[longest]
	early, n := d.medians(func(s soakSample) bool { return s.life == longest && s.age > age/5 && s.age < age*2/5 })
	late, m := d.medians(func(s soakSample) bool { return s.life == longest && s.age > age*4/5 })
	grew("the daemon that lived longest, "+age.Round(time.Second).String(), early, late, n, m)
	young := func(s soakSample) bool { return s.age > d.s.length/120 && s.age < d.s.length/20 }
	early, n = d.medians(func(s soakSample) bool { return young(s) && s.life <= (last+2)/3 })
	late, m = d.medians(func(s soakSample) bool { return young(s) && s.life > last*2/3 })
	grew("young daemons, first and last", early, late, n, m)
}

// String tells of the daemon that runs.
func (s soakSample) String() string {
	return fmt.Sprintf("%d KiB, %d descriptors, %d goroutines, %d names", s.rss, s.files, s.runs, s.names)
}

func (d *soakDaemon) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.samples) == 0 {
		return "no daemon yet"
	}
	return fmt.Sprintf("daemon %d: %v", d.life.Load(), d.samples[len(d.samples)-1])
}
