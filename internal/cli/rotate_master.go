package cli

import (
	"context"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/keysource"
)

func newRotateMaster(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-master",
		Short: "Replace the vault's keys, or move to another key provider",
		Long: "Makes a new root key and seals it with a new key: a random one (file), a new passphrase, or\n" +
			"the value of a variable (env). The old key opens nothing afterwards. Without --provider the\n" +
			"key provider stays the same.",
		Example: "  aivault rotate-master\n" +
			"  aivault rotate-master --provider passphrase\n" +
			"  aivault rotate-master --provider file --file-path ~/usb-stick/kek.key",
		Args: noArgs,
	}
	key := newKeyFlags(cmd)
	newKey := newEntry(cmd, "new-key", "new-key-file", "the new key, 32 bytes in base64 or hex,")
	pass := newEntry(cmd, "new-passphrase", "new-passphrase-file", "the new passphrase")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := rotateRequest(cmd, key, newKey, pass)
		if err != nil {
			return err
		}
		if newKey.given(cmd) {
			if r.Key, err = newKey.fromFlags(cmd.Context(), o, cmd); err != nil {
				return err
			}
		}
		if r.Provider == "" {
			if err := o.withClient(cmd.Context(), func(c *client.Client) error { return sameProvider(cmd.Context(), c, &r) }); err != nil {
				return err
			}
		}
		if err := checkNewKey(r); err != nil {
			return err
		}
		if err := o.keyMaterial(cmd.Context(), cmd, &r, pass); err != nil {
			return err
		}
		defer wipeKey(r.Key, r.Passphrase)
		return o.changeVault(cmd.Context(), withProvider("Master key rotated"), func(ctx context.Context, c *client.Client) (api.VaultChanged, error) {
			return c.RotateMaster(ctx, r)
		})
	}
	return cmd
}

// rotateRequest reads the flags that choose the provider.
func rotateRequest(cmd *cobra.Command, key *keyFlags, newKey, pass *entry) (api.KeyOptions, error) {
	if newKey.given(cmd) && pass.given(cmd) {
		return api.KeyOptions{}, api.Errorf(api.InvalidRequest, "give a new key or a new passphrase, not both")
	}
	implied := ""
	if pass.given(cmd) {
		implied = keysource.Passphrase
	}
	return key.options(implied)
}

// sameProvider fills in the provider in use, and where it keeps its key.
func sameProvider(ctx context.Context, c *client.Client, r *api.KeyOptions) error {
	_, key, err := currentKey(ctx, c)
	if err != nil {
		return err
	}
	if key.Provider == keysource.Passphrase && !r.Key.IsZero() {
		r.Provider = keysource.File // a key of its own has a file of its own
		return nil
	}
	r.Provider = key.Provider
	if key.Provider == keysource.Env {
		r.EnvVar = key.Detail
	}
	return nil
}

// checkNewKey refuses a key where a passphrase is wanted.
func checkNewKey(r api.KeyOptions) error {
	if r.Provider == keysource.Passphrase && !r.Key.IsZero() {
		return api.Errorf(api.InvalidRequest, "--new-key belongs to --provider file or env")
	}
	return nil
}
