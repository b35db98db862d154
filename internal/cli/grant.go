package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
)

func newGrant(o *Options) *cobra.Command {
	cmd := newGroup("grant", "Say what other users of this machine may call", "grants")
	cmd.Long = "Without grants, any user who reaches the daemon's socket may call whatever is ready. Who has a\n" +
		"grant may call what it names and nothing else; a user's own grants stand in place of those of\n" +
		"its groups. What a caller has no grant for answers exactly as what does not exist. The operator\n" +
		"is not limited."
	cmd.AddCommand(newGrantAdd(o), newGrantList(o), newGrantRemove(o), newGrantReset(o), newGrantDefault(o))
	return cmd
}

func newGrantList(o *Options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List grants, and what callers without one may do",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Grants(cmd.Context())
				if err != nil {
					return err
				}
				return o.printGrants(list)
			})
		},
	}
}

// printGrants shows the whole list: who may do what is seen in no part of it.
func (o *Options) printGrants(list api.GrantList) error {
	if o.JSON {
		return o.printJSON(list)
	}
	tables := []*table{grantDefaultTable(list)}
	if len(list.Grants) > 0 {
		tables = append(tables, grantTable(list, o.Clock().UnixMilli()))
	}
	return o.printTables(tables)
}

func grantDefaultTable(list api.GrantList) *table {
	t := newTable()
	if list.Default == api.GrantAllow {
		t.row("Without a grant", "a caller may call whatever is ready (allow)")
	} else {
		t.row("Without a grant", "a caller may call nothing (deny)")
	}
	return t
}

func grantTable(list api.GrantList, nowMs int64) *table {
	t := newTable("GRANT", "FOR", "CAPABILITIES", "CONTEXT", "A MINUTE", "EXPIRES")
	for _, g := range list.Grants {
		capabilities := strings.Join(g.Capabilities, ", ")
		if len(g.Capabilities) == 0 {
			capabilities = "nothing, until: aivault grant reset " + consumerArgs(&g.Consumer)
		}
		rate := "-"
		if g.RatePerMinute > 0 {
			rate = plural(g.RatePerMinute, "call", "calls")
		}
		expires := rfc3339(g.ExpiresAtMs)
		if g.ExpiresAtMs > 0 && g.ExpiresAtMs <= nowMs {
			expires = "expired " + expires
		}
		t.row(g.ID, consumerText(&g.Consumer), capabilities, grantContext(g), rate, expires)
	}
	return t
}

// grantContext says in which context a grant holds.
func grantContext(g api.Grant) string {
	if g.WorkspaceID == "" {
		return "any"
	}
	context := grant.Scope{Workspace: g.WorkspaceID, Group: g.GroupID}.String()
	if g.StrictScope {
		context += ", strictly"
	}
	return context
}

func newGrantRemove(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove GRANT", Aliases: []string{"rm"},
		Short: "Remove a grant; the last one leaves an empty one, which allows nothing",
		Long: "Removes a grant. Taking grants away never gives more: when the last one of a user or a group is\n" +
			"removed, an empty one stays in its place, which allows nothing, until grant reset.",
		ValidArgsFunction: o.completeGrant,
	}
	ref := newIDArg(cmd, "grant", "id")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			before, err := c.Grants(cmd.Context())
			if err != nil {
				return err
			}
			after, err := c.RemoveGrant(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(after)
			}
			o.say("Grant removed: %s", id)
			o.noticeEmptyGrant(before, after, id)
			return nil
		})
	}
	return cmd
}

// noticeEmptyGrant says so when whoever had the grant may call nothing now.
func (o *Options) noticeEmptyGrant(before, after api.GrantList, removed string) {
	who := "-"
	for _, g := range before.Grants {
		if g.ID == removed {
			who = consumerArgs(&g.Consumer)
		}
	}
	for _, g := range after.Grants {
		if len(g.Capabilities) == 0 && consumerArgs(&g.Consumer) == who {
			o.notice("%s may call nothing now; so that the default holds again: aivault grant reset %s", consumerText(&g.Consumer), who)
		}
	}
}

func newGrantReset(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "reset",
		Short:   "Remove every grant of a user or a group, so that the default holds again",
		Example: "  aivault grant reset --uid 2001",
		Args:    noArgs,
	}
	consumer := newConsumerFlags(cmd, "those for")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		who, err := consumer.require(cmd)
		if err != nil {
			return err
		}
		return o.changeGrants(cmd.Context(), func(ctx context.Context, c *client.Client) (api.GrantList, error) {
			return c.ResetGrants(ctx, who)
		}, func(api.GrantList) { o.say("Grants reset.") })
	}
	return cmd
}

func newGrantDefault(o *Options) *cobra.Command {
	modes := []string{api.GrantAllow, api.GrantDeny}
	return &cobra.Command{
		Use:   "default allow|deny",
		Short: "Say what callers without a grant may do: whatever is ready, or nothing",
		Example: "  aivault grant default deny\n" +
			"  aivault grant default allow",
		ValidArgs: modes,
		Args:      cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(modes, args[0]) {
				return api.Errorf(api.InvalidRequest, "the default is allow or deny")
			}
			return o.changeGrants(cmd.Context(), func(ctx context.Context, c *client.Client) (api.GrantList, error) {
				return c.SetGrantDefault(ctx, api.GrantDefault{Default: args[0]})
			}, func(api.GrantList) { o.say("Default set: %s", args[0]) })
		},
	}
}

// changeGrants makes one change, which say tells of.
func (o *Options) changeGrants(ctx context.Context, change func(context.Context, *client.Client) (api.GrantList, error), say func(api.GrantList)) error {
	return o.withClient(ctx, func(c *client.Client) error {
		list, err := change(ctx, c)
		if err != nil {
			return err
		}
		if o.JSON {
			return o.printJSON(list)
		}
		say(list)
		return nil
	})
}
