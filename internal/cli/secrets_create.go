package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newSecretsCreate(o *Options) *cobra.Command {
	var aliases, only []string
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Store a secret; a name that the registry knows makes its capabilities ready",
		Long: "Stores a secret. The value is asked for at the terminal without echo, or read from a pipe, a\n" +
			"file, or the command line. A name that the registry knows pins the secret to its provider and\n" +
			"makes that provider's credential and capabilities. A name may be taken once in each scope.",
		Example: "  aivault secrets create --name OPENAI_API_KEY\n" +
			"  aivault secrets create --name GITHUB_TOKEN --value-file token.txt\n" +
			"  pass show stripe | aivault secrets create --name STRIPE_API_KEY\n" +
			"  aivault secrets create --name OPENAI_API_KEY --value \"sk-...\" --scope global\n" +
			"  aivault secrets create --name SLACK_BOT_TOKEN --scope workspace --workspace-id acme\n" +
			"  aivault secrets create --name GITHUB_TOKEN --only 'github/*-read'",
	}
	name := newIDArg(cmd, "name", "name")
	value := newEntry(cmd, "value", "value-file", "the value")
	name.value = value
	scope := newScopeFlags(cmd, "whose it is")
	cmd.Flags().StringArrayVar(&aliases, "alias", nil, "another `NAME` for it; may be repeated")
	cmd.Flags().StringArrayVar(&only, "only", nil, "enable the capabilities of this `PATTERN` alone; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := name.get(args)
		if err != nil {
			return err
		}
		r := api.SecretCreate{Name: n, Aliases: aliases, Only: only}
		if r.Scope, err = scope.get(cmd); err != nil {
			return err
		}
		if slices.Contains(only, "") {
			return api.Errorf(api.InvalidRequest, "--only is empty")
		}
		if value.given(cmd) || o.stdinHasData() {
			if r.Value, err = value.get(cmd.Context(), o, cmd, question{}); err != nil {
				return err
			}
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error { return createSecret(cmd, o, c, r, value) })
	}
	return cmd
}

func createSecret(cmd *cobra.Command, o *Options, c *client.Client, r api.SecretCreate, value *entry) (err error) {
	ctx := cmd.Context()
	if r.Value.IsZero() {
		q := question{prompt: "Value of the secret: ", about: keyHelp(r.Name)}
		if r.Value, err = value.get(ctx, o, cmd, q); err != nil {
			return err
		}
	}
	defer wipeKey(r.Value)
	s, err := c.CreateSecret(ctx, r)
	if err != nil {
		return err
	}
	for _, line := range createdLines(s) {
		o.say("%s", line)
	}
	if host := waitingHost(s.Waiting); host != "" && len(s.Waiting) == 1 {
		if err := o.hintTenant(ctx, c, s, host); err != nil {
			return err
		}
	}
	if o.JSON {
		return o.printJSON(s)
	}
	return nil
}

// createdLines tell what a new secret did.
func createdLines(s api.Secret) []string {
	first := "Secret created: " + s.Name
	if s.PinnedProvider != "" {
		first += fmt.Sprintf(" (pinned to provider: %s)", s.PinnedProvider)
	}
	lines := []string{first}
	switch {
	case len(s.Waiting) > 0:
		lines = append(lines, fmt.Sprintf("Waiting for %s to complete %s credential", strings.Join(s.Waiting, ", "), s.PinnedProvider))
	case s.Credential != nil && *s.Credential != "":
		lines = append(lines, fmt.Sprintf("Credential auto-provisioned: %s (%s enabled)", *s.Credential, plural(len(s.Capabilities), "capability", "capabilities")))
	}
	return lines
}

func newSecretsRotate(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeSecret,
		Use:               "rotate SECRET",
		Short:             "Replace a secret's value; its name, pin and credentials stay",
		Example: "  aivault secrets rotate OPENAI_API_KEY\n" +
			"  aivault secrets rotate OPENAI_API_KEY --value-file new-key.txt",
	}
	ref := newIDArg(cmd, "secret", "id", "name")
	value := newEntry(cmd, "value", "value-file", "the new value")
	ref.value = value
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		r := api.SecretRotate{}
		r.Value, err = value.get(cmd.Context(), o, cmd, question{prompt: "New value of the secret: "})
		if err != nil {
			return err
		}
		defer wipeKey(r.Value)
		return o.changeSecret(cmd.Context(), func(ctx context.Context, c *client.Client) (api.Secret, error) {
			return c.RotateSecret(ctx, id, r)
		}, rotatedLines)
	}
	return cmd
}

// rotatedLines tell what was replaced, and what has to be yet: a certificate
// and its key are two values that are worth nothing but together.
func rotatedLines(s api.Secret) string {
	line := fmt.Sprintf("Secret rotated: %s (version %d)", s.Name, s.Version)
	if len(s.Waiting) > 0 {
		line += "\nWaiting for " + strings.Join(s.Waiting, ", ") + ", which does not belong to it: rotate that, too"
	}
	return line
}

func newSecretsUpdate(o *Options) *cobra.Command {
	var r api.SecretUpdate
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeSecret,
		Use:               "update SECRET",
		Short:             "Rename a secret, or change its aliases; its value and pin stay",
		Example:           "  aivault secrets update OPENAI_API_KEY --alias OPENAI_KEY\n  aivault secrets update old-name --new-name new-name",
	}
	ref := newIDArg(cmd, "secret", "id", "name")
	cmd.Flags().StringVar(&r.NewName, "new-name", "", "the new `NAME`")
	cmd.Flags().StringArrayVar(&r.Aliases, "alias", nil, "add another `NAME`; may be repeated")
	cmd.Flags().BoolVar(&r.ClearAliases, "clear-aliases", false, "drop the aliases that it has")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		if r.NewName == "" && len(r.Aliases) == 0 && !r.ClearAliases {
			return api.Errorf(api.InvalidRequest, "nothing to change: give --new-name, --alias or --clear-aliases")
		}
		return o.changeSecret(cmd.Context(), func(ctx context.Context, c *client.Client) (api.Secret, error) {
			return c.UpdateSecret(ctx, id, r)
		}, func(s api.Secret) string {
			line := "Secret updated: " + s.Name
			if s.PinnedProvider != "" {
				line += fmt.Sprintf(" (pinned to provider: %s)", s.PinnedProvider)
			}
			return line
		})
	}
	return cmd
}

func newSecretsDelete(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeSecret,
		Use:               "delete SECRET", Aliases: []string{"rm"},
		Short: "Delete a secret and the credentials that it made",
	}
	ref := newIDArg(cmd, "secret", "id", "name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			d, err := c.DeleteSecret(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(d)
			}
			o.say("Secret deleted: %s", d.Secret.Name)
			for _, cred := range d.Credentials {
				o.say("Credential removed: %s", cred)
			}
			if d.Notice != "" {
				o.notice("%s", d.Notice)
			}
			return nil
		})
	}
	return cmd
}

// changeSecret makes one change and says so in line's words.
func (o *Options) changeSecret(ctx context.Context, change func(context.Context, *client.Client) (api.Secret, error), line func(api.Secret) string) error {
	return o.withClient(ctx, func(c *client.Client) error {
		s, err := change(ctx, c)
		if err != nil {
			return err
		}
		return o.printSecret(s, line(s))
	})
}
