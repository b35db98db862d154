package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

const usage = `aivaultd owns an aivault vault and makes calls for those who hold no key.

Usage: aivaultd [--socket PATH] [--agent-socket PATH] [--shared]
                [--audit-durability batch|sync] [--audit-retention DURATION] [--version]

  --socket PATH        listen at PATH too (default: AIVAULTD_SOCKET)
  --agent-socket PATH  listen at PATH too, where nobody is operator
  --shared             listen at this system's shared socket too
  --audit-durability batch|sync
                       sync: every record of the audit log is on disk before
                       what it records happens; batch (default): within 50 ms
  --audit-retention DURATION
                       remove parts of the audit log that are older, such as
                       90d or 2160h (default: keep all)
  --version            print version, commit and Go version

It always listens at the user's own socket. It stays in the foreground until
it gets SIGTERM or SIGINT; then it finishes the calls that run, for 30 seconds
at most. A second signal ends them.
`

// Main is aivaultd: it returns the exit status. readDev reads the development
// variables of a build that knows them, and is nil-safe for one that does not.
func Main(args []string, version string, readDev func(environ []string) (*Dev, error), stdout, stderr io.Writer) int {
	Harden()
	cfg, done, err := parse(args[1:], stdout)
	if err != nil {
		return report(stderr, err)
	}
	if done == doneHelp {
		return api.ExitOK
	}
	if done == doneVersion {
		dev, _ := readDev(nil)
		fmt.Fprintf(stdout, "aivaultd %s\n", NewBuild(version, dev))
		return api.ExitOK
	}
	var ready *readiness
	if cfg.Autostarted || cfg.Background {
		ready = inheritedReadiness()
	} else {
		cfg.Console = stderr
	}
	err = start(&cfg, version, readDev, ready)
	if err != nil {
		ready.fail(err)
		return report(stderr, err)
	}
	return api.ExitOK
}

// start prepares the process and runs the daemon in it.
func start(cfg *Config, version string, readDev func([]string) (*Dev, error), ready *readiness) error {
	env, err := ParseEnv(os.Environ())
	if err != nil {
		return err
	}
	if err := Cleanse(env.KeyNames()); err != nil {
		return err
	}
	dev, err := readDev(os.Environ())
	if err != nil {
		return err
	}
	// Whatever this process makes is its user's alone, also where a library
	// forgets to say so.
	unix.Umask(0o077)
	debug.SetGCPercent(gcPercent)
	cfg.Env, cfg.Build, cfg.Ready = env, NewBuild(version, dev), ready.ok
	// The last two would print every goroutine's stack with what the functions
	// were called with, and end the process with calls under way.
	ctx, hurry, stop := untilSignal(syscall.SIGTERM, os.Interrupt, syscall.SIGQUIT, syscall.SIGABRT)
	defer stop()
	cfg.Hurry = hurry
	signal.Ignore(syscall.SIGHUP) // the terminal it was started from may go
	return Run(ctx, *cfg)
}

type done int

const (
	doneNothing done = iota
	doneHelp
	doneVersion
)

func parse(args []string, stdout io.Writer) (cfg Config, d done, err error) {
	f := flag.NewFlagSet("aivaultd", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("socket", "", func(v string) (err error) {
		v, err = socketFlag(v)
		cfg.Sockets = append(cfg.Sockets, v)
		return err
	})
	f.Func("agent-socket", "", func(v string) (err error) { cfg.AgentSocket, err = socketFlag(v); return err })
	f.BoolVar(&cfg.Shared, "shared", false, "")
	f.Func("audit-durability", "", func(v string) (err error) { cfg.Audit.Sync, err = durability(v); return err })
	f.Func("audit-retention", "", func(v string) (err error) { cfg.Audit.Retain, err = retention(v); return err })
	f.BoolVar(&cfg.Autostarted, AutostartFlag[2:], false, "")
	f.BoolVar(&cfg.Background, BackgroundFlag[2:], false, "")
	version := f.Bool("version", false, "")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err = io.WriteString(stdout, usage)
		return cfg, doneHelp, err
	case err != nil:
		return cfg, doneNothing, api.Errorf(api.InvalidRequest, "%w", err).WithHint("aivaultd --help")
	case f.NArg() > 0:
		return cfg, doneNothing, api.Errorf(api.InvalidRequest, "aivaultd takes no argument %q", f.Arg(0)).WithHint("aivaultd --help")
	case *version:
		return cfg, doneVersion, nil
	}
	return cfg, doneNothing, nil
}

func socketFlag(v string) (string, error) {
	if v == "" {
		return "", errors.New("a path is needed")
	}
	return filepath.Abs(v)
}

func durability(v string) (sync bool, err error) {
	if v != "batch" && v != "sync" {
		return false, errors.New("it is batch or sync")
	}
	return v == "sync", nil
}

// minRetention keeps a slip of the pen from emptying the log.
const minRetention = time.Hour

func retention(v string) (time.Duration, error) {
	d, err := api.ParseDuration(v)
	if err != nil || d < minRetention {
		return 0, errors.New("it is a duration of an hour or more, such as 90d or 2160h")
	}
	return d, nil
}

func report(stderr io.Writer, err error) int {
	e := api.AsError(err)
	fmt.Fprintf(stderr, "error: %s\n", e.Message)
	if e.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", e.Hint)
	}
	return api.OutcomeOf(e.Code).Exit
}

// How the CLI starts a daemon. Both kinds report on descriptor 3 that they are
// ready, or why they cannot be, and print nothing.
const (
	AutostartFlag  = "--autostarted" // leaves when idle
	BackgroundFlag = "--background"  // stays: a person asked for it
)

// readyFD is the first descriptor that a started process inherits.
const readyFD = 3

// Readiness is what a daemon that the CLI started tells it, once.
type Readiness struct {
	Ready bool       `json:"ready"`
	Error *api.Error `json:"error,omitzero"`
}

type readiness struct{ f *os.File }

// inheritedReadiness is nil when nobody waits: descriptor 3 is no pipe.
func inheritedReadiness() *readiness {
	var st unix.Stat_t
	if unix.Fstat(readyFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil
	}
	return &readiness{os.NewFile(readyFD, "readiness")}
}

func (r *readiness) ok()            { r.tell(Readiness{Ready: true}) }
func (r *readiness) fail(err error) { r.tell(Readiness{Error: api.AsError(err)}) }

func (r *readiness) tell(what Readiness) {
	if r == nil || r.f == nil {
		return
	}
	if b, err := strictjson.Marshal(what); err == nil {
		_, _ = r.f.Write(append(b, '\n'))
	}
	_ = r.f.Close()
	r.f = nil
}
