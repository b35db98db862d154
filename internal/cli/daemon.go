package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newDaemon(o *Options) *cobra.Command {
	cmd := newGroup("daemon", "Start, stop and look at your own daemon")
	cmd.Long = "The daemon owns the vault and makes the calls. The CLI starts it when it is needed, and one that\nthe CLI started leaves when it is idle; these commands are for everything else."
	cmd.AddCommand(
		daemonCommand(o, "start", "Start your daemon in the background", startDaemon),
		daemonCommand(o, "stop", "Let your daemon finish what runs, and end it", stopDaemon),
		newRestart(o),
		daemonCommand(o, "status", "Show your daemon's sockets, process and version", daemonStatus),
		newDaemonLogs(o),
	)
	return cmd
}

func newRestart(o *Options) *cobra.Command {
	cmd := daemonCommand(o, "restart", "Stop your daemon and start it again", restartDaemon)
	cmd.Long = "Stops your daemon and starts it again, with what this command's own environment says and without\naivaultd's flags. One that was started by hand or as a service with flags or socket modes of its own\nis restarted there: this would leave them out."
	return cmd
}

func daemonCommand(o *Options, name, short string, run func(context.Context, *Options, client.Config) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.clientConfig()
			if err != nil {
				return err
			}
			if cfg.Env.Disable {
				return api.Errorf(api.InvalidRequest, "AIVAULTD_DISABLE=1 is set: there is no daemon").WithHint("unset AIVAULTD_DISABLE")
			}
			return run(cmd.Context(), o, cfg)
		},
	}
}

// daemonInfo is what the daemon commands print with --json.
type daemonInfo struct {
	State       string   `json:"state"` // running, started, stopped
	Sockets     []string `json:"sockets"`
	PID         int      `json:"pid"`
	Version     string   `json:"version"`
	StartedAtMs int64    `json:"startedAtMs,omitzero"`
}

func (o *Options) printDaemon(state string, d client.Daemon) error {
	info := daemonInfo{State: state, Sockets: d.Sockets, PID: d.PID, Version: d.Version}
	if !d.Started.IsZero() {
		info.StartedAtMs = d.Started.UnixMilli()
	}
	if o.JSON {
		return o.printJSON(info)
	}
	t := newTable()
	t.row("Daemon", fmt.Sprintf("%s (pid %d, version %s)", state, d.PID, d.Version))
	rows(t, "Sockets", "-", d.Sockets)
	if !d.Started.IsZero() && state != "stopped" {
		t.row("Since", d.Started.UTC().Format(time.RFC3339))
	}
	return o.printTable(t)
}

func startDaemon(ctx context.Context, o *Options, cfg client.Config) error {
	d, started, err := client.StartDaemon(ctx, cfg)
	if err != nil {
		return err
	}
	if !started {
		o.notice("the daemon is running already")
		return o.printDaemon("running", d)
	}
	return o.printDaemon("started", d)
}

func stopDaemon(ctx context.Context, o *Options, cfg client.Config) error {
	d, err := client.StopDaemon(ctx, cfg)
	if err != nil {
		return err
	}
	return o.printDaemon("stopped", d)
}

// restartDaemon starts a daemon whether or not one ran.
func restartDaemon(ctx context.Context, o *Options, cfg client.Config) error {
	if _, err := client.StopDaemon(ctx, cfg); err != nil && api.CodeOf(err) != api.DaemonUnreachable {
		return err
	}
	return startDaemon(ctx, o, cfg)
}

func daemonStatus(ctx context.Context, o *Options, cfg client.Config) error {
	d, err := client.RunningDaemon(ctx, cfg)
	if err != nil {
		return err
	}
	return o.printDaemon("running", d)
}
