package vault

import (
	"context"
	"errors"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// Rotate makes a new root key under a new KEK and drops the old one. A
// request without a provider keeps the one in use, and its place.
func (v *Vault) Rotate(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	return v.retry(ctx, func() error { return v.rotate(ctx, who, r) })
}

func (v *Vault) rotate(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	base, log, err := v.begin(ctx)
	if err != nil {
		return err
	}
	old := base.header.Key
	if r.Provider == "" {
		r.Provider, r.Path, r.EnvVar = old.Provider, old.Path, old.EnvVar
	}
	if err := r.Check(); err != nil {
		return err
	}
	cfg := v.keyConfig(base.header.ID)
	key, err := v.prepareKey(ctx, cfg, old, r)
	if err != nil {
		return err
	}
	h := base.next()
	h.Key = key.Params
	keys, err := makeKeyring(v.cfg.Rand, &h, key.KEK)
	if err != nil {
		v.settleKeys(ctx, cfg, old)
		return api.Errorf(api.Internal, "vault: make a root key: %w", err)
	}
	st, err := v.rewrapped(base, keys)
	if err != nil {
		v.settleKeys(ctx, cfg, old)
		return err
	}
	_, err = v.commit(ctx, log, change{base.gen, h, st, keys,
		audit.Record{Event: audit.VaultRotated, Caller: who, Provider: key.Params.Provider}})
	if err != nil {
		// After an error of the store the new document may be in place, and
		// need the new key: the next opening knows.
		if !errors.As(err, new(notWritten)) {
			v.settleKeys(ctx, cfg, old)
		}
		return err
	}
	v.settleKeys(ctx, cfg, key.Params)
	return nil
}

// rewrapped is s's state with every data key under other keys.
func (v *Vault) rewrapped(s *Snapshot, to *keyring) (*State, error) {
	st := s.state.clone()
	for i := range st.Secrets {
		if err := s.keys.rewrap(v.cfg.Rand, to, &st.Secrets[i]); err != nil {
			return nil, v.unavailable("secret "+st.Secrets[i].ID, err)
		}
	}
	for i := range st.Tokens {
		if err := s.keys.rewrapToken(v.cfg.Rand, to, &st.Tokens[i]); err != nil {
			return nil, v.unavailable("token "+st.Tokens[i].Key, err)
		}
	}
	return st, nil
}

// prepareKey stores the next key. vault.lock is held, so that any other key
// of this vault than the one in use is what a crash left.
func (v *Vault) prepareKey(ctx context.Context, cfg keysource.Config, old keysource.Params, r keysource.Request) (*keysource.NewKey, error) {
	v.settleKeys(ctx, cfg, old) // where it fails, Prepare says why
	if err := v.markRekeying(old, r); err != nil {
		return nil, v.unavailable("the mark of a new key:", err)
	}
	key, err := keysource.Prepare(ctx, cfg, r)
	if err != nil {
		v.settleKeys(ctx, cfg, old)
		return nil, err
	}
	if key.Params.KeyID == old.KeyID {
		key.KEK.Wipe()
		v.settleKeys(ctx, cfg, old)
		return nil, api.Errorf(api.InvalidRequest, "the new key is the one in use")
	}
	return key, nil
}
