package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a server that bench started.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	says  []string
}

// startRole starts this binary in a role and reads the lines it announces.
func startRole(ctx context.Context, role string, lines int, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: in}
	sc := bufio.NewScanner(out)
	for range lines {
		if !sc.Scan() {
			return nil, fmt.Errorf("%s did not start", role)
		}
		p.says = append(p.says, sc.Text())
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	_ = p.cmd.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// run runs a command to its end and returns what it printed.
func run(ctx context.Context, env []string, stdin string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// load runs the load generator once.
func load(ctx context.Context, args ...string) (result, error) {
	var r result
	out, err := run(ctx, os.Environ(), "", "/proc/self/exe", append([]string{"load"}, args...)...)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// cpu is the processor time that a process and its threads used so far.
func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // USER_HZ is 100 on every Linux
}

// memory reads a field of /proc/PID/status in KiB, e.g. VmHWM or VmRSS.
func memory(pid int, field string) (int64, error) {
	return statusField(fmt.Sprintf("/proc/%d/status", pid), field)
}

func statusField(file, field string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, field)
}

// switches counts the context switches of a process's threads.
func switches(pid int) (int64, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, t := range tasks {
		for _, field := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			n, err := statusField(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name()), field)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// waitFor waits until a unix socket takes connections.
func waitFor(socket string) error {
	for range 500 {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", socket)
}
