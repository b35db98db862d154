package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"

	"moldable.sh/aivault/internal/durable"
)

const (
	// signDelay is how long news wait for their checkpoint.
	signDelay = time.Second
	// signTimeout bounds the wait for the log's lock, which is held for no
	// longer than a write and an fsync take.
	signTimeout = 5 * time.Second
)

// noteSigner signs with a key whose private part stays where it is.
type noteSigner struct {
	key      crypto.Signer
	verifier note.Verifier
	text     string // of the verifier key
}

func newNoteSigner(vaultID string, key crypto.Signer) (*noteSigner, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("audit: sign log: the key is not an Ed25519 one")
	}
	text, err := VerifierKey(vaultID, pub)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("audit: sign log: %w", err)
	}
	return &noteSigner{key, v, text}, nil
}

// Name implements note.Signer.
func (s *noteSigner) Name() string { return s.verifier.Name() }

// KeyHash implements note.Signer.
func (s *noteSigner) KeyHash() uint32 { return s.verifier.KeyHash() }

// Sign implements note.Signer.
func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(nil, msg, crypto.Hash(0))
}

// sign makes the note of a checkpoint, with the empty line after it.
func (s *noteSigner) sign(c Checkpoint) ([]byte, error) {
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("audit: sign log: %w", err)
	}
	return append(signed, '\n'), nil
}

// SetSigner gives the log the key that signs its checkpoints, an Ed25519 one;
// nil takes it away. Without a key records are appended all the same, and
// signed over later.
func (l *Log) SetSigner(key crypto.Signer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signer = key
	l.armSigning()
	l.kick()
}

// canSign says whether there is a key now.
func (l *Log) canSign() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signer != nil
}

// Checkpoint signs the log as far as it is written, if that is not signed yet.
// Without a key it does nothing.
func (l *Log) Checkpoint() error {
	if !l.canSign() {
		return nil
	}
	// What can be synced before the lock is taken keeps nobody waiting.
	if err := l.Sync(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	return l.asLeader(ctx, l.signEnd)
}

// SigningFault is why the log could not be signed when that was tried last;
// nil when it could.
func (l *Log) SigningFault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signFault
}

// ForgetKey makes room for another key: what the one before signed is removed.
// It is for a vault that begins anew on a log that it goes on with.
func (l *Log) ForgetKey() error {
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	return l.asLeader(ctx, func() error {
		names, err := segments(l.cfg.Dir)
		if err != nil {
			return err
		}
		if names[0] != segmentName(1) {
			return nil // the checkpoints say how the log began
		}
		l.published = ""
		key, checkpoints := filepath.Join(l.cfg.Dir, keyName), filepath.Join(l.cfg.Dir, checkpointsName)
		if err := errors.Join(removeIfThere(key), removeIfThere(checkpoints)); err != nil {
			return fmt.Errorf("audit: forget a key: %w", err)
		}
		return durable.SyncDir(l.cfg.Dir)
	})
}

// signEnd signs whatever is in the log now. The caller is the leader and holds
// the log's lock.
func (l *Log) signEnd() error {
	if err := l.catchUp(); err != nil {
		return err
	}
	_, err := l.signTail()
	return err
}

// signTail signs the leader's tail, syncing the log first. The caller is the
// leader and holds the log's lock. It says whether there was a key to sign with.
func (l *Log) signTail() (signed bool, err error) {
	l.mu.Lock()
	key := l.signer
	l.written = position{l.tail.seq, l.tail.offset}
	l.mu.Unlock()
	if key == nil {
		return false, nil
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.signFault = err
		if err == nil {
			l.news = false // all that was appended is signed: nobody else appends now
		}
	}()
	if l.tail.seq == 0 {
		return true, nil
	}
	if err := l.syncTo(l.tail.seq); err != nil {
		return true, err
	}
	s, err := newNoteSigner(l.cfg.VaultID, key)
	if err != nil {
		return true, err
	}
	file, err := openCheckpoints(l.cfg.Dir, s.verifier)
	if err != nil {
		return true, err
	}
	return true, errors.Join(l.signOnto(file, s), file.close())
}

// signOnto checks that the log goes on from the newest checkpoint, and writes
// the next one; before it those of segments whose closing one a crash kept
// back.
func (l *Log) signOnto(file *checkpointFile, s *noteSigner) error {
	tail := l.tail.head()
	if file.last != nil && file.last.Head.Seq == tail.Seq && file.last.Head.Hash == tail.Hash {
		return l.publish(s)
	}
	heads, err := l.unsigned(file.last)
	if err != nil {
		return err
	}
	now := max(0, l.cfg.Clock().UnixMilli())
	var notes []byte
	for _, c := range heads {
		c.VaultID, c.AtMs = l.cfg.VaultID, now
		signed, err := s.sign(c)
		if err != nil {
			return err
		}
		notes = append(notes, signed...)
	}
	if err := file.append(notes, l.fsync); err != nil {
		return err
	}
	if file.f != nil && file.end > max(thinAt, 2*l.thinned) {
		// It has the checkpoint whether or not it also gets smaller.
		l.thinned, _ = file.thin()
	}
	return l.publish(s)
}

