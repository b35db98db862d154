package audit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// VerifyConfig says what to verify, and against what.
type VerifyConfig struct {
	Dir     string // the log's directory
	VaultID string // "": as Key names it, or what lies beside the log
	// Named asks for a key or a checkpoint even where VaultID says whose log it
	// is: without either nothing is signed, which is ErrUnnamed.
	Named bool
	// Key is a verifier key. With "" the one beside the log is used, which
	// whoever rewrote the log could have replaced: Report.KeyFrom says so.
	Key        string
	Checkpoint []byte // signed checkpoints kept elsewhere, one or several; nil: none
}

// Report is what a verification found.
type Report struct {
	VaultID         string      `json:"vaultId"`
	Key             string      `json:"key,omitzero"`
	KeyFrom         string      `json:"keyFrom,omitzero"` // the file beside the log that it was taken from; "": it was given
	Records         uint64      `json:"records"`          // lines that were read and follow
	FirstSeq        uint64      `json:"firstSeq,omitzero"`
	LastSeq         uint64      `json:"lastSeq,omitzero"`
	LastHash        string      `json:"lastHash,omitzero"`
	Segments        int         `json:"segments"`
	Checkpoints     int         `json:"checkpoints"`        // whose signatures hold
	SignedSeq       uint64      `json:"signedSeq,omitzero"` // of the last of them
	AfterCheckpoint uint64      `json:"afterCheckpoint"`    // records that follow it
	Problem         *ChainError `json:"problem,omitzero"`   // the first thing that is wrong
}

// A GivenError is of a key or a checkpoint that was given to Verify, and does
// not fit the log or is none.
type GivenError struct{ Why string }

// Error says what does not fit.
func (e *GivenError) Error() string { return e.Why }

func given(format string, a ...any) error { return &GivenError{fmt.Sprintf(format, a...)} }

// ErrUnnamed is of a log beside which neither a key nor a checkpoint lies, and
// for which none was given.
var ErrUnnamed = errors.New("audit: nothing says which vault's log this is: its verifier key would")

// Verify checks a log, offline, with the public key alone. The error is of
// what could not be read, or of what is given that does not fit; what is wrong
// with the log is in the Report. Memory does not grow with the log.
func Verify(cfg VerifyConfig) (Report, error) {
	for try := 0; ; try++ {
		// The checkpoints are read before the log, which only grows: what is
		// signed is there.
		v, err := newVerification(cfg)
		var broken *ChainError
		if errors.As(err, &broken) {
			return Report{VaultID: cfg.VaultID, Problem: broken}, nil
		}
		if err != nil {
			return Report{}, err
		}
		if err := v.run(); err != nil {
			return v.report, err
		}
		// What the daemon removes for its age may have gone while it was read.
		if v.report.Problem == nil || try == busyTries || !v.pruned() {
			return v.report, nil
		}
	}
}

// verification is one run over a log.
type verification struct {
	cfg    VerifyConfig
	id     string
	key    note.Verifier // nil: signatures are not checked
	first  int           // number of the first segment that is kept
	report Report

	checkpoints []byte      // the file
	signed      []expected  // what has to be in the log, by seq
	fault       *ChainError // what is wrong beside the chain itself

	at      chain
	start   uint64     // seq before the first line that is kept
	last    place      // where line at.seq begins
	next    int        // in signed
	matched uint64     // seq of the last line that was signed and is right
	closed  []expected // the ends of closed segments
	removed int        // the last segment that a record says was removed
}

// expected is a line that is known from elsewhere.
type expected struct {
	Head
	from string // the file that says so
}

func newVerification(cfg VerifyConfig) (*verification, error) {
	v := &verification{cfg: cfg}
	if _, err := list(cfg.Dir); err != nil {
		if left := leftOf(cfg.Dir); left != "" && errors.Is(err, fs.ErrNotExist) {
			err = &ChainError{File: segmentName(1), Why: "the log was removed: " + left + " is there, and no part of the log"}
		}
		return nil, err // no log: that nothing names its vault is no news
	}
	if err := v.findKey(); err != nil {
		return nil, err
	}
	names, err := segments(cfg.Dir)
	var broken *ChainError
	if errors.As(err, &broken) {
		// Read as far as it goes: up to what is missing.
		if names, err = list(cfg.Dir); err == nil {
			v.fault = broken
		}
	}
	if err != nil {
		return nil, err
	}
	if err := checkParts(cfg.Dir, names); err != nil {
		return nil, err
	}
	v.first = segmentNumber(names[0])
	v.report.Segments = len(names)
	return v, v.gather()
}

