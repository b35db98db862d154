package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
)

func newSecrets(o *Options) *cobra.Command {
	cmd := newGroup("secrets", "Store, list, rotate and delete secrets; none is ever printed", "secret")
	cmd.Long = "Secrets are stored sealed and used by the daemon alone: no command, API, log or error prints\none. A secret with a name that the registry knows (OPENAI_API_KEY) is pinned to its provider,\nand its capabilities are ready at once."
	cmd.AddCommand(newSecretsCreate(o), newSecretsList(o), newSecretsUpdate(o), newSecretsRotate(o), newSecretsDelete(o),
		newSecretsAttach(o), newSecretsDetach(o), newSecretsImport(o))
	for _, word := range []string{"get", "show", "reveal", "export"} {
		cmd.AddCommand(newNever(word))
	}
	return cmd
}

func newSecretsList(o *Options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: noArgs,
		Short: "List secrets: names, pins and versions, never values",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Secrets(cmd.Context())
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				if len(list.Secrets) == 0 {
					o.say("No secrets yet. Store one: aivault secrets create --name OPENAI_API_KEY")
					return nil
				}
				return o.printTable(secretTable(list))
			})
		},
	}
}

func secretTable(list api.SecretList) *table {
	var cells [][]string
	for _, s := range list.Secrets {
		pin := s.PinnedProvider
		if s.PinnedTenant != "" {
			pin += " (" + s.PinnedTenant + ")"
		}
		cells = append(cells, []string{s.Name, strings.Join(s.Aliases, ", "), s.Scope, strings.Join(s.AttachedGroups, ", "), pin,
			strconv.FormatUint(s.Version, 10), rfc3339(s.CreatedAtMs), rfc3339(s.RotatedAtMs), "vault:secret:" + s.ID})
	}
	heads := []string{"NAME", "ALIASES", "SCOPE", "ATTACHED TO", "PINNED TO", "VERSION", "CREATED", "ROTATED", "REFERENCE"}
	return filledTable(heads, cells, "ATTACHED TO")
}

// printSecret ends a command that changed a secret.
func (o *Options) printSecret(s api.Secret, lines string) error {
	if o.JSON {
		return o.printJSON(s)
	}
	for line := range strings.SplitSeq(lines, "\n") {
		o.say("%s", line)
	}
	return nil
}
