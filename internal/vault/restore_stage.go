package vault

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
)

// A restore that replaces the log puts the new log, and the document that
// belongs to it, into stagingName. To rename that directory to restoringName
// is the one step that decides: from then on whoever opens the vault, or
// changes it, first puts what lies there in place. A crash before leaves the
// old vault and a directory that the next restore removes; a crash after it
// leaves the new one.
const (
	stagingName   = "restoring.new"
	restoringName = "restoring"
	movedLogName  = "audit.broken-"
)

// staged is a log in the staging directory.
type staged struct {
	dir  string
	log  *audit.Log
	end  audit.Head
	last *commit // nil: none
}

func (s *staged) close() error {
	if s.log == nil {
		return nil
	}
	log := s.log
	s.log = nil
	return log.Close()
}

// stage empties the staging directory, or makes it. restore.lock is held.
func (v *Vault) stage() (string, error) {
	if err := v.unstage(); err != nil {
		return "", err
	}
	dir := v.path(stagingName)
	if err := durable.MkdirAll(dir); err != nil {
		return "", v.unavailable(stagingName, err)
	}
	return dir, nil
}

// unstage removes what a restore that was given up wrote.
func (v *Vault) unstage() error {
	if !exists(v.path(stagingName)) {
		return nil
	}
	if err := os.RemoveAll(v.path(stagingName)); err != nil {
		return v.unavailable(stagingName, err)
	}
	return nil
}

// stageBackup writes a backup's copy of the log into the staging directory,
// and checks all of it. restore.lock is held.
func (v *Vault) stageBackup(ctx context.Context, in *incoming) (*staged, error) {
	dir, err := v.stage()
	if err != nil {
		return nil, err
	}
	key, err := in.keys.backupKey(in.head.ID)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	plain, err := newChunkReader(in.rest, key, in.line)
	if err != nil {
		return nil, err
	}
	s := &staged{dir: dir}
	cfg := v.logConfig(in.h.ID)
	cfg.Dir = filepath.Join(dir, "audit")
	if s.end, err = audit.Extract(ctx, cfg.Dir, plain); err != nil {
		return nil, v.errStage(err)
	}
	if s.log, err = audit.Open(cfg); err != nil {
		return nil, errBackupLog(err)
	}
	if err := s.check(in); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// errStage tells a disk that is full from a backup that is damaged.
func (v *Vault) errStage(err error) error {
	var path *fs.PathError
	var coded *api.Error
	switch {
	case errors.As(err, &coded), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &path), errors.As(err, new(syscall.Errno)):
		return v.unavailable("the backup's log is not written:", err)
	case errors.Is(err, errSealedLog):
		return api.Errorf(api.InvalidRequest, "the backup %w", errSealedLog)
	}
	return errBackupLog(err)
}

func errBackupLog(err error) error {
	return api.Errorf(api.InvalidRequest, "the backup's copy of the log is damaged: %w", err)
}

// check walks the copy from its first line to the last, and holds document and
// log of the backup against each other.
func (s *staged) check(in *incoming) error {
	holds := false
	end, err := s.log.Walk(audit.Head{}, func(line []byte, at audit.Head) error {
		holds = holds || at == in.state.AuditHead
		c, err := parseCommit(line)
		if c != nil {
			s.last = c
		}
		return err
	})
	if err != nil {
		return errBackupLog(err)
	}
	if end != s.end || !holds || s.last == nil || !continues(s.last, in.h, in.hash()) {
		return errBackupLog(errors.New("it is another vault's, or of another time than the document"))
	}
	return nil
}

// continues says whether a document is the one that was last committed, or its
// direct successor.
func continues(last *commit, h header, hash string) bool {
	return last.Hash == hash && last.Generation == h.Generation ||
		last.Hash == h.Previous && last.Generation+1 == h.Generation
}

