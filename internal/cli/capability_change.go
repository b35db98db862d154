package cli

import (
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCapabilityCreate(o *Options) *cobra.Command {
	var r api.CapabilityCreate
	cmd := &cobra.Command{
		Use:   "create ID --method METHOD --path RULE",
		Short: "Make a capability for a provider of your own",
		Long: "Makes a capability. A path rule /p admits /p and what lies below it by whole segments; *\n" +
			"is one segment or part of one; =/p is /p alone.\n\n" +
			"--issues-token is for an API that answers with new tokens, passwords or keys: what the pointer\n" +
			"leads to is replaced by [redacted], and an answer that is no JSON is withheld.",
		Example: "  aivault capability create acme/users-read --method GET --path /v1/users\n" +
			"  aivault capability create acme/report --method POST --path =/v1/report --host api.acme.test\n" +
			"  aivault capability create acme/keys-make --method POST --path =/v1/keys --issues-token /key",
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	f := cmd.Flags()
	f.StringVar(&r.Provider, "provider", "", "its `PROVIDER` (default: the part of the id before the slash)")
	f.StringVar(&r.Credential, "credential", "", "only this `CREDENTIAL` may be used")
	f.StringSliceVar(&r.Methods, "method", nil, "a `METHOD` that it allows; may be repeated")
	f.StringArrayVar(&r.Paths, "path", nil, "a path `RULE` that it allows; may be repeated")
	f.StringVar(&r.Host, "host", "", "the `HOST` that it goes to (default: the credential's only one)")
	f.StringArrayVar(&r.IssuesToken, "issues-token", nil, "remove the value at this JSON `POINTER` from answers, a new token; /data/*/key of each element of a list; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.ID, err = ref.get(args); err != nil {
			return err
		}
		if len(r.Methods) == 0 || len(r.Paths) == 0 {
			return api.Errorf(api.InvalidRequest, "a capability needs at least one --method and one --path")
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			d, err := c.CreateCapability(cmd.Context(), r)
			if err != nil {
				return err
			}
			o.noticeLimited(d.Capability, d.Limited)
			if o.JSON {
				return o.printJSON(d)
			}
			o.say("Capability created: %s", d.Capability)
			if !d.Ready && d.Reason != "" {
				o.notice("not ready: %s", d.Reason)
			}
			return nil
		})
	}
	return cmd
}

func newCapabilityDelete(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeAnyCapability,
		Use:               "delete CAPABILITY", Aliases: []string{"rm"},
		Short: "Delete a capability that capability create made",
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			d, err := c.DeleteCapability(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(d)
			}
			o.say("Capability deleted: %s", d.Capability)
			return nil
		})
	}
	return cmd
}
