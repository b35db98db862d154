package cli

import (
	"context"
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
		Long: "Writes a script that completes commands, flags and the ids of capabilities that are ready. It goes\n" +
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

// completeCapability offers the capabilities that are ready. It asks a daemon
// that runs and never starts one.
func (o *Options) completeCapability(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	cfg, err := o.clientConfig()
	if err != nil || len(args) > 0 || cfg.Env.Disable {
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
	list, err := c.Capabilities(ctx)
	if err != nil {
		return nil, none
	}
	var out []string
	for _, summary := range list.Capabilities {
		if summary.Ready && strings.HasPrefix(summary.ID, prefix) {
			out = append(out, summary.ID)
		}
	}
	return out, none
}
