// Package keysource knows where a vault's key-encryption key (KEK) comes
// from: a key file, an environment variable or a passphrase.
//
// A stored key names the vault it belongs to and is never replaced or removed
// on behalf of another vault; one that exists and cannot be read is never
// overwritten.
package keysource

import (
	"context"

	"moldable.sh/aivault/internal/secret"
)

// KeySize is the size of a KEK in bytes.
const KeySize = 32

// Providers.
const (
	File       = "file"
	Env        = "env"
	Passphrase = "passphrase"
)

// Params are what the vault's header says about its key. None of it is
// secret; all of it is authenticated by the vault.
type Params struct {
	Provider string        `json:"provider"`
	KeyID    string        `json:"keyId"`
	Path     string        `json:"path,omitzero"`   // file: absolute; "" for the installation's default place
	EnvVar   string        `json:"envVar,omitzero"` // env: "" for AIVAULT_KEY
	Argon2id *Argon2Params `json:"argon2id,omitzero"`
}

// Argon2Params are RFC 9106 parameters. Bounds are checked before use:
// memory 8 MiB to 1 GiB, time 1 to 16, parallelism 1 to 16, salt 16 to 64 bytes.
type Argon2Params struct {
	MemoryKiB   uint32 `json:"memoryKiB"` // 65536
	Time        uint32 `json:"time"`      // 3
	Parallelism uint8  `json:"parallelism"`
	Salt        string `json:"salt"` // base64url without padding
}

// Material is what a person or their environment gave to open a vault.
type Material struct {
	Passphrase secret.Value
	EnvKey     secret.Value // value of the env provider's variable
}

// Config places what belongs to one vault.
type Config struct {
	VaultID         string
	DefaultKeyFile  string       // where Params.Path "" means
	DefaultArgon2id Argon2Params // zero: 64 MiB, t=3, p=4 (tests use less)
}

// Open returns the KEK that params name. Errors are api errors:
// vault_locked where something must be given first (a passphrase, the
// variable) or where what was given is wrong, vault_unavailable where the key
// file is missing, unsafe or broken.
func Open(ctx context.Context, cfg Config, p Params, m Material) (secret.Value, error) {
	panic("contract")
}

// NewKey is a KEK that is stored (where the provider stores it) beside the
// one in use, ready to be named by a header.
type NewKey struct {
	Params Params
	KEK    secret.Value
}

// Request says which key to prepare. Exactly the material that the provider
// needs must be given: Env takes EnvKey, Passphrase takes Passphrase; File
// makes a random key unless Key is given.
type Request struct {
	Provider string
	Path     string
	EnvVar   string
	Key      secret.Value // File: 32 bytes in base64 or hex, instead of a random key
	Material Material
}

// Prepare makes or takes a new KEK and stores it durably where its provider
// keeps keys: a key file then holds the key in use and the new one.
func Prepare(ctx context.Context, cfg Config, r Request) (*NewKey, error) { panic("contract") }

// Settle drops from p's key file every key but the one that p names, and does
// nothing for other providers. It is called under the vault's lock, after the
// vault names the key, and at each opening that finds a left-over.
func Settle(ctx context.Context, cfg Config, p Params) error { panic("contract") }

// Forget removes this vault's keys from old's file when the vault no longer
// uses that file (its new provider or path is another).
func Forget(ctx context.Context, cfg Config, old, now Params) error { panic("contract") }

// ParseKey reads a 32-byte key written in base64 (standard or URL, padded or
// not) or hex.
func ParseKey(v secret.Value) (secret.Value, error) { panic("contract") }
