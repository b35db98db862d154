package admin

import (
	"context"
	"fmt"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

// Init makes a vault, with the platform's default key provider where the
// options name none.
func (a *Admin) Init(ctx context.Context, who grant.Caller, r api.KeyOptions) (api.VaultChanged, error) {
	if err := a.allow(ctx, who, "init"); err != nil {
		return api.VaultChanged{}, err
	}
	request := a.initial
	if r != (api.KeyOptions{}) {
		request = keyRequest(r, implied(r, a.initial.Provider))
	}
	a.observe(ctx)
	defer a.observe(ctx)
	if err := a.vault.Init(ctx, audit.CallerOf(who), request); err != nil {
		return api.VaultChanged{}, err
	}
	return a.changed(ctx, ""), nil
}

// Unlock opens the vault with what a person gave.
func (a *Admin) Unlock(ctx context.Context, who grant.Caller, r api.Unlock) (api.VaultChanged, error) {
	if err := a.allow(ctx, who, "unlock"); err != nil {
		return api.VaultChanged{}, err
	}
	const longest = 365 * 24 * time.Hour
	if r.ForMs < 0 || r.ForMs > longest.Milliseconds() {
		return api.VaultChanged{}, api.Errorf(api.InvalidRequest, "the time to stay unlocked must lie between 0 and a year")
	}
	before, err := a.existing(ctx)
	if err != nil {
		return api.VaultChanged{}, err
	}
	defer a.observe(ctx)
	material := keysource.Material{Passphrase: r.Passphrase, EnvKey: r.Key}
	changed, err := a.vault.Unlock(ctx, audit.CallerOf(who), material, time.Duration(r.ForMs)*time.Millisecond)
	if err != nil {
		return api.VaultChanged{}, err
	}
	notice := ""
	switch {
	case changed:
	case before.Key.Provider == keysource.Passphrase:
		notice = "the vault was unlocked already; the passphrase is right"
	default:
		notice = "the vault has no passphrase, and there was nothing to unlock"
	}
	if notice != "" && r.ForMs > 0 {
		notice += fmt.Sprintf("; it locks in %s", time.Duration(r.ForMs)*time.Millisecond)
	}
	return a.changed(ctx, notice), nil
}

// Lock forgets the keys until Unlock.
func (a *Admin) Lock(ctx context.Context, who grant.Caller) (api.VaultChanged, error) {
	if err := a.allow(ctx, who, "lock"); err != nil {
		return api.VaultChanged{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.VaultChanged{}, err
	}
	defer a.observe(ctx)
	if err := a.vault.Lock(ctx, audit.CallerOf(who)); err != nil {
		return api.VaultChanged{}, err
	}
	a.logins.clear() // their clients' secrets are forgotten, too
	return a.changed(ctx, ""), nil
}

// RotateMaster puts the vault under a new key, of the provider in use where
// the options name no other.
func (a *Admin) RotateMaster(ctx context.Context, who grant.Caller, r api.KeyOptions) (api.VaultChanged, error) {
	if err := a.allow(ctx, who, "rotate-master"); err != nil {
		return api.VaultChanged{}, err
	}
	now, err := a.existing(ctx)
	if err != nil {
		return api.VaultChanged{}, err
	}
	provider := implied(r, now.Key.Provider)
	if provider == now.Key.Provider {
		// The new key stays where the old one is.
		if r.FilePath == "" {
			r.FilePath = now.Key.Path
		}
		if r.EnvVar == "" {
			r.EnvVar = now.Key.EnvVar
		}
	}
	a.observe(ctx)
	defer a.observe(ctx)
	if err := a.vault.Rotate(ctx, audit.CallerOf(who), keyRequest(r, provider)); err != nil {
		return api.VaultChanged{}, err
	}
	return a.changed(ctx, ""), nil
}

// existing is the vault's status, or that there is no vault.
func (a *Admin) existing(ctx context.Context) (vault.Status, error) {
	s := a.vault.Status(ctx)
	if s.State != vault.None {
		return s, nil
	}
	if err := a.vault.CanCreate(); err != nil {
		return s, err
	}
	return s, api.Errorf(api.VaultUnavailable, "there is no vault in %s", s.Dir).WithHint("aivault init")
}

func (a *Admin) changed(ctx context.Context, notice string) api.VaultChanged {
	s := a.vault.Status(ctx)
	return api.VaultChanged{State: s.State, Generation: s.Generation, Provider: s.Key.Provider, Notice: notice}
}

// implied is the key provider that the options mean: the one they name, else
// the one that what they give belongs to, else otherwise.
func implied(r api.KeyOptions, otherwise string) string {
	switch {
	case r.Provider != "":
		return r.Provider
	case !r.Passphrase.IsZero():
		return keysource.Passphrase
	case r.EnvVar != "":
		return keysource.Env
	case r.FilePath != "":
		return keysource.File
	case !r.Key.IsZero() && otherwise == keysource.Passphrase:
		return keysource.File
	}
	return otherwise
}

func keyRequest(r api.KeyOptions, provider string) keysource.Request {
	request := keysource.Request{
		Provider: provider, Path: r.FilePath, EnvVar: r.EnvVar,
		Material: keysource.Material{Passphrase: r.Passphrase},
	}
	if provider == keysource.Env {
		request.Material.EnvKey = r.Key
	} else {
		request.Key = r.Key
	}
	return request
}