// leftOf is what lies beside a log only after its first segment was there, ""
// for nothing.
func leftOf(dir string) string {
	for _, name := range []string{checkpointsName, keyName, lockName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return ""
}

// checkParts refuses what whoever appends would not open. The walk does not
// come by all of it: an empty last part is what a rotation begins with.
func checkParts(dir string, names []string) error {
	for _, name := range names {
		f, err := openSegment(dir, name, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = openSegment(dir, name+packedSuffix, os.O_RDONLY)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed for its age meanwhile
		}
		if err != nil {
			return fmt.Errorf("audit: read log: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("audit: read log: %w", err)
		}
	}
	return nil
}

// findKey finds out whose log it is, and reads the checkpoints.
func (v *verification) findKey() (err error) {
	if v.checkpoints, err = readCheckpoints(v.cfg.Dir); err != nil {
		return err
	}
	beside, err := readKey(v.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := v.cfg.Key
	switch {
	case text == "" && beside != "":
		text, v.report.KeyFrom = beside, keyName
	case text != "" && beside != "" && text != beside:
		v.fault = &ChainError{File: keyName, Why: "it is not the key that was given"}
	}
	v.id = v.cfg.VaultID
	if err := v.takeKey(text); err != nil {
		return err
	}
	named := text != ""
	for _, data := range [][]byte{v.checkpoints, v.cfg.Checkpoint} {
		if n, _, ok := cutNote(data); ok {
			v.id, named = cmp.Or(v.id, n.VaultID), true
		}
	}
	switch {
	case v.id != "" && (named || !v.cfg.Named):
	case v.fault != nil:
		return v.fault
	default:
		return ErrUnnamed
	}
	v.report.VaultID = v.id
	return nil
}

// takeKey takes a key to check signatures with, "" for none. What was given
// has to be one; of one beside the log that is none, or another vault's, nothing
// follows for the log.
func (v *verification) takeKey(text string) error {
	if text == "" {
		return nil
	}
	key, named, err := parseVerifierKey(text)
	wrong := ""
	switch {
	case err != nil && v.cfg.Key != "":
		return given("the key that was given is none of an audit log: it was cut off or changed")
	case err != nil:
		wrong = "it is no public key of an audit log"
	case v.id == "" || v.id == named:
		v.key, v.id, v.report.Key = key, named, text
		return nil
	case v.cfg.Key != "":
		return given("the key is of vault %+q, and the log of vault %+q", named, v.id)
	default:
		wrong = "it is the key of another vault"
	}
	v.fault, v.report.KeyFrom = &ChainError{File: keyName, Why: wrong}, ""
	return nil
}

// gather collects what has to be in the log.
func (v *verification) gather() error {
	v.gatherOwn()
	kept := v.cfg.Checkpoint
	if len(kept) > 0 && !bytes.HasSuffix(kept, []byte("\n\n")) {
		kept = slices.Concat(bytes.TrimSuffix(kept, []byte("\n")), []byte("\n\n"))
	}
	var failed error
	rest, line := eachNote(kept, func(n signedNote, line int) bool {
		switch {
		case n.VaultID != v.id:
			failed = given("the given checkpoint is of vault %+q, and the log of vault %+q", n.VaultID, v.id)
		case v.key != nil && !n.signedBy(v.key):
			failed = given("the given checkpoint, at its line %d, is not signed by the key", line)
		}
		v.signed = append(v.signed, expected{n.Head, "the given checkpoint"})
		return failed == nil
	})
	if failed == nil && len(rest) > 0 {
		failed = given("the given checkpoint, at its line %d, is none of an audit log", line)
	}
	slices.SortStableFunc(v.signed, func(a, b expected) int {
		switch {
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
	return failed
}

// gatherOwn takes the checkpoints beside the log. One that is wrong is a fault,
// and the others count nevertheless.
func (v *verification) gatherOwn() {
	var last uint64
	wrong := func(line int, why string) {
		if v.fault == nil {
			v.fault = &ChainError{File: checkpointsName, Line: uint64(line), Why: why}
		}
	}
	take := func(n signedNote, line int) bool {
		switch {
		case n.VaultID != v.id:
			wrong(line, "this checkpoint is of another vault")
		case v.key != nil && !n.signedBy(v.key):
			wrong(line, "the signature of this checkpoint does not hold")
		case n.Head.Seq <= last:
			wrong(line, "this checkpoint is not later than the one before it")
		default:
			last = n.Head.Seq
			v.signed = append(v.signed, expected{n.Head, checkpointsName})
			if v.key != nil {
				v.report.Checkpoints++
				v.report.SignedSeq = last
			}
		}
		return true
	}
	for data, before := v.checkpoints, 0; ; {
		rest, line := eachNote(data, func(n signedNote, line int) bool { return take(n, before+line) })
		if len(rest) == 0 || unfinished(rest) {
			break
		}
		wrong(before+line, "this is not written as a checkpoint is")
		i := bytes.Index(rest[1:], []byte("\n\n"+originPrefix))
		if i < 0 {
			break
		}
		skip := 1 + i + len("\n\n")
		before += line - 1 + bytes.Count(rest[:skip], []byte("\n"))
		data = rest[skip:]
	}
	if v.fault == nil && v.key != nil && len(v.signed) == 0 {
		v.fault = &ChainError{File: checkpointsName, Why: "there is no checkpoint, though the key has signed the log"}
	}
}

// run walks over the log. The chain comes first, then what lies beside it.
func (v *verification) run() error {
	err := v.walk()
	var broken *ChainError
	if errors.As(err, &broken) {
		if v.report.Problem, err = broken, nil; broken.Line == 0 && broken.File != checkpointsName {
			v.report.Problem = &ChainError{File: broken.File, Line: v.at.seq + 1, Why: broken.Why}
		}
	}
	v.report.Records = v.at.seq - v.start
	if v.report.Records > 0 {
		v.report.FirstSeq, v.report.LastSeq, v.report.LastHash = v.start+1, v.at.seq, string(v.at.hash[:])
	}
	if v.at.seq > v.report.SignedSeq {
		v.report.AfterCheckpoint = v.at.seq - max(v.report.SignedSeq, v.start)
	}
	if v.report.Problem == nil {
		v.report.Problem = v.beside()
	}
	return err
}

func (v *verification) walk() (err error) {
	if v.at, err = startIn(v.checkpoints, v.id, v.first, v.key); err != nil {
		return err
	}
	v.start = v.at.seq
	// What is older than what is kept cannot be looked up any more. A later one
	// that was given says as much of the lines before it.
	var old uint64 // of the newest given one, as long as none can be looked up
	for ; v.next < len(v.signed) && v.signed[v.next].Seq <= v.start; v.next++ {
		switch e := v.signed[v.next]; {
		case e.from == checkpointsName:
		case e.Seq < v.start:
			old = e.Seq
		case e.Hash != string(v.at.hash[:]):
			return &ChainError{File: e.File, Line: e.Seq, Why: "it is not the line that is signed in " + e.from}
		default:
			old = 0
		}
	}
	later := func(e expected) bool { return e.from != checkpointsName }
	if old > 0 && !slices.ContainsFunc(v.signed[v.next:], later) {
		return given("the given checkpoint is of line %d, and what is kept of the log begins with line %d", old, v.start+1)
	}
	v.matched = v.start
	if err := v.at.walk(v.cfg.Dir, v.line); err != nil {
		return v.diagnose(err)
	}
	if v.next < len(v.signed) {
		e := v.signed[len(v.signed)-1]
		return v.diagnose(v.at.broken(fmt.Sprintf("the log ends before it, and line %d is signed in %s", e.Seq, e.from)))
	}
	return nil
}

// line is called with each line that follows from the one before.
func (v *verification) line(line []byte, at *chain) error {
	begin := at.offset - int64(len(line)) - 1
	if begin == 0 && at.before.file != "" && v.last.file != "" {
		v.closed = append(v.closed, expected{Head: Head{Seq: at.seq - 1, File: at.before.file}})
	}
	v.last = place{at.file, begin}

	if !printable(line) || line[len(line)-1] != '}' {
		return &ChainError{File: at.file, Line: at.seq, Why: "it is not written as a line of the log is"}
	}
	for v.next < len(v.signed) && v.signed[v.next].Seq == at.seq {
		if err := v.compare(at, v.signed[v.next]); err != nil {
			return err
		}
		v.next++
	}
	if v.first > 1 {
		v.noteRemoval(line)
	}
	return nil
}

func (v *verification) compare(at *chain, e expected) error {
	switch have := at.head(); {
	case have == e.Head:
		v.matched = at.seq
		return nil
	case have.Hash == e.Hash:
		return &ChainError{File: at.file, Line: at.seq, Why: fmt.Sprintf("it stands elsewhere than %s says: there at byte %d of %s", e.from, e.Offset, e.File)}
	case v.matched == at.seq-1:
		return &ChainError{File: at.file, Line: at.seq, Why: "it is not the line that is signed in " + e.from}
	}
	return &ChainError{File: at.file, Line: at.seq, Why: fmt.Sprintf("it is not the line that is signed in %s: what follows line %d was changed or written anew", e.from, v.matched)}
}

// noteRemoval takes in a record that says which segments were removed.
func (v *verification) noteRemoval(line []byte) {
	_, rest, ok := lineBody(line)
	if !ok || !bytes.HasPrefix(rest, []byte(LogPruned+`"`)) {
		return
	}
	if l, err := ParseLine(line); err == nil {
		v.removed = max(v.removed, segmentNumber(l.Object))
	}
}

// beside says what is wrong with what the chain itself does not show.
func (v *verification) beside() *ChainError {
	if v.removed < v.first-1 {
		return &ChainError{File: segmentName(v.first - 1), Line: v.start, Why: "this part of the log is missing, and no record says that it was removed for its age"}
	}
	if v.fault == nil && v.cannotGrow() {
		return &ChainError{File: v.at.file + packedSuffix, Why: "it is compressed, though the log goes on in it"}
	}
	if v.fault != nil || len(v.signed) == 0 {
		return v.fault
	}
	// A later checkpoint is never there without those that closed the segments
	// before it.
	for _, c := range v.closed {
		there := func(e expected) bool { return e.Seq == c.Seq && e.from == checkpointsName }
		if later := v.report.SignedSeq > c.Seq; later && !slices.ContainsFunc(v.signed, there) {
			return &ChainError{File: checkpointsName, Why: fmt.Sprintf("the checkpoint that closed %s, of line %d, is missing", c.File, c.Seq)}
		}
	}
	return nil
}

// cannotGrow says whether the part in which the log ends is there compressed
// alone, which whoever appends does not open. What was closed since it was read
// is compressed when two others follow.
func (v *verification) cannotGrow() bool {
	_, err := os.Lstat(filepath.Join(v.cfg.Dir, v.at.file))
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	names, err := list(v.cfg.Dir)
	return err != nil || segmentNumber(names[len(names)-1]) < segmentNumber(v.at.file)+2
}

// pruned says whether the log begins later than it did.
func (v *verification) pruned() bool {
	names, err := list(v.cfg.Dir)
	return err == nil && segmentNumber(names[0]) > v.first
}

// printable says whether line is printable ASCII, eight bytes at a time: of
// each byte below 0x80 the sum with 0x60 has the top bit from a space on, and
// the sum with 1 has it from DEL on.
func printable(line []byte) bool {
	const each = 0x0101010101010101
	for len(line) >= 8 {
		x := binary.LittleEndian.Uint64(line)
		if (x|^(x+0x60*each)|(x+each))&(0x80*each) != 0 {
			return false
		}
		line = line[8:]
	}
	for _, c := range line {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
