package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
)

// inPlace is what is found where a vault is to be restored.
type inPlace struct {
	gen  Generation // "" for no document
	h    header     // zero where there is none, or where it cannot be read
	hash string
	open *Snapshot // where it opens, log and all
	log  logFound
}

// logFound is the log that is in place, read from its first line to its last.
type logFound struct {
	there  bool
	ours   bool  // it begins as this vault's log does
	broken error // nil: whole
	end    audit.Head
	last   *commit
	holds  bool // it holds the line that was looked for
	later  bool // it begins behind that line: what came before is no longer kept
	since  changesSince
}

func (l *logFound) whole() bool { return l.there && l.broken == nil }

// checkVacant refuses a place where another vault is, whatever the flags.
func (v *Vault) checkVacant(id string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	h, err := v.look()
	switch {
	case errors.Is(err, errNoDocument):
		return v.CanCreate()
	case err != nil, h.ID == id:
		return nil // place tells whether it is this vault that is broken or lost
	}
	return api.Errorf(api.AlreadyExists, "another vault is in %s (%s; the backup is of %s)", v.cfg.Dir, h.ID, id).
		WithHint("move %s away, with all that is in it, or name another directory with AIVAULT_DIR", v.cfg.Dir)
}

// survey looks at what is in place. mark is a line to look for in the log.
// vault.lock is held.
func (v *Vault) survey(ctx context.Context, id string, mark audit.Head) (inPlace, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var p inPlace
	// What a crash kept back is confirmed first, where the vault opens.
	if s, err := v.reopen(ctx, true); err == nil {
		p.open = s
	}
	gen, err := v.store.Generation()
	switch {
	case err == nil:
		p.gen = gen
		if h, err := v.look(); err == nil {
			p.h, p.hash = h, v.seen.hash
		}
	case !errors.Is(err, fs.ErrNotExist):
		return p, v.unavailable("vault.aiv", err)
	}
	p.log, err = v.findLog(id, mark, p.open)
	return p, err
}

// findLog reads the log that is in place. The error is of what keeps it from
// being read; what is wrong with it is in the answer.
func (v *Vault) findLog(id string, mark audit.Head, open *Snapshot) (f logFound, err error) {
	if !exists(v.logDir()) {
		return f, nil
	}
	f.there = true
	f.since.names = open
	log, err := audit.Open(v.logConfig(id))
	if err == nil {
		f.end, err = log.Walk(audit.Head{}, func(line []byte, at audit.Head) error {
			f.ours = true
			f.later = f.later || f.end.Seq == 0 && 0 < mark.Seq && mark.Seq < at.Seq
			f.end = at
			if f.holds || f.later {
				f.since.add(line)
			}
			f.holds = f.holds || at == mark
			c, err := parseCommit(line)
			if c != nil {
				f.last = c
			}
			return err
		})
		err = errors.Join(err, log.Close())
	}
	if err == nil {
		f.ours = true // also when it is empty
		err = v.verifyLog(id)
	}
	if errors.As(err, new(*durable.PermissionError)) {
		return f, v.errLog(err)
	}
	f.broken = err
	return f, nil
}

// verifyLog holds the log against what was signed of it: one that was cut off
// or written anew from some line on is whole in itself.
func (v *Vault) verifyLog(id string) error {
	report, err := audit.Verify(audit.VerifyConfig{Dir: v.logDir(), VaultID: id})
	if err == nil && report.Problem != nil {
		err = report.Problem
	}
	return err
}

