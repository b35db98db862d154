package audit

import (
	"crypto"
	"crypto/ed25519"
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

// SetSigner gives the log the key that signs its checkpoints, an Ed25519 one;
// nil takes it away. Without a key records are appended all the same, and
// signed over later.
func (l *Log) SetSigner(key crypto.Signer) { panic("contract") }

// Checkpoint signs the log as far as it is written, if that is not signed yet.
// Without a key it does nothing.
func (l *Log) Checkpoint() error { panic("contract") }

// Signed is the seq up to which the log is signed, 0 for nothing.
func (l *Log) Signed() uint64 { panic("contract") }

// signTail signs the leader's tail, syncing the log first. The caller is the
// leader and holds the log's lock. It says whether there was a key to sign with.
func (l *Log) signTail() (signed bool, err error) { panic("contract") }

// VerifierKey names vault and public key in the text form of
// golang.org/x/mod/sumdb/note.
func VerifierKey(vaultID string, key ed25519.PublicKey) (string, error) { panic("contract") }

// startOf is the position before the first line of segment first: where the
// chain begins, or where the signed checkpoint stands that closed the segment
// before. key may be nil: then the checkpoint is believed unsigned, as the log
// itself is by who holds no key.
func startOf(dir, vaultID string, first int, key ed25519.PublicKey) (chain, error) {
	if first == 1 {
		return genesis(vaultID), nil
	}
	panic("contract")
}
