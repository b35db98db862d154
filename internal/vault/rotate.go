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
	if retired := base.state.RetiredKey; retired != nil {
		_ = keysource.Forget(ctx, cfg, *retired, old) // tidy has tried, too
	}
	key, err := v.prepareKey(ctx, cfg, old, r)
	if err != nil {
		return err
	}
	h := base.next()
	h.Key = key.Params
	keys, err := makeKeyring(v.cfg.Rand, &h, key.KEK)
	if err != nil {
		v.abandonKey(ctx, cfg, key.Params, old)
		return api.Errorf(api.Internal, "vault: make a root key: %w", err)
	}
	st := base.state.clone()
	st.RetiredKey = retiredKey(old)
	for i := range st.Secrets {
		if err := base.keys.rewrap(v.cfg.Rand, keys, &st.Secrets[i]); err != nil {
			v.abandonKey(ctx, cfg, key.Params, old)
			return v.unavailable("secret "+st.Secrets[i].ID, err)
		}
	}
	_, err = v.commit(ctx, log, change{base.gen, h, st, keys,
		audit.Record{Event: audit.VaultRotated, Caller: who, Provider: key.Params.Provider}})
	if err != nil {
		// After an error of the store the new document may be in place, and
		// need the new key: the next opening knows.
		if !errors.As(err, new(notWritten)) {
			v.abandonKey(ctx, cfg, key.Params, old)
		}
		return err
	}
	v.dropOldKey(ctx, cfg, old, key.Params)
	return nil
}

// prepareKey stores the next key. vault.lock is held, so that any other key
// of this vault than the one in use is what a crash left.
func (v *Vault) prepareKey(ctx context.Context, cfg keysource.Config, old keysource.Params, r keysource.Request) (*keysource.NewKey, error) {
	_ = keysource.Settle(ctx, cfg, old) // where it fails, Prepare says why
	if r.Provider == keysource.File {
		_ = keysource.Forget(ctx, cfg, keysource.Params{Provider: keysource.File, Path: r.Path}, old)
	}
	key, err := keysource.Prepare(ctx, cfg, r)
	if err != nil {
		return nil, err
	}
	if key.Params.KeyID == old.KeyID {
		key.KEK.Wipe()
		return nil, api.Errorf(api.InvalidRequest, "the new key is the one in use")
	}
	return key, nil
}

// abandonKey removes a prepared key that no document names.
func (v *Vault) abandonKey(ctx context.Context, cfg keysource.Config, prepared, inUse keysource.Params) {
	ctx = context.WithoutCancel(ctx)
	_ = keysource.Forget(ctx, cfg, prepared, inUse)
	_ = keysource.Settle(ctx, cfg, inUse)
}

// dropOldKey removes the key that the document no longer names. What fails is
// tried again at the next opening.
func (v *Vault) dropOldKey(ctx context.Context, cfg keysource.Config, old, now keysource.Params) {
	ctx = context.WithoutCancel(ctx)
	_ = keysource.Settle(ctx, cfg, now)
	_ = keysource.Forget(ctx, cfg, old, now)
}

// retiredKey is what the state remembers of the key before: only a file can
// be left over.
func retiredKey(old keysource.Params) *keysource.Params {
	if old.Provider != keysource.File {
		return nil
	}
	return &old
}
