package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

const (
	maxFindings = 20 // of one check: where everything is open, one command is enough to see why
	maxEntries  = 10000
)

// files says whether what is on disk is this user's alone.
func (e *exam) files() {
	if e.dir == "" {
		if e.client != nil && !e.operator() {
			e.add("vault.files", Skipped, "the vault's files: they are its operator's", "")
			return
		}
		e.add("vault.files", OK, fmt.Sprintf("there is no vault yet in %s", e.cfg.Client.Env.Dir), "")
	} else {
		e.private("vault.files", e.dir)
		e.directories()
	}
	if path := e.keyFile(); path != "" {
		e.private("key.file", path)
	}
	if e.cfg.Client.Env.DiskLogs {
		e.private("log.files", filepath.Dir(daemon.LogPath(e.cfg.Client.Env)))
	}
}

// directories says whether something else has the name of a directory of the
// vault's: calls and the log's records are refused then.
func (e *exam) directories() {
	for _, name := range []string{"audit", "calls", "run"} {
		path := e.inVault(name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			e.add("vault.files", Problem, fmt.Sprintf("%+q is no directory", path), durable.PutAside(path))
		}
	}
}

// keyFile is where the vault's key is, "" where it is in no file.
func (e *exam) keyFile() string {
	switch k := e.status.Key; {
	case k == nil || k.Provider != keysource.File:
		return ""
	case k.Detail != "":
		return k.Detail
	}
	return e.cfg.Client.Env.KeyFile
}

// private says whether a file, or a directory with all that is in it, is open
// to nobody else, and cannot be replaced from above.
func (e *exam) private(id, path string) {
	found := 0
	check := func(err error) {
		var open *durable.PermissionError
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist): // gone meanwhile
		case found == maxFindings:
			found++
			e.add(id, Problem, "and more", "ls -lR "+durable.ShellQuote(path))
		case found > maxFindings:
		case errors.As(err, &open):
			found++
			e.add(id, Problem, open.Error(), open.Fix)
		case errors.Is(err, fs.ErrPermission):
			found++
			e.add(id, Skipped, fmt.Sprintf("%+q cannot be looked at by this user", path), "")
		default:
			found++
			e.add(id, Problem, fmt.Sprintf("%+q cannot be looked at: %v", path, err), "ls -ld "+durable.ShellQuote(path))
		}
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	check(durable.CheckAbove(path))
	looked := 0
	check(filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if looked++; looked > maxEntries || found > maxFindings {
			if found == 0 {
				found++
				e.add(id, Skipped, fmt.Sprintf("more than %d files are in %s: the others were not looked at", maxEntries, path), "")
			}
			return fs.SkipAll
		}
		if d.IsDir() && p == e.inVault("run") {
			return fs.SkipDir // the sockets' own, looked at with them
		}
		if d.Type()&fs.ModeSocket == 0 {
			check(durable.CheckPrivate(p))
		}
		return nil
	}))
	if found == 0 {
		e.add(id, OK, fmt.Sprintf("%s is open to this user and root alone", path), "")
	}
}

// key says how strong the place is that the key comes from.
func (e *exam) key() {
	const id = "key.provider"
	k := e.status.Key
	switch {
	case k == nil && e.status.Vault.State == vault.None && e.operator():
	case k == nil:
		e.add(id, Skipped, "where the vault's key comes from: "+e.unseen(), "")
	case k.Provider == keysource.Env:
		name := keysource.Params{EnvVar: k.Detail}.EnvName()
		e.add(id, Warning, fmt.Sprintf("the key is in the variable %s, which every program that this user's shell starts inherits", name),
			"aivault rotate-master --provider passphrase")
	case k.Provider == keysource.Passphrase:
		e.add(id, OK, "the key comes from a passphrase that is stored nowhere", "")
	default:
		e.add(id, OK, "the key is in a file: it keeps the vault's copies closed, and programs of this user can read it; a passphrase is stronger", "")
	}
}
