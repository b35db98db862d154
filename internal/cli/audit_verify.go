package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/term"
	"moldable.sh/aivault/internal/vault"
)

// Bounds of what verify reads of its files.
const (
	maxVerifierKey = 4 << 10
	maxCheckpoint  = audit.MaxCheckpoints // the log's own file is what people keep
)

// verifierKey is how a key looks where it is given as it is and not as a file:
// a name, a hash and the key, as of golang.org/x/mod/sumdb/note.
var verifierKey = regexp.MustCompile(`^[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$`)

func newAuditVerify(o *Options) *cobra.Command {
	var from, key, checkpoint string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing was changed in the audit log, or taken from it",
		Long: "Checks every line, every signature, and that the one fits the other. It asks no daemon and needs\n" +
			"no secret: it works on a locked vault, and with --from on a copy of the log's directory.\n" +
			"Without --key it takes the public key that lies beside the log, which whoever rewrites the log can\n" +
			"replace as well: keep the key (aivault status --json shows it) and a checkpoint somewhere else, and\n" +
			"give them here. The exit status is 1 when something was found; the first line that is wrong is named,\n" +
			"and for the log in use a hint says how to come out of it.",
		Example: "  aivault audit verify\n" +
			"  aivault audit verify --from audit-copy --key key.pub --checkpoint checkpoints",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.verifyConfig(cmd.Context(), from, key, checkpoint)
			if err != nil {
				return err
			}
			inUse := func(hint string) string { return hint }
			if from == "" {
				if id, generation, err := vault.Claimed(filepath.Dir(cfg.Dir)); err == nil {
					cfg.VaultID, cfg.Named = id, true
					inUse = func(hint string) string { return audit.ForGeneration(hint, generation) }
				}
			}
			var report audit.Report
			if done := untilDone(cmd.Context(), func() { report, err = audit.Verify(cfg) }); done != nil {
				return done
			}
			if err != nil {
				return verifyError(err, &cfg, from, inUse)
			}
			hint := ""
			if report.Problem != nil && from == "" {
				hint = inUse(report.Problem.Mend(cfg.Dir))
			}
			return o.printReport(report, hint)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the log, or a vault with one, is in this `DIR`")
	cmd.Flags().StringVar(&key, "key", "", "the public `KEY`, or a file that holds it")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "hold it against the signed checkpoints in this `FILE`")
	return cmd
}

func (o *Options) verifyConfig(ctx context.Context, from, key, checkpoint string) (cfg audit.VerifyConfig, err error) {
	if cfg.Dir, err = o.logDir(from); err != nil {
		return cfg, err
	}
	switch {
	case verifierKey.MatchString(key):
		cfg.Key = key
	case key != "":
		text, err := o.readAll(ctx, "key", key, maxVerifierKey)
		if err != nil {
			return cfg, err
		}
		if cfg.Key = strings.TrimSpace(string(text)); !verifierKey.MatchString(cfg.Key) {
			return cfg, api.Errorf(api.InvalidRequest, "--key: %q holds no public key of an audit log", key).WithHint("aivault status --json")
		}
	}
	if checkpoint != "" {
		if cfg.Checkpoint, err = o.readAll(ctx, "checkpoint", checkpoint, maxCheckpoint); err != nil {
			return cfg, err
		}
		if len(cfg.Checkpoint) == 0 {
			return cfg, api.Errorf(api.InvalidRequest, "--checkpoint: %q is empty", checkpoint)
		}
	}
	return cfg, nil
}