// unsigned walks from the newest checkpoint, or the log's start, to the
// leader's tail, and returns what is to be signed: the end of each segment on
// the way, and the tail.
func (l *Log) unsigned(last *signedNote) ([]Checkpoint, error) {
	var at Checkpoint
	if last != nil {
		at = last.Checkpoint
	} else if names, err := segments(l.cfg.Dir); err != nil {
		return nil, err
	} else if names[0] != segmentName(1) {
		return nil, missing(segmentName(1)) // nothing that the key signed says what was there
	}
	var ends []Checkpoint
	end, err := l.Walk(at.Head, func(line []byte, head Head) error {
		if at.Head.File != "" && at.Head.File != head.File && (last == nil || at.Head != last.Head) {
			ends = append(ends, at)
		}
		at.Head = head
		if c, ok := commitOf(line); ok {
			at.Commit = c
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if end.Seq != l.tail.seq || end.Hash != string(l.tail.hash[:]) {
		return nil, &ChainError{File: end.File, Line: end.Seq, Why: "it is not the line that was written there"}
	}
	return append(ends, at), nil
}

// Published says whether a public key lies beside the log.
func (l *Log) Published() bool { return exists(l.cfg.Dir, keyName) }

// publish writes the public key beside the log, once. It comes after a first
// checkpoint: a key says that there is one.
func (l *Log) publish(s *noteSigner) error {
	if l.published == s.text {
		return nil
	}
	have, err := readKey(l.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		path := filepath.Join(l.cfg.Dir, keyName)
		err = errors.Join(durable.RemoveTemp(path), durable.CreateFile(path, []byte(s.text+"\n")))
		have = s.text
	}
	if err != nil {
		return err
	}
	if have != s.text {
		return &ChainError{File: keyName, Why: "it is not the key that signs this log"}
	}
	l.published = s.text
	return nil
}

// readKey returns the verifier key beside a log.
func readKey(dir string) (string, error) {
	data, err := readBeside(dir, keyName, maxNote)
	return string(bytes.TrimSuffix(data, []byte("\n"))), err
}

// Signed is the seq up to which the log is signed, 0 for nothing. With a key
// it is what that key signed.
func (l *Log) Signed() uint64 {
	l.mu.Lock()
	key := l.signer
	l.mu.Unlock()
	var v note.Verifier
	if key != nil {
		s, err := newNoteSigner(l.cfg.VaultID, key)
		if err != nil {
			return 0
		}
		v = s.verifier
	}
	data, err := readCheckpoints(l.cfg.Dir)
	if err != nil {
		return 0
	}
	n, _ := newest(data, v, func(n signedNote) bool { return n.VaultID == l.cfg.VaultID })
	if n == nil {
		return 0
	}
	return n.Head.Seq
}

// armSigning makes sure that news are signed soon, if there is a key. Called
// under l.mu.
func (l *Log) armSigning() {
	if l.signArmed || l.closed || !l.news || l.signer == nil {
		return
	}
	l.signArmed = true
	l.inflight.Add(1)
	if l.signTimer == nil {
		l.signTimer = time.AfterFunc(l.signDelay, l.signInBackground)
	} else {
		l.signTimer.Reset(l.signDelay)
	}
}

// signInBackground leaves a failure to the next one who signs: the records are
// in the log, and signed over later.
func (l *Log) signInBackground() {
	defer l.inflight.Done()
	l.mu.Lock()
	l.signArmed = false
	l.mu.Unlock()
	_ = l.Checkpoint()
}

// signAtClose signs what nobody has signed yet. Where others write all the
// time, that is theirs to do: they sign what stands before their own records.
// Nothing else uses the log any more.
func (l *Log) signAtClose() error {
	if !l.news || l.signer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.signFor)
	defer cancel()
	switch err := l.lock.Lock(ctx); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	case err != nil:
		return fmt.Errorf("audit: lock log: %w", err)
	}
	return l.signEnd() // closing the lock's file gives the lock back
}

var (
	commitEvent      = []byte(VaultCommitted + `"`) // of what lineBody returns
	commitGeneration = []byte(`,"generation":`)
	commitHash       = []byte(`,"hash":"`)
)

// commitOf reads a vault.committed line. The names of members cannot stand in
// a string, where their quotes would be escaped.
func commitOf(line []byte) (c Commit, ok bool) {
	if _, rest, ok := lineBody(line); !ok || !bytes.HasPrefix(rest, commitEvent) {
		return c, false
	}
	_, generation, ok := bytes.Cut(line, commitGeneration)
	_, hash, ok2 := bytes.Cut(line, commitHash)
	if !ok || !ok2 || len(hash) < 64 || !isHash(string(hash[:64])) {
		return c, false
	}
	digits := 0
	for digits < len(generation) && '0' <= generation[digits] && generation[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseUint(string(generation[:digits]), 10, 64)
	return Commit{n, string(hash[:64])}, err == nil && n > 0
}
