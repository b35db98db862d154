package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newCredential(o *Options) *cobra.Command {
	cmd := newGroup("credential", "Say how secrets authenticate, and to which hosts", "credentials")
	cmd.Long = "A credential is one account at one provider: its secrets, and for a provider that the registry\ndoes not know also how they authenticate and which hosts they may go to."
	cmd.AddCommand(newCredentialCreate(o), newCredentialList(o), newCredentialDelete(o))
	return cmd
}

func newCredentialList(o *Options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List credentials with their hosts and exceptions",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Credentials(cmd.Context())
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				if len(list.Credentials) == 0 {
					o.say("No credentials yet.")
					return nil
				}
				names, err := secretNames(cmd.Context(), c)
				if err != nil {
					return err
				}
				return o.printTable(credentialTable(list, names))
			})
		},
	}
}

// secretNames are the names of secrets by their ids.
func secretNames(ctx context.Context, c *client.Client) (map[string]string, error) {
	list, err := c.Secrets(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, s := range list.Secrets {
		names[s.ID] = s.Name
	}
	return names, nil
}

func credentialTable(list api.CredentialList, names map[string]string) *table {
	var cells [][]string
	for _, c := range list.Credentials {
		state := "ready"
		switch {
		case c.Problem != "":
			state = c.Problem
		case !c.Ready:
			state = "not ready"
		}
		var secrets []string
		for _, field := range slices.Sorted(maps.Keys(c.Secrets)) {
			id := c.Secrets[field]
			text := field + "=" + cmp.Or(names[id], id)
			if slices.Contains(c.PublicParts, field) {
				text += " (public)"
			}
			secrets = append(secrets, text)
		}
		cells = append(cells, []string{c.ID, c.Provider, c.Origin, c.Scope, c.Tenant, c.Auth, strings.Join(secrets, ", "),
			strings.Join(c.Hosts, ", "), strings.Join(c.Only, ", "), exceptions(c), state})
	}
	heads := []string{"ID", "PROVIDER", "ORIGIN", "SCOPE", "TENANT", "AUTH", "SECRETS", "HOSTS", "ONLY", "EXCEPTIONS", "STATE"}
	return filledTable(heads, cells, "TENANT", "ONLY", "EXCEPTIONS")
}

// exceptions are what the operator allowed to this credential alone.
func exceptions(c api.Credential) string {
	var parts []string
	if c.CAs > 0 {
		parts = append(parts, plural(c.CAs, "CA", "CAs"))
	}
	if c.AllowPrivateNetwork {
		parts = append(parts, "private network")
	}
	for _, p := range c.AllowPorts {
		parts = append(parts, fmt.Sprintf("port %d", p))
	}
	if c.AllowHTTP {
		parts = append(parts, "plain http")
	}
	return strings.Join(parts, ", ")
}

func newCredentialDelete(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID", Aliases: []string{"rm"},
		Short:             "Delete a credential; its secrets stay",
		ValidArgsFunction: o.completeCredential,
	}
	ref := newIDArg(cmd, "credential", "id")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			cred, err := c.DeleteCredential(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(cred)
			}
			o.say("Credential deleted: %s", cred.ID)
			return nil
		})
	}
	return cmd
}