// verifyError says why a log could not be checked, and what to do about it.
func verifyError(err error, cfg *audit.VerifyConfig, from string, inUse func(string) string) error {
	dir := cfg.Dir
	var bad *audit.GivenError
	var open *durable.PermissionError
	switch {
	case errors.As(err, &bad):
		return api.Errorf(api.InvalidRequest, "%w", err).WithHint("aivault help audit verify")
	case errors.As(err, &open) && from != "" && strings.HasPrefix(open.Fix, "chmod "):
		// A copy has the modes that copying gave it, in each of its files.
		return api.Errorf(api.VaultUnavailable, "the audit log cannot be checked: %w", err).WithHint("chmod -R go= %s", shellWord(dir))
	case errors.As(err, &open):
		return api.Errorf(api.VaultUnavailable, "the audit log cannot be checked: %w", err).WithHint("%s", open.Fix)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.VaultUnavailable, "the audit log cannot be checked: %w", err).WithHint("run this as the user who owns %s", shellWord(dir))
	case errors.Is(err, audit.ErrUnnamed) && from == "":
		return api.Errorf(api.VaultUnavailable, "%w", err).WithHint("%s", audit.SignAnew)
	case errors.Is(err, audit.ErrUnnamed):
		return api.Errorf(api.InvalidRequest, "%w", err).WithHint("aivault audit verify --from %s --key KEY", shellWord(from))
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return api.Errorf(api.Internal, "the audit log cannot be checked: %w", err)
	}
	hint := "aivault status"
	switch {
	case from != "":
		hint = "aivault help audit verify"
	case cfg.VaultID != "": // a vault is there, and had one
		hint = inUse(audit.LogLost)
	}
	return api.Errorf(api.VaultUnavailable, "there is no audit log in %q", dir).WithHint("%s", hint)
}

// logDir is where the log lies: this user's, or the one that --from means.
func (o *Options) logDir(from string) (string, error) {
	if from == "" {
		env, err := o.env()
		return filepath.Join(env.Dir, "audit"), err
	}
	// A vault's directory has the log inside it.
	inside := filepath.Join(from, "audit")
	if info, err := os.Stat(inside); err == nil && info.IsDir() {
		return inside, nil
	}
	return from, nil
}

// verified is a report as JSON.
type verified struct {
	audit.Report
	Hint string `json:"hint,omitzero"` // the way out of the problem
}

// printReport says in one line what was found.
func (o *Options) printReport(r audit.Report, hint string) error {
	var err error
	switch {
	case o.JSON:
		err = o.printJSON(verified{r, hint})
	case r.Problem != nil:
		err = o.print([]byte(term.Line("NOT OK: "+problemText(r.Problem)) + "\n"))
	default:
		err = o.print([]byte(term.Line(reportText(r)) + "\n"))
	}
	if err != nil {
		return err
	}
	if r.Problem != nil {
		if hint != "" && !o.JSON {
			o.hint("%s", hint)
		}
		return exitStatus(api.OutcomeOf(api.Internal).Exit)
	}
	if r.Key == "" && !o.JSON {
		o.notice("no key.pub lies beside the log: give the key that you kept, with --key (aivault status -v shows it while the vault is open)")
	}
	if r.KeyFrom != "" && !o.JSON {
		o.notice("the key was taken from %s, beside the log: compare it with the one that you kept", r.KeyFrom)
	}
	return nil
}

func problemText(p *audit.ChainError) string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Why)
	}
	return fmt.Sprintf("%s, line %d: %s", p.File, p.Line, p.Why)
}

func reportText(r audit.Report) string {
	text := fmt.Sprintf("OK: %s", plural(int(r.Records), "record", "records"))
	if r.Records > 0 {
		text += fmt.Sprintf(" (%d to %d) in %s", r.FirstSeq, r.LastSeq, plural(r.Segments, "file", "files"))
	}
	switch {
	case r.Key == "":
		return text + "; no signature was checked, because there is no key"
	case r.Checkpoints == 0:
		return text + fmt.Sprintf("; nothing is signed yet; key %s", r.Key)
	case r.AfterCheckpoint == 1:
		text += "; 1 record follows the last of "
	default:
		text += fmt.Sprintf("; %d records follow the last of ", r.AfterCheckpoint)
	}
	return text + fmt.Sprintf("%s; key %s", plural(r.Checkpoints, "checkpoint", "checkpoints"), r.Key)
}
