// Package audit keeps the log of every call and every change: JSON lines,
// each bound to the one before it by its hash. docs/audit-format.md specifies
// the format.
//
// One vault has one chain, whoever appends: the position is read from the
// file's tail under the log's lock, so that a daemon and any number of
// in-process users write one unbroken log.
package audit

import (
	"time"

	"moldable.sh/aivault/internal/grant"
)

// Events, as docs/audit-format.md lists them.
const (
	CallAllowed       = "call.allowed"  // before anything is sent
	CallFinished      = "call.finished" // outcome of an allowed call
	CallRefused       = "call.refused"
	OperatorRefused   = "operator.refused"
	VaultCreated      = "vault.created"
	VaultCommitted    = "vault.committed" // the change with this generation is on disk
	VaultUnlocked     = "vault.unlocked"
	VaultUnlockFailed = "vault.unlock_failed"
	VaultLocked       = "vault.locked"
	VaultRotated      = "vault.rotated"
	BackupMade        = "vault.backed_up"
	VaultRestored     = "vault.restored" // a backup was put in the vault's place, or an old copy accepted
	SecretCreated     = "secret.created"
	SecretUpdated     = "secret.updated"
	SecretRotated     = "secret.rotated"
	SecretDeleted     = "secret.deleted"
	CredentialCreated = "credential.created"
	CredentialDeleted = "credential.deleted"
	CapabilityCreated = "capability.created"
	CapabilityDeleted = "capability.deleted"
	SecretAttached    = "secret.attached"
	SecretDetached    = "secret.detached"
	SecretsImported   = "secrets.imported"
	CapabilityOn      = "capability.enabled"
	CapabilityOff     = "capability.disabled"
	PolicySet         = "policy.set"
	PolicyCleared     = "policy.cleared"
	BindingSet        = "binding.set"
	BindingDeleted    = "binding.deleted"
	GrantAdded        = "grant.added"
	GrantRemoved      = "grant.removed"
	GrantReset        = "grant.reset"
	GrantDefaultSet   = "grant.default"
	TokenRefreshed    = "token.refreshed"
	LoginStarted      = "login.started"
	LoginFinished     = "login.finished"
	LoginRefused      = "login.refused"
	LoggedOut         = "login.ended"
	EchoRedacted      = "echo_redacted" // an upstream repeated a secret
	LogRotated        = "log.rotated"   // the last line of a closed segment
	LogPruned         = "log.pruned"    // segments older than is kept were removed
)

// Caller is how a record names who asked.
type Caller struct {
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
	PID       int32  `json:"pid,omitzero"`
	StartedAt int64  `json:"startedAt,omitzero"` // clock ticks since boot
	User      string `json:"user,omitzero"`
	Program   string `json:"programClaimed,omitzero"`
	Operator  bool   `json:"operator,omitzero"`
}

// CallerOf translates a caller as the kernel named it.
func CallerOf(c grant.Caller) *Caller {
	return &Caller{UID: c.UID, GID: c.GID, PID: c.PID, StartedAt: c.StartedAt, User: c.User, Program: c.Program, Operator: c.Operator}
}

// SecretUse names a value that a call used.
type SecretUse struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
}

// MaxGrants is how many grants one record names at most.
const MaxGrants = 16

// Record is one line, less what the log itself adds in front: seq, prev and
// atMs. Nothing in it is ever a secret, a query value or a body.
type Record struct {
	Event      string      `json:"event"`
	RequestID  string      `json:"requestId,omitzero"`
	Caller     *Caller     `json:"caller,omitzero"`
	Capability string      `json:"capability,omitzero"`
	Credential string      `json:"credential,omitzero"`
	Secrets    []SecretUse `json:"secrets,omitzero"`
	Scope      string      `json:"scope,omitzero"`
	Host       string      `json:"host,omitzero"`
	Method     string      `json:"method,omitzero"`
	Path       string      `json:"path,omitzero"`   // the rule that admitted it, not the path itself
	Object     string      `json:"object,omitzero"` // id of what a change made, changed or removed
	Name       string      `json:"name,omitzero"`
	Provider   string      `json:"provider,omitzero"`
	Code       string      `json:"code,omitzero"` // error code of a refusal or failure
	Reason     string      `json:"reason,omitzero"`
	Status     int         `json:"status,omitzero"`
	SentBytes  int64       `json:"sentBytes,omitzero"`
	Bytes      int64       `json:"bytes,omitzero"`
	DurationMs int64       `json:"durationMs,omitzero"`
	Redactions int         `json:"redactions,omitzero"`
	Generation uint64      `json:"generation,omitzero"` // of a change: the vault generation it makes
	Hash       string      `json:"hash,omitzero"`       // of vault.committed: hash of the vault file
	Set        string      `json:"set,omitzero"`        // as which the capability was called
	Binding    string      `json:"binding,omitzero"`    // that chose the credential
	Grants     []string    `json:"grants,omitzero"`     // that permitted the call, at most MaxGrants
	Session    string      `json:"session,omitzero"`    // of call.allowed: which process makes the call
	Count      int         `json:"count,omitzero"`      // how many more equal refusals this record stands for
}

// Head is a position in the log: everything up to and including line Seq.
// The zero Head is before the first line.
type Head struct {
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`   // of line Seq, hex
	File   string `json:"file"`   // name within the log's directory
	Offset int64  `json:"offset"` // just after line Seq's newline
}

// Config is what a Log needs.
type Config struct {
	Dir     string           // $VAULT/audit
	VaultID string           // binds the first line; not empty
	Clock   func() time.Time // default time.Now
	// Sync says that every record is on disk before Append returns. Without
	// it a record is in the file before Append returns, and on disk within
	// 50 ms.
	Sync bool
	// Tend says that this process compresses closed segments and removes those
	// that are older than Retain: the daemon does, a CLI does not.
	Tend   bool
	Retain time.Duration // how long closed segments are kept; 0: for good
	// TendFailed, when not nil, is told why a segment could not be compressed or
	// removed. It is tried again.
	TendFailed func(error)
	// Keep says up to where the vault may still read: from that position on
	// nothing is removed. Without it, and while it says the zero Head, nothing is.
	Keep func() Head
	// SegmentSize is how large a segment grows, in bytes, before another is
	// begun; default 16 MiB.
	SegmentSize int64
	segmentAge  time.Duration // how old; default 30 days
}
