package cli

import (
	"strings"

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
	cmd := &cobra.Command{
		Use:   "unbind BINDING | PATTERN",
		Short: "Remove a binding",
		Long:  "Removes the binding with an id, as bindings lists it, or the one that bind made with the same\npattern, scope and consumer.",
		Example: "  aivault capability unbind 'openai/*'\n" +
			"  aivault capability unbind openai/chat-completions --workspace-id acme --group-name daemon",
	}
	ref := newIDArg(cmd, "binding", "id", "capability")
	scope := newScopeFlags(cmd, "the calls that it is for")
	consumer := newConsumerFlags(cmd, "the one for")
	cmd.ValidArgsFunction = o.completePatterns
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given, err := ref.get(args)
		if err != nil {
			return err
		}
		r, err := bindingToDelete(cmd, given, scope, consumer)
		if err != nil {
			return err
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

// bindingToDelete tells a binding's id, which has neither a slash nor a star,
// from a pattern. The id says it all.
func bindingToDelete(cmd *cobra.Command, given string, scope *scopeFlags, consumer *consumerFlags) (r api.BindingDelete, err error) {
	if !strings.ContainsAny(given, "/*") {
		for _, flag := range []string{"scope", "workspace-id", "group-id", "user", "uid", "group-name"} {
			if cmd.Flags().Changed(flag) {
				return r, api.Errorf(api.InvalidRequest, "a binding's id says it all: leave --%s out", flag)
			}
		}
		return api.BindingDelete{ID: given}, nil
	}
	r.Capability = given
	if r.Scope, err = scope.get(cmd); err != nil {
		return r, err
	}
	r.Consumer, err = consumer.get(cmd)
	return r, err
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
