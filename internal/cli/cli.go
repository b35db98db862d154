// Package cli is the command line: it turns words into requests to the
// daemon, opens the files that a caller names, and prints what comes back. No
// rule of the product lives here: whatever the CLI checks, the daemon checks
// again, and anyone may speak to the socket without it.
//
// There is one file per command. Commands get everything from Options: the
// streams, the environment, the clock.
package cli

import (
	"context"
	"errors"
	"io"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/term"
)

// Options are what every command works with.
type Options struct {
	Stdin   io.Reader
	Out     io.Writer // results
	Err     io.Writer // notices and errors
	Environ []string
	Build   daemon.Build
	Clock   func() time.Time

	// JSON and Socket are the flags that every command has.
	JSON   bool
	Socket string

	help     helpWriter // of cobra's own texts
	stdinFor string     // the flag that standard input was read for
	started  bool       // the command line was understood
	style    term.Style
	parseEnv func() (daemon.Env, error) // once: a key arrives in a pipe
}

// Main runs one command line (without the program's name) of this process and
// returns its exit status. SIGINT and SIGTERM end the command with
// api.ExitInterrupted; a second one ends the process at once. readDev reads
// the development variables in a build that knows them.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string, version string, readDev func([]string) (*daemon.Dev, error)) int {
	daemon.Harden() // every command: a value may come in by a flag, a pipe or a prompt
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// Left to Go, these would print every stack with what its functions were
	// called with.
	ctx, quit := signal.NotifyContext(ctx, syscall.SIGQUIT, syscall.SIGABRT)
	defer quit()
	o := &Options{Stdin: stdin, Out: stdout, Err: stderr, Environ: environ, Clock: time.Now}
	o.init()
	if err := o.cleanse(args); err != nil {
		return o.fail(err)
	}
	dev, err := readDev(environ)
	if err != nil {
		return o.fail(err)
	}
	o.Build = daemon.NewBuild(version, dev)
	return o.Run(ctx, args)
}

// init prepares what follows from the fields that the caller set.
func (o *Options) init() {
	o.style = term.NewStyle(o.Err, lookup(o.Environ, "NO_COLOR"), lookup(o.Environ, "TERM"))
	if o.parseEnv == nil {
		o.parseEnv = sync.OnceValues(func() (daemon.Env, error) { return daemon.ParseEnv(o.Environ) })
	}
}

// cleanse starts this program again with a clean environment when it is about
// to open secrets itself; see daemon.Cleanse. An environment that cannot be
// parsed fails later, in the commands that need it.
func (o *Options) cleanse(args []string) error {
	env, err := o.env()
	if err != nil || !env.Disable && !opensItself(firstWord(args)) {
		return nil
	}
	return daemon.Cleanse(append(append(env.KeyNames(), namedVariables(args)...), backupVariables(args)...))
}

// opensItself says whether a command opens secrets in this process whatever
// AIVAULTD_DISABLE says.
func opensItself(command string) bool { return command == "demo" || command == "doctor" }

// firstWord is the command that args name.
func firstWord(args []string) string {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--socket":
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i]
		}
	}
	return ""
}

// namedVariables are the key variables that the command line names.
func namedVariables(args []string) []string {
	const flag = "--env-var"
	var names []string
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, flag+"="); ok {
			names = append(names, v)
		} else if a == flag && i+1 < len(args) {
			names = append(names, args[i+1])
		}
	}
	return names
}

// Run runs one command line and returns its exit status.
func (o *Options) Run(ctx context.Context, args []string) int {
	o.init()
	root := newRoot(o)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && o.help.err != nil {
		return o.fail(o.help.err)
	}
	if err == nil {
		return api.ExitOK
	}
	if ctx.Err() != nil {
		return api.ExitInterrupted
	}
	var silent exitStatus
	if errors.As(err, &silent) {
		return int(silent)
	}
	// A command line that could not be read has not set o.JSON.
	o.JSON = o.JSON || asksForJSON(args)
	return o.fail(o.usageError(cmd, err))
}

