package vault

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/strictjson"
)

// rekeyingName lists the key files that a change of the key touches, from
// before the new key is stored until none but the key in use is left. Without
// it a crash could leave a key in a place that nobody knows of.
const rekeyingName = "rekeying"

type rekeying struct {
	Version int      `json:"aivaultRekeying"`
	Paths   []string `json:"paths"` // as the header has them: "" for the default place
}

func (v *Vault) readRekeying() []string {
	path := v.path(rekeyingName)
	if durable.CheckPrivate(path) != nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var r rekeying
	if strictjson.Read(f, maxHeader, &r) != nil || r.Version != 1 {
		return nil // a crash leaves a whole file or none: this is not ours
	}
	return r.Paths
}

// markRekeying notes the key files of the key in use and of the next one.
func (v *Vault) markRekeying(old keysource.Params, r keysource.Request) error {
	paths := v.readRekeying()
	if old.Provider == keysource.File {
		paths = append(paths, old.Path)
	}
	if r.Provider == keysource.File {
		paths = append(paths, r.Path)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if len(paths) == 0 || old.Provider == keysource.File && r.Provider == keysource.File && len(paths) == 1 {
		return nil // the header names the only place, before and after
	}
	data, err := strictjson.Marshal(rekeying{1, paths})
	if err != nil {
		return err
	}
	if err := durable.RemoveTemp(v.path(rekeyingName)); err != nil {
		return err
	}
	return durable.WriteFile(v.path(rekeyingName), data)
}

// settleKeys removes every stored key of this vault but the one in use. What
// fails is tried again at the next opening. vault.lock is held.
func (v *Vault) settleKeys(ctx context.Context, cfg keysource.Config, inUse keysource.Params) {
	ctx = context.WithoutCancel(ctx)
	_ = keysource.Settle(ctx, cfg, inUse)
	var failed error
	for _, path := range v.readRekeying() {
		place := keysource.Params{Provider: keysource.File, Path: path}
		failed = errors.Join(failed, keysource.Forget(ctx, cfg, place, inUse))
	}
	if failed != nil {
		return
	}
	if err := os.Remove(v.path(rekeyingName)); !errors.Is(err, fs.ErrNotExist) {
		_ = durable.SyncDir(v.cfg.Dir)
	}
}
