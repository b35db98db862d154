package main_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/standin"
)

// A real aivault: a daemon in a process of its own, in front of an upstream of
// the test's.
type real struct {
	t      *testing.T
	bins   string
	home   string
	env    []string
	agents string // where nobody is operator
	daemon *exec.Cmd
	up     *standin.API
}

const realKey = "sk-real-0123456789abcdef"

// startReal starts a daemon with one secret, OPENAI_API_KEY.
func startReal(t *testing.T, upstream http.Handler) *real {
	t.Helper()
	r := &real{t: t, bins: filepath.Join(build(t), "dev")}
	var err error
	if r.up, err = standin.Start(upstream, "api.openai.com"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.up.Close)
	r.up.Record(false)
	if r.home, err = os.MkdirTemp("/tmp", "av"); err != nil { // short: a socket lies in it
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.home) })
	ca := filepath.Join(r.home, "ca.pem")
	if err := os.WriteFile(ca, r.up.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	r.env = []string{"HOME=" + r.home, "AIVAULTD_AUTOSTART=0", "AIVAULT_DEV_RESOLVE=api.openai.com=" + r.up.Addr().String(), "AIVAULT_DEV_CA_CERT_PATH=" + ca}
	r.agents = filepath.Join(r.home, "run/agents.sock")
	r.run(true, "secrets", "create", "--name", "OPENAI_API_KEY", "--value", realKey)
	r.launch()
	return r
}

func (r *real) launch() {
	r.t.Helper()
	r.daemon = exec.Command(filepath.Join(r.bins, "aivaultd"), "--agent-socket", r.agents)
	r.daemon.Env = r.env
	var said bytes.Buffer
	r.daemon.Stderr = &said
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	cmd := r.daemon
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for i := 0; ; i++ {
		if c, err := net.Dial("unix", r.agents); err == nil {
			_ = c.Close()
			return
		}
		if i == 500 {
			r.t.Fatalf("the daemon does not answer: %s", &said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run runs the CLI, by the daemon or in a process of its own.
func (r *real) run(inProcess bool, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(r.bins, "aivault"), args...)
	cmd.Env = r.env
	if inProcess {
		cmd.Env = append(slices.Clone(r.env), "AIVAULTD_DISABLE=1")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("aivault %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// client speaks to the daemon as an agent without the CLI does.
func (r *real) client() *http.Client {
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.agents)
	}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
