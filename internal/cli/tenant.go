package cli

import (
	"context"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

// waitingHost is the host that a provider's credential waits for, as its
// registry entry writes it ({shop}.myshopify.com); "" when it waits for none.
func waitingHost(waiting []string) string {
	for _, w := range waiting {
		if rest, ok := strings.CutPrefix(w, "--host "); ok {
			host, _, _ := strings.Cut(rest, " ")
			return host
		}
	}
	return ""
}

// hintTenant prints the command that completes a provider whose host nobody
// but the operator can know, with every secret that is there for it.
func (o *Options) hintTenant(ctx context.Context, c *client.Client, s api.Secret, host string) error {
	list, err := c.Secrets(ctx)
	if err != nil {
		return err
	}
	o.hint("%s", tenantCommand(s, list.Secrets, host))
	return nil
}

func tenantCommand(s api.Secret, all []api.Secret, host string) string {
	cmd := "aivault credential create " + s.PinnedProvider
	for _, other := range all {
		if other.PinnedProvider == s.PinnedProvider && other.Scope == s.Scope {
			cmd += " --secret " + shellWord(other.Name)
		}
	}
	return cmd + " --host " + shellWord(host) + scopeArgsOf(s.Scope)
}
