package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCapabilityPolicy(o *Options) *cobra.Command {
	cmd := newGroup("policy", "Limit a capability: rate, sizes, fields, queries, bodies")
	cmd.Long = "A policy limits the calls of one capability, whoever makes them and by whatever way."
	cmd.AddCommand(newPolicySet(o), newPolicyShow(o), newPolicyClear(o))
	return cmd
}

func newPolicySet(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set CAPABILITY",
		Short: "Set limits of a capability",
		Long: "Sets limits. One that is left out stays as it was, and none lifts one. A list takes the place\n" +
			"of the list before it. Where other capabilities admit some of the same calls, a notice names\n" +
			"them: the limits are not theirs.",
		Example: "  aivault capability policy set --capability openai/chat-completions \\\n" +
			"    --rate-limit-per-minute 60 --max-request-body-bytes 1048576 --max-response-body-bytes 10485760\n" +
			"  aivault capability policy set openai/chat-completions --rate-limit-per-minute 10 --per-caller\n" +
			"  aivault capability policy set openai/chat-completions --require-json-field '/model=gpt-5.2|gpt-5.2-mini'\n" +
			"  aivault capability policy set openai/chat-completions --rate-limit-per-minute none",
		ValidArgsFunction: o.completeAnyCapability,
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	limits := newPolicyFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		change, err := limits.change(cmd, id)
		if err != nil {
			return err
		}
		return o.onePolicy(cmd.Context(), id, func(ctx context.Context, c *client.Client) (api.PolicyList, error) {
			return c.SetPolicy(ctx, change)
		})
	}
	return cmd
}

func newPolicyShow(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show [CAPABILITY]",
		Short:             "Show the limits of a capability, or of all that have some",
		Example:           "  aivault capability policy show openai/chat-completions\n  aivault capability policy show",
		ValidArgsFunction: o.completeAnyCapability,
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !ref.used(cmd) {
			return o.allPolicies(cmd.Context())
		}
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.onePolicy(cmd.Context(), id, func(ctx context.Context, c *client.Client) (api.PolicyList, error) {
			return c.Policy(ctx, id)
		})
	}
	return cmd
}

func newPolicyClear(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "clear CAPABILITY",
		Short:             "Lift every limit of a capability",
		Example:           "  aivault capability policy clear openai/chat-completions",
		ValidArgsFunction: o.completeAnyCapability,
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.onePolicy(cmd.Context(), id, func(ctx context.Context, c *client.Client) (api.PolicyList, error) {
			return c.ClearPolicy(ctx, id)
		})
	}
	return cmd
}

// onePolicy shows what limits a capability after a change, or as it is.
func (o *Options) onePolicy(ctx context.Context, id string, ask func(context.Context, *client.Client) (api.PolicyList, error)) error {
	return o.withClient(ctx, func(c *client.Client) error {
		list, err := ask(ctx, c)
		if err != nil {
			return err
		}
		p := api.Policy{Capability: id}
		if len(list.Policies) > 0 {
			p = list.Policies[0]
		}
		if len(list.Overlaps) > 0 {
			o.notice("some calls of %s are calls of %s, too, where these limits don't hold: limit both, or turn one off",
				id, strings.Join(list.Overlaps, ", "))
		}
		if o.JSON {
			return o.printJSON(p)
		}
		return o.printTable(policyTable(p))
	})
}

func (o *Options) allPolicies(ctx context.Context) error {
	return o.withClient(ctx, func(c *client.Client) error {
		list, err := c.Policies(ctx)
		if err != nil {
			return err
		}
		if o.JSON {
			return o.printJSON(list)
		}
		if len(list.Policies) == 0 {
			o.say("No capability has limits. Set one: aivault capability policy set openai/chat-completions --rate-limit-per-minute 60")
			return nil
		}
		t := newTable("CAPABILITY", "LIMITS")
		for _, p := range list.Policies {
			rows(t, p.Capability, "none", policyLines(p))
		}
		return o.printTable(t)
	})
}

func policyTable(p api.Policy) *table {
	t := newTable()
	t.row("Capability", p.Capability)
	rows(t, "Limits", "none", policyLines(p))
	return t
}

// policyLines say each limit in words.
func policyLines(p api.Policy) []string {
	var lines []string
	add := func(set bool, format string, args ...any) {
		if set {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	add(p.RatePerMinute > 0, "%s a minute, of all callers together", plural(p.RatePerMinute, "call", "calls"))
	add(p.RatePerCallerPerMinute > 0, "%s a minute of each caller", plural(p.RatePerCallerPerMinute, "call", "calls"))
	add(p.MaxRequestBodyBytes > 0, "request bodies of %d bytes at most", p.MaxRequestBodyBytes)
	add(p.MaxResponseBodyBytes > 0, "answers of %d bytes at most", p.MaxResponseBodyBytes)
	add(len(p.ResponseBlock) > 0, "removed from answers: %s", strings.Join(p.ResponseBlock, ", "))
	add(len(p.AllowQuery) > 0, "query parameters allowed: %s", strings.Join(p.AllowQuery, ", "))
	add(len(p.DenyQuery) > 0, "query parameters refused: %s", strings.Join(p.DenyQuery, ", "))
	for _, r := range p.RequireJSON {
		add(true, "the body's %s is %s", r.Pointer, strings.Join(r.Values, " or "))
	}
	return lines
}
