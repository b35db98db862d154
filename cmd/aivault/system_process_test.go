//go:build system

package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests are another process of the same user, and one of another user,
// that tries to get at the memory of a process which holds keys. Each step is
// tried on an unprotected process too, where it has to succeed: else it would
// prove nothing.

// prober is this test's binary as a program that any user may run.
func (m *machine) prober() string {
	m.t.Helper()
	self, err := os.Executable()
	must(m.t, err)
	path := filepath.Join(m.dir, "prober")
	if _, err := os.Stat(path); err != nil {
		m.root("cp", self, path)
		must(m.t, os.Chmod(path, 0o755))
	}
	return path
}

// A step is one way to get at another process's memory, or at what else is its
// own. It says what it got, and fails where it is refused.
type step struct {
	name string
	try  func(pid int) ([]byte, error)
}

// steps are all of them. Those that read memory return all of it.
func steps() []step {
	proc := func(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	file := func(name string) step {
		return step{name, func(pid int) ([]byte, error) {
			b, err := os.ReadFile(proc(pid, name))
			if err == nil && len(b) == 0 {
				err = errors.New("it is empty") // so reads what belongs to a process that is gone
			}
			return b, err
		}}
	}
	link := func(name string) step {
		return step{name, func(pid int) ([]byte, error) { s, err := os.Readlink(proc(pid, name)); return []byte(s), err }}
	}
	dir := func(name string) step {
		return step{name, func(pid int) ([]byte, error) { l, err := os.ReadDir(proc(pid, name)); return fmt.Append(nil, l), err }}
	}
	traced := func(attach func(pid int) error) func(pid int) ([]byte, error) {
		return func(pid int) ([]byte, error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := attach(pid); err != nil {
				return nil, err
			}
			return nil, syscall.PtraceDetach(pid)
		}
	}
	return []step{
		file("environ"), file("maps"), file("smaps"), file("auxv"), file("io"), file("syscall"),
		link("cwd"), link("exe"), link("root"), link("fd/0"), dir("fd"), dir("map_files"),
		{"mem", func(pid int) ([]byte, error) {
			f, err := os.Open(proc(pid, "mem"))
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return readAll(pid, func(b []byte, at uint64) (int, error) { return f.ReadAt(b, int64(at)) })
		}},
		{"process_vm_readv", func(pid int) ([]byte, error) {
			return readAll(pid, func(b []byte, at uint64) (int, error) {
				local := unix.Iovec{Base: &b[0]}
				local.SetLen(len(b))
				return unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
			})
		}},
		{"PTRACE_ATTACH", traced(func(pid int) error {
			if err := syscall.PtraceAttach(pid); err != nil {
				return err
			}
			var ws syscall.WaitStatus
			_, err := syscall.Wait4(pid, &ws, syscall.WALL, nil)
			return err
		})},
		{"PTRACE_SEIZE", func(pid int) ([]byte, error) {
			// The thread ends, and with it what it traces is let go.
			done := make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, 0x4206, uintptr(pid), 0, 0, 0, 0)
				if errno != 0 {
					done <- errno
					return
				}
				done <- nil
			}()
			return nil, <-done
		}},
		{"pidfd_getfd", func(pid int) ([]byte, error) {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return nil, err
			}
			defer unix.Close(fd)
			stolen, err := unix.PidfdGetfd(fd, 0, 0)
			if err == nil {
				unix.Close(stolen)
			}
			return nil, err
		}},
	}
}

// readAll reads what can be written of a process's memory: keys are there. The
// list of mappings is another thing, and may be closed: then it is enough to
// ask for any address, for what is refused is not the address.
func readAll(pid int, read func(b []byte, at uint64) (int, error)) ([]byte, error) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil || len(list) == 0 {
		_, err := read(make([]byte, 16), 0x400000)
		return nil, err
	}
	var all []byte
	for line := range strings.Lines(string(list)) {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") || to-from > 64<<20 {
			continue
		}
		b := make([]byte, to-from)
		n, _ := read(b, from)
		all = append(all, b[:max(n, 0)]...)
	}
	return all, nil
}