// place decides what a backup does to what is in place. vault.lock is held.
func (v *Vault) place(ctx context.Context, rec audit.Record, in *incoming, s *staged, accept uint64) (Restored, error) {
	p, err := v.survey(ctx, in.h.ID, s.end)
	if err != nil {
		return Restored{}, err
	}
	if err := v.checkSame(&p, in.h.ID); err != nil {
		return Restored{}, err
	}
	if p.log.whole() && p.log.later && v.signedBy(in) {
		// The line that the backup ends with was removed for its age.
		p.log.holds = true
	}
	nothing := p.gen == "" && !p.log.there
	if nothing {
		if err := v.CanCreate(); err != nil {
			return Restored{}, err
		}
	}
	switch {
	case p.log.whole() && p.log.holds && continues(p.log.last, in.h, in.hash()) && p.h.Generation <= in.h.Generation:
		return v.putBack(ctx, rec, in, &p)
	case nothing, p.log.whole() && !p.log.holds && s.contains(p.log.end) && p.h.Generation <= in.h.Generation:
		// Whatever is here is part of the backup.
		in.describe(&rec, "was put in place")
		rec.Generation = in.head.Generation
		return v.bringAll(ctx, rec, in, s)
	case accept == 0:
		return Restored{}, v.errNeedsAccept(&p, in)
	case p.log.whole() && p.log.holds:
		return v.goBack(ctx, rec, in, &p)
	}
	return v.bringBack(ctx, rec, in, s, &p)
}

// signedBy says whether the log in place is signed with a backup's key.
func (v *Vault) signedBy(in *incoming) bool {
	public, err := (&Snapshot{state: in.state}).auditPublic()
	if err != nil {
		return false
	}
	log, err := v.openLog(in.h.ID)
	if err != nil {
		return false
	}
	newest, _, err := log.Marks(public)
	return err == nil && newest != nil
}

// contains says whether the staged log goes on from a position.
func (s *staged) contains(end audit.Head) bool {
	_, err := s.log.Walk(end, nil)
	return err == nil
}

// checkSame refuses what is not, or cannot be told to be, this vault.
func (v *Vault) checkSame(p *inPlace, id string) error {
	switch {
	case p.h.ID == id, p.gen == "" && !p.log.there, p.h.ID == "" && p.log.ours:
		return nil
	case p.h.ID != "":
		return v.checkVacant(id)
	}
	return api.Errorf(api.AlreadyExists, "what is in %s is another vault, or so broken that nobody can tell", v.cfg.Dir).
		WithHint("move %s away, with all that is in it, or name another directory with AIVAULT_DIR", v.cfg.Dir)
}

// putBack puts the last committed document in place where it was lost or
// damaged: nothing is older than the log says.
func (v *Vault) putBack(ctx context.Context, rec audit.Record, in *incoming, p *inPlace) (Restored, error) {
	out := in.restored()
	out.Reset = false
	if p.open != nil && p.hash == in.hash() {
		in.giveUp()
		out.Notice = "the vault in place is the one of this backup; nothing was changed"
		return out, nil
	}
	log, err := v.openLog(in.h.ID)
	if err != nil {
		return out, err
	}
	in.describe(&rec, "was put in place")
	rec.Generation = in.head.Generation
	if _, err := log.AppendSync(context.WithoutCancel(ctx), rec); err != nil {
		return out, v.errLog(err)
	}
	v.step("recorded")
	if _, err := v.store.CompareAndSwap(p.gen, in.doc); errors.Is(err, ErrConflict) {
		return out, ErrConflict
	} else if err != nil {
		return out, v.unavailable("vault.aiv is not written:", err)
	}
	v.step("document in place")
	out.Reset = true
	return out, v.enter(ctx, in.keys)
}

// goBack makes the state of an older document the next generation. The log,
// which knows of all that came since, is kept.
func (v *Vault) goBack(ctx context.Context, rec audit.Record, in *incoming, p *inPlace) (Restored, error) {
	out := in.restored()
	log, err := v.openLog(in.h.ID)
	if err != nil {
		return out, err
	}
	h := p.successor(in.h)
	st := in.state.clone()
	if p.open != nil {
		if err := v.keepTokens(st, p.open, in.keys); err != nil {
			return out, err
		}
	}
	in.describe(&rec, fmt.Sprintf("was accepted in the place of generation %d", h.Generation-1))
	if _, err := v.commit(ctx, log, change{p.gen, h, st, in.keys, rec}); err != nil {
		return out, err
	}
	return out, v.enter(ctx, in.keys)
}

