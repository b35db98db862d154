package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newSecretsAttach(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach-group SECRET --workspace-id WORKSPACE --group-id GROUP",
		Short: "Let a group use a secret beside its own",
		Long: "Attaches a secret to a group: calls in that group may use it, before what belongs to the\n" +
			"workspace and what is global. The secret is global, or belongs to the group's workspace; its\n" +
			"own scope stays as it is.",
		Example: "  aivault secrets attach-group GITHUB_TOKEN --workspace-id acme --group-id build",
	}
	return o.groupChange(cmd, (*client.Client).AttachSecret, func(s api.Secret, r api.SecretAttach) string {
		return fmt.Sprintf("Secret attached: %s (group:%s:%s)", s.Name, r.WorkspaceID, r.GroupID)
	})
}

func newSecretsDetach(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "detach-group SECRET --workspace-id WORKSPACE --group-id GROUP",
		Short:   "Undo attach-group",
		Example: "  aivault secrets detach-group GITHUB_TOKEN --workspace-id acme --group-id build",
	}
	return o.groupChange(cmd, (*client.Client).DetachSecret, func(s api.Secret, r api.SecretAttach) string {
		return fmt.Sprintf("Secret detached: %s (group:%s:%s)", s.Name, r.WorkspaceID, r.GroupID)
	})
}

// groupChange completes a command that attaches or detaches.
func (o *Options) groupChange(cmd *cobra.Command,
	do func(*client.Client, context.Context, string, api.SecretAttach) (api.Secret, error),
	line func(api.Secret, api.SecretAttach) string) *cobra.Command {
	cmd.ValidArgsFunction = o.completeSecret
	ref := newIDArg(cmd, "secret", "id", "name")
	group := newAttachFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		r, err := group.get(cmd)
		if err != nil {
			return err
		}
		return o.changeSecret(cmd.Context(), func(ctx context.Context, c *client.Client) (api.Secret, error) {
			return do(c, ctx, id, r)
		}, func(s api.Secret) string { return line(s, r) })
	}
	return cmd
}
