package daemon

import (
	"context"
	"os"
	"path/filepath"

	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

// vaultKeyVariable is the variable that the vault's header names for its key,
// "" where there is no such vault.
func vaultKeyVariable(e *Env) string {
	if _, err := os.Lstat(filepath.Join(e.Dir, "vault.aiv")); err != nil {
		return ""
	}
	v := vault.New(vault.Config{Dir: e.Dir, DefaultKeyFile: e.KeyFile})
	defer v.Close()
	key := v.Status(context.Background()).Key
	if key.Provider != keysource.Env {
		return ""
	}
	return key.EnvVar
}
