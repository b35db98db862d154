package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
)

// What makes a restoringName none of ours.
var (
	errNoDirectory  = errors.New("it is no directory")
	errStranger     = errors.New("it holds what no restore puts there")
	errNoNew        = errors.New("its vault.aiv is missing")
	errOtherVault   = errors.New("its vault.aiv is of another vault")
	errOlderThanOld = errors.New("its vault.aiv is older than the one in place")
	errOtherLog     = errors.New("its vault.aiv is not the one that its log says was committed")
)

// checkRestoring refuses what lies in restoringName unless a restore put it
// there: it takes the place of a vault that may be whole. Without the key the
// document's seal cannot be opened; that it is the one that the log names by
// its hash can be told, and whose both are. vault.lock is held.
func (v *Vault) checkRestoring() error {
	dir := v.path(restoringName)
	err := v.checkStaged(dir)
	if err == nil || errors.As(err, new(*durable.PermissionError)) || transient(err) {
		return err
	}
	return api.Errorf(api.VaultUnavailable, "%s is not what a restore leaves: %w", dir, err).
		WithHint("%s", durable.PutAside(dir))
}

func (v *Vault) checkStaged(dir string) error {
	if err := durable.CheckPrivate(dir); err != nil {
		return err
	}
	if info, err := os.Lstat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return errNoDirectory
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "audit" && e.Name() != "vault.aiv" {
			return errStranger
		}
	}
	if len(entries) == 0 {
		return nil // all of it is in place
	}
	from := NewFileStore(filepath.Join(dir, "vault.aiv"), "")
	defer from.Close()
	doc, _, err := from.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return errNoNew
	}
	if err != nil {
		return err
	}
	h, _, _, err := splitDocument(doc)
	if err != nil {
		return fmt.Errorf("its vault.aiv %w", err)
	}
	if err := v.checkFollows(h); err != nil {
		return err
	}
	log := filepath.Join(dir, "audit")
	if !exists(log) {
		log = v.logDir() // it is in place already
	}
	return v.checkNamed(log, h, fileHash(doc))
}

// checkFollows refuses a document that no restore puts in the place of the one
// that is there. Of one that cannot be read nothing is known.
func (v *Vault) checkFollows(h header) error {
	v.current.Store(nil) // the store keeps only the last file open
	blob, _, err := v.store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, _, _, err := splitDocument(blob)
	switch {
	case err != nil:
		return nil
	case old.ID != h.ID:
		return errOtherVault
	case old.Generation > h.Generation:
		return errOlderThanOld
	}
	return nil
}

// checkNamed says whether the log in dir is whole and names a document as the
// last one.
func (v *Vault) checkNamed(dir string, h header, hash string) error {
	cfg := v.logConfig(h.ID)
	cfg.Dir, cfg.Tend = dir, false
	log, err := audit.Open(cfg)
	if err != nil {
		return err
	}
	var last *commit
	_, err = log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		c, err := parseCommit(line)
		if c != nil {
			last = c
		}
		return err
	})
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	if last == nil || !continues(last, h, hash) {
		return errOtherLog
	}
	return nil
}
