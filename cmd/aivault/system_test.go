//go:build system

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/standin"
)

// These tests need root: they make OS users, namespaces and mounts. Root that
// is missing is a failure, not a skip: `make test-system` is where they run.

const (
	operatorUser = "aivault-t-op"
	agentUser    = "aivault-t-agent"
	otherUser    = "aivault-t-other"
	sharedGroup  = "aivault-t-share" // may open the socket
	agentsGroup  = "aivault-t-agents"
	decoy        = "sk-decoy-3f9c1e7a55d24b"
)

// machine is one host with an operator, an agent, a shared socket directory
// and both builds of the programs.
type machine struct {
	t      *testing.T
	dir    string // readable by everyone
	bins   string // release and dev builds
	socket string
	api    *standin.API
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the system tests need root; run make test-system")
	}
	dir, err := os.MkdirTemp("/tmp", "avsys")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	m := &machine{t: t, dir: dir, socket: filepath.Join(dir, "run", "aivaultd.sock")}

	for _, g := range []string{sharedGroup, agentsGroup} {
		m.root("groupadd", "-f", g)
	}
	for _, u := range []string{operatorUser, agentUser, otherUser} {
		if _, err := user.Lookup(u); err != nil {
			m.root("useradd", "--create-home", "--home-dir", filepath.Join(dir, u), "--shell", "/bin/sh", "--groups", sharedGroup, u)
		}
		t.Cleanup(func() {
			_ = exec.Command("pkill", "-KILL", "-u", u).Run()
			_ = exec.Command("userdel", "-f", u).Run()
		})
	}
	t.Cleanup(func() {
		_ = exec.Command("groupdel", sharedGroup).Run()
		_ = exec.Command("groupdel", agentsGroup).Run()
	})

	m.bins = build(t)
	// The agent runs them too, from where temporary files lie.
	for dir := m.bins; dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}

	// The shared directory as the setup page makes it: the operator's, with
	// the group let in.
	run := filepath.Dir(m.socket)
	must(t, os.Mkdir(run, 0o750))
	m.root("chown", operatorUser+":"+sharedGroup, run)
	must(t, os.Chmod(run, 0o750))

	m.api, err = standin.Start(nil, "api.openai.com", "api.github.com")
	must(t, err)
	t.Cleanup(m.api.Close)
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), m.api.CAPEM(), 0o644))
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) root(name string, args ...string) {
	m.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// result is how a program ended.
type result struct {
	stdout, stderr string
	exit           int
}

// as runs a command as a user, with a clean environment and what env adds.
func (m *machine) as(who string, env []string, args ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return finish(m.t, m.command(ctx, who, env, args...))
}

func (m *machine) command(ctx context.Context, who string, env []string, args ...string) *exec.Cmd {
	home := filepath.Join(m.dir, who)
	argv := append([]string{"-u", who, "--", "env", "-i", "HOME=" + home, "PATH=/usr/local/bin:/usr/bin:/bin"}, env...)
	if who == "root" {
		argv = append([]string{"-i", "HOME=/nonexistent", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin"}, env...)
		return exec.CommandContext(ctx, "env", append(argv, args...)...)
	}
	cmd := exec.CommandContext(ctx, "runuser", append(argv, args...)...)
	cmd.Dir = "/"
	return cmd
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func (m *machine) bin(build, prog string) string { return filepath.Join(m.bins, build, prog) }

// dev is the environment in which the stand-in plays the APIs.
func (m *machine) dev() []string {
	at := m.api.Addr().String()
	return []string{"AIVAULT_DEV_RESOLVE=api.openai.com=" + at + ",api.github.com=" + at, "AIVAULT_DEV_CA_CERT_PATH=" + filepath.Join(m.dir, "ca.pem")}
}

func (m *machine) shared() []string {
	return []string{"AIVAULTD_SOCKET=" + m.socket, "AIVAULTD_AUTOSTART=0"}
}

// startShared runs the operator's daemon on the shared socket, with one secret
// in its vault.
func (m *machine) startShared() *exec.Cmd {
	m.t.Helper()
	r := m.as(operatorUser, append(m.dev(), "AIVAULTD_DISABLE=1"), m.bin("dev", "aivault"), "secrets", "create", "--name", "OPENAI_API_KEY", "--value", decoy)
	if r.exit != 0 {
		m.t.Fatalf("secrets create: %+v", r)
	}
	return m.listen()
}

// listen runs the operator's daemon on the shared socket.
func (m *machine) listen() *exec.Cmd {
	m.t.Helper()
	env := append(m.dev(), "AIVAULTD_SOCKET="+m.socket, "AIVAULTD_SOCKET_DIR_MODE=0750", "AIVAULTD_SOCKET_MODE=0660")
	cmd := m.command(context.Background(), operatorUser, env, m.bin("dev", "aivaultd"))
	cmd.Stderr = os.Stderr
	must(m.t, cmd.Start())
	m.t.Cleanup(func() {
		_ = exec.Command("pkill", "-TERM", "-u", operatorUser, "aivaultd").Run()
		_ = cmd.Wait()
	})
	for range 200 {
		if c, err := net.Dial("unix", m.socket); err == nil {
			_ = c.Close()
			return cmd
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatal("the shared daemon did not start")
	return nil
}

func (m *machine) wantExit(r result, exit int, stderr string) {
	m.t.Helper()
	if r.exit != exit || !strings.Contains(r.stderr, stderr) {
		m.t.Errorf("exit %d, stderr %q; want exit %d and %q", r.exit, r.stderr, exit, stderr)
	}
	if strings.Contains(r.stdout+r.stderr, decoy) {
		m.t.Errorf("the secret is in the output: %q %q", r.stdout, r.stderr)
	}
}

func TestSystemAgentCallsButChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	av := m.bin("dev", "aivault")
	agent := func(args ...string) result {
		return m.as(agentUser, append(m.dev(), m.shared()...), append([]string{av}, args...)...)
	}

	r := agent("invoke", "openai/chat-completions", "--body", `{"model":"gpt-5.2","messages":[]}`)
	m.wantExit(r, 0, "")
	if seen := m.api.Seen(); len(seen) != 1 || seen[0].Header.Get("Authorization") != "Bearer "+decoy {
		t.Fatalf("the API saw %d requests, or not the key", len(seen))
	}
	for _, args := range [][]string{{"capability", "list"}, {"capability", "describe", "openai/chat-completions"}, {"status"}} {
		m.wantExit(agent(args...), 0, "")
	}
	short := agent("status", "--json")
	var status struct {
		Vault  struct{ Dir, State string }
		Key    *struct{ Provider string }
		Caller struct{ Operator bool }
	}
	if err := json.Unmarshal([]byte(short.stdout), &status); err != nil || status.Caller.Operator || status.Vault.Dir != "" || status.Key != nil || status.Vault.State != "unlocked" {
		t.Errorf("an agent's status: %v %s", err, short.stdout)
	}

	m.everyOperatorRouteIsRefused(agent)

	// What is refused to the agent is the operator's to do, on the same socket.
	op := m.as(operatorUser, append(m.dev(), "AIVAULTD_SOCKET="+m.socket, "AIVAULTD_AUTOSTART=0"), av, "secrets", "list")
	m.wantExit(op, 0, "")
	if !strings.Contains(op.stdout, "OPENAI_API_KEY") {
		t.Errorf("the operator's list: %s", op.stdout)
	}
	audit := m.as(operatorUser, append(m.dev(), "AIVAULTD_SOCKET="+m.socket, "AIVAULTD_AUTOSTART=0"), av, "audit", "--json")
	agentEntry, err := user.Lookup(agentUser)
	must(t, err)
	if !strings.Contains(audit.stdout, `"uid":`+agentEntry.Uid) && !strings.Contains(audit.stdout, `"uid": `+agentEntry.Uid) {
		t.Errorf("the audit log does not name the agent's uid %s:\n%s", agentEntry.Uid, audit.stdout)
	}
}

func TestSystemRootInAContainerIsNoOperator(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	list := []string{"env", "-i", "HOME=/nonexistent", "PATH=/usr/bin:/bin", "curl", "-sS", "--unix-socket", m.socket, "http://d/aivault/secrets"}

	// The twin: root outside of any container is the operator. It enters by
	// the socket's group, as in the cases below.
	groups := []string{"setpriv", "--groups", gid(t, sharedGroup), "--"}
	if r := finish(t, exec.Command(groups[0], append(groups[1:], list...)...)); !strings.Contains(r.stdout, "OPENAI_API_KEY") {
		t.Fatalf("root is no operator: %+v", r)
	}
	for name, argv := range map[string][]string{
		"agent in a user namespace":     {"runuser", "-u", agentUser, "--", "unshare", "--user", "--map-root-user"},
		"root in a user namespace":      append(groups, "unshare", "--user", "--map-root-user"),
		"root in a pid namespace":       {"unshare", "--pid", "--fork", "--mount-proc"},
		"operator in a user namespace":  {"runuser", "-u", operatorUser, "--", "unshare", "--user", "--map-root-user"},
		"operator in a pid namespace":   {"runuser", "-u", operatorUser, "--", "unshare", "--user", "--map-root-user", "--pid", "--fork"},
		"root in user and pid and more": append(groups, "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount", "--mount-proc"),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(argv[0], append(slices.Clone(argv[1:]), list...)...)
			cmd.Dir = "/"
			r := finish(t, cmd)
			var e struct{ Error string }
			if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || e.Error != "operator_required" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func gid(t *testing.T, name string) string {
	t.Helper()
	g, err := user.LookupGroup(name)
	must(t, err)
	return g.Gid
}

func TestSystemFilesAreOpenedByTheCaller(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	private := filepath.Join(m.dir, operatorUser, "private.txt")
	must(t, os.WriteFile(private, []byte("the operator's own words"), 0o600))
	m.root("chown", operatorUser, private)
	for _, args := range [][]string{
		{"--body-file", private}, {"--multipart-file", "f=" + private}, {"--request-file", private},
	} {
		r := m.as(agentUser, append(m.dev(), m.shared()...), append([]string{m.bin("dev", "aivault"), "invoke", "openai/chat-completions"}, args...)...)
		m.wantExit(r, 2, "permission denied")
	}
	if n := len(m.api.Seen()); n != 0 {
		t.Errorf("%d requests reached the API", n)
	}
}

// plant listens where it should not, as another user, and keeps what it hears.
func TestSystemPlantedSocketGetsNothing(t *testing.T) {
	const shared = "/var/run/aivault/aivaultd.sock"
	m := newMachine(t)
	if _, err := os.Stat(filepath.Dir(shared)); err == nil {
		t.Fatalf("%s exists already", filepath.Dir(shared))
	}
	must(t, os.MkdirAll(filepath.Dir(shared), 0o777))
	must(t, os.Chmod(filepath.Dir(shared), 0o777))
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(shared)) })

	heard := filepath.Join(m.dir, "heard")
	must(t, os.Mkdir(heard, 0o777))
	must(t, os.Chmod(heard, 0o777))
	self, err := os.Executable()
	must(t, err)
	must(t, os.Chmod(filepath.Dir(self), 0o755))
	planted := filepath.Join(m.dir, "planted.test")
	m.root("cp", self, planted)
	must(t, os.Chmod(planted, 0o755))
	cmd := m.command(context.Background(), agentUser, []string{"AIVAULT_TEST_PLANT=" + shared, "AIVAULT_TEST_HEARD=" + filepath.Join(heard, "bytes")}, planted, "-test.run", "^TestPlantHelper$")
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for i := 0; ; i++ {
		if c, err := net.Dial("unix", shared); err == nil {
			_ = c.Close()
			break
		} else if i == 200 {
			t.Fatal("the planted socket does not listen")
		}
		time.Sleep(20 * time.Millisecond)
	}

	av := m.bin("release", "aivault")
	for _, args := range [][]string{
		{"secrets", "create", "--name", "OPENAI_API_KEY", "--value", decoy},
		{"init", "--provider", "passphrase", "--passphrase", decoy},
		{"unlock", "--passphrase", decoy},
		{"status"},
	} {
		for _, env := range [][]string{nil, {"AIVAULTD_SOCKET=" + shared, "AIVAULTD_AUTOSTART=0"}} {
			_ = m.as(operatorUser, env, append([]string{av}, args...)...)
		}
		_ = m.as(operatorUser, nil, av, "daemon", "stop")
	}
	// The twin: a call, which carries no secret, may go where the caller says.
	_ = m.as(operatorUser, []string{"AIVAULTD_SOCKET=" + shared, "AIVAULTD_AUTOSTART=0"}, av, "invoke", "openai/models", "--path", "/v1/models/the-twin")
	b, err := os.ReadFile(filepath.Join(heard, "bytes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(decoy)) {
		t.Errorf("the planted socket heard the secret:\n%s", b)
	}
	if !bytes.Contains(b, []byte("the-twin")) {
		t.Errorf("the planted socket hears nothing at all, so this proves nothing: %q", b)
	}
}

// TestPlantHelper is the other process of TestSystemPlantedSocketGetsNothing.
func TestPlantHelper(t *testing.T) {
	path := os.Getenv("AIVAULT_TEST_PLANT")
	if path == "" {
		return
	}
	syscall.Umask(0)
	l, err := net.Listen("unix", path)
	must(t, err)
	out, err := os.Create(os.Getenv("AIVAULT_TEST_HEARD"))
	must(t, err)
	for {
		c, err := l.Accept()
		must(t, err)
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				_, _ = out.Write(buf[:n])
				if err != nil {
					return
				}
				if bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
					fmt.Fprint(c, "HTTP/1.1 200 OK\r\nAivault-Api: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				}
			}
		}()
	}
}

// A small file system fills up at every step of a write in turn.
func TestSystemFullDiskLeavesTheOldStateOrTheNew(t *testing.T) {
	m := newMachine(t)
	mnt := filepath.Join(m.dir, "small")
	must(t, os.Mkdir(mnt, 0o700))
	m.root("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", mnt)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", mnt).Run() })
	av := m.bin("release", "aivault")
	env := []string{"AIVAULT_DIR=" + filepath.Join(mnt, "v"), "AIVAULTD_DISABLE=1", "HOME=" + m.dir}
	aivault := func(args ...string) result { return m.as("root", env, append([]string{av}, args...)...) }
	if r := aivault("secrets", "create", "--name", "FIRST", "--value", decoy); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	names := func() map[string]bool {
		t.Helper()
		r := aivault("secrets", "list", "--json")
		var list struct{ Secrets []struct{ Name string } }
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.exit != 0 {
			t.Fatalf("the vault does not open: %+v", r)
		}
		all := map[string]bool{}
		for _, s := range list.Secrets {
			all[s.Name] = true
		}
		return all
	}
	failed, made := 0, map[string]bool{"FIRST": true}
	ballast := filepath.Join(mnt, "ballast")
	// Leave less and less room, so that each write of a change is the one
	// that finds the disk full.
	for room := 24 << 10; room >= 0; room -= 1 << 10 {
		_ = os.Remove(ballast)
		var st syscall.Statfs_t
		must(t, syscall.Statfs(mnt, &st))
		fill := int64(st.Bavail)*st.Bsize - int64(room)
		if fill > 0 {
			must(t, os.WriteFile(ballast, make([]byte, fill), 0o600))
		}
		name := fmt.Sprintf("KEY_%d", room>>10)
		r := aivault("secrets", "create", "--name", name, "--value", decoy)
		if r.exit == 0 {
			made[name] = true
		} else {
			failed++
			if strings.Contains(r.stdout+r.stderr, decoy) {
				t.Errorf("the secret is in an error: %+v", r)
			}
		}
		_ = aivault("rotate-master")
		_ = os.Remove(ballast)
		have := names()
		for n := range made {
			if !have[n] {
				t.Fatalf("with %d bytes of room: %s was created and is gone", room, n)
			}
		}
		if have[name] {
			made[name] = true // it failed after the vault was written: the new state
		}
	}
	if failed == 0 {
		t.Error("the disk was never full: the test proves nothing")
	}
	if r := aivault("secrets", "create", "--name", "LAST", "--value", decoy); r.exit != 0 {
		t.Errorf("after room was made: %+v", r)
	}
}

// The whole program is killed at random instants of its writes.
func TestSystemKilledWhileWriting(t *testing.T) {
	m := newMachine(t)
	av := m.bin("release", "aivault")
	env := []string{"AIVAULT_DIR=" + filepath.Join(m.dir, "killed"), "AIVAULTD_DISABLE=1", "HOME=" + m.dir}
	if r := m.as("root", env, av, "secrets", "create", "--name", "FIRST", "--value", decoy); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	kills := 0
	for i := range 100 {
		args := []string{av, "secrets", "create", "--name", fmt.Sprintf("KEY_%d", i), "--value", decoy}
		if i%4 == 3 {
			args = []string{av, "rotate-master"}
		}
		cmd := m.command(context.Background(), "root", env, args...)
		must(t, cmd.Start())
		time.Sleep(time.Duration(i*37%60) * time.Millisecond)
		if cmd.Process.Kill() == nil {
			kills++
		}
		_ = cmd.Wait()
		if r := m.as("root", env, av, "secrets", "list"); r.exit != 0 || !strings.Contains(r.stdout, "FIRST") {
			t.Fatalf("after kill %d: %+v", i, r)
		}
	}
	if kills == 0 {
		t.Error("nothing was killed in time")
	}
}

// Where the agent is another user, nothing of the daemon is open to it.
func TestSystemDaemonIsClosedToOtherUsers(t *testing.T) {
	m := newMachine(t)
	m.startShared()
	m.do("capability policy set openai/models --rate-limit-per-minute 5") // so that every file is there
	var status struct{ Daemon struct{ PID int } }
	must(t, json.Unmarshal([]byte(m.operator("status").stdout), &status))
	pid := strconv.Itoa(status.Daemon.PID)
	for _, f := range []string{"environ", "mem", "fd", "maps"} {
		r := m.as(agentUser, nil, "cat", "/proc/"+pid+"/"+f)
		if r.exit == 0 {
			t.Errorf("an agent reads /proc/PID/%s of the daemon", f)
		}
	}
	environ, err := os.ReadFile("/proc/" + pid + "/environ")
	must(t, err)
	if bytes.Contains(environ, []byte(decoy)) {
		t.Error("the secret is in the daemon's environment")
	}
	limits := false
	err = filepath.WalkDir(filepath.Join(m.dir, operatorUser, ".aivault"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		limits = limits || d.Name() == "limits"
		if d.Type() != fs.ModeSocket && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if bytes.Contains(b, []byte(decoy)) {
				t.Errorf("%s holds the secret in the clear", p)
			}
		}
		return nil
	})
	must(t, err)
	if !limits {
		t.Error("the file of limits is not there: it was not looked at")
	}
}
