package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/client"
)

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
