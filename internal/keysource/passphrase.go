package keysource

import (
	"context"
	"encoding/base64"
	"io"

	"golang.org/x/crypto/argon2"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// Bounds of Argon2id's parameters. A header beyond them is refused before a
// byte is allocated for it.
const (
	minMemoryKiB, maxMemoryKiB     = 8 << 10, 1 << 20
	minTime, maxTime               = 1, 16
	minParallelism, maxParallelism = 1, 16
	minSalt, maxSalt               = 16, 64
)

// DefaultArgon2id is what new passphrases are derived with: the second
// recommendation of RFC 9106.
func DefaultArgon2id() Argon2Params {
	return Argon2Params{MemoryKiB: 64 << 10, Time: 3, Parallelism: 4}
}

// check returns the decoded salt of parameters that are within the bounds.
func (a *Argon2Params) check() ([]byte, error) {
	switch {
	case a.MemoryKiB < minMemoryKiB || a.MemoryKiB > maxMemoryKiB:
		return nil, errParams("Argon2id's memory is out of bounds")
	case a.Time < minTime || a.Time > maxTime:
		return nil, errParams("Argon2id's time is out of bounds")
	case a.Parallelism < minParallelism || a.Parallelism > maxParallelism:
		return nil, errParams("Argon2id's parallelism is out of bounds")
	case len(a.Salt) > base64.RawURLEncoding.EncodedLen(maxSalt):
		return nil, errParams("Argon2id's salt is too long")
	}
	salt, err := base64.RawURLEncoding.Strict().DecodeString(a.Salt)
	if err != nil || len(salt) < minSalt || len(salt) > maxSalt || base64.RawURLEncoding.EncodeToString(salt) != a.Salt {
		return nil, errParams("Argon2id's salt is malformed")
	}
	return salt, nil
}

func (a *Argon2Params) derive(ctx context.Context, passphrase secret.Value) (secret.Value, error) {
	salt, err := a.check()
	if err != nil {
		return secret.Value{}, err
	}
	if err := ctx.Err(); err != nil {
		return secret.Value{}, err
	}
	return secret.New(argon2.IDKey(passphrase.Expose(), salt, a.Time, a.MemoryKiB, a.Parallelism, KeySize)), nil
}

// passphraseProvider derives the key from what a person types.
type passphraseProvider struct{ storesNothing }

func (passphraseProvider) checkParams(p Params) error {
	if p.Path != "" || p.EnvVar != "" || p.Argon2id == nil {
		return errParams("a passphrase needs Argon2id's parameters and no others")
	}
	_, err := p.Argon2id.check()
	return err
}

func (passphraseProvider) checkRequest(r Request) error {
	if r.Material.Passphrase.IsZero() {
		return api.Errorf(api.InvalidRequest, "the passphrase is empty")
	}
	return nil
}

func (passphraseProvider) open(ctx context.Context, _ Config, p Params, m Material) (secret.Value, error) {
	if m.Passphrase.IsZero() {
		return secret.Value{}, api.Errorf(api.VaultLocked, "vault is locked").WithHint("aivault unlock")
	}
	return p.Argon2id.derive(ctx, m.Passphrase)
}

func (passphraseProvider) prepare(ctx context.Context, cfg Config, r Request) (*NewKey, error) {
	a := cfg.DefaultArgon2id
	if a == (Argon2Params{}) {
		a = DefaultArgon2id()
	}
	salt := make([]byte, minSalt)
	if _, err := io.ReadFull(cfg.random(), salt); err != nil {
		return nil, errRandom(err)
	}
	a.Salt = base64.RawURLEncoding.EncodeToString(salt)
	id, err := cfg.newKeyID()
	if err != nil {
		return nil, err
	}
	kek, err := a.derive(ctx, r.Material.Passphrase)
	if err != nil {
		return nil, err
	}
	return &NewKey{Params{Provider: Passphrase, KeyID: id, Argon2id: &a}, kek}, nil
}
