package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	originPrefix = "aivault audit " // of a checkpoint's first line; the vault's id follows
	signerPrefix = "aivault/"       // of the name that signs; the vault's id follows
	signaturePre = "\u2014 "        // opens the signature's line, as of every signed note
	noteLines    = 9                // six of text, an empty one, the signature, an empty one
	maxNote      = 1024             // no note of ours is so long
)

// Commit is what a log says of the vault that was last committed.
type Commit struct {
	Generation uint64
	Hash       string // SHA-256 of the vault's file, hex; "" for none yet
}

// A Checkpoint is a signed statement: up to and including Head, this is the
// log of that vault.
type Checkpoint struct {
	VaultID string
	Head    Head
	AtMs    int64
	Commit  Commit // the last vault.committed up to Head
}

// text is what is signed: six lines, as docs/audit-format.md has them. Of what
// parseText would refuse it is an error.
func (c Checkpoint) text() (string, error) {
	sum, err := hex.DecodeString(c.Head.Hash)
	hash := c.Commit.Hash
	if hash == "" {
		hash = "-"
	}
	text := fmt.Sprintf("%s%s\n%d\n%s\n%s %d\n%d\nvault %d %s\n", originPrefix, c.VaultID, c.Head.Seq,
		base64.StdEncoding.EncodeToString(sum), c.Head.File, c.Head.Offset, c.AtMs, c.Commit.Generation, hash)
	if got, ok := parseText(text); err != nil || !ok || got != c {
		return "", fmt.Errorf("audit: sign log: there is no checkpoint for line %d of vault %+q", c.Head.Seq, c.VaultID)
	}
	return text, nil
}

// parseText takes exactly what text writes.
func parseText(text string) (c Checkpoint, ok bool) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 || lines[6] != "" {
		return c, false
	}
	c.VaultID, ok = strings.CutPrefix(lines[0], originPrefix)
	if !ok || !validID(c.VaultID) {
		return c, false
	}
	sum, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(sum) != sha256.Size || len(lines[2]) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return c, false
	}
	c.Head.Hash = hex.EncodeToString(sum)
	file, offset, ok := strings.Cut(lines[3], " ")
	if !ok || segmentNumber(file) == 0 {
		return c, false
	}
	c.Head.File = file
	rest, ok := strings.CutPrefix(lines[5], "vault ")
	generation, hash, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		return c, false
	}
	if hash != "-" {
		if !isHash(hash) {
			return c, false
		}
		c.Commit.Hash = hash
	}
	var ok3, ok4 bool
	var off, at uint64
	c.Head.Seq, ok = decimal(lines[1], 1, 1<<64-1)
	off, ok2 = decimal(offset, 1, 1<<63-1)
	at, ok3 = decimal(lines[4], 0, 1<<63-1)
	c.Commit.Generation, ok4 = decimal(generation, 0, 1<<64-1)
	c.Head.Offset, c.AtMs = int64(off), int64(at)
	return c, ok && ok2 && ok3 && ok4 && (c.Commit.Hash == "") == (c.Commit.Generation == 0)
}

// decimal reads a number that is written in the only way in which it can be.
func decimal(s string, least, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n >= least && n <= most && strconv.FormatUint(n, 10) == s
}

// validID says whether a vault's id can stand in the name of a key.
func validID(id string) bool {
	return id != "" && len(id) <= 128 && plain(id) && !strings.ContainsAny(id, " +")
}

func isHash(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return len(s) == 2*sha256.Size
}

// signedNote is a checkpoint as it stands in a file.
type signedNote struct {
	Checkpoint
	text string
	hash uint32 // of the key
	sig  []byte
}

// cutNote takes the first note off data, with the empty line after it. It
// takes exactly what encode writes.
func cutNote(data []byte) (n signedNote, rest []byte, ok bool) {
	end := -1
	for range noteLines {
		i := bytes.IndexByte(data[end+1:], '\n')
		if i < 0 || end+1+i > maxNote {
			return n, data, false
		}
		end += 1 + i
	}
	text, signature, ok := strings.Cut(string(data[:end+1]), "\n\n")
	if !ok {
		return n, data, false
	}
	n.text = text + "\n"
	if n.Checkpoint, ok = parseText(n.text); !ok {
		return n, data, false
	}
	encoded, ok := strings.CutPrefix(signature, signaturePre+signerPrefix+n.VaultID+" ")
	encoded, ok2 := strings.CutSuffix(encoded, "\n\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || !ok2 || err != nil || len(raw) != 4+ed25519.SignatureSize || len(encoded) != base64.StdEncoding.EncodedLen(len(raw)) {
		return n, data, false
	}
	n.hash, n.sig = binary.BigEndian.Uint32(raw), raw[4:]
	return n, data[end+1:], true
}

