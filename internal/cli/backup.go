package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/term"
	"moldable.sh/aivault/internal/vault"
)

// backupDone is what backup prints with --json.
type backupDone struct {
	File       string `json:"file"`
	VaultID    string `json:"vaultId"`
	Generation uint64 `json:"generation"`
	MadeAtMs   int64  `json:"madeAtMs"`
	Provider   string `json:"provider"` // of the key that opens it
	Alone      bool   `json:"alone"`    // that key is a passphrase of its own
}

func newBackup(o *Options) *cobra.Command {
	var force, ask bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the vault and its audit log into one sealed file",
		Long: "Writes one file with everything that is in the vault, and its audit log, while both stay in use.\n" +
			"It opens by what the vault itself opens by, and a key file is not in it: keep a copy of that too,\n" +
			"elsewhere. With a passphrase the backup stands alone. - is standard output. The vault must be\n" +
			"unlocked.",
		Example: "  aivault backup ~/aivault.backup\n" +
			"  aivault backup ~/aivault.backup --force --passphrase-file ~/backup-passphrase",
		Args: cobra.ArbitraryArgs,
	}
	pass := newEntry(cmd, "passphrase", "passphrase-file", "a passphrase for this backup alone")
	cmd.Flags().BoolVar(&ask, "passphrase-prompt", false, "ask for such a passphrase at the terminal")
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE where there is one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := oneFile(args)
		if err != nil {
			return err
		}
		if err := o.checkBackupFile(path, force); err != nil {
			return err
		}
		var r api.BackupRequest
		switch {
		case pass.given(cmd) && ask:
			return api.Errorf(api.InvalidRequest, "give a passphrase or ask for one, not both")
		case pass.given(cmd):
			r.Passphrase, err = pass.fromFlags(cmd.Context(), o, cmd)
		case ask:
			r.Passphrase, err = o.askForPassphrase(cmd.Context(), question{prompt: "Passphrase of the backup: ", again: "The same again: "})
		}
		if err != nil {
			return err
		}
		defer wipeKey(r.Passphrase)
		return o.withClient(cmd.Context(), func(c *client.Client) error { return o.backUp(cmd.Context(), c, r, path, force) })
	}
	return cmd
}

// askForPassphrase asks at the terminal, whatever standard input is.
func (o *Options) askForPassphrase(ctx context.Context, q question) (v secret.Value, err error) {
	v, err = o.ask(ctx, q)
	if errors.Is(err, term.ErrNoTerminal) {
		err = api.Errorf(api.InvalidRequest, "there is no terminal to ask on").WithHint("aivault backup FILE --passphrase-file PATH")
	}
	return v, err
}

// checkBackupFile refuses, before anything is asked, what cannot be written.
func (o *Options) checkBackupFile(path string, force bool) error {
	if path == "-" {
		switch {
		case term.IsTerminal(o.Out):
			return api.Errorf(api.InvalidRequest, "a backup is not written to a terminal: give a file, or a pipe")
		case o.JSON:
			return api.Errorf(api.InvalidRequest, "standard output takes the backup or the result as JSON, not both")
		}
		return nil
	}
	if err := o.checkNoVaultFile(path); err != nil {
		return err
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fileError("", path, err)
	case !info.Mode().IsRegular():
		return api.Errorf(api.InvalidRequest, "%q is no file", path)
	case !force:
		return errBackupThere(path)
	}
	return nil
}

// checkNoVaultFile refuses to write where it would cost a vault: in the vault's
// own directory, where names have a meaning, and over any vault's document or
// key, without which no backup helps.
func (o *Options) checkNoVaultFile(path string) error {
	env, err := o.env()
	if err != nil {
		return err
	}
	if within(env.Dir, path) {
		return api.Errorf(api.InvalidRequest, "%q is in the vault's own directory", path).WithHint("aivault backup ~/aivault.backup")
	}
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // what cannot be read is no file of this user's vault
	}
	defer f.Close()
	for _, begins := range []string{`{"aivaultKeys":`, `{"aivaultVault":`} {
		b := make([]byte, len(begins)) // and nothing of a key
		if n, _ := f.ReadAt(b, 0); string(b[:n]) == begins {
			return api.Errorf(api.InvalidRequest, "%q belongs to a vault, and is not replaced", path).WithHint("aivault backup ~/aivault.backup")
		}
	}
	return nil
}

// within says whether a file would be made below dir, links resolved.
func within(dir, path string) bool {
	parent, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return false
	}
	dir, errDir := filepath.EvalSymlinks(dir)
	parent, errParent := filepath.EvalSymlinks(parent)
	rel, errRel := filepath.Rel(dir, parent)
	return errors.Join(errDir, errParent, errRel) == nil && filepath.IsLocal(rel)
}

func errBackupThere(path string) error {
	return api.Errorf(api.AlreadyExists, "%q is there already", path).WithHint("aivault backup %s --force", shellWord(path))
}

func (o *Options) backUp(ctx context.Context, c *client.Client, r api.BackupRequest, path string, force bool) error {
	body, err := c.Backup(ctx, r)
	if err != nil {
		return err
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, vault.PeekSize)
	info, err := vault.PeekBackup(in)
	if err != nil {
		return err
	}
	if err := o.writeBackup(path, force, in); err != nil {
		return err
	}
	if o.JSON {
		return o.printJSON(backupDone{path, info.VaultID, info.Generation, info.MadeAtMs, info.Key.Provider, info.Alone})
	}
	where := term.Line(path)
	if path == "-" {
		where = "standard output"
	}
	o.say("Backup of generation %d written to %s", info.Generation, where)
	o.say("%s", o.opensWith(info))
	return nil
}

// writeBackup writes all of the backup, or no file.
func (o *Options) writeBackup(path string, force bool, in io.Reader) error {
	if path == "-" {
		_, err := io.Copy(o.Out, in)
		return err
	}
	var broken error
	err := durable.WriteStream(path, force, func(w io.Writer) error {
		_, err := io.Copy(w, readerFunc(func(p []byte) (int, error) {
			n, err := in.Read(p)
			if err != nil && !errors.Is(err, io.EOF) {
				broken = err
			}
			return n, err
		}))
		return err
	})
	switch {
	case broken != nil:
		return broken
	case errors.Is(err, fs.ErrExist):
		return errBackupThere(path)
	case err != nil:
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return api.Errorf(api.Internal, "write %q: %w", path, err)
	}
	return nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// opensWith says what a person must keep beside a backup.
func (o *Options) opensWith(info vault.BackupInfo) string {
	switch {
	case info.Alone:
		return "This backup opens with its passphrase alone, which is written down nowhere"
	case info.Key.Provider == keysource.Passphrase:
		return "This backup opens with the passphrase that the vault has now, which is written down nowhere"
	case info.Key.Provider == keysource.Env:
		return "This backup opens with the key in the variable " + term.Line(info.Key.EnvName()) + ", which is not in it"
	}
	path := info.Key.Path
	if env, err := o.env(); path == "" && err == nil {
		path = env.KeyFile
	}
	return "This backup opens with the key file " + term.Line(path) + ", which is not in it: keep a copy of that elsewhere"
}

// madeAt is when a backup says that it was made.
func madeAt(info vault.BackupInfo) string {
	return time.UnixMilli(info.MadeAtMs).UTC().Format(time.RFC3339)
}
