package cli

import (
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/term"
)

func newUnlock(o *Options) *cobra.Command {
	var keep time.Duration
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "Open the vault, by default with the passphrase asked for at the terminal",
		Long: "Opens the vault until lock, or until the daemon ends. Of a vault that is open it checks the\n" +
			"passphrase. A vault without a passphrase needs none.",
		Example: "  aivault unlock\n  aivault unlock --passphrase \"your-passphrase\"\n  aivault unlock --for 8h",
		Args:    noArgs,
	}
	pass := newEntry(cmd, "passphrase", "passphrase-file", "the passphrase")
	cmd.Flags().DurationVar(&keep, "for", 0, "lock again after this `DURATION`, e.g. 8h")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("for") && keep < time.Second {
			return api.Errorf(api.InvalidRequest, "--for must be a second or more")
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			r, err := unlockRequest(o, cmd, c, pass)
			if err != nil {
				return err
			}
			defer wipeKey(r.Passphrase, r.Key)
			r.ForMs = keep.Milliseconds()
			v, err := c.Unlock(cmd.Context(), r)
			if err != nil {
				return err
			}
			if c.InProcess() && v.Provider == keysource.Passphrase {
				o.notice("without a daemon nothing stays open: each command asks for the passphrase")
			}
			return o.unlocked(v, keep)
		})
	}
	return cmd
}

// unlockRequest asks for what this vault's key provider needs.
func unlockRequest(o *Options, cmd *cobra.Command, c *client.Client, pass *entry) (r api.Unlock, err error) {
	ctx := cmd.Context()
	if pass.given(cmd) {
		r.Passphrase, err = pass.fromFlags(ctx, o, cmd)
		return r, err
	}
	_, key, err := currentKey(ctx, c)
	if err != nil {
		return r, err
	}
	switch key.Provider {
	case keysource.Passphrase:
		r.Passphrase, err = pass.get(ctx, o, cmd, question{prompt: "Passphrase of the vault: "})
	case keysource.Env:
		name := envDetail(key)
		if r.Key, err = o.keyFromEnv(name); err != nil {
			err = errNoVariable("the vault's key", name)
		}
	}
	return r, err
}

// errNoVariable is for a key that is there already: the hint to make one would
// lose it.
func errNoVariable(what, name string) error {
	return api.Errorf(api.VaultLocked, "%s is in the variable %q, which is not set", what, name).WithHint("export %s=…", term.Line(name))
}

func (o *Options) unlocked(v api.VaultChanged, keep time.Duration) error {
	if v.Notice != "" {
		o.notice("%s", v.Notice)
	}
	if o.JSON {
		return o.printJSON(v)
	}
	switch {
	case v.Notice != "":
	case keep > 0:
		o.say("Vault unlocked for %s", keep)
	default:
		o.say("Vault unlocked")
	}
	return nil
}
