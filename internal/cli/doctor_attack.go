package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/attack"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
)

// attackRun is what `doctor --attack --json` prints.
type attackRun struct {
	Copied     *attack.Copied  `json:"copied,omitzero"` // absent: a vault without anything in it was attacked
	Results    []attack.Result `json:"results"`
	Attacks    int             `json:"attacks"`
	Variants   int             `json:"variants"`
	Failed     int             `json:"failed"`
	DurationMs int64           `json:"durationMs"`
}

// attack runs the attack suite against this very program and configuration:
// the daemon beside it, on a vault of its own in a directory that is gone
// afterwards, also after Ctrl-C, when the terminal goes, and when nobody reads
// what is printed any more.
func (o *Options) attack(ctx context.Context) error {
	running, giveUp := context.WithCancel(ctx)
	defer giveUp()
	if !signal.Ignored(syscall.SIGHUP) {
		running, giveUp = signal.NotifyContext(running, syscall.SIGHUP)
		defer giveUp()
	}
	// While somebody takes it, a pipe that nobody reads fails a write and does
	// not end this process. It comes of sockets too, and means nothing there.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	err := o.attackIn(running, giveUp)
	if running.Err() != nil {
		return exitStatus(api.ExitInterrupted)
	}
	return err
}

func (o *Options) attackIn(ctx context.Context, giveUp func()) (err error) {
	env, err := o.env()
	if err != nil {
		return err
	}
	started := o.Clock()
	dir, err := os.MkdirTemp("", fmt.Sprintf("aivault-attack-%d-", os.Getpid()))
	if err != nil {
		return api.Errorf(api.Internal, "doctor: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	target, stop, err := o.target(ctx, env, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	run := &attackRun{Results: []attack.Result{}}
	if run.Copied, err = o.copyTo(ctx, env, target); err != nil {
		return err
	}
	agent := filepath.Join(dir, "agent", "agent.sock")
	cfg := attack.Config{Socket: target.OwnSocket, AgentSocket: agent, Dir: target.Dir}
	if !o.JSON {
		o.attacking(run.Copied)
		cfg.Ended = func(r attack.Result) {
			if failed := o.printAttack(&r); failed != nil {
				err = errors.Join(err, failed)
				giveUp()
			}
		}
	}
	results, failed := attack.Run(ctx, cfg)
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	for _, r := range results {
		run.Results = append(run.Results, r)
		run.Attacks++
		run.Variants += r.Variants
		if !r.OK {
			run.Failed++
		}
	}
	run.DurationMs = o.Clock().Sub(started).Milliseconds()
	if o.JSON {
		err = o.printJSON(run)
	} else {
		err = o.print([]byte(run.summary()))
	}
	if err == nil && run.Failed > 0 {
		err = exitStatus(api.OutcomeOf(api.Internal).Exit)
	}
	return err
}

// target starts what is attacked. The process that is started beside this one
// is the one that a call would start; without a daemon it is this process.
func (o *Options) target(ctx context.Context, env daemon.Env, dir string) (target daemon.Env, stop func() error, err error) {
	agent := filepath.Join(dir, "agent", "agent.sock")
	target, err = daemon.ParseEnv([]string{"HOME=" + dir, "AIVAULT_DIR=" + filepath.Join(dir, "vault"), "AIVAULT_DISABLE_DISK_LOGS=1"})
	if err != nil {
		return target, nil, err
	}
	// A build that must not call while these are set is not asked to here.
	target.DevNames = env.DevNames
	if !env.Disable {
		cfg := client.Config{Env: target, Build: o.Build}
		// Nobody who gives up now may leave a daemon that is still starting: it
		// would make its directory again.
		if err := client.StartBeside(context.WithoutCancel(ctx), cfg, agent); err != nil {
			return target, nil, err
		}
		return target, func() error {
			_, err := client.StopDaemon(context.WithoutCancel(ctx), cfg)
			return err
		}, nil
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- daemon.Run(running, daemon.Config{Env: target, Build: o.Build, AgentSocket: agent, Ready: func() { close(ready) }})
	}()
	select {
	case <-ready:
		return target, func() error { cancel(); return <-ended }, nil
	case err := <-ended:
		cancel()
		return target, nil, err
	}
}

// copyTo copies the configuration of the user's own vault, if there is one and
// this user may list what is in it.
func (o *Options) copyTo(ctx context.Context, env, target daemon.Env) (done *attack.Copied, err error) {
	to, err := client.Connect(ctx, client.Config{Env: target, Build: o.Build})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := to.Init(ctx, api.KeyOptions{Provider: keysource.File}); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(env.Dir, "vault.aiv")); err != nil {
		return nil, nil
	}
	cfg, err := o.clientConfig()
	if err != nil {
		return nil, err
	}
	from, err := client.ConnectAsIs(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if !o.JSON {
		o.say("Copying your configuration into a vault of its own, every value a decoy.")
	}
	copied, err := attack.Copy(ctx, from, to)
	switch api.CodeOf(err) {
	case "":
		return &copied, nil
	case api.VaultLocked, api.VaultUnavailable, api.OperatorRequired:
		o.notice("your own vault cannot be listed (%s), so that a vault without anything in it is attacked", api.AsError(err).Message)
		return nil, nil
	}
	return nil, err
}

// attacking says what is about to happen.
func (o *Options) attacking(c *attack.Copied) {
	if c == nil {
		o.say("Attacking this program on a new vault of its own.")
		return
	}
	o.say("Attacking this program on a copy of your configuration, every value a decoy: %s, %s, %s, %s, %s, %s.",
		plural(c.Secrets, "secret", "secrets"), plural(c.Credentials, "credential", "credentials"), plural(c.Capabilities, "capability of your own", "capabilities of your own"),
		plural(c.Policies, "policy", "policies"), plural(c.Grants, "grant", "grants"), plural(c.Bindings, "binding", "bindings"))
	for _, what := range c.Left {
		o.notice("not in the copy: %s", what)
	}
}

// printAttack is a line for each attack, and below it what came through.
func (o *Options) printAttack(r *attack.Result) error {
	word := "ok  "
	if !r.OK {
		word = "FAIL"
	}
	text := fmt.Sprintf("%s  %-12s %-26s %6.2fs  %s\n", word, r.Class, r.ID, float64(r.DurationMs)/1000, oneLine(r.Outcome))
	for _, f := range r.Failures {
		text += "      " + oneLine(f) + "\n"
	}
	return o.print([]byte(text))
}

func (r *attackRun) summary() string {
	took := (time.Duration(r.DurationMs) * time.Millisecond).Round(100 * time.Millisecond)
	if r.Failed > 0 {
		return fmt.Sprintf("%d of %d attacks FAILED (%d requests, %s)\n", r.Failed, r.Attacks, r.Variants, took)
	}
	return fmt.Sprintf("All %d attacks came to nothing, and their honest twins were let through (%d requests, %s).\n", r.Attacks, r.Variants, took)
}
