package cli

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

// keyFlags choose where a vault's key comes from.
type keyFlags struct {
	provider, filePath, envVar string
}

func newKeyFlags(cmd *cobra.Command) *keyFlags {
	k := &keyFlags{}
	cmd.Flags().StringVar(&k.provider, "provider", "", "where the key comes from, a `PROVIDER`: file, passphrase or env")
	cmd.Flags().StringVar(&k.filePath, "file-path", "", "provider file: keep the key at this `PATH`")
	cmd.Flags().StringVar(&k.envVar, "env-var", "", "provider env: read the key from this `VARIABLE` (default AIVAULT_KEY)")
	return k
}

// options checks the flags against each other; implied is the provider that
// other flags of the command stand for, or "".
func (k *keyFlags) options(implied string) (api.KeyOptions, error) {
	r := api.KeyOptions{Provider: k.provider, EnvVar: k.envVar}
	needs := map[string]string{}
	if implied != "" {
		needs[implied] = "a passphrase or key"
	}
	if k.filePath != "" {
		needs[keysource.File] = "--file-path"
		abs, err := filepath.Abs(k.filePath)
		if err != nil {
			return r, api.Errorf(api.InvalidRequest, "--file-path: %w", err)
		}
		r.FilePath = abs
	}
	if k.envVar != "" {
		needs[keysource.Env] = "--env-var"
	}
	for provider, flag := range needs {
		if r.Provider == "" {
			r.Provider = provider
		}
		if r.Provider != provider {
			return r, api.Errorf(api.InvalidRequest, "%s belongs to --provider %s, not to %s", flag, provider, r.Provider)
		}
	}
	switch r.Provider {
	case "", keysource.File, keysource.Env, keysource.Passphrase:
		return r, nil
	}
	return r, api.Errorf(api.InvalidRequest, "--provider cannot be %q: it takes file, passphrase or env", r.Provider)
}

func newInit(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the vault, with the key provider of your choice",
		Long: "Makes the vault. Without init, the first command that stores something makes one with the\n" +
			"default key provider (file). A vault that has never held a secret is replaced; any other is\n" +
			"left alone. After --provider passphrase the vault is unlocked until the daemon ends.",
		Example: "  aivault init --provider passphrase\n" +
			"  aivault init --provider passphrase --passphrase \"your-passphrase\"\n" +
			"  aivault init --provider env --env-var MY_VAULT_KEY",
		Args: noArgs,
	}
	key := newKeyFlags(cmd)
	pass := newEntry(cmd, "passphrase", "passphrase-file", "the passphrase")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		implied := ""
		if pass.given(cmd) {
			implied = keysource.Passphrase
		}
		r, err := key.options(implied)
		if err != nil {
			return err
		}
		if err := o.keyMaterial(cmd.Context(), cmd, &r, pass); err != nil {
			return err
		}
		defer wipeKey(r.Key, r.Passphrase)
		return o.changeVault(cmd.Context(), withProvider("Vault created"), func(ctx context.Context, c *client.Client) (api.VaultChanged, error) {
			return c.Init(ctx, r)
		})
	}
	return cmd
}

// keyMaterial adds what the provider needs: a new passphrase, asked for twice,
// or the variable's value.
func (o *Options) keyMaterial(ctx context.Context, cmd *cobra.Command, r *api.KeyOptions, pass *entry) (err error) {
	switch r.Provider {
	case keysource.Passphrase:
		r.Passphrase, err = pass.get(ctx, o, cmd, question{prompt: "New passphrase: ", again: "The same again: "})
	case keysource.Env:
		if r.Key.IsZero() {
			r.Key, err = o.keyFromEnv(envVarName(r.EnvVar))
		}
	}
	return err
}

// envVarName is the variable that an env vault reads when none is named.
func envVarName(name string) string {
	if name == "" {
		return "AIVAULT_KEY"
	}
	return name
}

// withProvider says what was done, and which key provider the vault has now.
func withProvider(done string) func(api.VaultChanged) string {
	return func(v api.VaultChanged) string { return done + " (key provider: " + v.Provider + ")" }
}

// changeVault makes one of the changes that answer with api.VaultChanged.
func (o *Options) changeVault(ctx context.Context, done func(api.VaultChanged) string, change func(context.Context, *client.Client) (api.VaultChanged, error)) error {
	return o.withClient(ctx, func(c *client.Client) error {
		v, err := change(ctx, c)
		if err != nil {
			return err
		}
		if v.Notice != "" {
			o.notice("%s", v.Notice)
		}
		if o.JSON {
			return o.printJSON(v)
		}
		if v.Notice == "" {
			o.say("%s", done(v))
		}
		return nil
	})
}

func newLock(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "lock",
		Short: "Forget the vault's keys until unlock",
		Long:  "Makes the daemon forget the vault's keys. Every call is refused until `aivault unlock`,\nwhatever the key provider.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			locked := func(api.VaultChanged) string { return "Vault locked" }
			return o.changeVault(cmd.Context(), locked, func(ctx context.Context, c *client.Client) (api.VaultChanged, error) {
				return c.Lock(ctx)
			})
		},
	}
}

// currentKey asks the daemon for the key provider in use; zero for a caller
// who may not know, whom the request itself then refuses.
func currentKey(ctx context.Context, c *client.Client) (api.Status, api.KeyStatus, error) {
	s, err := c.Status(ctx)
	if err != nil || s.Key == nil {
		return s, api.KeyStatus{}, err
	}
	return s, *s.Key, nil
}

// envDetail is the variable that a status names for an env vault.
func envDetail(k api.KeyStatus) string { return envVarName(k.Detail) }

// wipeKey forgets what a request carried.
func wipeKey(values ...secret.Value) {
	for _, v := range values {
		v.Wipe()
	}
}
