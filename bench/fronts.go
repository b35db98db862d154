package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// aivault is an installation in a directory of its own, calling the upstream
// as a custom provider with the operator's exceptions for loopback.
type aivault struct {
	*process
	env    []string
	dir    string
	flags  []string // of aivaultd
	socket string
	invoke []string // the measured call as a command
}

// startAivault makes it in dir; flags are aivaultd's.
func startAivault(ctx context.Context, p plan, dir, upstream, ca string, flags ...string) (*aivault, error) {
	vault := filepath.Join(dir, "vault")
	av := &aivault{
		flags:  flags,
		env:    []string{"HOME=" + dir, "AIVAULT_DIR=" + vault, "AIVAULT_DISABLE_DISK_LOGS=1", "PATH=" + os.Getenv("PATH")},
		dir:    vault,
		socket: filepath.Join(vault, "run", "aivaultd.sock"),
		invoke: []string{p.aivault, "invoke", "bench/all", "-X", "POST", "--path", "/v1/item", "--body", prompt},
	}
	for _, c := range []struct {
		stdin string
		args  []string
	}{
		{"bench-0123456789abcdef", []string{"secrets", "create", "--name", "BENCH_KEY", "--value-file", "-"}},
		{"", []string{"credential", "create", "bench", "--provider", "bench", "--secret", "BENCH_KEY", "--auth", "header", "--host", upstream,
			"--ca-file", ca, "--allow-private-network", "--allow-port", portOf(upstream)}},
		{"", []string{"capability", "create", "bench/all", "--provider", "bench", "--method", "GET", "--method", "POST", "--path", "/v1"}},
	} {
		if _, err := run(ctx, append(av.env, "AIVAULTD_DISABLE=1"), c.stdin, p.aivault, c.args...); err != nil {
			return nil, err
		}
	}
	return av, av.startByHand(ctx, p)
}

// startByHand starts the daemon as a person would, after stopping one that
// may run.
func (av *aivault) startByHand(ctx context.Context, p plan) error {
	if err := av.halt(ctx, p); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.aivault), "aivaultd"), av.flags...)
	cmd.Env = av.env
	if err := cmd.Start(); err != nil {
		return err
	}
	av.process = &process{cmd: cmd}
	return waitFor(av.socket)
}

// logged counts the events in the audit log.
func (av *aivault) logged(ctx context.Context, p plan) (int, error) {
	out, err := run(ctx, append(av.env, "AIVAULTD_DISABLE=1"), "", p.aivault, "audit", "--limit", "1", "--json")
	if err != nil {
		return 0, err
	}
	var list struct{ Records []struct{ Seq int } }
	if err := json.Unmarshal(out, &list); err != nil {
		return 0, err
	}
	if len(list.Records) != 1 {
		return 0, errors.New("the audit log is empty")
	}
	return list.Records[0].Seq, nil
}

// halt leaves no daemon behind, so that the next call starts one.
func (av *aivault) halt(ctx context.Context, p plan) error {
	if av.process != nil {
		av.process.stop()
		av.process = nil
		return nil
	}
	if _, err := os.Stat(av.socket); err != nil {
		return nil
	}
	_, err := run(ctx, av.env, "", p.aivault, "daemon", "stop")
	return err
}

// startNginx starts nginx with one header set, where it is installed.
func startNginx(ctx context.Context, dir, upstream, ca string) (*process, string, error) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		fmt.Println("(nginx is not installed: no row for it)")
		return nil, "", nil
	}
	socket := filepath.Join(dir, "nginx.sock")
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; user root;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 1000000;
  upstream api { server %[2]s; keepalive 64; keepalive_requests 1000000; }
  server {
    listen unix:%[3]s;
    location / {
      proxy_pass https://api; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; proxy_set_header Authorization "Bearer bench-0123456789abcdef";
      proxy_ssl_verify on; proxy_ssl_trusted_certificate %[4]s; proxy_ssl_name example.com; proxy_ssl_session_reuse on;
    }
  }
}
`, dir, upstream, socket, ca)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, nginx, "-c", conf, "-p", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	return &process{cmd: cmd}, socket, waitFor(socket)
}

// firstChild finds nginx's one worker, which does the work.
func firstChild(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) == 0 {
		return 0, fmt.Errorf("process %d has no child", pid)
	}
	return strconv.Atoi(f[0])
}
