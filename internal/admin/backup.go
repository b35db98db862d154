package admin

import (
	"context"
	"crypto/rand"
	"io"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

// Backup makes a copy of the vault, to be written and closed by the caller.
func (a *Admin) Backup(ctx context.Context, who grant.Caller, r api.BackupRequest) (*vault.Backup, error) {
	if err := a.allow(ctx, who, "backup"); err != nil {
		return nil, err
	}
	if _, err := a.existing(ctx); err != nil {
		return nil, err
	}
	return a.vault.Backup(ctx, audit.Record{RequestID: rand.Text(), Caller: audit.CallerOf(who)}, r.Passphrase)
}

// Restore puts a backup in place; with nil it accepts the vault that is in
// place although its log knows another.
func (a *Admin) Restore(ctx context.Context, who grant.Caller, r api.RestoreRequest, backup io.Reader) (api.Restored, error) {
	if err := a.allow(ctx, who, "restore"); err != nil {
		return api.Restored{}, err
	}
	if backup == nil && r.Accept == 0 {
		return api.Restored{}, api.Errorf(api.InvalidRequest, "nothing to restore: give a backup, or the generation to accept")
	}
	before := a.vault.Status(ctx).State
	material := keysource.Material{Passphrase: r.Passphrase, EnvKey: r.Key}
	rec := audit.Record{RequestID: rand.Text(), Caller: audit.CallerOf(who)}
	a.observe(ctx)
	defer a.observe(ctx)
	var done vault.Restored
	var err error
	if backup == nil {
		done, err = a.vault.Accept(ctx, rec, r.Accept, material)
	} else {
		done, err = a.vault.Restore(ctx, rec, backup, r.Accept, material)
	}
	if err != nil {
		return api.Restored{}, err
	}
	if done.Reset {
		a.logins.clear() // they began in another vault
	}
	if before == vault.None {
		if err := a.countAnew(ctx); err != nil {
			return api.Restored{}, err
		}
	}
	s := a.vault.Status(ctx)
	out := api.Restored{State: s.State, Generation: s.Generation, Provider: s.Key.Provider, From: done.From, MovedLog: done.MovedLog, Notice: done.Notice}
	if done.Alone && done.Reset {
		out.Notice = "the vault opens with the backup's passphrase now; for a key file: aivault rotate-master --provider file"
	}
	return out, nil
}

// countAnew begins to count the calls of a vault that comes to a new place:
// none was made here.
func (a *Admin) countAnew(ctx context.Context) error {
	snap, err := a.vault.Snapshot(ctx)
	if err != nil {
		return nil // locked: a missing count is a full window
	}
	return a.startCounting(ctx, false, snap.State())
}
