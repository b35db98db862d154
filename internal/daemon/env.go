package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
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

// Variable is one row of the table of environment variables.
type Variable struct {
	Name    string
	Default string
	Meaning string
	parse   func(e *Env, value string) error // nil: read elsewhere
	strict  bool                             // an empty value is an error, not "unset"
}

// The variables that code names. Each has its row in Variables.
const (
	varDir      = "AIVAULT_DIR"
	varKey      = "AIVAULT_KEY"
	varSocket   = "AIVAULTD_SOCKET"
	varKeyFD    = "AIVAULT_KEY_FD" // internal: see Cleanse
	devPrefix   = "AIVAULT_DEV_"
	defaultMode = fs.FileMode(0o600)
	defaultDir  = fs.FileMode(0o700)
)

// Variables is the one table of what aivault reads from its environment, in
// the order in which the documentation shows it.
func Variables() []Variable {
	return []Variable{
		{Name: varDir, Default: "~/.aivault/data/vault", Meaning: "Vault directory. The daemon's socket and the default key file then live below it.",
			parse: func(e *Env, v string) (err error) { e.Dir, err = absolute(varDir, v); e.DirSet = true; return err }},
		{Name: varKey, Meaning: "Key of a vault whose key provider is `env` and which names no other variable."},
		{Name: varSocket, Default: "~/.aivault/run/aivaultd.sock, or $AIVAULT_DIR/run/aivaultd.sock", Meaning: "The daemon's socket.",
			parse: func(e *Env, v string) (err error) {
				e.Socket, err = absolute(varSocket, v)
				e.SocketSet = true
				return err
			}},
		{Name: "AIVAULTD_SOCKET_MODE", Default: "0600", Meaning: "Mode of the socket: octal, nothing for others.", strict: true,
			parse: func(e *Env, v string) (err error) {
				e.SocketMode, err = mode("AIVAULTD_SOCKET_MODE", v, 0o600)
				return err
			}},
		{Name: "AIVAULTD_SOCKET_DIR_MODE", Default: "0700", Meaning: "Mode of the directory that the socket is made in: octal, nothing for others.", strict: true,
			parse: func(e *Env, v string) (err error) {
				e.SocketDirMode, err = mode("AIVAULTD_SOCKET_DIR_MODE", v, 0o700)
				return err
			}},
		{Name: "AIVAULTD_AUTOSTART", Default: "1", Meaning: "0: never start a daemon; where none answers, exit 7.", strict: true,
			parse: func(e *Env, v string) (err error) { e.Autostart, err = boolean("AIVAULTD_AUTOSTART", v); return err }},
		{Name: "AIVAULTD_DISABLE", Default: "0", Meaning: "1: use no daemon, run the broker inside the CLI.", strict: true,
			parse: func(e *Env, v string) (err error) { e.Disable, err = boolean("AIVAULTD_DISABLE", v); return err }},
		{Name: "AIVAULT_DISABLE_DISK_LOGS", Default: "0", Meaning: "1: no diagnostic log under ~/.aivault/logs. Nothing turns the audit log off.", strict: true,
			parse: func(e *Env, v string) error {
				off, err := boolean("AIVAULT_DISABLE_DISK_LOGS", v)
				e.DiskLogs = !off
				return err
			}},
		{Name: "AIVAULT_WORKSPACE_ID", Meaning: "Workspace of calls that name none.",
			parse: func(e *Env, v string) error { e.WorkspaceID = v; return validID("AIVAULT_WORKSPACE_ID", v) }},
		{Name: "AIVAULT_GROUP_ID", Meaning: "Group, within the workspace, of calls that name none.",
			parse: func(e *Env, v string) error { e.GroupID = v; return validID("AIVAULT_GROUP_ID", v) }},
		{Name: "HOME", Meaning: "Where ~ is; the user database says it where HOME is not set."},
		{Name: "TERM", Meaning: "What the terminal can show."},
		{Name: "NO_COLOR", Meaning: "Set and not empty: no colour."},
	}
}

// DevVariables are known to builds with the tag aivault_dev alone. Any other
// build that finds one of them set refuses to make calls.
func DevVariables() []Variable {
	return []Variable{
		{Name: "AIVAULT_DEV_RESOLVE", Meaning: "host=ip:port,…: where these hosts are dialled; those targets alone are exempt from the address guard."},
		{Name: "AIVAULT_DEV_DNS", Meaning: "ip:port of a resolver; its answers are not exempt."},
		{Name: "AIVAULT_DEV_CA_CERT_PATH", Meaning: "PEM file of certificates to trust beside the system's."},
		{Name: "AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS", Meaning: "1: other ports than 443."},
	}
}

// ParseEnv reads an environment as os.Environ gives it. A value that cannot be
// parsed is an invalid_request that names the variable.
//
// Keys that Cleanse sent to this process are taken from their pipe, which can
// happen once.
func ParseEnv(environ []string) (Env, error) {
	e, err := parseEnv(environ)
	var known *api.Error
	if errors.As(err, &known) && known.Hint == "" {
		err = known.WithHint("aivault help environment")
	}
	return e, err
}

