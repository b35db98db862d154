package cli

import (
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCapabilityBind(o *Options) *cobra.Command {
	var r api.BindingCreate
	cmd := &cobra.Command{
		Use:   "bind PATTERN --credential CREDENTIAL",
		Short: "Say which credential the calls of a capability use",
		Long: "Binds the calls of a capability, in a scope and for a user or a group or for everyone, to one\n" +
			"credential. A caller's own binding goes before its group's, and that before everyone's; in each,\n" +
			"the most specific scope and then the most specific pattern. A call whose binding cannot be used\n" +
			"fails: it never goes to another account. Binding the same again replaces it.",
		Example: "  aivault capability bind 'openai/*' --credential openai-work\n" +
			"  aivault capability bind openai/chat-completions --credential openai-work --workspace-id acme --group-name daemon",
	}
	ref := newIDArg(cmd, "pattern", "id", "capability")
	cmd.Flags().StringVar(&r.Credential, "credential", "", "use this `CREDENTIAL`")
	scope := newScopeFlags(cmd, "the calls that it is for")
	consumer := newConsumerFlags(cmd, "only for")
	cmd.ValidArgsFunction = o.completePatterns
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.Capability, err = ref.get(args); err != nil {
			return err
		}
		if r.Scope, err = scope.get(cmd); err != nil {
			return err
		}
		if r.Consumer, err = consumer.get(cmd); err != nil {
			return err
		}
		if r.Credential == "" {
			return api.Errorf(api.InvalidRequest, "no credential given: name one with --credential")
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			b, err := c.Bind(cmd.Context(), r)
			if err != nil {
				return err
			}
			return o.printBinding("Bound", b)
		})
	}
	return cmd
}

func newCapabilityUnbind(o *Options) *cobra.Command {
	var r api.BindingDelete
	cmd := &cobra.Command{
		Use:   "unbind PATTERN",
		Short: "Remove a binding",
		Long:  "Removes the binding that bind made with the same pattern, scope and consumer, or the one with an id.",
		Example: "  aivault capability unbind 'openai/*'\n" +
			"  aivault capability unbind openai/chat-completions --workspace-id acme --group-name daemon",
	}
	ref := newIDArg(cmd, "pattern", "id", "capability")
	cmd.Flags().StringVar(&r.ID, "binding-id", "", "the binding with this `ID`, as bindings lists it")
	scope := newScopeFlags(cmd, "the calls that it is for")
	consumer := newConsumerFlags(cmd, "that for")
	cmd.ValidArgsFunction = o.completePatterns
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if cmd.Flags().Changed("binding-id") {
			if err := onlyFlag(cmd, args, "binding-id", "id", "capability", "scope", "workspace-id", "group-id", "user", "uid", "group-name"); err != nil {
				return err
			}
		} else {
			if r.Capability, err = ref.get(args); err != nil {
				return err
			}
			if r.Scope, err = scope.get(cmd); err != nil {
				return err
			}
			if r.Consumer, err = consumer.get(cmd); err != nil {
				return err
			}
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			b, err := c.Unbind(cmd.Context(), r)
			if err != nil {
				return err
			}
			return o.printBinding("Unbound", b)
		})
	}
	return cmd
}

// onlyFlag refuses whatever else names what one flag names by itself.
func onlyFlag(cmd *cobra.Command, args []string, flag string, others ...string) error {
	if len(args) > 0 {
		return api.Errorf(api.InvalidRequest, "--%s says it all: leave the argument out", flag)
	}
	for _, other := range others {
		if err := oneOf(cmd, flag, other); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) printBinding(did string, b api.Binding) error {
	if o.JSON {
		return o.printJSON(b)
	}
	o.say("%s: %s to credential %s (%s, %s; binding %s)", did, b.Capability, b.Credential, b.Scope, consumerText(b.Consumer), b.ID)
	return nil
}

func newCapabilityBindings(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "bindings",
		Short: "List which calls are bound to which credential",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Bindings(cmd.Context())
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				if len(list.Bindings) == 0 {
					o.say("No bindings: a call uses the most specific credential that fits.")
					return nil
				}
				return o.printTable(bindingTable(list))
			})
		},
	}
}

func bindingTable(list api.BindingList) *table {
	t := newTable("BINDING", "CAPABILITY", "SCOPE", "FOR", "CREDENTIAL", "CREATED")
	for _, b := range list.Bindings {
		t.row(b.ID, b.Capability, b.Scope, consumerText(b.Consumer), b.Credential, rfc3339(b.CreatedAtMs))
	}
	return t
}
