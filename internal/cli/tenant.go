package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
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
	accounts, err := c.Credentials(ctx)
	if err != nil {
		return err
	}
	o.hint("%s", tenantCommand(s, list.Secrets, accounts.Credentials, host))
	return nil
}

func tenantCommand(s api.Secret, all []api.Secret, accounts []api.Credential, host string) string {
	cmd := "aivault credential create " + s.PinnedProvider
	if id := freeID(s, accounts); id != s.PinnedProvider {
		cmd = "aivault credential create " + id + " --provider " + s.PinnedProvider
	}
	for _, other := range all {
		if other.PinnedProvider == s.PinnedProvider && other.Scope == s.Scope {
			cmd += " --secret " + shellWord(other.Name)
		}
	}
	scope, _ := grant.ParseScope(s.Scope)
	return cmd + " --host " + shellWord(host) + scope.Flags()
}

// freeID is the provider's id, which another scope's account may have; then
// with the scope's in it, and at last with a number.
func freeID(s api.Secret, accounts []api.Credential) string {
	id := s.PinnedProvider
	if scope, ok := grant.ParseScope(s.Scope); ok && scope != grant.Global {
		scoped := strings.TrimRight(id+"-"+scope.Workspace+"-"+scope.Group, "-")
		if taken(id, accounts) && api.ValidID(scoped) {
			id = scoped
		}
	}
	base := id
	for n := 2; taken(id, accounts); n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	return id
}

func taken(id string, accounts []api.Credential) bool {
	return slices.ContainsFunc(accounts, func(c api.Credential) bool { return c.ID == id })
}
