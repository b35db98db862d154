package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCapabilityDescribe(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "describe CAPABILITY", Aliases: []string{"args", "shape", "inspect"},
		Short:             "Show what a capability or a set allows and how to call it",
		Example:           "  aivault capability describe openai/chat-completions",
		ValidArgsFunction: o.completeAnyCapability,
	}
	ref := newIDArg(cmd, "capability", "id", "capability")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			d, err := c.Capability(cmd.Context(), id)
			if err != nil {
				return err
			}
			return o.printCapability(d)
		})
	}
	return cmd
}

func (o *Options) printCapability(d api.CapabilityDetail) error {
	if o.JSON {
		return o.printJSON(d)
	}
	return o.printTable(capabilityTable(d))
}

func capabilityTable(d api.CapabilityDetail) *table {
	t := newTable()
	t.row("Capability", d.Capability)
	t.row("Provider", d.Provider+" ("+d.Origin+")")
	if d.Description != "" {
		t.row("What it does", d.Description)
	}
	if d.Access != "" {
		t.row("Access", d.Access)
	}
	t.row("Ready", readyText(d))
	if len(d.Members) > 0 {
		rows(t, "Members", "-", d.Members)
	}
	if len(d.Overlaps) > 0 {
		rows(t, "Overlaps", "-", d.Overlaps)
	}
	if d.Credential != "" {
		t.row("Credential", d.Credential)
	}
	rows(t, "Hosts", "-", d.Allowed.Hosts)
	t.row("Methods", strings.Join(d.Allowed.Methods, ", "))
	rows(t, "Paths", "-", d.Allowed.PathPrefixes)
	if len(d.Allowed.Operations) > 0 {
		rows(t, "Operations", "-", d.Allowed.Operations)
	}
	if d.Call.Defaults.Method != "" || d.Call.Defaults.Path != "" {
		t.row("Default call", strings.TrimSpace(d.Call.Defaults.Method+" "+d.Call.Defaults.Path))
	} else {
		t.row("Default call", "none: give --method and --path")
	}
	if len(d.IssuesToken) > 0 {
		rows(t, "Removed from answers", "-", d.IssuesToken)
	}
	if d.Policy != nil {
		rows(t, "Limits", "none", policyLines(*d.Policy))
	}
	if d.Call.Example != "" {
		t.row("Example", d.Call.Example)
	}
	if !d.Ready {
		rows(t, "Needs", "-", d.Setup.RequiredSecrets)
		rows(t, "Set up with", "-", d.Setup.Commands)
		if d.Setup.GetKey != "" {
			t.row("Where the key is", d.Setup.GetKey)
		}
	}
	return t
}

func readyText(d api.CapabilityDetail) string {
	switch {
	case d.Off:
		return "no: off (aivault capability enable " + d.Capability + ")"
	case d.Ready:
		return "yes"
	case d.Reason != "":
		return "no: " + d.Reason
	}
	return "no"
}
