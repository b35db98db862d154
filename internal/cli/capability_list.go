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
		Long: "Lists the capabilities that are ready or turned off, the sets of which some member is ready, and\n" +
			"one line for each provider that the registry knows and the vault has no credential for. --all,\n" +
			"--provider and --search list every capability and set that fits.",
		Example: "  aivault capability list\n  aivault capability list --provider github\n  aivault capability list --search image",
	}
	cmd.Flags().BoolVar(&l.all, "all", false, "every capability, ready or not")
	cmd.Flags().StringVar(&l.provider, "provider", "", "every capability of this `PROVIDER`")
	cmd.Flags().StringVar(&l.search, "search", "", "every capability with this `TEXT` in its id or description")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			list, err := c.CapabilitiesBy(cmd.Context(), api.CapabilityQuery{Provider: l.provider, Usable: !l.full()})
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

// full says whether what is not ready is listed, too.
func (l listFlags) full() bool { return l.all || l.provider != "" || l.search != "" }

// choose applies --search.
func (l listFlags) choose(list api.CapabilityList) api.CapabilityList {
	want := func(provider string, texts ...string) bool {
		return strings.Contains(strings.ToLower(strings.Join(append(texts, provider), "\n")), strings.ToLower(l.search))
	}
	out := api.CapabilityList{Capabilities: []api.CapabilitySummary{}, Sets: []api.CapabilitySet{}, Available: []api.AvailableProvider{}}
	for _, c := range list.Capabilities {
		if want(c.Provider, c.ID, c.Description) {
			out.Capabilities = append(out.Capabilities, c)
		}
	}
	for _, s := range list.Sets {
		if want(s.Provider, s.ID, s.Description) {
			out.Sets = append(out.Sets, s)
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
	var tables []*table
	if len(list.Capabilities) > 0 {
		t := newTable("CAPABILITY", "ACCESS", "METHODS", "STATE", "DESCRIPTION")
		for _, c := range list.Capabilities {
			t.row(c.ID, orDash(c.Access), strings.Join(c.Methods, ","), capabilityState(c), c.Description)
		}
		tables = append(tables, t)
	}
	if len(list.Sets) > 0 {
		t := newTable("SET", "STATE", "MEMBERS", "DESCRIPTION")
		for _, s := range list.Sets {
			t.row(s.ID, setState(s), fmt.Sprint(len(s.Members)), s.Description)
		}
		tables = append(tables, t)
	}
	if len(tables) == 0 && (len(list.Available) == 0 || l.full()) {
		o.say("No capability fits.")
	}
	if len(list.Available) > 0 {
		t := newTable("AVAILABLE", "CAPABILITIES", "STORE ITS SECRET WITH")
		for _, p := range list.Available {
			t.row(p.Provider, fmt.Sprint(p.Capabilities), storeCommand(p))
		}
		tables = append(tables, t)
	}
	return o.printTables(tables)
}

func setState(s api.CapabilitySet) string {
	if s.Ready {
		return "ready"
	}
	return "not ready"
}

func capabilityState(c api.CapabilitySummary) string {
	switch {
	case c.Off:
		return "off"
	case c.Ready:
		return "ready"
	case c.Reason != "":
		short, _, _ := strings.Cut(c.Reason, ": --host ") // which describe shows
		return short
	}
	return "not ready"
}

func storeCommand(p api.AvailableProvider) string {
	names := p.Secrets
	switch {
	case len(names) == 0:
		return "not yet: no login of it is built"
	case p.Login:
		return "aivault oauth login " + p.Provider + " --client-id ID"
	}
	cmd := "aivault secrets create --name " + names[0]
	if len(names) > 1 {
		cmd += " (and " + strings.Join(names[1:], ", ") + ")"
	}
	return cmd
}
