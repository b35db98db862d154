package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
)

// Config says how a daemon runs.
type Config struct {
	Env         Env
	Build       Build
	Sockets     []string  // --socket; besides the user's own, which is always there
	AgentSocket string    // --agent-socket
	Shared      bool      // --shared
	Autostarted bool      // the CLI started it: it leaves when idle
	Background  bool      // a person started it with the CLI: it stays
	Console     io.Writer // takes the log too; nil for a daemon in the background
	Clock       func() time.Time
	Argon2id    keysource.Argon2Params
	Audit       AuditOptions
	Ready       func()          // called once, when every socket answers; may be nil
	Hurry       context.Context // ends when what runs is to be waited for no longer; may be nil
}

const (
	readHeaderTimeout = 10 * time.Second
	keepAlive         = 2 * time.Minute
	maxHeader         = 64 << 10
)

// Run is the daemon: it returns when ctx ends or it was idle for long enough,
// after the calls that run have ended, or half a minute, or when cfg.Hurry ends.
func Run(ctx context.Context, cfg Config) (err error) {
	log, closeLog := openLog(cfg.Env, cfg.Console)
	defer func() { err = errors.Join(err, closeLog()) }()
	lock, err := acquireVault(ctx, cfg.Env.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()

	var quiet *idle
	memory := newTrimmer(freeMemory)
	defer memory.stop()
	status := &api.DaemonStatus{Socket: cfg.Env.OwnSocket, PID: os.Getpid(), Version: cfg.Build.Version}
	inst, err := New(Options{
		Env: cfg.Env, Build: cfg.Build, Daemon: status, Clock: cfg.Clock, Argon2id: cfg.Argon2id, Log: log, Audit: cfg.Audit,
		Busy: func(delta int) {
			quiet.busy(delta)
			if delta < 0 {
				memory.served()
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inst.Close()) }()
	quiet = newIdle(idleAfter(cfg), func() bool { return inst.needed(context.WithoutCancel(ctx)) })
	defer quiet.stop()

	if calls, err := inst.Recover(ctx); err != nil || calls > 0 {
		log.Warn("calls of a process that was killed have an unknown outcome", "calls", calls, "error", err)
	}
	sockets, err := openAll(socketsOf(cfg))
	if err != nil {
		return err
	}
	status.Socket, status.Shared = named(sockets), isShared(sockets)
	return serve(ctx, cfg, inst, sockets, lock, quiet, log)
}

// serve answers on sockets until it is time to leave.
func serve(ctx context.Context, cfg Config, inst *Instance, sockets []*socket, lock *vaultLock, quiet *idle, log *slog.Logger) error {
	served := &requests{next: inst.Handler}
	srv := &http.Server{
		Handler:           served,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withCaller,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // it repeats what peers send
	}
	srv.RegisterOnShutdown(inst.Leave)
	door := newDoor()
	var wg sync.WaitGroup
	gates := make([]*gate, len(sockets))
	for i, s := range sockets {
		gates[i] = newGate(s, door)
		wg.Go(func() { _ = srv.Serve(gates[i]) }) // ends with the gate
	}
	stop := func(after time.Duration) error {
		err := leave(srv, served, after, cfg.Hurry)
		for _, g := range gates { // a gate that Serve never saw
			_ = g.Close()
		}
		wg.Wait()
		return err
	}
	running := Running{PID: os.Getpid(), Version: cfg.Build.Version, StartedAtMs: time.Now().UnixMilli()}
	for _, s := range sockets {
		running.Sockets = append(running.Sockets, s.Path)
	}
	if err := lock.announce(running); err != nil {
		return errors.Join(err, stop(0))
	}
	if err := inst.UnlockFromEnv(ctx); err != nil {
		log.Warn("the key in the environment does not open the vault", "code", string(api.CodeOf(err)))
	}
	log.Info("started", "version", cfg.Build.Version, "pid", os.Getpid(), "sockets", running.Sockets)
	if cfg.Ready != nil {
		cfg.Ready()
	}
	why := "idle"
	select {
	case <-ctx.Done():
		why = "asked to"
	case <-quiet.done:
	}
	log.Info("leaving", "why", why)
	err := stop(drainFor)
	log.Info("left")
	return err
}

func idleAfter(cfg Config) time.Duration {
	switch {
	case !cfg.Autostarted:
		return 0
	case cfg.Env.DirSet:
		return idleOther
	}
	return idleOwn
}

// sharedMode lets the group in: a socket for other users that they cannot
// reach would be of no use.
const sharedMode = fs.FileMode(0o660)

// socketsOf lists where a daemon listens, each path once: first the ones it
// was given, then the user's own, which is always among them. The modes of the
// environment are those of the sockets it was given, or else of the user's own.
func socketsOf(cfg Config) []Socket {
	e := cfg.Env
	given := cfg.Sockets
	if len(given) == 0 && e.SocketSet {
		given = []string{e.Socket}
	}
	open := e.SocketMode
	if open == defaultMode {
		open = sharedMode
	}
	own := Socket{Path: e.OwnSocket, Mode: defaultMode, DirMode: defaultDir}
	if len(given) == 0 && !cfg.Shared && cfg.AgentSocket == "" {
		own.Mode, own.DirMode = e.SocketMode, e.SocketDirMode
	}
	var all []Socket
	add := func(s Socket) {
		if !slices.ContainsFunc(all, func(have Socket) bool { return have.Path == s.Path }) {
			all = append(all, s)
		}
	}
	if cfg.AgentSocket != "" { // first: a path that is given twice has no operators
		add(Socket{Path: cfg.AgentSocket, Mode: open, DirMode: e.SocketDirMode, Agent: true})
	}
	for _, p := range given {
		add(Socket{Path: p, Mode: e.SocketMode, DirMode: e.SocketDirMode})
	}
	if cfg.Shared {
		add(Socket{Path: e.SharedSocket, Mode: open, DirMode: e.SocketDirMode})
	}
	add(own)
	return all
}

// named is the socket that a status shows: the first on which there are
// operators.
func named(sockets []*socket) string {
	for _, s := range sockets {
		if !s.Agent {
			return s.Path
		}
	}
	return sockets[0].Path
}

func isShared(sockets []*socket) bool {
	return slices.ContainsFunc(sockets, func(s *socket) bool { return s.Agent || s.Mode&0o070 != 0 })
}

// openAll listens everywhere or nowhere.
func openAll(wanted []Socket) ([]*socket, error) {
	var open []*socket
	for _, s := range wanted {
		made, err := listen(s)
		if err != nil {
			for _, o := range open {
				o.remove()
				_ = o.Close()
			}
			return nil, err
		}
		open = append(open, made)
	}
	return open, nil
}
