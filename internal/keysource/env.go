package keysource

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// fingerprint names a key without telling anything of it, so that the wrong
// variable is told from a damaged vault.
func fingerprint(key secret.Value) string {
	h := hmac.New(sha256.New, key.Expose())
	h.Write([]byte("aivault key id v1"))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// envProvider takes the key from an environment variable.
type envProvider struct{ storesNothing }

func (envProvider) checkParams(p Params) error {
	if p.Path != "" || p.Argon2id != nil {
		return errParams("a variable's parameters name another provider's")
	}
	return checkEnvVar(p.EnvVar)
}

func (envProvider) checkRequest(r Request) error {
	name := Params{EnvVar: r.EnvVar}.EnvName()
	switch {
	case checkEnvVar(r.EnvVar) != nil:
		return api.Errorf(api.InvalidRequest, "%q cannot be the name of an environment variable", r.EnvVar)
	case r.Material.EnvKey.IsZero():
		return api.Errorf(api.InvalidRequest, "the variable %s is not set: it must hold the key", name).
			WithHint("export %s=$(openssl rand -base64 %d)", name, KeySize)
	}
	return nil
}

func (envProvider) open(_ context.Context, _ Config, p Params, m Material) (secret.Value, error) {
	given := m.EnvKey
	if given.IsZero() {
		return secret.Value{}, api.Errorf(api.VaultLocked, "vault is locked: its key is in the variable %s, which is not set", p.EnvName()).
			WithHint("export %s=…", p.EnvName())
	}
	key, err := ParseKey(given)
	if err != nil {
		return secret.Value{}, api.Errorf(api.VaultLocked, "vault is locked: %s does not hold a key: %w", p.EnvName(), err).
			WithHint("export %s=…", p.EnvName())
	}
	if fingerprint(key) != p.KeyID {
		key.Wipe()
		return secret.Value{}, api.Errorf(api.VaultLocked, "vault is locked: the key in %s is not this vault's", p.EnvName()).
			WithHint("export %s=…", p.EnvName())
	}
	return key, nil
}

func (envProvider) prepare(_ context.Context, _ Config, r Request) (*NewKey, error) {
	p := Params{Provider: Env, EnvVar: r.EnvVar}
	if p.EnvVar == DefaultEnvVar {
		p.EnvVar = ""
	}
	key, err := ParseKey(r.Material.EnvKey)
	if err != nil {
		e := *api.AsError(err)
		e.Message = p.EnvName() + ": " + e.Message
		return nil, &e
	}
	p.KeyID = fingerprint(key)
	return &NewKey{p, key}, nil
}
