package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/secret"
)

// maxEnvFile bounds a file of entries.
const maxEnvFile = 4 << 20

func newSecretsImport(o *Options) *cobra.Command {
	var entries []string
	var file string
	var r api.SecretImport
	cmd := &cobra.Command{
		Use:   "import --entry NAME=VALUE | --env-file FILE",
		Short: "Store many secrets in one change, from a .env file or the command line",
		Long: "Stores every entry under its name, as secrets create does, and gives a secret that is there\n" +
			"already its new value. All of it is done in one change, or nothing is. A .env file is read as\n" +
			"people write them: NAME=VALUE, quotes, export, comments; no variable in it is expanded.",
		Example: "  aivault secrets import --env-file .env --dry-run\n" +
			"  aivault secrets import --env-file .env\n" +
			"  aivault secrets import --env-file .env --workspace-id acme",
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringArrayVar(&entries, "entry", nil, "store `NAME=VALUE`; may be repeated (other processes can see a command line: prefer --env-file)")
	f.StringVar(&file, "env-file", "", "store the entries of `FILE`, - for standard input")
	f.BoolVar(&r.DryRun, "dry-run", false, "say what would become of each entry, and change nothing")
	scope := newScopeFlags(cmd, "whose the secrets are")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if r.Scope, err = scope.get(cmd); err != nil {
			return err
		}
		if err := oneOf(cmd, "entry", "env-file"); err != nil {
			return err
		}
		if cmd.Flags().Changed("env-file") {
			r.Entries, err = o.fileEntries(cmd.Context(), file)
		} else {
			r.Entries, err = o.flagEntries(entries)
		}
		defer wipeEntries(r.Entries)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			done, err := c.ImportSecrets(cmd.Context(), r)
			if err != nil {
				return err
			}
			return o.printImported(done)
		})
	}
	return cmd
}

// flagEntries are those of --entry.
func (o *Options) flagEntries(pairs []string) ([]api.SecretEntry, error) {
	if len(pairs) == 0 {
		return nil, api.Errorf(api.InvalidRequest, "nothing to import: give --entry or --env-file")
	}
	o.notice("--entry is visible to other processes on this machine and stays in the shell's history; --env-file is not")
	var entries []api.SecretEntry
	seen := map[string]bool{}
	for _, pair := range pairs {
		name, value, err := splitPair("entry", pair)
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, api.Errorf(api.InvalidRequest, "--entry gives %+.80q twice", name)
		}
		seen[name] = true
		entries = append(entries, api.SecretEntry{Name: name, Value: secret.FromString(value)})
	}
	return entries, nil
}

// fileEntries are those of a .env file. A name that stands there twice with
// two values is refused: which of them was meant, nobody can say.
func (o *Options) fileEntries(ctx context.Context, path string) ([]api.SecretEntry, error) {
	data, err := o.readAll(ctx, "env-file", path, maxEnvFile)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	read, err := parseDotenv(data)
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "--env-file %+.80q: %w", path, err)
	}
	if len(read) == 0 {
		return nil, api.Errorf(api.InvalidRequest, "--env-file %+.80q has no entries", path)
	}
	var entries []api.SecretEntry
	first := map[string]dotenvEntry{}
	for _, e := range read {
		entries = append(entries, api.SecretEntry{Name: e.Name, Value: e.Value})
		f, twice := first[e.Name]
		if twice && !f.Value.Equal(e.Value) {
			return entries, api.Errorf(api.InvalidRequest, "--env-file %+.80q gives %+.80q twice, in lines %d and %d", path, e.Name, f.Line, e.Line)
		}
		if !twice {
			first[e.Name] = e
		}
	}
	return entries, nil
}

func wipeEntries(entries []api.SecretEntry) {
	for _, e := range entries {
		e.Value.Wipe()
	}
}

func (o *Options) printImported(r api.SecretImported) error {
	if o.JSON {
		return o.printJSON(r)
	}
	if err := o.printTable(importTable(r)); err != nil {
		return err
	}
	counts := fmt.Sprintf("%d created, %d rotated, %d skipped", len(r.Created), len(r.Rotated), len(r.Skipped))
	if r.DryRun {
		counts = "Nothing was changed; it would be: " + counts
	}
	o.say("%s", counts)
	return nil
}

func importTable(r api.SecretImported) *table {
	t := newTable("NAME", "RESULT", "DETAIL")
	for _, kind := range []struct {
		result string
		list   []api.SecretImportOf
	}{{"created", r.Created}, {"rotated", r.Rotated}, {"skipped", r.Skipped}} {
		for _, e := range kind.list {
			t.row(e.Name, kind.result, orDash(importDetail(e)))
		}
	}
	return t
}

func importDetail(e api.SecretImportOf) string {
	var parts []string
	if e.Reason != "" {
		parts = append(parts, e.Reason)
	}
	if e.PinnedProvider != "" {
		parts = append(parts, "pinned to "+e.PinnedProvider)
	}
	switch {
	case len(e.Waiting) > 0:
		parts = append(parts, "waiting for "+strings.Join(e.Waiting, ", "))
	case e.Credential != "":
		parts = append(parts, "credential "+e.Credential)
	}
	return strings.Join(parts, ", ")
}
