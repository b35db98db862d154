package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/vault"
)

// keyName is the file beside the log with the key that verifies it.
const keyName = "key.pub"

// audit says whether the log is whole, and whether the key beside it is the
// vault's.
func (e *exam) audit() {
	const id = "audit.chain"
	if e.dir == "" || e.status.Vault.State == vault.None {
		return
	}
	dir := e.inVault("audit")
	key := ""
	if e.status.Audit != nil {
		key = e.status.Audit.Key
	}
	cfg := audit.VerifyConfig{Dir: dir, Key: key}
	// Also of a locked vault, which has shown no key yet, it is to be the log.
	if vaultID, _, err := vault.Claimed(e.dir); err == nil {
		cfg.VaultID, cfg.Named = vaultID, true
	}
	r, err := audit.Verify(cfg)
	var open *durable.PermissionError
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.add(id, Skipped, "the audit log cannot be read by this user", "")
	case errors.As(err, &open):
		e.add(id, Problem, fmt.Sprintf("the audit log cannot be verified: %v", err), open.Fix)
	case errors.Is(err, fs.ErrNotExist):
		e.add(id, Problem, "the audit log is missing", e.forGeneration(audit.LogLost))
	case errors.Is(err, audit.ErrUnnamed):
		e.add(id, Problem, fmt.Sprintf("the audit log cannot be verified: %v", err), audit.SignAnew)
	case err != nil:
		e.add(id, Problem, fmt.Sprintf("the audit log cannot be verified: %v", err), "aivault audit verify")
	case r.Problem != nil && r.Problem.File == keyName && key == "":
		e.add(id, Problem, fmt.Sprintf("the audit log: %v", r.Problem), audit.WriteAnew(filepath.Join(dir, keyName)))
	case r.Problem != nil && r.Problem.File == keyName:
		e.add(id, Skipped, "the audit log is not verified while the key beside it is another", "")
	case r.Problem != nil:
		e.add(id, Problem, fmt.Sprintf("the audit log: %v", r.Problem), e.forGeneration(r.Problem.Mend(dir)))
	case r.Checkpoints == 0:
		e.add(id, OK, fmt.Sprintf("the audit log's %d records follow each other; none is signed yet", r.Records), "")
	default:
		e.add(id, OK, fmt.Sprintf("the audit log's %d records follow each other, and are signed up to record %d", r.Records, r.SignedSeq), "")
	}
	e.auditKey(filepath.Join(dir, keyName), key)
}

// forGeneration names the vault's generation in a hint, where it is known.
func (e *exam) forGeneration(hint string) string {
	if g := e.status.Vault.Generation; g > 0 {
		return audit.ForGeneration(hint, g)
	}
	return hint
}

// auditKey compares the public key that lies beside the log with the vault's.
func (e *exam) auditKey(path, key string) {
	const id = "audit.key"
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return // there is none yet
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	switch {
	case err != nil:
		e.add(id, Problem, fmt.Sprintf("%s cannot be read", path), audit.WriteAnew(path))
	case key == "":
		e.add(id, Skipped, "the public key beside the log and the vault's own: "+e.unseen(), "")
	case strings.TrimSpace(string(b)) != key:
		e.add(id, Problem, fmt.Sprintf("%s is not the key that this vault signs its log with", path), audit.WriteAnew(path))
	default:
		e.add(id, OK, "the public key beside the log is the vault's", "")
	}
}
