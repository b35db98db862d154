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

func newCapability(o *Options) *cobra.Command {
	cmd := newGroup("capability", "List, describe, call and make capabilities", "capabilities", "cap")
	cmd.Long = "A capability is one named operation of a provider: its host, its methods and its paths. It is\nwhat a caller names, and the unit of permission."
	invoke := newInvoke(o, "invoke", "call")
	cmd.AddCommand(newCapabilityList(o), newCapabilityDescribe(o), newCapabilityCreate(o), newCapabilityDelete(o), invoke, newJSON(o))
	return cmd
}

// listFlags choose what `capability list` shows.
type listFlags struct {
	all              bool
	provider, search string
}

func newCapabilityList(o *Options) *cobra.Command {
	var l listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List what can be called, and which providers could be",
		Long: "Lists the capabilities that are ready in full, and one line for each provider that the registry\n" +
			"knows and the vault has no secret for. --all, --provider and --search list every capability.",
		Example: "  aivault capability list\n  aivault capability list --provider github\n  aivault capability list --search image",
	}
	cmd.Flags().BoolVar(&l.all, "all", false, "every capability, ready or not")
	cmd.Flags().StringVar(&l.provider, "provider", "", "every capability of this `PROVIDER`")
	cmd.Flags().StringVar(&l.search, "search", "", "every capability with this `TEXT` in its id or description")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			list, err := c.Capabilities(cmd.Context())
			if err != nil {
				return err
			}
			if err := o.noticeLocked(cmd.Context(), c, list); err != nil {
				return err
			}
			shown := l.choose(list)
			if o.JSON {
				return o.printJSON(shown)
			}
			return o.printCapabilities(l, shown)
		})
	}
	return cmd
}

// noticeLocked says why nothing is ready when that is because nobody can know.
func (o *Options) noticeLocked(ctx context.Context, c *client.Client, list api.CapabilityList) error {
	if slices.ContainsFunc(list.Capabilities, func(s api.CapabilitySummary) bool { return s.Ready }) {
		return nil
	}
	s, err := c.Status(ctx)
	if err == nil && s.Vault.State == vaultLocked {
		o.notice("what is ready is not known while the vault is locked: aivault unlock")
	}
	return err
}

// choose applies --provider and --search.
func (l listFlags) choose(list api.CapabilityList) api.CapabilityList {
	want := func(provider string, texts ...string) bool {
		if l.provider != "" && provider != l.provider {
			return false
		}
		return strings.Contains(strings.ToLower(strings.Join(append(texts, provider), "\n")), strings.ToLower(l.search))
	}
	out := api.CapabilityList{Capabilities: []api.CapabilitySummary{}, Available: []api.AvailableProvider{}}
	for _, c := range list.Capabilities {
		if want(c.Provider, c.ID, c.Description) {
			out.Capabilities = append(out.Capabilities, c)
		}
	}
	for _, p := range list.Available {
		if want(p.Provider, append([]string{p.Title}, p.Secrets...)...) {
			out.Available = append(out.Available, p)
		}
	}
	return out
}

func (o *Options) printCapabilities(l listFlags, list api.CapabilityList) error {
	full := l.all || l.provider != "" || l.search != ""
	t := newTable("CAPABILITY", "ACCESS", "METHODS", "STATE", "DESCRIPTION")
	shown := 0
	for _, c := range list.Capabilities {
		if !c.Ready && !full {
			continue
		}
		shown++
		t.row(c.ID, orDash(c.Access), strings.Join(c.Methods, ","), capabilityState(c), c.Description)
	}
	if shown > 0 {
		if err := o.printTable(t); err != nil {
			return err
		}
	} else if len(list.Available) == 0 || full {
		o.say("No capability fits.")
	}
	if len(list.Available) == 0 {
		return nil
	}
	if shown > 0 {
		if err := o.print([]byte("\n")); err != nil {
			return err
		}
	}
	t = newTable("AVAILABLE", "CAPABILITIES", "STORE ITS SECRET WITH")
	for _, p := range list.Available {
		t.row(p.Provider, fmt.Sprint(p.Capabilities), storeCommand(p.Secrets))
	}
	return o.printTable(t)
}

func capabilityState(c api.CapabilitySummary) string {
	switch {
	case c.Off:
		return "off"
	case c.Ready:
		return "ready"
	case c.Reason != "":
		return c.Reason
	}
	return "not ready"
}

func storeCommand(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	cmd := "aivault secrets create --name " + names[0]
	if len(names) > 1 {
		cmd += " (and " + strings.Join(names[1:], ", ") + ")"
	}
	return cmd
}

func newCapabilityDescribe(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "describe CAPABILITY", Aliases: []string{"args", "shape", "inspect"},
		Short:             "Show what a capability allows and how to call it",
		Example:           "  aivault capability describe openai/chat-completions",
		ValidArgsFunction: o.completeCapability,
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
	state := "yes"
	if !d.Ready {
		state = "no"
		if d.Reason != "" {
			state += ": " + d.Reason
		}
	}
	t.row("Ready", state)
	if d.Credential != "" {
		t.row("Credential", d.Credential)
	}
	rows(t, "Hosts", "-", d.Allowed.Hosts)
	t.row("Methods", strings.Join(d.Allowed.Methods, ", "))
	rows(t, "Paths", "-", d.Allowed.PathPrefixes)
	if d.Call.Defaults.Method != "" || d.Call.Defaults.Path != "" {
		t.row("Default call", strings.TrimSpace(d.Call.Defaults.Method+" "+d.Call.Defaults.Path))
	} else {
		t.row("Default call", "none: give --method and --path")
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
