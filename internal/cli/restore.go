package cli

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/term"
	"moldable.sh/aivault/internal/vault"
)

func newRestore(o *Options) *cobra.Command {
	var r api.RestoreRequest
	cmd := &cobra.Command{
		Use:   "restore [FILE]",
		Short: "Put a backup back, or accept a vault that is older than its log says",
		Long: "Puts the vault of a backup in place, with its audit log: where there is no vault, or where this\n" +
			"very vault is there and not newer. A backup that is older than the vault is refused, with what\n" +
			"would be lost; --accept and its generation puts it back all the same, keeps the log, and records\n" +
			"it. Another vault is never replaced. - is standard input.\n" +
			"\n" +
			"Without FILE, --accept takes the vault.aiv that is in place for what it is, although its log knows\n" +
			"a later one, or is missing, cut short or broken. A log that is whole is kept; any other is moved\n" +
			"aside, and a new one begins.",
		Example: "  aivault restore ~/aivault.backup\n" +
			"  aivault restore ~/aivault.backup --accept 2\n" +
			"  aivault restore --accept 2",
		Args: cobra.ArbitraryArgs,
	}
	pass := newEntry(cmd, "passphrase", "passphrase-file", "the passphrase")
	cmd.Flags().Uint64Var(&r.Accept, "accept", 0, "put this `GENERATION` back although a later one is known")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return api.Errorf(api.InvalidRequest, "give one file")
		}
		if cmd.Flags().Changed("accept") && r.Accept == 0 {
			return api.Errorf(api.InvalidRequest, "--accept needs the generation that is to be put back, from 1")
		}
		if len(args) == 0 && r.Accept == 0 {
			return api.Errorf(api.InvalidRequest, "give the file of a backup, or --accept with the generation of the vault in place")
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			var done api.Restored
			var err error
			if len(args) == 0 {
				done, err = o.acceptInPlace(cmd, c, r, pass)
			} else {
				done, err = o.restoreFile(cmd, c, r, pass, args[0])
			}
			if err != nil {
				return sameFlags(err, r.Accept, pass.file)
			}
			return o.printRestored(done)
		})
	}
	return cmd
}

// acceptInPlace restores without a backup.
func (o *Options) acceptInPlace(cmd *cobra.Command, c *client.Client, r api.RestoreRequest, pass *entry) (api.Restored, error) {
	with, err := unlockRequest(o, cmd, c, pass)
	if err != nil {
		return api.Restored{}, err
	}
	defer wipeKey(with.Passphrase, with.Key)
	r.Passphrase, r.Key = with.Passphrase, with.Key
	return c.Restore(cmd.Context(), r, client.Body{})
}

// restoreFile sends a backup as it is read, after what opens it.
func (o *Options) restoreFile(cmd *cobra.Command, c *client.Client, r api.RestoreRequest, pass *entry, path string) (done api.Restored, err error) {
	if path == "-" && pass.file == "-" {
		return done, api.Errorf(api.InvalidRequest, "standard input cannot be both the backup and its passphrase")
	}
	ctx := cmd.Context()
	in, err := o.open(ctx, "", path)
	if err != nil {
		return done, err
	}
	defer in.Close()
	ahead := bufio.NewReaderSize(in, vault.PeekSize)
	info, err := vault.PeekBackup(ahead)
	if err != nil {
		var path2 *os.PathError
		if errors.As(err, &path2) {
			return done, fileError("", path, err)
		}
		return done, err
	}
	switch info.Key.Provider {
	case keysource.Passphrase:
		if r.Passphrase, err = o.backupPassphrase(cmd, pass, info); err != nil {
			return done, nameFile(err, path)
		}
	case keysource.Env:
		name := info.Key.EnvName()
		if r.Key, err = o.keyFromEnv(name); err != nil {
			return done, errNoVariable("the backup's key", name)
		}
	}
	defer wipeKey(r.Passphrase, r.Key)
	done, err = c.Restore(ctx, r, client.Body{Reader: ahead, Length: in.size})
	return done, nameFile(err, path)
}

// backupPassphrase asks for the passphrase of a backup. Standard input may be
// the backup.
func (o *Options) backupPassphrase(cmd *cobra.Command, pass *entry, info vault.BackupInfo) (secret.Value, error) {
	if pass.given(cmd) {
		return pass.fromFlags(cmd.Context(), o, cmd)
	}
	prompt := "Passphrase of the vault when the backup was made (" + madeAt(info) + "): "
	if info.Alone {
		prompt = "Passphrase of the backup: "
	}
	v, err := o.askForPassphrase(cmd.Context(), question{prompt: prompt})
	if e := api.AsError(err); e != nil && e.Code == api.InvalidRequest && e.Hint != "" {
		err = api.Errorf(api.VaultLocked, "this backup opens with a passphrase, and there is no terminal to ask on").WithHint("aivault restore FILE --passphrase-file PATH")
	}
	return v, err
}

// nameFile puts the file's name into a hint that repeats the command.
func nameFile(err error, path string) error {
	e := api.AsError(err)
	if e == nil || !strings.Contains(e.Hint, "restore FILE") {
		return err
	}
	return e.WithHint("%s", strings.Replace(e.Hint, "restore FILE", "restore "+shellWord(path), 1))
}

// sameFlags puts what was given into a hint that repeats the command without
// it: who follows one hint after the other would never have given both.
func sameFlags(err error, accept uint64, passphraseFile string) error {
	e := api.AsError(err)
	if !strings.HasPrefix(e.Hint, "aivault restore ") {
		return err
	}
	hint := e.Hint
	if accept != 0 && !strings.Contains(hint, " --accept ") {
		hint += " --accept " + strconv.FormatUint(accept, 10)
	}
	if passphraseFile != "" && !strings.Contains(hint, " --passphrase-file ") {
		hint += " --passphrase-file " + shellWord(passphraseFile)
	}
	return e.WithHint("%s", hint)
}

func (o *Options) printRestored(done api.Restored) error {
	if done.Notice != "" {
		o.notice("%s", done.Notice)
	}
	if done.MovedLog != "" {
		o.notice("the audit log that was in place is kept as %s", term.Line(done.MovedLog))
	}
	if o.JSON {
		return o.printJSON(done)
	}
	if done.Generation == done.From {
		o.say("Vault in place: generation %d (%s, key provider: %s)", done.Generation, done.State, term.Line(done.Provider))
		return nil
	}
	o.say("Vault in place: generation %d, restored from generation %d (%s, key provider: %s)", done.Generation, done.From, done.State, term.Line(done.Provider))
	return nil
}

// backupVariables are the key variables that a backup on the command line
// names: the process that opens it is started again without any other.
func backupVariables(args []string) []string {
	if firstWord(args) != "restore" {
		return nil
	}
	var names []string
	for _, a := range args {
		if a == "restore" || strings.HasPrefix(a, "-") {
			continue
		}
		if info, err := peekFile(a); err == nil && info.Key.Provider == keysource.Env {
			names = append(names, info.Key.EnvName())
		}
	}
	return names
}

func peekFile(path string) (vault.BackupInfo, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() { // a pipe can be read once
		return vault.BackupInfo{}, errors.Join(err, io.EOF)
	}
	f, err := os.Open(path)
	if err != nil {
		return vault.BackupInfo{}, err
	}
	defer f.Close()
	return vault.PeekBackup(bufio.NewReaderSize(f, vault.PeekSize))
}
