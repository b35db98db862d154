package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCompletion(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write the completion script for your shell",
		Long: "Writes a script that completes commands, flags and ids: of capabilities, credentials, secrets. It goes\n" +
			"where your shell looks for such scripts: for bash a directory of the package bash-completion, for\n" +
			"zsh any directory in $fpath.",
		Example: "  aivault completion bash > ~/.local/share/bash-completion/completions/aivault\n" +
			"  aivault completion zsh > ~/.zfunc/_aivault\n" +
			"  aivault completion fish > ~/.config/fish/completions/aivault.fish",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch strings.Join(args, " ") {
			case "bash":
				return root.GenBashCompletionV2(o.Out, true)
			case "zsh":
				return root.GenZshCompletion(o.Out)
			case "fish":
				return root.GenFishCompletion(o.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(o.Out)
			}
			return api.Errorf(api.InvalidRequest, "completions are written for bash, zsh, fish and powershell")
		},
	}
}

// completeTimeout bounds what a shell waits for at the Tab key.
const completeTimeout = 2 * time.Second

// asking is connecting for a completion: to a daemon that runs. It starts none,
// and asks no one for a passphrase.
func (o *Options) asking(ask func(ctx context.Context, c *client.Client) ([]string, error), prefix string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	cfg, err := o.clientConfig()
	if err != nil || cfg.Env.Disable {
		return nil, none
	}
	cfg.Env.Autostart = false
	cfg.Notice = nil
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	c, err := client.Connect(ctx, cfg)
	if err != nil {
		return nil, none
	}
	defer c.Close()
	words, err := ask(ctx, c)
	if err != nil {
		return nil, none
	}
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, prefix) }), none
}

// completeCapability offers the capabilities and sets that are ready.
func (o *Options) completeCapability(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(func(ctx context.Context, c *client.Client) ([]string, error) { return capabilityIDs(ctx, c, true) }, prefix)
}

// completeAnyCapability offers every capability and set.
func (o *Options) completeAnyCapability(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(func(ctx context.Context, c *client.Client) ([]string, error) { return capabilityIDs(ctx, c, false) }, prefix)
}

// completePatterns offers every capability and set, and each provider's whole.
func (o *Options) completePatterns(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return o.asking(func(ctx context.Context, c *client.Client) ([]string, error) {
		ids, err := capabilityIDs(ctx, c, false)
		for _, id := range slices.Clone(ids) {
			if provider, _, ok := strings.Cut(id, "/"); ok && !slices.Contains(ids, provider+"/*") {
				ids = append(ids, provider+"/*")
			}
		}
		return ids, err
	}, prefix)
}

func capabilityIDs(ctx context.Context, c *client.Client, ready bool) ([]string, error) {
	list, err := c.CapabilitiesBy(ctx, api.CapabilityQuery{Usable: ready})
	var ids []string
	for _, one := range list.Capabilities {
		if one.Ready || !ready {
			ids = append(ids, one.ID)
		}
	}
	for _, s := range list.Sets {
		if (s.Ready || !ready) && !slices.Contains(ids, s.ID) { // a set may bear a member's name
			ids = append(ids, s.ID)
		}
	}
	return ids, err
}

// completeCredential offers the ids of credentials, to the operator.
func (o *Options) completeCredential(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(credentialIDs, prefix)
}

func credentialIDs(ctx context.Context, c *client.Client) ([]string, error) {
	list, err := c.Credentials(ctx)
	var ids []string
	for _, one := range list.Credentials {
		ids = append(ids, one.ID)
	}
	return ids, err
}

// completeSecret offers the names of secrets, to the operator.
func (o *Options) completeSecret(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Secrets(ctx)
		var names []string
		for _, s := range list.Secrets {
			if !slices.Contains(names, s.Name) { // once for each scope
				names = append(names, s.Name)
			}
		}
		return names, err
	}, prefix)
}

// completeGrant offers the ids of grants.
func (o *Options) completeGrant(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.asking(func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Grants(ctx)
		var ids []string
		for _, g := range list.Grants {
			ids = append(ids, g.ID)
		}
		return ids, err
	}, prefix)
}

// completeFlags says what the values of flags can be, for every command that
// has them.
func (o *Options) completeFlags(root *cobra.Command) {
	type complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)
	asked := func(ask func(context.Context, *client.Client) ([]string, error)) complete {
		return func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return o.asking(ask, prefix)
		}
	}
	fixed := func(words ...string) complete {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return words, cobra.ShellCompDirectiveNoFileComp
		}
	}
	table := map[string]complete{
		"capability": o.completePatterns,
		"only":       o.completePatterns,
		"credential": asked(credentialIDs),
		"scope":      fixed(scopeGlobal, scopeWorkspace, scopeGroup),
		"provider":   asked(registryIDs),
		"method":     fixed("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
	}
	keys := fixed("file", "passphrase", "env")
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for flag, words := range table {
			if flag == "provider" && (cmd.Name() == "init" || cmd.Name() == "rotate-master") {
				words = keys // of a key, not of an API
			}
			if cmd.LocalNonPersistentFlags().Lookup(flag) != nil {
				// It fails for a flag that is not there, or done already.
				_ = cmd.RegisterFlagCompletionFunc(flag, words)
			}
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
}
