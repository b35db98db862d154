package client

import (
	"cmp"
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/peer"
)

// Daemon is a running daemon as `daemon status` shows it.
type Daemon struct {
	Sockets []string
	PID     int
	Version string
	Started time.Time
}

// StartDaemon starts the user's own daemon in the background (see Connect)
// or returns the one that runs; started says which. It stays until it is
// stopped.
func StartDaemon(ctx context.Context, cfg Config) (d Daemon, started bool, err error) {
	if d, err := RunningDaemon(ctx, cfg); err == nil {
		return d, false, nil
	}
	if err := start(ctx, cfg, daemon.BackgroundFlag); err != nil {
		return Daemon{}, false, err
	}
	c, err := findOwn(ctx, cfg)
	if err != nil {
		return Daemon{}, false, err
	}
	if c != nil {
		err = errors.Join(c.sendEnvKey(ctx), c.Close())
	}
	if err != nil {
		return Daemon{}, false, err
	}
	d, err = RunningDaemon(ctx, cfg)
	return d, err == nil, err
}

// RunningDaemon returns the user's own daemon; daemon_unreachable when there is
// none.
func RunningDaemon(ctx context.Context, cfg Config) (Daemon, error) {
	none := api.Errorf(api.DaemonUnreachable, "no daemon runs for the vault %q", cfg.Env.Dir).WithHint("aivault daemon start")
	path := daemon.LockFile(cfg.Env.Dir)
	if _, err := os.Lstat(path); err != nil {
		return Daemon{}, none
	}
	lock, err := durable.TryAcquire(path)
	if err != nil {
		return Daemon{}, api.Errorf(api.DaemonUnreachable, "the daemon's lock cannot be read: %w", err)
	}
	if lock != nil {
		return Daemon{}, errors.Join(none, lock.Release())
	}
	r, ok := daemon.ReadRunning(cfg.Env.Dir)
	if !ok {
		return Daemon{}, api.Errorf(api.DaemonUnreachable, "a daemon is starting or stopping for the vault %q", cfg.Env.Dir)
	}
	return Daemon{Sockets: r.Sockets, PID: r.PID, Version: r.Version, Started: time.UnixMilli(r.StartedAtMs)}, nil
}

// stopPatience is longer than a daemon drains.
const stopPatience = 45 * time.Second

// StopDaemon asks the user's own daemon to drain and leave, and waits until
// its lock is free.
func StopDaemon(ctx context.Context, cfg Config) (Daemon, error) {
	d, err := RunningDaemon(ctx, cfg)
	if err != nil {
		return Daemon{}, err
	}
	pid, err := processOf(ctx, d)
	if err != nil {
		return d, err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return d, api.Errorf(api.Internal, "the daemon (pid %d) cannot be stopped: %w", pid, err)
	}
	waiting, cancel := context.WithTimeout(ctx, cmp.Or(cfg.stopPatience, stopPatience))
	defer cancel()
	lock, err := durable.Acquire(waiting, daemon.LockFile(cfg.Env.Dir))
	switch {
	case err == nil:
		return d, lock.Release()
	case ctx.Err() != nil:
		return d, ctx.Err()
	}
	return d, api.Errorf(api.Internal, "the daemon (pid %d) was asked to stop and still runs: %w", pid, err).WithHint("kill -KILL %d", pid)
}

// processOf is the daemon's process: as the kernel names it where it can be
// reached, else as it wrote into the lock that it holds.
func processOf(ctx context.Context, d Daemon) (int, error) {
	for _, path := range d.Sockets {
		conn, err := dial(ctx, path)
		if conn == nil || err != nil {
			continue
		}
		_, pid, err := peer.Listener(conn)
		_ = conn.Close()
		if err == nil && pid > 1 {
			if int(pid) != d.PID {
				return 0, api.Errorf(api.Internal, "pid %d listens at %q, but pid %d holds the vault's lock", pid, path, d.PID)
			}
			return d.PID, nil
		}
	}
	if d.PID <= 1 {
		return 0, api.Errorf(api.Internal, "the daemon's process is not known")
	}
	return d.PID, nil
}
