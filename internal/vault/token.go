package vault

import (
	"context"

	"moldable.sh/aivault/internal/secret"
)

// Token finds a token by its key; nil when there is none.
func (s *Snapshot) Token(key string) *Token { panic("contract") }

// OpenToken opens what a token is made of. The caller wipes every value.
func (s *Snapshot) OpenToken(key string) (map[string]secret.Value, error) { panic("contract") }

// SealToken puts a token into the state, in place of one of the same key, and
// fills t.DEK and t.Value with fields under t's own key, sources and version.
func (tx *Tx) SealToken(t *Token, fields map[string]secret.Value) error { panic("contract") }

// TokenLock is held by whoever asks a token endpoint, over reading, asking and
// writing, so that no refresh token is used twice: by this process or another.
type TokenLock struct{}

// LockToken waits for the lock of a token's key, a file under $VAULT/tokens.
func (v *Vault) LockToken(ctx context.Context, key string) (*TokenLock, error) { panic("contract") }

// Asked says whether an earlier holder asked the endpoint, with the token of
// this version, and never learned what came of it.
func (l *TokenLock) Asked(version uint64) bool { panic("contract") }

// Ask notes, on disk, that the endpoint is about to be asked with the token of
// this version (0: with the secret itself), and reserves room on the disk for
// the answer, so that nothing can be lost for want of it. Nothing may be sent
// when it fails.
func (l *TokenLock) Ask(version uint64) error { panic("contract") }

// Answered ends what Ask began, when the outcome is on disk or when it is
// certain that nothing was given.
func (l *TokenLock) Answered() error { panic("contract") }

// MakeRoom gives back the room that Ask reserved, right before the answer is
// written.
func (l *TokenLock) MakeRoom() { panic("contract") }

// Release lets the next one have the lock. What Ask noted stays noted unless
// Answered was called.
func (l *TokenLock) Release() { panic("contract") }
