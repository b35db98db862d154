package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
)

// grantFlags are the flags of `grant add`.
type grantFlags struct {
	who     *consumerFlags
	r       api.GrantAdd
	rate    int
	expires time.Duration
}

func newGrantAdd(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add --user NAME | --uid UID | --group-name NAME",
		Short: "Let a user, or a group's members, call capabilities and nothing else",
		Long: "Adds a grant. Without --capability it is for all of them. With --workspace-id it holds for calls\n" +
			"in that workspace and its groups, with --group-id for calls in that group; --strict-scope leaves\n" +
			"out what is global or of the workspace, so that only what belongs there itself can be used.\n" +
			aboutPatterns,
		Example: "  aivault grant add --uid 2001 --capability 'openai/*' --rate-limit-per-minute 30\n" +
			"  aivault grant add --uid 2002 --capability '*-read' --expires 8h\n" +
			"  aivault grant add --group-name daemon --capability openai/chat-completions --workspace-id acme --strict-scope",
		Args: patternsByFlag,
	}
	g := newGrantFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := g.request(cmd)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			added, err := c.AddGrant(cmd.Context(), r)
			if err != nil {
				return err
			}
			if err := o.printGrantAdded(added); err != nil {
				return err
			}
			return o.noticeNoMatch(cmd.Context(), c, added.Capabilities)
		})
	}
	return cmd
}

func newGrantFlags(cmd *cobra.Command) *grantFlags {
	g := &grantFlags{who: newConsumerFlags(cmd, "for")}
	f := cmd.Flags()
	f.StringArrayVar(&g.r.Capabilities, "capability", nil, "a `PATTERN` of capabilities; may be repeated (default: all)")
	f.StringVar(&g.r.WorkspaceID, "workspace-id", "", "only in this `WORKSPACE`")
	f.StringVar(&g.r.GroupID, "group-id", "", "only in this `GROUP` of the workspace")
	f.BoolVar(&g.r.StrictScope, "strict-scope", false, "only with what belongs to that very workspace or group")
	f.IntVar(&g.rate, "rate-limit-per-minute", 0, "let each caller start `N` calls in any 60 seconds")
	f.DurationVar(&g.expires, "expires", 0, "let it end after this `DURATION`, e.g. 8h")
	return g
}

func (g *grantFlags) request(cmd *cobra.Command) (r api.GrantAdd, err error) {
	r = g.r
	if r.Consumer, err = g.who.require(cmd); err != nil {
		return r, err
	}
	changed := cmd.Flags().Changed
	context := scopeFlags{workspace: r.WorkspaceID, group: r.GroupID}
	if _, err := context.get(cmd); err != nil {
		return r, err
	}
	switch {
	case slices.Contains(r.Capabilities, ""):
		return r, api.Errorf(api.InvalidRequest, "--capability is empty")
	case r.StrictScope && r.WorkspaceID == "":
		return r, api.Errorf(api.InvalidRequest, "--strict-scope needs --workspace-id")
	case changed("rate-limit-per-minute") && g.rate < 1:
		return r, api.Errorf(api.InvalidRequest, "--rate-limit-per-minute must be 1 or more")
	case changed("expires") && g.expires < time.Second:
		return r, api.Errorf(api.InvalidRequest, "--expires must be a second or more")
	}
	if changed("rate-limit-per-minute") {
		r.RatePerMinute = &g.rate
	}
	if changed("expires") {
		ms := g.expires.Milliseconds()
		r.ExpiresInMs = &ms
	}
	return r, nil
}

func (o *Options) printGrantAdded(g api.Grant) error {
	if o.JSON {
		return o.printJSON(g)
	}
	line := strings.Join(g.Capabilities, ", ")
	if context := grantContext(g); context != "any" {
		line += " in " + context
	}
	if g.ExpiresAtMs > 0 {
		line += ", until " + rfc3339(g.ExpiresAtMs)
	}
	o.say("Grant added: %s for %s: %s", g.ID, consumerText(&g.Consumer), line)
	return nil
}

// patternsByFlag is noArgs for a command that takes patterns by a flag. What
// comes beside it is most often what the shell made of a *.
func patternsByFlag(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return api.Errorf(api.InvalidRequest, "%s takes no arguments, only flags; a pattern with * is quoted: --capability 'openai/*'", cmd.CommandPath())
	}
	return nil
}

// noticeNoMatch says which patterns match no capability that there is: a later
// one may be meant, but a slip of the pen is more likely.
func (o *Options) noticeNoMatch(ctx context.Context, c *client.Client, patterns []string) error {
	if !slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "*") }) {
		return nil // what names one exists
	}
	list, err := c.Capabilities(ctx)
	if err != nil {
		return err
	}
	for _, p := range patterns {
		if !slices.ContainsFunc(list.Capabilities, func(s api.CapabilitySummary) bool { return grant.Match(p, s.ID) }) {
			o.notice("%s matches no capability that there is", p)
		}
	}
	return nil
}