// probed is what a prober reports of a step.
type probed struct {
	Err   string
	Bytes int
	Decoy bool // what it got holds the decoy
}

// TestProbeHelper is the prober: it tries every step on a process.
func TestProbeHelper(t *testing.T) {
	pid, err := strconv.Atoi(os.Getenv("AIVAULT_TEST_PROBE"))
	if err != nil {
		return
	}
	out := map[string]probed{}
	for _, s := range steps() {
		got, err := s.try(pid)
		p := probed{Bytes: len(got), Decoy: bytes.Contains(got, []byte(decoy))}
		if err != nil {
			p.Err = err.Error()
		}
		out[s.name] = p
	}
	b, err := json.Marshal(out)
	must(t, err)
	fmt.Printf("\nprobed %s\n", b)
}

// probe tries every step on a process, as a user.
func (m *machine) probe(who string, pid int) map[string]probed {
	m.t.Helper()
	r := m.as(who, []string{"AIVAULT_TEST_PROBE=" + strconv.Itoa(pid)}, m.prober(), "-test.run", "^TestProbeHelper$")
	var out map[string]probed
	for line := range strings.Lines(r.stdout) {
		if rest, ok := strings.CutPrefix(line, "probed "); ok {
			must(m.t, json.Unmarshal([]byte(rest), &out))
		}
	}
	if len(out) != len(steps()) {
		m.t.Fatalf("the prober said %+v", r)
	}
	return out
}

// closed demands that every step on a process fails.
func (m *machine) closed(what, who string, pid int) {
	m.t.Helper()
	if err := syscall.Kill(pid, 0); err != nil {
		m.t.Fatalf("%s is gone: %v", what, err)
	}
	got := m.probe(who, pid)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch p := got[name]; {
		case p.Err == "":
			m.t.Errorf("%s: %s gets %d bytes by %s", what, who, p.Bytes, name)
		case !strings.Contains(p.Err, "permission denied") && !strings.Contains(p.Err, "not permitted"):
			m.t.Errorf("%s: %s fails by %s, but is not refused: %s", what, who, name, p.Err)
		}
	}
	if err := syscall.Kill(pid, 0); err != nil {
		m.t.Fatalf("%s did not live through it: %v", what, err)
	}
}

// TestVictimHelper is a process that holds the decoy as Go programs hold
// things, and protects nothing.
func TestVictimHelper(t *testing.T) {
	if os.Getenv("AIVAULT_TEST_VICTIM") == "" {
		return
	}
	held := []byte(strings.Repeat(os.Getenv("AIVAULT_TEST_VICTIM"), 2))
	// Where Yama restricts tracing to descendants, this one permits it.
	_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0)
	signal.Ignore(syscall.SIGHUP)
	fmt.Printf("\nvictim %d\n", os.Getpid())
	time.Sleep(time.Minute)
	runtime.KeepAlive(held)
}

// background runs a program as a user until the test ends, in a directory of
// its own, with core dumps allowed as far as its parent can, and returns what
// it writes.
func (m *machine) background(who string, env []string, argv ...string) (cmd *exec.Cmd, stdout io.Reader, stderr *bytes.Buffer, dir string) {
	m.t.Helper()
	dir, err := os.MkdirTemp(m.dir, "cwd")
	must(m.t, err)
	must(m.t, os.Chmod(dir, 0o777))
	ctx, cancel := context.WithCancel(context.Background())
	inner := m.command(ctx, who, env, append([]string{"sh", "-c", `cd "$0" && ulimit -c unlimited && exec "$@"`, dir}, argv...)...)
	cmd = exec.CommandContext(ctx, "prlimit", append([]string{"--core=unlimited:unlimited", "--"}, inner.Args...)...)
	cmd.Dir = "/"
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second // what it started may outlive it
	stdout, err = cmd.StdoutPipe()
	must(m.t, err)
	must(m.t, cmd.Start())
	m.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	return cmd, stdout, stderr, dir
}

