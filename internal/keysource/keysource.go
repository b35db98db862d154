// Package keysource knows where a vault's key-encryption key (KEK) comes
// from: a key file, an environment variable or a passphrase.
//
// A stored key names the vault it belongs to and is never replaced or removed
// on behalf of another vault; one that exists and cannot be read is never
// overwritten.
package keysource

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"io"
	"path/filepath"
	"strings"

	"moldable.sh/aivault/internal/api"
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

// provider is one kind of place that keys come from. A new one is a type in a
// file of its own, a line in providers, and its data in the contract suite.
type provider interface {
	// checkParams refuses parameters that prepare would not write.
	checkParams(p Params) error
	// checkRequest refuses a request that lacks what prepare needs.
	checkRequest(r Request) error
	open(ctx context.Context, cfg Config, p Params, m Material) (secret.Value, error)
	prepare(ctx context.Context, cfg Config, r Request) (*NewKey, error)
	// settle, leftover and forget are about keys that the provider stores.
	settle(cfg Config, p Params) error
	leftover(cfg Config, p Params) bool
	forget(cfg Config, old, now Params) error
}

// providers is the one table of key providers.
func providers() map[string]provider {
	return map[string]provider{File: fileProvider{}, Env: envProvider{}, Passphrase: passphraseProvider{}}
}

// storesNothing is embedded by providers that store nothing.
type storesNothing struct{}

func (storesNothing) settle(Config, Params) error         { return nil }
func (storesNothing) leftover(Config, Params) bool        { return false }
func (storesNothing) forget(Config, Params, Params) error { return nil }

// DefaultEnvVar is the variable that Params.EnvVar "" means.
const DefaultEnvVar = "AIVAULT_KEY"

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
	Rand            io.Reader    // default crypto/rand
}

// EnvName is the variable that holds an env vault's key.
func (p Params) EnvName() string {
	if p.EnvVar == "" {
		return DefaultEnvVar
	}
	return p.EnvVar
}

// KeyFile is the path of a file vault's key.
func (cfg Config) KeyFile(p Params) string {
	if p.Path == "" {
		return cfg.DefaultKeyFile
	}
	return p.Path
}

// Check refuses params that no version of this package writes: it is the
// guard against a header that asks for an absurd amount of memory, and it
// runs before any of them is used.
func (p Params) Check() error {
	if !validKeyID(p.KeyID) {
		return errParams("the key's id is malformed")
	}
	kind := providers()[p.Provider]
	if kind == nil {
		return errParams("unknown key provider")
	}
	return kind.checkParams(p)
}

// Open returns the KEK that params name. Errors are api errors:
// vault_locked where something must be given first (a passphrase, the
// variable) or where what was given is wrong, vault_unavailable where the key
// file is missing, unsafe or broken.
//
// Of a passphrase it cannot say whether it is right: a wrong one gives another
// KEK, and the vault does not open.
func Open(ctx context.Context, cfg Config, p Params, m Material) (secret.Value, error) {
	if err := p.Check(); err != nil {
		return secret.Value{}, err
	}
	kek, err := providers()[p.Provider].open(ctx, cfg, p, m)
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewLocked(kek.Expose()), nil
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
func Prepare(ctx context.Context, cfg Config, r Request) (*NewKey, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	k, err := providers()[r.Provider].prepare(ctx, cfg, r)
	if err == nil {
		k.KEK = secret.NewLocked(k.KEK.Expose())
	}
	return k, err
}

// Check refuses a request that lacks what its provider needs or holds what
// does not belong to it, so that nothing a person typed is silently left out.
func (r Request) Check() error {
	kind := providers()[r.Provider]
	if kind == nil {
		return api.Errorf(api.InvalidRequest, "unknown key provider %q", r.Provider).
			WithHint("the key providers are file, env and passphrase")
	}
	for _, given := range []struct {
		what, provider string
		yes            bool
	}{
		{"a key file's path", File, r.Path != ""},
		{"a given key", File, !r.Key.IsZero()},
		{"a variable's name", Env, r.EnvVar != ""},
		{"a passphrase", Passphrase, !r.Material.Passphrase.IsZero()},
	} {
		if given.yes && given.provider != r.Provider {
			return api.Errorf(api.InvalidRequest, "%s goes with the key provider %s, not with %s", given.what, given.provider, r.Provider)
		}
	}
	return kind.checkRequest(r)
}

// Settle drops from p's key file every key but the one that p names, and does
// nothing for providers that store none. It is called under the vault's lock, after the
// vault names the key, and at each opening that finds a left-over.
func Settle(ctx context.Context, cfg Config, p Params) error {
	kind := providers()[p.Provider]
	if kind == nil || ctx.Err() != nil {
		return ctx.Err() // no provider: a vault in the making has none yet
	}
	return kind.settle(cfg, p)
}

// Leftover says whether Settle would find something to drop.
func Leftover(cfg Config, p Params) bool {
	kind := providers()[p.Provider]
	return kind != nil && kind.leftover(cfg, p)
}

// Forget removes this vault's keys from old's file when the vault no longer
// uses that file (its new provider or path is another).
func Forget(ctx context.Context, cfg Config, old, now Params) error {
	kind := providers()[old.Provider]
	if kind == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return kind.forget(cfg, old, now)
}

func (cfg Config) random() io.Reader {
	if cfg.Rand == nil {
		return rand.Reader
	}
	return cfg.Rand
}

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func (cfg Config) newKeyID() (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(cfg.random(), b); err != nil {
		return "", errRandom(err)
	}
	return strings.ToLower(idEncoding.EncodeToString(b)), nil
}

func (cfg Config) newKey() (secret.Value, error) {
	b := make([]byte, KeySize)
	if _, err := io.ReadFull(cfg.random(), b); err != nil {
		return secret.Value{}, errRandom(err)
	}
	return secret.New(b), nil
}

func validKeyID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func checkPath(p string) error {
	if p == "" {
		return nil
	}
	if len(p) > 4096 || !filepath.IsAbs(p) || filepath.Clean(p) != p || strings.ContainsFunc(p, isControl) {
		return errParams("the key file's path is not a clean absolute path")
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func checkEnvVar(name string) error {
	if len(name) > 128 {
		return errParams("the variable's name is too long")
	}
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return errParams("the variable's name is malformed")
		}
	}
	return nil
}

func errParams(why string) error {
	return api.Errorf(api.VaultUnavailable, "the vault's key parameters are damaged or made by a newer aivault: %s", why)
}

func errRandom(err error) error {
	return api.Errorf(api.Internal, "keysource: read randomness: %w", err)
}
