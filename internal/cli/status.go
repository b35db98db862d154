package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newStatus(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show vault, key provider, daemon, who is asking, and what is ready",
		Long: "Shows the vault and its key provider, the daemon that answered, whom it takes you for, the\n" +
			"providers that are ready or wait for a secret, entries that are broken, and how strong this\n" +
			"installation is. It never makes a vault. A caller who is no operator sees the short form.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error { return status(cmd.Context(), o, c) })
		},
	}
}

func status(ctx context.Context, o *Options, c *client.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	o.noticeVersion(s)
	if o.JSON {
		return o.printJSON(s)
	}
	return o.printTable(statusTable(s))
}

// noticeVersion says that the daemon that runs is not the one that was
// installed with this program, to the operator, who can change that.
func (o *Options) noticeVersion(s api.Status) {
	if d := s.Daemon; d != nil && !d.Shared && s.Caller.Operator && d.Version != o.Build.Version {
		o.notice("the daemon is version %s, and this program %s: aivault restart", d.Version, o.Build.Version)
	}
}

// vaultLocked is the state of a vault whose key has to be given first.
const vaultLocked = "locked"

// statusTable shows a status in the order that the product promises.
func statusTable(s api.Status) *table {
	t := newTable()
	vault := s.Vault.State
	if s.Vault.Dir != "" {
		vault = s.Vault.Dir + " (" + s.Vault.State + ")"
	}
	t.row("Vault", vault)
	if s.Key != nil {
		key := s.Key.Provider
		if s.Key.Detail != "" {
			key += " (" + s.Key.Detail + ")"
		}
		t.row("Key provider", orDash(key))
	}
	t.row("Daemon", daemonLine(s.Daemon))
	t.row("You are", callerLine(s.Caller))
	none := "none yet"
	if s.Vault.State == vaultLocked {
		none = "not known while the vault is locked"
	}
	rows(t, "Providers", none, providerLines(s.Providers))
	rows(t, "Problems", "none", problemLines(s.Problems))
	if s.Strength != "" {
		t.row("Strength", s.Strength)
	}
	return t
}

// rows puts the first line beside its head and the others below.
func rows(t *table, head, none string, lines []string) {
	if len(lines) == 0 {
		lines = []string{none}
	}
	for _, line := range lines {
		t.row(head, line)
		head = ""
	}
}

func daemonLine(d *api.DaemonStatus) string {
	if d == nil {
		return "none: the broker runs in this process"
	}
	var parts []string
	if d.Socket != "" {
		kind := "own"
		if d.Shared {
			kind = "shared"
		}
		parts = append(parts, d.Socket, kind)
	}
	if d.PID != 0 {
		parts = append(parts, fmt.Sprintf("pid %d", d.PID))
	}
	return strings.Join(append(parts, "version "+d.Version), ", ")
}

func callerLine(c api.CallerStatus) string {
	who := fmt.Sprintf("uid %d", c.UID)
	if c.User != "" {
		who = fmt.Sprintf("%s (uid %d)", c.User, c.UID)
	}
	if c.Operator {
		return who + ", operator"
	}
	return who + ", caller"
}

func providerLines(list []api.ProviderStatus) []string {
	var lines []string
	for _, ready := range []bool{true, false} {
		for _, p := range list {
			switch {
			case p.Ready != ready:
			case p.Ready:
				lines = append(lines, fmt.Sprintf("%s: ready, %s", p.Provider, plural(p.Capabilities, "capability", "capabilities")))
			case len(p.Waiting) > 0:
				lines = append(lines, fmt.Sprintf("%s: waiting for %s", p.Provider, strings.Join(p.Waiting, ", ")))
			default:
				lines = append(lines, p.Provider+": not ready")
			}
		}
	}
	return lines
}

func problemLines(list []api.Problem) []string {
	var lines []string
	for _, p := range list {
		line := p.What + ": " + p.Why
		if p.Hint != "" {
			line += " (" + p.Hint + ")"
		}
		lines = append(lines, line)
	}
	return lines
}
