package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/term"
)

// entry is a secret that a person gives: on the command line, in a file, or
// at the terminal.
type entry struct {
	valueFlag, fileFlag string
	value, file         string
}

// newEntry adds the two flags to cmd.
func newEntry(cmd *cobra.Command, valueFlag, fileFlag, what string) *entry {
	e := &entry{valueFlag: valueFlag, fileFlag: fileFlag}
	cmd.Flags().StringVar(&e.value, valueFlag, "", "`V` is "+strings.TrimSuffix(what, ",")+" (other processes can see a command line: prefer --"+fileFlag+" or the prompt)")
	cmd.Flags().StringVar(&e.file, fileFlag, "", "read "+what+" from `PATH`, - for standard input")
	return e
}

// given says whether a flag was used.
func (e *entry) given(cmd *cobra.Command) bool {
	return cmd.Flags().Changed(e.valueFlag) || cmd.Flags().Changed(e.fileFlag)
}

// fromFlags returns what the flags gave; both at once are a usage error.
func (e *entry) fromFlags(ctx context.Context, o *Options, cmd *cobra.Command) (secret.Value, error) {
	if err := oneOf(cmd, e.valueFlag, e.fileFlag); err != nil {
		return secret.Value{}, err
	}
	if cmd.Flags().Changed(e.valueFlag) {
		o.notice("--%s is visible to other processes on this machine and stays in the shell's history; --%s or the prompt is not", e.valueFlag, e.fileFlag)
		return notEmpty(secret.FromString(e.value), "--"+e.valueFlag)
	}
	data, err := o.readAll(ctx, e.fileFlag, e.file, secret.MaxSize+2)
	if err != nil {
		return secret.Value{}, err
	}
	return notEmpty(secret.New(trimNewline(data)), "--"+e.fileFlag)
}

// question is what to ask at the terminal.
type question struct {
	prompt string
	again  string // asked a second time with these words; "" for once
	about  string // a line said before the prompt
}

// get returns what the flags gave, else what standard input holds when it is a
// pipe or a file, else what a person types.
func (e *entry) get(ctx context.Context, o *Options, cmd *cobra.Command, q question) (secret.Value, error) {
	if e.given(cmd) {
		return e.fromFlags(ctx, o, cmd)
	}
	if o.stdinHasData() {
		in, err := o.takeStdin(e.fileFlag)
		if err != nil {
			return secret.Value{}, err
		}
		data, err := readLimited(ctxReader{ctx, in}, secret.MaxSize+2)
		if errors.Is(err, errTooLong) {
			return secret.Value{}, api.Errorf(api.InvalidRequest, "standard input is longer than %d bytes", secret.MaxSize)
		}
		if err != nil {
			return secret.Value{}, err
		}
		return notEmpty(secret.New(trimNewline(data)), "standard input")
	}
	v, err := o.ask(ctx, q)
	if errors.Is(err, term.ErrNoTerminal) {
		return secret.Value{}, api.Errorf(api.InvalidRequest, "there is no terminal to ask on").
			WithHint("%s … --%s PATH", cmd.CommandPath(), e.fileFlag)
	}
	return v, err
}

// ask asks at the terminal.
func (o *Options) ask(ctx context.Context, q question) (secret.Value, error) {
	if q.about != "" {
		o.say("%s", q.about)
	}
	v, err := o.askOnce(ctx, q.prompt)
	if err != nil || q.again == "" {
		return v, err
	}
	second, err := o.askOnce(ctx, q.again)
	if err != nil {
		v.Wipe()
		return secret.Value{}, err
	}
	same := v.Equal(second)
	second.Wipe()
	if !same {
		v.Wipe()
		return secret.Value{}, api.Errorf(api.InvalidRequest, "the two entries differ; nothing was changed")
	}
	return v, nil
}

func (o *Options) askOnce(ctx context.Context, prompt string) (secret.Value, error) {
	v, err := term.ReadPassword(ctx, prompt)
	switch {
	case errors.Is(err, io.EOF):
		return secret.Value{}, api.Errorf(api.InvalidRequest, "nothing was entered")
	case errors.Is(err, term.ErrTooLong):
		return secret.Value{}, api.Errorf(api.InvalidRequest, "%w; use a file", err)
	case err != nil:
		return secret.Value{}, err
	}
	return notEmpty(v, "what was entered")
}

func notEmpty(v secret.Value, where string) (secret.Value, error) {
	if v.IsZero() {
		return v, api.Errorf(api.InvalidRequest, "%s is empty", where)
	}
	return v, nil
}

// stdinHasData says whether standard input is something to read a value from:
// a pipe, a socket or a file, but neither a terminal nor /dev/null.
func (o *Options) stdinHasData() bool {
	f, ok := o.Stdin.(*os.File)
	if !ok {
		return o.Stdin != nil
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice == 0
}

// askToUnlock asks for the passphrase of a vault that this process opens
// itself.
func (o *Options) askToUnlock(ctx context.Context) (api.Unlock, error) {
	v, err := o.ask(ctx, question{prompt: "Passphrase of the vault: "})
	if errors.Is(err, term.ErrNoTerminal) {
		return api.Unlock{}, api.Errorf(api.VaultLocked, "the vault is locked, and there is no terminal to ask for its passphrase").
			WithHint("run the daemon (unset AIVAULTD_DISABLE) and aivault unlock")
	}
	return api.Unlock{Passphrase: v}, err
}

// keyFromEnv is the value of the variable that holds an env vault's key.
func (o *Options) keyFromEnv(name string) (secret.Value, error) {
	env, err := o.env()
	if err != nil {
		return secret.Value{}, err
	}
	if v, ok := env.Keys[name]; ok && !v.IsZero() {
		return v, nil
	}
	if v, ok := lookupSet(o.Environ, name); ok && v != "" {
		return secret.FromString(v), nil
	}
	return secret.Value{}, api.Errorf(api.InvalidRequest, "the variable %q is not set", name).
		WithHint("export %s=\"$(openssl rand -base64 32)\" and keep a copy of it", term.Line(name))
}

// keyHelp says where the value of a registry name, or of its alias, comes
// from; "" when the registry does not claim the name.
func keyHelp(name string) string {
	reg, err := registry.Load()
	if err != nil {
		return ""
	}
	claim, ok := reg.Claims(name)
	if !ok {
		return ""
	}
	get := reg.Summary(claim.Provider).GetKey
	text := strings.TrimSpace(claim.Secret.About + " " + get.Text)
	if get.URL != "" {
		text += " (" + get.URL + ")"
	}
	return text
}
