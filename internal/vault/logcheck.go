package vault

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/strictjson"
)

// committedMark is how a record of a committed change looks in the log. It
// cannot stand inside a JSON string, where its quotes would be escaped.
var committedMark = []byte(`"event":"` + audit.VaultCommitted + `"`)

// commit is a vault.committed record, all of it.
type commit struct {
	Seq        uint64 `json:"seq"`
	Prev       string `json:"prev"`
	AtMs       int64  `json:"atMs"`
	Event      string `json:"event"`
	Generation uint64 `json:"generation"`
	Hash       string `json:"hash"`
}

// parseCommit returns nil for a line that records something else.
func parseCommit(line []byte) (*commit, error) {
	if !bytes.Contains(line, committedMark) {
		return nil, nil
	}
	var c commit
	if err := strictjson.Unmarshal(line, &c); err != nil || c.Event != audit.VaultCommitted {
		return nil, errNewer
	}
	return &c, nil
}

// checkedLog remembers how far the log was checked for a document, so that a
// later look reads only what is new.
type checkedLog struct {
	hash string // of the document
	end  audit.Head
	last *commit // the last one after the document's own head; nil for none
}

// Audit returns the vault's log, also while it is locked; vault_unavailable
// where there is no vault.
func (v *Vault) Audit(ctx context.Context) (*audit.Log, error) {
	if _, err := v.store.Generation(); errors.Is(err, fs.ErrNotExist) {
		v.mu.Lock()
		defer v.mu.Unlock()
		return nil, v.errMissing()
	} else if err != nil {
		return nil, v.unavailable("vault.aiv", err)
	}
	v.logMu.Lock()
	log := v.log
	v.logMu.Unlock()
	if log != nil {
		return log, nil
	}
	v.mu.Lock()
	h, err := v.look()
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	log, err = v.openLog(h.ID)
	return log, forGeneration(err, h)
}

// AuditOf is Audit for who holds a snapshot, and so knows that there is a
// vault: it looks at no file when the log is open.
func (v *Vault) AuditOf(s *Snapshot) (*audit.Log, error) {
	log, err := v.openLog(s.header.ID)
	return log, forGeneration(err, s.header)
}

// Desk records what callers are refused in the vault's log.
func (v *Vault) Desk() *audit.Desk { return v.desk }

// CallsDir is where processes that make calls say that they live.
func (v *Vault) CallsDir() string { return v.path(callsName) }

const callsName = "calls"

// openLog returns the vault's log, and keeps it open.
func (v *Vault) openLog(vaultID string) (*audit.Log, error) {
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if v.logClosed {
		return nil, v.errLog(fs.ErrClosed)
	}
	if v.log != nil && v.logID == vaultID {
		return v.log, nil
	}
	log, err := audit.Open(v.logConfig(vaultID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.VaultUnavailable, "vault %s: its audit log %s is missing", v.cfg.Dir, v.logDir()).
			WithHint(audit.LogLost)
	}
	if err != nil {
		return nil, v.errLog(err)
	}
	v.keepLog(log, vaultID)
	return log, nil
}

// keepLog makes log the one in use. v.logMu is held.
func (v *Vault) keepLog(log *audit.Log, vaultID string) {
	if v.log != nil {
		_ = v.log.Close() // of a vault that is no longer here
	}
	v.log, v.logID = log, vaultID
	if v.signer != nil && v.signer.vaultID == vaultID {
		log.SetSigner(v.signer)
	}
}

func (v *Vault) logConfig(vaultID string) audit.Config {
	return audit.Config{
		Dir: v.logDir(), VaultID: vaultID, Clock: v.cfg.Clock, Sync: v.cfg.AuditSync,
		Tend: v.cfg.AuditTend, Retain: v.cfg.AuditRetain, TendFailed: v.cfg.AuditFailed, Keep: v.sealedHead, SegmentSize: v.segmentSize,
	}
}

// sealedHead is where the open vault's state says that the log stood: from
// there an opening may check it. A vault that is not open cannot tell.
func (v *Vault) sealedHead() audit.Head {
	if s := v.current.Load(); s != nil {
		return s.state.AuditHead
	}
	return audit.Head{}
}

func (v *Vault) errLog(err error) error {
	hint := audit.LogLost
	var chain *audit.ChainError
	switch {
	case errors.As(err, &chain):
		hint = chain.Mend(v.logDir())
	case !errors.Is(err, syscall.ENOTDIR):
		return v.unavailable("its audit log:", err)
	}
	return api.Errorf(api.VaultUnavailable, "vault %s: %w", v.cfg.Dir, err).WithHint("%s", hint)
}