func parseEnv(environ []string) (Env, error) {
	vars := lookup(environ)
	e := Env{
		SharedSocket: sharedSocket, SocketMode: defaultMode, SocketDirMode: defaultDir,
		Autostart: true, DiskLogs: true, Keys: map[string]secret.Value{},
	}
	var err error
	if e.Home, err = home(vars["HOME"]); err != nil {
		return Env{}, err
	}
	for _, v := range Variables() {
		value, set := vars[v.Name]
		if v.parse == nil || !set || value == "" && !v.strict {
			continue
		}
		if err := v.parse(&e, value); err != nil {
			return Env{}, err
		}
	}
	root := filepath.Join(e.Home, ".aivault")
	e.LogDir = filepath.Join(root, "logs")
	if e.DirSet {
		e.KeyFile = filepath.Join(e.Dir, "kek.key")
		e.OwnSocket = filepath.Join(e.Dir, "run", socketName)
	} else {
		e.Dir = filepath.Join(root, "data", "vault")
		e.KeyFile = filepath.Join(root, "keys", "kek.key")
		e.OwnSocket = filepath.Join(root, "run", socketName)
	}
	if !e.SocketSet {
		e.Socket = e.OwnSocket
	}
	if e.GroupID != "" && e.WorkspaceID == "" {
		return Env{}, api.Errorf(api.InvalidRequest, "AIVAULT_GROUP_ID is set without AIVAULT_WORKSPACE_ID")
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if strings.HasPrefix(name, devPrefix) {
			e.DevNames = append(e.DevNames, name)
		}
	}
	return e, e.readKeys(vars)
}

// readKeys collects the values of the key variables: from the environment, or
// in a process that Cleanse started from its pipe.
func (e *Env) readKeys(vars map[string]string) error {
	names := []string{varKey}
	if name := vaultKeyVariable(e.Dir); name != "" && !known(name) {
		names = append(names, name)
	}
	for _, name := range names {
		if v := vars[name]; v != "" {
			e.Keys[name] = secret.FromString(v)
		}
	}
	fd, ok := vars[varKeyFD]
	if !ok {
		return nil
	}
	sent, err := takeKeys(fd)
	if err != nil {
		return err
	}
	maps.Copy(e.Keys, sent)
	return nil
}

// ForDaemon is the environment of a daemon that the CLI starts: what this one
// was made of, with absolute paths, and without keys.
func (e Env) ForDaemon() []string {
	vars := []string{
		"HOME=" + e.Home,
		fmt.Sprintf("AIVAULTD_SOCKET_MODE=%04o", e.SocketMode),
		fmt.Sprintf("AIVAULTD_SOCKET_DIR_MODE=%04o", e.SocketDirMode),
	}
	if e.DirSet {
		vars = append(vars, varDir+"="+e.Dir)
	}
	if e.SocketSet {
		vars = append(vars, varSocket+"="+e.Socket)
	}
	if !e.DiskLogs {
		vars = append(vars, "AIVAULT_DISABLE_DISK_LOGS=1")
	}
	for _, name := range e.DevNames {
		v := os.Getenv(name)
		if strings.HasSuffix(name, "_PATH") && v != "" {
			if abs, err := filepath.Abs(v); err == nil {
				v = abs
			}
		}
		vars = append(vars, name+"="+v)
	}
	return vars
}

// KeyNames are the key variables that are set.
func (e Env) KeyNames() []string { return slices.Sorted(maps.Keys(e.Keys)) }

// lookup makes a map of an environment. The first of two entries with one name
// counts, as it does for the C library.
func lookup(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if _, twice := vars[name]; ok && name != "" && !twice {
			vars[name] = value
		}
	}
	return vars
}

func home(h string) (string, error) {
	if h == "" {
		u, err := user.Current()
		if err != nil || u.HomeDir == "" {
			return "", api.Errorf(api.InvalidRequest, "HOME is not set, and the system knows no home directory of this user")
		}
		h = u.HomeDir
	}
	if !filepath.IsAbs(h) || strings.ContainsRune(h, 0) {
		return "", api.Errorf(api.InvalidRequest, "HOME is %q, which is not an absolute path", h)
	}
	return filepath.Clean(h), nil
}

func absolute(name, v string) (string, error) {
	if strings.ContainsRune(v, 0) {
		return "", api.Errorf(api.InvalidRequest, "%s is %q, which is no path", name, v)
	}
	p, err := filepath.Abs(v)
	if err != nil {
		return "", api.Errorf(api.InvalidRequest, "%s is the relative path %q, and the current directory is unknown", name, v)
	}
	return p, nil
}

// mode parses 3 or 4 octal digits. What others (neither owner nor group) could
// use is refused: the socket is the way to every key's use.
func mode(name, v string, owner fs.FileMode) (fs.FileMode, error) {
	n, err := strconv.ParseUint(v, 8, 16)
	if err != nil || len(v) < 3 || len(v) > 4 || n > 0o777 {
		return 0, api.Errorf(api.InvalidRequest, "%s is %q, which is not a mode of three or four octal digits", name, v)
	}
	m := fs.FileMode(n)
	if m&0o007 != 0 {
		return 0, api.Errorf(api.InvalidRequest, "%s is %s, which lets every user of this machine in", name, v).
			WithHint("%s=%04o lets in the owner and the group", name, m&^0o007|owner)
	}
	if m&owner != owner {
		return 0, api.Errorf(api.InvalidRequest, "%s is %s, which keeps the owner out", name, v).
			WithHint("%s=%04o", name, m|owner)
	}
	return m, nil
}

func boolean(name, v string) (bool, error) {
	switch v {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, api.Errorf(api.InvalidRequest, "%s is %q; it can be 0 or 1", name, v)
}

func validID(name, v string) error {
	if !api.ValidID(v) {
		return api.Errorf(api.InvalidRequest, "%s is %q, which is no id: 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit", name, v)
	}
	return nil
}

// known says whether a name has a meaning of its own: a vault that names it
// as its key's variable gets nothing.
func known(name string) bool {
	return slices.ContainsFunc(Variables(), func(v Variable) bool { return v.Name == name }) ||
		name == varKeyFD || strings.HasPrefix(name, devPrefix)
}