// keepTokens keeps what was got since with secrets that stay as they are: a
// refresh token that rotates may have been used up since.
func (v *Vault) keepTokens(st *State, now *Snapshot, to *keyring) error {
	secrets := make(map[string]*Secret, len(st.Secrets))
	for i := range st.Secrets {
		secrets[st.Secrets[i].ID] = &st.Secrets[i]
	}
	kept := map[string]Token{}
	for _, t := range now.state.clone().Tokens {
		if t.stale(func(id string) *Secret { return secrets[id] }) {
			continue
		}
		if err := now.keys.rewrapToken(v.cfg.Rand, to, &t); err != nil {
			continue // it does not open: the older one is no worse
		}
		kept[t.Key] = t
	}
	for i := range st.Tokens {
		if t, ok := kept[st.Tokens[i].Key]; ok && t.Version >= st.Tokens[i].Version {
			st.Tokens[i] = t
		}
		delete(kept, st.Tokens[i].Key)
	}
	for _, t := range kept {
		st.Tokens = append(st.Tokens, t)
	}
	return nil
}

// successor is the header of a document that follows all that are known.
func (p *inPlace) successor(h header) header {
	last := h.Generation
	if p.log.last != nil {
		last = max(last, p.log.last.Generation)
		h.Previous = p.log.last.Hash
	}
	if p.hash != "" {
		h.Previous = p.hash
	}
	// Of a header that is not proven an absurd generation is not believed.
	if p.h.Generation <= last+1 || p.open != nil {
		last = max(last, p.h.Generation)
	}
	h.Generation = last + 1
	return h
}

// bringAll puts log and document of a backup in place as they are.
func (v *Vault) bringAll(ctx context.Context, rec audit.Record, in *incoming, s *staged) (Restored, error) {
	out := in.restored()
	if _, err := s.log.AppendSync(context.WithoutCancel(ctx), rec); err != nil {
		return out, v.unavailable("the new log:", err)
	}
	var err error
	if out.MovedLog, err = v.replaceAll(s, in.doc, in.keys); err != nil {
		return out, err
	}
	return out, v.enter(ctx, in.keys)
}

// bringBack puts log and document of a backup in the place of ones that do not
// belong to it, as the next generation.
func (v *Vault) bringBack(ctx context.Context, rec audit.Record, in *incoming, s *staged, p *inPlace) (Restored, error) {
	in.describe(&rec, "was accepted; the log in place was "+p.log.fault()+" and is kept beside it")
	out := in.restored()
	var err error
	out.MovedLog, err = v.startOver(ctx, rec, s, p.successor(in.h), in.state.clone(), in.keys)
	return out, err
}

// startOver seals a state for a staged log, commits it there, and puts both in
// place.
func (v *Vault) startOver(ctx context.Context, rec audit.Record, s *staged, h header, st *State, keys *keyring) (movedLog string, err error) {
	ctx = context.WithoutCancel(ctx)
	rec.Generation = h.Generation
	h.Used = h.Used || len(st.Secrets) > 0
	if st.AuditHead, err = s.log.AppendSync(ctx, rec); err != nil {
		return "", v.unavailable("the new log:", err)
	}
	doc, err := v.sealDocument(h, st, keys)
	if err != nil {
		return "", v.unavailable("seal the state:", err)
	}
	done := audit.Record{Event: audit.VaultCommitted, Generation: h.Generation, Hash: fileHash(doc)}
	if _, err := s.log.AppendSync(ctx, done); err != nil {
		return "", v.unavailable("the new log:", err)
	}
	if movedLog, err = v.replaceAll(s, doc, keys); err != nil {
		return "", err
	}
	return movedLog, v.enter(ctx, keys)
}

// fault is what is wrong with a log, for the record of what took its place.
func (l *logFound) fault() string {
	switch {
	case !l.there:
		return "missing"
	case l.broken != nil:
		return "broken"
	}
	return "another than the backup's"
}

