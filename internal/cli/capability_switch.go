package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

const aboutPatterns = "A pattern is the id of a capability or of a set, or has * for any text: openai/*, *-read."

func newCapabilityEnable(o *Options) *cobra.Command {
	return o.switchCommand(&cobra.Command{
		Use:   "enable PATTERN...",
		Short: "Turn capabilities on",
		Long: "Turns capabilities on for everyone. " + aboutPatterns + "\n" +
			"One that administers an account starts off, and is turned on by its own id alone.",
		Example: "  aivault capability enable openai/models openai/chat-completions\n  aivault capability enable 'github/*-read'",
	}, (*client.Client).EnableCapabilities)
}

func newCapabilityDisable(o *Options) *cobra.Command {
	return o.switchCommand(&cobra.Command{
		Use:   "disable PATTERN...",
		Short: "Turn capabilities off",
		Long: "Turns capabilities off: their calls are refused to everyone, and lists show them as off.\n" +
			aboutPatterns + "\nOf several that match, the last one given counts.",
		Example: "  aivault capability disable 'github/*'\n  aivault capability disable openai/files openai/speech",
	}, (*client.Client).DisableCapabilities)
}

// switchCommand completes enable and disable.
func (o *Options) switchCommand(cmd *cobra.Command, do func(*client.Client, context.Context, api.SwitchRequest) (api.Switched, error)) *cobra.Command {
	patterns := newIDsArg(cmd, "pattern", "id", "capability")
	cmd.ValidArgsFunction = o.completePatterns
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given, err := patterns.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			done, err := do(c, cmd.Context(), api.SwitchRequest{Patterns: given})
			if err != nil {
				return err
			}
			return o.printSwitched(done)
		})
	}
	return cmd
}

// noticeLimited says by which policies what can now be called is not limited.
func (o *Options) noticeLimited(what string, limited []string) {
	if len(limited) > 0 {
		o.notice("some calls of %s are calls of %s, too, whose limits don't hold there: limit both, or turn one off", what, strings.Join(limited, ", "))
	}
}

func (o *Options) printSwitched(s api.Switched) error {
	if len(s.Overlaps) > 0 {
		o.notice("some calls of what is off now are calls of %s, too, and still go out as that", strings.Join(s.Overlaps, ", "))
	}
	o.noticeLimited("what is on now", s.Limited)
	if o.JSON {
		return o.printJSON(s)
	}
	word := "disabled"
	if s.On {
		word = "enabled"
	}
	if len(s.Capabilities) == 0 {
		o.say("Nothing changed: all of it was %s already.", word)
	}
	for _, id := range s.Capabilities {
		o.say("Capability %s: %s", word, id)
	}
	return nil
}
