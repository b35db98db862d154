package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/registry"
)

func newRegistry(o *Options) *cobra.Command {
	cmd := newGroup("registry", "Show the providers that are built in, and try out descriptions of more")
	cmd.Long = "The registry describes APIs: the names of their keys, how they authenticate, their hosts, and what\n" +
		"can be asked of them. It is compiled in; nothing at run time can change it. lint and test judge a\n" +
		"file that is not in it yet: they run in this process, and need neither daemon nor vault."
	cmd.AddCommand(newRegistryList(o), newRegistryShow(o), newRegistryLint(o), newRegistryTest(o))
	return cmd
}

func newRegistryList(o *Options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short:   "List the providers that are built in",
		Example: "  aivault registry list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Registry(cmd.Context())
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				t := newTable("PROVIDER", "TITLE", "CAPABILITIES", "SECRETS")
				for _, p := range list.Providers {
					secrets := strings.Join(p.Secrets, ", ")
					if secrets == "" {
						secrets = "not yet"
					}
					t.row(p.Provider, p.Title, fmt.Sprint(p.Capabilities), secrets)
				}
				return o.printTable(t)
			})
		},
	}
}

func newRegistryShow(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show PROVIDER",
		Short: "Show what the registry says of a provider",
		Long: "Shows a provider's entry: where its key comes from, the names that are claimed for it, how it\n" +
			"authenticates, its hosts, and its capabilities (aivault capability describe says more of each). With --json it is the file\n" +
			"itself, which is a start for one of your own.",
		Example:           "  aivault registry show github",
		ValidArgsFunction: o.completeProvider,
	}
	ref := newIDArg(cmd, "provider", "id", "provider")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			file, err := c.RegistryFile(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printRaw([]byte(file))
			}
			p, err := registry.Parse(file)
			if err != nil {
				return api.Errorf(api.Internal, "the entry of %q cannot be shown: %w", id, err).WithHint("aivault registry show %s --json", id)
			}
			return o.printProvider(p)
		})
	}
	return cmd
}

func (o *Options) printProvider(p *registry.Provider) error {
	head := newTable()
	head.row("Provider", p.ID+" ("+p.Title+")")
	head.row("Documentation", p.Docs)
	head.row("Where the key is", p.GetKey.Text+" ("+p.GetKey.URL+")")
	rows(head, "Hosts", "-", p.Hosts)
	for _, h := range p.HostParams {
		head.row("{"+h.Name+"}", hostParamText(h))
	}
	rows(head, "Notes", "-", p.Notes)

	names := newTable("SECRET", "FIELD", "ALIASES", "ABOUT")
	for _, s := range p.Secrets {
		field := s.Field
		if s.Public {
			field += " (public)"
		}
		names.row(s.Name, field, orDash(strings.Join(s.Aliases, ", ")), orDash(s.About))
	}
	logins := newTable("LOGIN", "HOW", "SECRETS", "STATE")
	for i := range p.Logins {
		l := &p.Logins[i]
		state := "ready"
		switch {
		case l.NotYet != "":
			state = "not yet"
		case l.Dedicated:
			state = "for what names it"
		}
		logins.row(l.ID, l.Auth.Type, strings.Join(l.Fields(), ", "), state)
	}
	what := newTable("CAPABILITY", "ACCESS", "METHODS", "DESCRIPTION")
	told := slices.ContainsFunc(p.Capabilities, func(c registry.Capability) bool { return c.Operation != nil })
	if told {
		what = newTable("CAPABILITY", "ACCESS", "METHODS", "BODY", "DESCRIPTION")
	}
	for _, c := range p.Capabilities {
		cells := []string{c.ID, c.Access, strings.Join(c.Methods, ",")}
		if told {
			cells = append(cells, operationText(c.Operation))
		}
		what.row(append(cells, c.Description)...)
	}
	tables := []*table{head, names, logins, what}
	if len(p.Sets) > 0 {
		t := newTable("SET", "MEMBERS", "DESCRIPTION")
		for _, s := range p.Sets {
			t.row(s.ID, fmt.Sprint(len(s.Members)), s.Description)
		}
		tables = append(tables, t)
	}
	return o.printTables(tables)
}

// operationText names what a capability's bodies may ask for, the first few of
// many.
func operationText(o *registry.Operation) string {
	switch {
	case o == nil:
		return "-"
	case len(o.GraphQL) > 0:
		return "GraphQL " + strings.Join(o.GraphQL, ", ")
	}
	const most = 2
	text := "JSON-RPC " + strings.Join(o.JSONRPC[:min(most, len(o.JSONRPC))], ", ")
	if more := len(o.JSONRPC) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func hostParamText(h registry.HostParam) string {
	text := "a " + h.Kind
	if h.About != "" {
		text += ": " + h.About
	}
	if len(h.Values) > 0 {
		text += " (" + strings.Join(h.Values, ", ") + ")"
	}
	if h.Default != "" {
		text += " [default " + h.Default + "]"
	}
	return text
}

// completeProvider offers the providers of the registry.
func (o *Options) completeProvider(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(registryIDs, prefix)
}

func registryIDs(ctx context.Context, c *client.Client) ([]string, error) {
	list, err := c.Registry(ctx)
	var ids []string
	for _, p := range list.Providers {
		ids = append(ids, p.Provider)
	}
	return ids, err
}
