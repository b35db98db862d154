package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/strictjson"
)

// startPatience is how long a daemon may take until it answers.
const startPatience = 15 * time.Second

// start starts the user's own daemon, and returns when it answers. Of several
// processes that want one at once, one starts it and the others wait.
func start(ctx context.Context, cfg Config, kind string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	run := filepath.Dir(cfg.Env.OwnSocket)
	if err := durable.MkdirAll(run); err != nil {
		return api.Errorf(api.DaemonUnreachable, "no daemon runs, and its directory cannot be made: %w", err)
	}
	lock, err := durable.Acquire(ctx, filepath.Join(run, "start.lock"))
	if err != nil {
		return api.Errorf(api.DaemonUnreachable, "no daemon runs, and one cannot be started: %w", err)
	}
	defer lock.Release()
	if conn, err := dial(ctx, cfg.Env.OwnSocket); conn != nil || err != nil {
		if conn != nil {
			_ = conn.Close() // another process was faster
		}
		return err
	}
	file, err := daemonFile(cfg)
	if err != nil {
		return err
	}
	return launch(ctx, cfg, file, kind)
}

// StartBeside starts the aivaultd beside this program on the vault that cfg
// names, as Connect would, with a second socket on which nobody is operator.
// It leaves when it is idle; StopDaemon ends it sooner.
func StartBeside(ctx context.Context, cfg Config, agentSocket string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	file, err := daemonFile(cfg)
	if err != nil {
		return err
	}
	return launch(ctx, cfg, file, daemon.AutostartFlag, "--agent-socket", agentSocket)
}

// daemonFile is the aivaultd beside this program's own file, links resolved,
// and no other: PATH has no say in who gets the keys.
func daemonFile(cfg Config) (string, error) {
	if cfg.daemonFile != "" {
		return cfg.daemonFile, nil
	}
	own, err := os.Executable()
	if err == nil {
		own, err = filepath.EvalSymlinks(own)
	}
	if err != nil {
		return "", api.Errorf(api.DaemonUnreachable, "this program's own file cannot be found: %w", err)
	}
	path := filepath.Join(filepath.Dir(own), "aivaultd")
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return "", api.Errorf(api.DaemonUnreachable, "no daemon runs, and there is no %q to start", path).
			WithHint("install aivaultd beside aivault, or set AIVAULTD_DISABLE=1 to work without a daemon")
	}
	return path, nil
}

// launch runs the daemon in a session of its own with nothing of this
// process's but a pipe, on which it says that it is ready or why it is not.
func launch(ctx context.Context, cfg Config, file string, args ...string) error {
	failed := func(err error) error {
		return api.Errorf(api.DaemonUnreachable, "the daemon %q cannot be started: %w", file, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return failed(err)
	}
	defer r.Close()
	if err := inheritNothing(); err != nil {
		return failed(errors.Join(err, w.Close()))
	}
	cmd := &exec.Cmd{
		Path:        file,
		Args:        append([]string{file}, args...),
		Env:         cfg.Env.ForDaemon(),
		Dir:         "/",
		ExtraFiles:  []*os.File{w}, // standard input and outputs: /dev/null
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = daemon.WithoutRights(cmd.Start)
	_ = w.Close()
	if err != nil {
		return failed(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadBytes('\n')
	var said daemon.Readiness
	if err == nil {
		err = strictjson.Unmarshal(line, &said)
	}
	if err == nil && said.Ready {
		return cmd.Process.Release()
	}
	if ctx.Err() != nil {
		_ = cmd.Process.Release()
		return api.Errorf(api.DaemonUnreachable, "the daemon was started and does not answer").WithHint("aivault daemon logs")
	}
	_ = cmd.Wait()
	if err != nil || said.Error == nil {
		return api.Errorf(api.DaemonUnreachable, "the daemon ended before it was ready: %s", cmd.ProcessState).WithHint("run %s to see why", file)
	}
	if said.Error.Code == api.AlreadyExists {
		// Somebody started one by another way in the same moment.
		if conn, err := dial(ctx, cfg.Env.OwnSocket); conn != nil && err == nil {
			return conn.Close()
		}
	}
	return said.Error
}