// helpWriter writes what cobra prints by itself: help and completions. Cobra
// drops the error of such a text, or prints it in a form of its own; here it
// is kept for Run.
type helpWriter struct {
	w   io.Writer
	err error
}

func (h *helpWriter) Write(p []byte) (int, error) {
	if h.err == nil {
		_, h.err = h.w.Write(p)
	}
	return len(p), nil
}

// exitStatus ends a command with a status that needs no words.
type exitStatus int

func (exitStatus) Error() string { return "" }

func asksForJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "-v") || slices.Contains(args, "--verbose")
}

// usageError gives cobra's own errors our form. Commands return *api.Error or
// errors of the system; what is left comes from reading the command line. A
// text that repeated the arguments could repeat a secret among them.
func (o *Options) usageError(cmd *cobra.Command, err error) error {
	var known *api.Error
	var flag *flagError
	switch {
	case errors.As(err, &known):
		if known.Code == api.InvalidRequest && known.Hint == "" && known.Message != neverPrints {
			return known.WithHint("%s", helpFor(cmd))
		}
		return err
	case errors.As(err, &flag):
		return api.Errorf(api.InvalidRequest, "%s", flag.text()).WithHint("%s", helpFor(cmd))
	case !o.started:
		return api.Errorf(api.InvalidRequest, "%s does not take these arguments", cmd.CommandPath()).WithHint("%s", helpFor(cmd))
	}
	return err
}

// helpFor is the command that explains cmd.
func helpFor(cmd *cobra.Command) string {
	if cmd == nil || !cmd.HasParent() {
		return "aivault help"
	}
	return "aivault help " + cmd.CommandPath()[len(cmd.Root().Name())+1:]
}

// flagError is a command line that pflag refused.
type flagError struct{ err error }

func (e *flagError) Error() string { return e.text() }

func (e *flagError) text() string {
	var missing *pflag.NotExistError
	var needs *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(e.err, &missing):
		if missing.GetSpecifiedShortnames() != "" {
			return "unknown flag -" + term.Line(missing.GetSpecifiedName())
		}
		return "unknown flag --" + term.Line(missing.GetSpecifiedName())
	case errors.As(e.err, &needs):
		if needs.GetSpecifiedShortnames() != "" {
			return "flag -" + needs.GetSpecifiedName() + " needs a value"
		}
		return "flag --" + needs.GetSpecifiedName() + " needs a value"
	case errors.As(e.err, &invalid):
		return "flag --" + invalid.GetFlag().Name + " cannot be " + term.Line(invalid.GetValue()) +
			": it takes " + kindOf(invalid.GetFlag())
	}
	return "the flags cannot be read"
}

// kindOf says in words what values a flag takes.
func kindOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int", "int64", "uint32", "uint64":
		return "a whole number"
	case "duration":
		return "a duration, such as 30s or 8h"
	case "bool":
		return "true or false"
	}
	return "a " + f.Value.Type()
}

// env is the parsed environment; a command that needs none never asks, and
// works whatever stands there.
func (o *Options) env() (daemon.Env, error) { return o.parseEnv() }

func (o *Options) clientConfig() (client.Config, error) {
	env, err := o.env()
	if err != nil {
		return client.Config{}, err
	}
	return client.Config{
		Env: env, Build: o.Build, Socket: o.Socket,
		Unlock: o.askToUnlock,
		Notice: func(line string) { o.notice("%s", line) },
	}, nil
}

// connect finds the daemon, or starts it.
func (o *Options) connect(ctx context.Context) (*client.Client, error) {
	cfg, err := o.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.Connect(ctx, cfg)
}

// withClient connects, does what do says, and closes the connection.
func (o *Options) withClient(ctx context.Context, do func(c *client.Client) error) error {
	c, err := o.connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

func lookup(environ []string, name string) string {
	v, _ := lookupSet(environ, name)
	return v
}

// lookupSet returns the last value of name, as a shell would see it.
func lookupSet(environ []string, name string) (value string, set bool) {
	for _, e := range slices.Backward(environ) {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return e[len(name)+1:], true
		}
	}
	return "", false
}