// encode is the note as it stands in the file, with the empty line that ends
// it.
func (n signedNote) encode() []byte {
	raw := append(binary.BigEndian.AppendUint32(nil, n.hash), n.sig...)
	return fmt.Appendf(nil, "%s\n%s%s%s %s\n\n", n.text, signaturePre, signerPrefix, n.VaultID, base64.StdEncoding.EncodeToString(raw))
}

// signedBy says whether the note's signature is v's.
func (n signedNote) signedBy(v note.Verifier) bool {
	return v.Name() == signerPrefix+n.VaultID && v.KeyHash() == n.hash && v.Verify([]byte(n.text), n.sig)
}

// unfinished says whether data, which begins with no whole note, is what a
// power cut or a full disk leaves of writing one.
func unfinished(data []byte) bool {
	whole := bytes.HasSuffix(data, []byte("\n\n")) && bytes.Count(data, []byte("\n")) >= noteLines
	return !whole && !bytes.Contains(data, []byte("\n\n"+originPrefix))
}

// VerifierKey names vault and public key in the text form of
// golang.org/x/mod/sumdb/note.
func VerifierKey(vaultID string, key ed25519.PublicKey) (string, error) {
	if !validID(vaultID) {
		return "", fmt.Errorf("audit: %+q is no id that a key can be named after", vaultID)
	}
	return note.NewEd25519VerifierKey(signerPrefix+vaultID, key)
}

// verifierOf is the verifier of a vault's public key.
func verifierOf(vaultID string, key ed25519.PublicKey) (note.Verifier, error) {
	text, err := VerifierKey(vaultID, key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(text)
}

// parseVerifierKey reads what VerifierKey writes.
func parseVerifierKey(text string) (v note.Verifier, vaultID string, err error) {
	v, err = note.NewVerifier(text)
	if err != nil {
		return nil, "", fmt.Errorf("audit: the verifier key %+q: %w", bounded(text), err)
	}
	vaultID, ok := strings.CutPrefix(v.Name(), signerPrefix)
	if !ok || !validID(vaultID) {
		return nil, "", fmt.Errorf("audit: the verifier key %+q: %w", bounded(text), errNoVaultKey)
	}
	return v, vaultID, nil
}

var errNoVaultKey = errors.New("it is not named after a vault")

func bounded(s string) string { return s[:min(len(s), 200)] }

// startOf is the position before the first line of segment first: where the
// chain begins, or where the signed checkpoint stands that closed the segment
// before. key may be nil: then the checkpoint is believed unsigned, as the log
// itself is by who holds no key.
func startOf(dir, vaultID string, first int, key ed25519.PublicKey) (chain, error) {
	var v note.Verifier
	if key != nil {
		var err error
		if v, err = verifierOf(vaultID, key); err != nil {
			return chain{}, err
		}
	}
	if first == 1 {
		return genesis(vaultID), nil
	}
	data, err := readCheckpoints(dir)
	if err != nil {
		return chain{}, err
	}
	return startIn(data, vaultID, first, v)
}

// startIn is startOf by the checkpoints in data; v may be nil.
func startIn(data []byte, vaultID string, first int, v note.Verifier) (chain, error) {
	if first == 1 {
		return genesis(vaultID), nil
	}
	before := segmentName(first - 1)
	var last *signedNote
	eachNote(data, func(n signedNote, _ int) bool {
		if n.Head.File == before && n.VaultID == vaultID && (v == nil || n.signedBy(v)) {
			last = &n
		}
		return true
	})
	if last == nil {
		return chain{}, &ChainError{File: before, Why: "this part of the log is missing, and no checkpoint says how it ended"}
	}
	c := chain{seq: last.Head.Seq, file: segmentName(first)}
	copy(c.hash[:], last.Head.Hash)
	return c, nil
}

// eachNote calls fn with the notes of a file and the number of the line at
// which each begins, until fn says that it has enough. It returns what is left,
// nothing or what is no note.
func eachNote(data []byte, fn func(n signedNote, line int) (more bool)) (rest []byte, line int) {
	for line = 1; len(data) > 0; line += noteLines {
		n, after, ok := cutNote(data)
		if !ok || !fn(n, line) {
			break
		}
		data = after
	}
	return data, line
}
