package vault

import (
	"errors"
	"io/fs"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
)

func errLocked() *api.Error {
	return api.Errorf(api.VaultLocked, "vault is locked").WithHint("aivault unlock")
}

// hintDamaged is for a document that nobody can read.
const hintDamaged = "aivault restore FILE puts a backup of it back"

// forGeneration names the generation of the document that a hint is about.
func forGeneration(err error, h header) error {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return err
	}
	hint := audit.ForGeneration(e.Hint, h.Generation)
	if hint == e.Hint {
		return err
	}
	return e.WithHint("%s", hint)
}

func (v *Vault) errLost() *api.Error {
	return api.Errorf(api.VaultUnavailable, "vault %s: vault.aiv is missing, but the audit log of a vault is there", v.cfg.Dir).
		WithHint("aivault restore FILE puts a backup of it back; to begin another vault: %s", durable.PutAside(v.logDir()))
}

// unavailable says that something about this vault's document is wrong, and
// names the vault. An error that has a code keeps it, its text and its hint.
func (v *Vault) unavailable(what string, err error) *api.Error {
	var perm *durable.PermissionError
	if errors.As(err, &perm) {
		return api.Errorf(api.VaultUnavailable, "vault %s: %s is not private: %s", v.cfg.Dir, perm.Path, perm.Why).WithHint("%s", perm.Fix)
	}
	var coded *api.Error
	if errors.As(err, &coded) {
		return named(coded, "vault "+v.cfg.Dir+": ")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return api.Errorf(api.VaultUnavailable, "vault %s: %s: %s: %w", v.cfg.Dir, strings.TrimSuffix(what, ":"), path.Op, path.Err)
	}
	return api.Errorf(api.VaultUnavailable, "vault %s: %s %w", v.cfg.Dir, what, err)
}

// named puts a prefix before an error's message and keeps all the rest.
func named(e *api.Error, prefix string) *api.Error {
	out := *e
	out.Message = prefix + e.Message
	return &out
}
