package client

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

// unlocking runs do, and once more when the vault was locked and this process
// can open it: with the key in its environment, or in-process by asking.
func (c *Client) unlocking(ctx context.Context, path string, do func() error) error {
	err := do()
	if api.CodeOf(err) != api.VaultLocked || path == api.RouteUnlock || path == api.RouteInit || path == api.RouteRestore {
		return err
	}
	switch opened, uerr := c.openLocked(ctx); {
	case uerr != nil:
		return uerr
	case !opened:
		return err
	}
	return do()
}

// unlockFirst opens a locked vault in this process before a request that
// cannot be sent twice.
func (c *Client) unlockFirst(ctx context.Context) error {
	if c.inside == nil || !c.inside.inst.Locked(ctx) {
		return nil
	}
	_, err := c.openLocked(ctx)
	return err
}

// openLocked tries what can be tried without, and then with, a person. opened is
// false when there is nothing to try.
func (c *Client) openLocked(ctx context.Context) (opened bool, err error) {
	if !c.own {
		return false, nil
	}
	if opened, err := c.openWithEnvKey(ctx); opened || err != nil {
		return opened, err
	}
	if c.inside == nil || c.cfg.Unlock == nil {
		return false, nil
	}
	// Only a passphrase can be asked for. Any other vault was locked on
	// purpose, or its key is not here.
	st, err := c.Status(ctx)
	if err != nil || st.Key == nil || st.Key.Provider != keysource.Passphrase {
		return false, err
	}
	with, err := c.cfg.Unlock(ctx)
	if err != nil {
		return false, err
	}
	_, err = c.Unlock(ctx, with)
	return err == nil, err
}

// sendEnvKey opens the vault of an env key provider in a daemon that this
// process just started: the daemon itself was given no key.
func (c *Client) sendEnvKey(ctx context.Context) error {
	_, err := c.openWithEnvKey(ctx)
	if err != nil {
		c.cfg.notice("the vault stays locked: " + api.AsError(err).Message)
	}
	return nil
}

func (c *Client) openWithEnvKey(ctx context.Context) (opened bool, err error) {
	if len(c.cfg.Env.Keys) == 0 || daemon.LockedOnPurpose(c.cfg.Env.Dir) {
		return false, nil
	}
	st, err := c.Status(ctx)
	if err != nil || st.Key == nil {
		return false, err
	}
	key, ok := daemon.EnvKey(c.cfg.Env, vault.Status{
		State: st.Vault.State,
		Key:   keysource.Params{Provider: st.Key.Provider, EnvVar: st.Key.Detail},
	})
	if !ok {
		return false, nil
	}
	_, err = c.Unlock(ctx, api.Unlock{Key: key})
	return err == nil, err
}
