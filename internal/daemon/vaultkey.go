package daemon

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/keysource"
)

// maxHeaderLine bounds the header of vault.aiv, as docs/vault-format.md does.
const maxHeaderLine = 16384

// vaultKeyVariable is the variable that the vault's header names for its key,
// "" where there is no such vault. It opens no vault and believes nothing: all
// that follows is which variable's value stays out of an environment.
func vaultKeyVariable(dir string) string {
	f, err := os.OpenFile(filepath.Join(dir, "vault.aiv"), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHeaderLine+1))
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return headerKeyVariable(line)
}

// headerKeyVariable reads the one member that matters here. The rest of the
// header is vault's to judge.
func headerKeyVariable(line []byte) string {
	var h struct {
		Key struct {
			Provider string `json:"provider"`
			EnvVar   string `json:"envVar"`
		} `json:"key"`
	}
	if json.Unmarshal(line, &h) != nil || h.Key.Provider != keysource.Env {
		return ""
	}
	return h.Key.EnvVar
}