// enter opens the vault that is now in place by keys, and leaves it locked if
// somebody locked it. vault.lock is held.
func (v *Vault) enter(ctx context.Context, keys *keyring) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		keys.wipe()
		return nil
	}
	v.setKeys(keys)
	_, err := v.reopen(context.WithoutCancel(ctx), true)
	if log, e := v.openLog(keys.vaultID); err == nil && e == nil {
		_ = log.Checkpoint() // a log that came with the restore has no news that would be signed
	}
	if v.marker.locked(v.now()) {
		v.dropKeys()
	}
	return err
}

// changesSince collects what changed since a line of the log, for an operator
// who is about to lose it.
type changesSince struct {
	names       *Snapshot // knows secrets' names by id; may be nil
	pending     audit.Line
	count       int
	first, last int64
	secrets     []string
	more        int
}

const maxNamed = 10

var generationMark = []byte(`,"generation":`)

func (c *changesSince) add(line []byte) {
	if !bytes.Contains(line, generationMark) {
		return
	}
	l, err := audit.ParseLine(line)
	switch {
	case err != nil:
	case l.Event == audit.BackupMade: // changes nothing
	case l.Event != audit.VaultCommitted:
		c.pending = l
	case c.pending.Generation == l.Generation:
		c.count++
		if c.first == 0 {
			c.first = c.pending.AtMs
		}
		c.last = c.pending.AtMs
		c.note(c.pending)
	}
}

// note names the secrets that a change was about.
func (c *changesSince) note(l audit.Line) {
	if !strings.HasPrefix(l.Event, "secret") && !strings.HasPrefix(l.Event, "login.") {
		return
	}
	if l.Name != "" {
		c.name(l.Name)
		return
	}
	ids := []string{l.Object}
	if len(l.Secrets) > 0 {
		ids = nil
		for _, use := range l.Secrets {
			ids = append(ids, use.ID)
		}
	}
	for _, id := range ids {
		if c.names != nil && c.names.Secret(id) != nil {
			id = c.names.Secret(id).Name
		}
		c.name(id)
	}
}

func (c *changesSince) name(s string) {
	for _, have := range c.secrets {
		if have == s {
			return
		}
	}
	if len(c.secrets) == maxNamed {
		c.more++
		return
	}
	c.secrets = append(c.secrets, s)
}

// String says what would be lost, in words.
func (c *changesSince) String() string {
	if c.count == 0 {
		return "no change is recorded since"
	}
	day := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	text := fmt.Sprintf("%d changes since would be lost, made from %s to %s", c.count, day(c.first), day(c.last))
	if c.count == 1 {
		text = "1 change since would be lost, made at " + day(c.first)
	}
	if len(c.secrets) == 0 {
		return text + "; no secret is among what they changed"
	}
	var names []string
	for _, s := range c.secrets {
		names = append(names, fmt.Sprintf("%+.80q", s))
	}
	text += "; secrets that they changed: " + strings.Join(names, ", ")
	if c.more > 0 {
		text += fmt.Sprintf(" and %d more", c.more)
	}
	return text
}

func (v *Vault) errNeedsAccept(p *inPlace, in *incoming) error {
	var e *api.Error
	switch {
	case p.log.whole() && p.log.holds:
		e = api.Errorf(api.AlreadyExists, "this backup, made at %s, is of generation %d, and the vault in %s is newer: %s",
			in.madeAt(), in.head.Generation, v.cfg.Dir, &p.log.since)
	case !p.log.there:
		e = api.Errorf(api.AlreadyExists, "the audit log of the vault in %s is missing, so nobody can tell what changed since this backup was made at %s (generation %d)",
			v.cfg.Dir, in.madeAt(), in.head.Generation)
	case p.log.broken != nil:
		e = api.Errorf(api.AlreadyExists, "the audit log of the vault in %s is broken (%w), so nobody can tell what changed since this backup was made at %s (generation %d)",
			v.cfg.Dir, p.log.broken, in.madeAt(), in.head.Generation)
	default:
		e = api.Errorf(api.AlreadyExists, "the audit log of the vault in %s is another than that of this backup, made at %s (generation %d)",
			v.cfg.Dir, in.madeAt(), in.head.Generation)
	}
	return e.WithHint("aivault restore FILE --accept %d", in.head.Generation)
}