// startLog is where the check of the log begins for a document: where its
// state was sealed, or where the vault's own key has later closed a part of the
// log, which says what was committed by then. signed is the newest position
// that this key signed; the log has to hold it.
func (v *Vault) startLog(log *audit.Log, s *Snapshot) (from checkedLog, signed audit.Head, err error) {
	public, err := s.auditPublic()
	if err != nil {
		return from, signed, v.unavailable("the state in vault.aiv:", err)
	}
	newest, closing, err := log.Marks(public)
	if err != nil {
		return from, signed, v.errLog(err)
	}
	if newest != nil {
		signed = newest.Head
	}
	s.unsigned = newest == nil || !log.Published()
	if v.checked.hash == s.hash {
		return v.checked, signed, nil
	}
	from = checkedLog{hash: s.hash, end: s.state.AuditHead}
	if closing == nil || closing.Head.Seq <= from.end.Seq {
		return from, signed, nil
	}
	if err := log.Holds(from.end); err != nil {
		return from, signed, v.errLog(err)
	}
	from.end = closing.Head
	if c := closing.Commit; c.Generation >= s.header.Generation {
		from.last = &commit{Generation: c.Generation, Hash: c.Hash}
	}
	return from, signed, nil
}

// checkLog checks the log from where state was sealed to its end, and says
// whether the log knows that this document was committed. A document that is
// neither the last committed one nor its successor is refused.
func (v *Vault) checkLog(log *audit.Log, s *Snapshot) error {
	// What is signed is read before the log, which only grows.
	from, signed, err := v.startLog(log, s)
	if err != nil {
		return err
	}
	last, missed := from.last, signed.Seq > from.end.Seq
	end, err := log.Walk(from.end, func(line []byte, at audit.Head) error {
		if at.Seq == signed.Seq {
			missed = at != signed
		}
		c, err := parseCommit(line)
		if c != nil {
			last = c
		}
		return err
	})
	if err == nil && missed {
		err = &audit.ChainError{File: signed.File, Line: signed.Seq, Why: "the vault's key has signed another line here: the log was cut off before it, or written anew"}
	} else if err == nil && signed.Seq > 0 && signed.Seq <= from.end.Seq {
		err = log.Holds(signed)
	}
	if err != nil {
		return v.errLog(err)
	}
	h := s.header
	switch {
	case last == nil:
	case last.Hash == s.hash && last.Generation == h.Generation:
		s.confirmed = true
	case last.Hash == h.Previous && last.Generation+1 == h.Generation:
	case last.Generation >= h.Generation:
		return api.Errorf(api.VaultUnavailable, "vault %s: vault.aiv is older than its audit log says (generation %d; the log's last is %d)",
			v.cfg.Dir, h.Generation, last.Generation).WithHint("put the newest vault.aiv back: aivault restore FILE; or accept this one: aivault restore --accept %d", h.Generation)
	default:
		return api.Errorf(api.VaultUnavailable, "vault %s: vault.aiv does not follow from what its audit log says (generation %d; the log's last is %d)",
			v.cfg.Dir, h.Generation, last.Generation).WithHint("put back what belongs together: aivault restore FILE; or accept this one: aivault restore --accept %d", h.Generation)
	}
	s.logEnd = end
	v.checked = checkedLog{s.hash, end, last}
	return nil
}

// confirm appends the vault.committed that a crash or a full disk kept back.
// vault.lock and v.mu are held.
func (v *Vault) confirm(ctx context.Context, log *audit.Log, s *Snapshot) error {
	if err := v.checkLog(log, s); err != nil || s.confirmed {
		return err
	}
	return v.recordCommit(ctx, log, s)
}

// recordCommit tells the log that s's document is on disk. v.mu is held.
func (v *Vault) recordCommit(ctx context.Context, log *audit.Log, s *Snapshot) error {
	end, err := log.AppendSync(ctx, audit.Record{Event: audit.VaultCommitted, Generation: s.header.Generation, Hash: s.hash})
	if err != nil {
		return v.errLog(err)
	}
	s.confirmed, s.logEnd = true, end
	v.checked = checkedLog{s.hash, end, &commit{Generation: s.header.Generation, Hash: s.hash}}
	return nil
}
