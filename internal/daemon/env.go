package daemon

import (
	"io/fs"

	"moldable.sh/aivault/internal/secret"
)

// Env is everything that aivault takes from its environment, parsed once.
type Env struct {
	Home          string
	Dir           string                  // vault directory: AIVAULT_DIR, else ~/.aivault/data/vault
	DirSet        bool                    // AIVAULT_DIR is set
	KeyFile       string                  // default key file: $AIVAULT_DIR/kek.key or ~/.aivault/keys/kek.key
	LogDir        string                  // ~/.aivault/logs
	DiskLogs      bool                    // not AIVAULT_DISABLE_DISK_LOGS
	Socket        string                  // AIVAULTD_SOCKET, else the user's own socket
	SocketSet     bool                    // AIVAULTD_SOCKET is set
	OwnSocket     string                  // the user's own socket, whatever AIVAULTD_SOCKET says
	SharedSocket  string                  // this platform's shared socket
	SocketMode    fs.FileMode             // AIVAULTD_SOCKET_MODE, 0600
	SocketDirMode fs.FileMode             // AIVAULTD_SOCKET_DIR_MODE, 0700
	Autostart     bool                    // not AIVAULTD_AUTOSTART=0
	Disable       bool                    // AIVAULTD_DISABLE=1: run the broker inside the CLI
	WorkspaceID   string                  // AIVAULT_WORKSPACE_ID
	GroupID       string                  // AIVAULT_GROUP_ID
	DevNames      []string                // AIVAULT_DEV_* variables that are set
	Keys          map[string]secret.Value // key variables by name: AIVAULT_KEY and the one that the vault names
}

// ParseEnv reads an environment as os.Environ gives it. A value that cannot be
// parsed is an invalid_request that names the variable.
func ParseEnv(environ []string) (Env, error) { panic("contract") }