// victim starts an unprotected process of a user.
func (m *machine) victim(who string) (pid int, cmd *exec.Cmd, stderr *bytes.Buffer, dir string) {
	m.t.Helper()
	cmd, stdout, stderr, dir := m.background(who, []string{"AIVAULT_TEST_VICTIM=" + decoy, "GOTRACEBACK=crash"}, m.prober(), "-test.run", "^TestVictimHelper$")
	line := make([]byte, 0, 64)
	for b := make([]byte, 1); ; {
		if _, err := stdout.Read(b); err != nil {
			m.t.Fatalf("the unprotected process: %v: %q", err, stderr)
		}
		line = append(line, b[0])
		if n, _ := fmt.Sscanf(strings.TrimSpace(string(line)), "victim %d", &pid); n == 1 && b[0] == '\n' {
			m.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			return pid, cmd, stderr, dir
		}
	}
}

// daemonPID is the process that holds the operator's vault.
func (m *machine) daemonPID() int {
	m.t.Helper()
	var status struct{ Daemon struct{ PID int } }
	must(m.t, json.Unmarshal([]byte(m.operator("status").stdout), &status))
	return status.Daemon.PID
}

func TestSystemMemoryOfTheDaemonIsClosed(t *testing.T) {
	m := newMachine(t)
	m.api.StepChat(true)
	m.startShared()
	pid := m.daemonPID()

	// Each step works where nothing protects: on a process of the same user.
	victim, _, _, _ := m.victim(operatorUser)
	for name, p := range m.probe(operatorUser, victim) {
		if p.Err != "" {
			t.Errorf("an unprotected process is closed to %s, which proves nothing then: %s", name, p.Err)
		}
		if (name == "mem" || name == "process_vm_readv" || name == "environ") && !p.Decoy {
			t.Errorf("%s of an unprotected process does not show what it holds", name)
		}
	}
	// And another user's steps work on that user's own.
	theirs, _, _, _ := m.victim(agentUser)
	for name, p := range m.probe(agentUser, theirs) {
		if p.Err != "" {
			t.Errorf("%s does not work for the agent on its own process: %s", name, p.Err)
		}
	}
	m.closed("an unprotected process of another user", agentUser, victim)

	for _, who := range []string{operatorUser, agentUser, otherUser} {
		m.closed("the daemon", who, pid)
	}

	// In the middle of a call, the value is in use.
	call := m.command(context.Background(), agentUser, append(m.dev(), m.shared()...),
		m.bin("dev", "aivault"), "invoke", "openai/chat-completions", "--stream", "--body", `{"model":"gpt-5.2","stream":true,"messages":[]}`)
	got, err := call.StdoutPipe()
	must(t, err)
	must(t, call.Start())
	defer func() { end(call, m.bin("dev", "aivault")) }()
	begun := make(chan error, 1)
	go func() { _, err := got.Read(make([]byte, 1)); begun <- err }()
	for streams := false; !streams; {
		m.api.Step() // those before the request came do not count
		select {
		case err := <-begun:
			must(t, err)
			streams = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, who := range []string{operatorUser, agentUser} {
		m.closed("the daemon in the middle of a call", who, pid)
	}
	m.everythingInForce(m.operator("status"))
}

// everythingInForce demands that a status shows all guards of the process.
func (m *machine) everythingInForce(r result) {
	m.t.Helper()
	var s struct {
		Strength string
		Process  *struct {
			Dumpable, CoreDumps, NoNewPrivs, LockedMemory, CleanEnv bool
			Note                                                    string
		}
	}
	must(m.t, json.Unmarshal([]byte(r.stdout), &s))
	p := s.Process
	if p == nil || p.Dumpable || p.CoreDumps || !p.NoNewPrivs || !p.LockedMemory || !p.CleanEnv || p.Note != "" {
		m.t.Errorf("in force is %+v", p)
	}
	if strings.Contains(s.Strength, "memory") || strings.Contains(s.Strength, "swapped") {
		m.t.Errorf("strength: %s", s.Strength)
	}
}

// The CLI holds keys where it has no daemon, and values while it takes them.
func TestSystemMemoryOfTheCLIIsClosed(t *testing.T) {
	m := newMachine(t)
	m.api.StepChat(true)
	av := m.bin("dev", "aivault")
	inside := append(m.dev(), "AIVAULTD_DISABLE=1")
	if r := m.as(operatorUser, inside, av, "secrets", "create", "--name", "OPENAI_API_KEY", "--value", decoy); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	m.everythingInForce(m.as(operatorUser, inside, av, "status", "--json"))

	run := func(env []string, args ...string) (pid int) {
		t.Helper()
		cmd := m.command(context.Background(), operatorUser, env, append([]string{av}, args...)...)
		in, err := cmd.StdinPipe() // stays open: the command waits for more
		must(t, err)
		_, err = io.WriteString(in, decoy[:8])
		must(t, err)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		must(t, cmd.Start())
		t.Cleanup(func() { end(cmd, av) })
		for range 500 {
			if pid := childRunning(cmd.Process.Pid, av); pid != 0 {
				return pid
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%v does not run", args)
		return 0
	}
	call := run(inside, "invoke", "openai/chat-completions", "--body", `{"model":"gpt-5.2","stream":true,"messages":[]}`)
	for range 500 {
		if len(m.api.Seen()) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(m.api.Seen()) == 0 {
		t.Fatal("the call does not reach the API")
	}
	m.closed("a call in-process", operatorUser, call)
	m.closed("a call in-process", agentUser, call)

	for _, env := range [][]string{inside, {"AIVAULTD_AUTOSTART=0"}} {
		typed := run(env, "secrets", "create", "--name", "SECOND", "--value-file", "-")
		time.Sleep(200 * time.Millisecond) // until it reads
		m.closed("a command that reads a value", operatorUser, typed)
		m.closed("a command that reads a value", agentUser, typed)
	}
}

// end ends a program that another one runs for us.
func end(cmd *exec.Cmd, program string) {
	if pid := childRunning(cmd.Process.Pid, program); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = cmd.Wait()
}

// childRunning is a descendant of a process, or itself, that runs a program.
func childRunning(pid int, program string) int {
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == program {
		return pid
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			if found := childRunning(n, program); found != 0 {
				return found
			}
		}
	}
	return 0
}

const corePattern = "/proc/sys/kernel/core_pattern"

// cores makes the kernel write cores into a directory, where it lets us, and
// else finds out where it writes them: beside the process, or nowhere that a
// test could look.
func (m *machine) cores() (find func(cwd string) []string) {
	m.t.Helper()
	dir := filepath.Join(m.dir, "cores")
	must(m.t, os.Mkdir(dir, 0o777))
	must(m.t, os.Chmod(dir, 0o777))
	old, err := os.ReadFile(corePattern)
	must(m.t, err)
	if os.WriteFile(corePattern, []byte(filepath.Join(dir, "core.%p")), 0) == nil {
		m.t.Cleanup(func() {
			if err := os.WriteFile(corePattern, bytes.TrimSpace(old), 0); err != nil {
				m.t.Errorf("%s is not what it was: %v", corePattern, err)
			}
		})
	} else {
		pattern := strings.TrimSpace(string(old))
		if strings.HasPrefix(pattern, "|") {
			m.t.Fatalf("cores go to %q, and %s cannot be changed here: no test can see them", pattern, corePattern)
		}
		if filepath.IsAbs(pattern) {
			dir = filepath.Dir(pattern)
		}
	}
	seen := map[string]bool{}
	return func(cwd string) (found []string) {
		for _, in := range []string{dir, cwd} {
			names, _ := filepath.Glob(filepath.Join(in, "*core*"))
			for _, n := range names {
				if !seen[n] {
					seen[n] = true
					found = append(found, n)
				}
			}
		}
		return found
	}
}

// coring are some of the signals whose default is to write a core.
func coring() []syscall.Signal {
	return []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGTRAP}
}

func TestSystemTheDaemonLeavesNoCore(t *testing.T) {
	m := newMachine(t)
	found := m.cores()
	if r := m.as(operatorUser, append(m.dev(), "AIVAULTD_DISABLE=1"), m.bin("dev", "aivault"), "secrets", "create", "--name", "OPENAI_API_KEY", "--value", decoy); r.exit != 0 {
		t.Fatalf("secrets create: %+v", r)
	}
	found("/") // what lay there before

	// An unprotected process writes one, with all that it held.
	dumped := 0
	for _, sig := range coring() {
		pid, cmd, _, cwd := m.victim(operatorUser)
		must(t, syscall.Kill(pid, sig))
		ended(pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		gone(t, cmd)
		for _, core := range found(cwd) {
			b, err := os.ReadFile(core)
			must(t, err)
			if bytes.Contains(b, []byte(decoy)) {
				dumped++
			}
			must(t, os.Remove(core))
		}
		if (sig == syscall.SIGQUIT || sig == syscall.SIGABRT || sig == syscall.SIGSEGV) && dumped == 0 {
			t.Fatalf("an unprotected process that gets %v leaves no core here: this proves nothing", sig)
		}
	}
	t.Logf("unprotected, %d of %d signals left a core with the decoy", dumped, len(coring()))

	for _, sig := range coring() {
		env := append(m.dev(), "AIVAULTD_SOCKET="+m.socket, "AIVAULTD_SOCKET_DIR_MODE=0750", "AIVAULTD_SOCKET_MODE=0660", "GOTRACEBACK=crash")
		cmd, _, stderr, cwd := m.background(operatorUser, env, m.bin("dev", "aivaultd"))
		m.answers()
		if r := m.operator("invoke", "openai/chat-completions", "--body", `{"model":"gpt-5.2","messages":[]}`); r.exit != 0 {
			t.Fatalf("%v: the call: %+v", sig, r)
		}
		pid := m.daemonPID()
		must(t, syscall.Kill(pid, sig))
		if !ended(pid) && (sig == syscall.SIGQUIT || sig == syscall.SIGABRT || sig == syscall.SIGSEGV) {
			t.Errorf("%v does not end the daemon", sig)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		gone(t, cmd)
		if cores := found(cwd); len(cores) != 0 {
			t.Errorf("the daemon that gets %v leaves %v", sig, cores)
		}
		if shows := decoyIn(stderr.Bytes()); shows != "" {
			t.Errorf("the daemon that gets %v says the secret, %s:\n%s", sig, shows, stderr)
		}
		if (sig == syscall.SIGQUIT || sig == syscall.SIGABRT) && strings.Contains(stderr.String(), "goroutine ") {
			t.Errorf("the daemon that gets %v prints its stacks:\n%s", sig, stderr)
		}
	}
}

// ended waits a while for a process to end by a signal: some that come from
// outside are no end to Go.
func ended(pid int) bool {
	for range 100 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(b, []byte(") Z ")) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// gone waits until a program has ended.
func gone(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
}

// decoyIn says in which form the decoy is in a text: as it is, in hex, or as
// the words that a stack's dump shows of what functions were called with.
func decoyIn(text []byte) string {
	b := []byte(decoy)
	for i := 0; i+8 <= len(b); i++ {
		if bytes.Contains(text, fmt.Appendf(nil, "%#x", binary.LittleEndian.Uint64(b[i:]))) {
			return "as a word of its bytes"
		}
	}
	switch {
	case bytes.Contains(text, b):
		return "as it is"
	case bytes.Contains(text, fmt.Appendf(nil, "%x", b)):
		return "in hex"
	}
	return ""
}

// answers waits until the shared socket does.
func (m *machine) answers() {
	m.t.Helper()
	for range 500 {
		if r := m.as(operatorUser, m.shared(), m.bin("dev", "aivault"), "status"); r.exit == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatal("the daemon does not answer")
}

// A key in the environment, a value from a file: neither is in the arguments
// or the environment of any process that aivault starts, at any time.
func TestSystemNoProcessShowsASecret(t *testing.T) {
	m := newMachine(t)
	const key = "MDEyMzQ1Njc4OWRlY295ZGVjb3lkZWNveTAxMjM0NTY=" // 32 bytes
	home := filepath.Join(m.dir, operatorUser)
	value := filepath.Join(home, "value")
	must(t, os.WriteFile(value, []byte(decoy), 0o600))
	m.root("chown", operatorUser, value)

	shown := make(chan string, 100)
	stop := make(chan struct{})
	looked := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			processes, _ := filepath.Glob("/proc/[0-9]*")
			for _, p := range processes {
				exe, err := os.Readlink(p + "/exe")
				if err != nil || !strings.HasPrefix(exe, m.bins) {
					continue
				}
				looked++
				environ, _ := os.ReadFile(p + "/environ")
				cmdline, _ := os.ReadFile(p + "/cmdline")
				if bytes.Contains(cmdline, []byte(decoy)) || bytes.Contains(environ, []byte(decoy)) ||
					// The shell gave the key to aivault itself: what aivault
					// starts must not have it.
					bytes.Contains(environ, []byte(key)) && !bytes.Contains(environ, []byte("PATH=")) {
					select {
					case shown <- fmt.Sprintf("%q with %q", cmdline, environ):
					default:
					}
				}
			}
		}
	}()
	av := m.bin("dev", "aivault")
	env := append(m.dev(), "AIVAULT_KEY="+key)
	for _, args := range [][]string{
		{"init", "--provider", "env"}, {"secrets", "create", "--name", "OPENAI_API_KEY", "--value-file", value},
		{"invoke", "openai/chat-completions", "--body", `{"model":"gpt-5.2","messages":[]}`}, {"rotate-master", "--provider", "env"},
		{"daemon", "stop"},
	} {
		for _, mode := range [][]string{nil, {"AIVAULTD_DISABLE=1"}} {
			_ = m.as(operatorUser, append(slices.Clone(env), mode...), append([]string{av}, args...)...)
		}
	}
	if n := len(m.api.Seen()); n == 0 {
		t.Error("no call went out: nothing was looked at")
	}
	close(stop)
	<-done
	if looked == 0 {
		t.Error("no process of aivault's was seen")
	}
	close(shown)
	for s := range shown {
		t.Errorf("it is shown: %s", s)
	}
}

// Where no memory may be locked, the daemon works, and says so.
func TestSystemNoMemoryMayBeLocked(t *testing.T) {
	m := newMachine(t)
	av, vaultd := m.bin("dev", "aivault"), m.bin("dev", "aivaultd")
	if r := m.as(operatorUser, append(m.dev(), "AIVAULTD_DISABLE=1"), av, "secrets", "create", "--name", "OPENAI_API_KEY", "--value", decoy); r.exit != 0 {
		t.Fatalf("secrets create: %+v", r)
	}
	env := append(m.dev(), "AIVAULTD_SOCKET="+m.socket, "AIVAULTD_SOCKET_DIR_MODE=0750", "AIVAULTD_SOCKET_MODE=0660")
	m.background(operatorUser, env, "prlimit", "--memlock=0:0", vaultd)
	m.answers()
	if r := m.operator("invoke", "openai/chat-completions", "--body", `{"model":"gpt-5.2","messages":[]}`); r.exit != 0 {
		t.Errorf("a call: %+v", r)
	}
	var s struct {
		Strength string
		Process  struct {
			LockedMemory bool
			Note         string
		}
	}
	must(t, json.Unmarshal([]byte(m.operator("status").stdout), &s))
	if s.Process.LockedMemory || !strings.Contains(s.Process.Note, "RLIMIT_MEMLOCK is 0 bytes") || !strings.Contains(s.Strength, "keys can be swapped to disk") {
		t.Errorf("it says %+v", s)
	}
	r := m.as(operatorUser, append(m.dev(), m.shared()...), av, "doctor")
	if r.exit != 1 || !strings.Contains(r.stdout, "process.locked: ") {
		t.Errorf("doctor: %+v", r)
	}
}