// replaceAll puts a staged log in place, with a document that goes with it.
// The log is closed. vault.lock and restore.lock are held.
func (v *Vault) replaceAll(s *staged, doc []byte, keys *keyring) (movedLog string, err error) {
	if err := s.close(); err != nil {
		return "", v.unavailable("the new log:", err)
	}
	if err := durable.CreateFile(filepath.Join(s.dir, "vault.aiv"), doc); err != nil {
		return "", v.unavailable("the new vault.aiv:", err)
	}
	v.step("staged")
	if err := os.Rename(s.dir, v.path(restoringName)); err != nil {
		return "", v.unavailable(restoringName, err)
	}
	if err := durable.SyncDir(v.cfg.Dir); err != nil {
		return "", v.unavailable("the directory", err)
	}
	v.step("decided")
	if movedLog, err = v.finishRestore(); err != nil {
		return "", err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		keys.wipe()
		return movedLog, nil
	}
	v.setKeys(keys)
	return movedLog, nil
}

// finishRestore puts in place what restoringName holds, which was checked. It
// can be interrupted anywhere and begun again. vault.lock is held.
func (v *Vault) finishRestore() (movedLog string, err error) {
	dir := v.path(restoringName)
	if !exists(dir) {
		return "", nil
	}
	if movedLog, err = v.finishLog(filepath.Join(dir, "audit")); err != nil {
		return "", v.unavailable("a restore cannot be finished:", err)
	}
	if err := v.finishDocument(filepath.Join(dir, "vault.aiv")); err != nil {
		return "", v.unavailable("a restore cannot be finished:", err)
	}
	v.step("document in place")
	if err := os.RemoveAll(dir); err != nil {
		return "", v.unavailable(restoringName, err)
	}
	_ = os.Remove(v.path(attemptsName)) // of another passphrase, and no more than a delay
	return movedLog, durable.SyncDir(v.cfg.Dir)
}

// finishLog moves the log that is in place aside, and the new one there.
func (v *Vault) finishLog(from string) (moved string, err error) {
	if !exists(from) {
		return "", nil // it is there already
	}
	v.closeLog()
	if exists(v.logDir()) {
		path := durable.FreeName(v.path(movedLogName + v.now().UTC().Format("20060102T150405Z")))
		if err := os.Rename(v.logDir(), path); err != nil {
			return "", err
		}
		moved = filepath.Base(path)
		v.step("old log moved")
	}
	if err := os.Rename(from, v.logDir()); err != nil {
		return "", err
	}
	v.step("new log in place")
	return moved, durable.SyncDir(v.cfg.Dir)
}

func (v *Vault) finishDocument(path string) error {
	from := NewFileStore(path, "")
	defer from.Close()
	doc, _, err := from.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	gen, err := v.store.Generation()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = v.store.CompareAndSwap(gen, doc)
	return err
}

// closeLog makes the next who asks for the log open it anew.
func (v *Vault) closeLog() {
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if v.log != nil {
		_ = v.log.Close() // nobody can be told: what could not be synced fails there
		v.log, v.logID = nil, ""
	}
}

// takeUp finishes a restore that a crash interrupted. Of one that is under way
// in another process nothing is read: log and document are of two vaults.
func (v *Vault) takeUp(held bool) error {
	if !exists(v.path(restoringName)) {
		return nil
	}
	if !held {
		lock, err := durable.TryAcquire(v.path("vault.lock"))
		if err != nil || lock == nil {
			return v.unavailable("a restore is under way:", errors.Join(err, errBusy))
		}
		defer lock.Release()
		if !exists(v.path(restoringName)) {
			return nil // another finished it meanwhile
		}
	}
	if err := v.checkRestoring(); err != nil {
		return v.unavailable("a restore cannot be finished:", err)
	}
	_, err := v.finishRestore()
	return err
}

var errBusy = errors.New("try again in a moment")

// currentLog is openLog for who opens a document: a log that took the place of
// the one this process has open counts, since the document says where it has
// to stand.
func (v *Vault) currentLog(vaultID string) (*audit.Log, error) {
	log, err := v.openLog(vaultID)
	if err != nil || log.Check() == nil {
		return log, err
	}
	v.closeLog()
	return v.openLog(vaultID)
}
