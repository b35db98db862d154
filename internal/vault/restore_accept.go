package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// Accept makes the document in place the next generation, where the log says
// that it is not the last one, or where the log is missing, too short or
// broken, be it before the line from which an opening reads it. accept is the
// document's own generation.
//
// The log is kept where it is whole, and else moved aside: then a new one
// begins with a record that says so.
func (v *Vault) Accept(ctx context.Context, rec audit.Record, accept uint64, m keysource.Material) (out Restored, err error) {
	h, err := v.acceptable(accept)
	if err != nil {
		return out, err
	}
	lock, err := v.restoreLock(ctx)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	if _, err := v.Snapshot(ctx); err == nil && v.verifyLog(h.ID) == nil {
		return nothingToAccept(accept), nil
	}
	keys, err := v.keysToAccept(ctx, rec.Caller, h, accept, m)
	if err != nil {
		return out, err
	}
	err = v.conflicting(ctx, func() error {
		out, err = v.accept(ctx, rec, accept, keys)
		return err
	})
	if err != nil || !out.Reset {
		keys.wipe()
	}
	return out, errors.Join(err, v.unstage())
}

func nothingToAccept(generation uint64) Restored {
	return Restored{From: generation, Notice: "the vault in place is the last one that its log knows; there was nothing to accept"}
}

// acceptable is the header of the document in place, if it is of a generation.
func (v *Vault) acceptable(generation uint64) (header, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h, err := v.look()
	switch {
	case err != nil:
		return h, err
	case h.Dev != v.cfg.Dev:
		return h, v.errDev(h)
	case h.Generation != generation:
		return h, api.Errorf(api.InvalidRequest, "the vault in %s is of generation %d, not %d: nothing was accepted", v.cfg.Dir, h.Generation, generation).
			WithHint("aivault restore --accept %d", h.Generation)
	case h.Generation > maxGeneration:
		return h, v.unavailable("vault.aiv", errDamaged)
	}
	return h, nil
}

// keysToAccept opens the root key of the document in place. A passphrase
// counts as an attempt like any other.
func (v *Vault) keysToAccept(ctx context.Context, who *audit.Caller, h header, generation uint64, m keysource.Material) (*keyring, error) {
	if h.Key.Provider != keysource.Passphrase {
		return v.openKeys(ctx, h, m)
	}
	if m.Passphrase.IsZero() {
		return nil, errLocked().WithHint("aivault restore --accept %d --passphrase-file PATH", generation)
	}
	return v.tryPassphrase(ctx, who, m)
}

// accept seals the state in place anew. vault.lock is held.
func (v *Vault) accept(ctx context.Context, rec audit.Record, generation uint64, keys *keyring) (Restored, error) {
	h, err := v.acceptable(generation)
	if err != nil {
		return Restored{}, err
	}
	p, err := v.survey(ctx, h.ID, audit.Head{})
	if err != nil {
		return Restored{}, err
	}
	if p.open != nil && p.log.whole() {
		return nothingToAccept(generation), nil
	}
	st, err := v.stateInPlace(&p, keys)
	if err != nil {
		return Restored{}, err
	}
	out := Restored{From: generation, Reset: true}
	next := p.successor(h)
	rec.Event, rec.Hash, rec.Provider = audit.VaultRestored, p.hash, h.Key.Provider
	if p.log.whole() {
		rec.Reason = fmt.Sprintf("generation %d was accepted as it was in place; the log is kept", generation)
		log, err := v.openLog(h.ID)
		if err != nil {
			return out, err
		}
		if _, err := v.commit(ctx, log, change{p.gen, next, st, keys, rec}); err != nil {
			return out, err
		}
		return out, v.enter(ctx, keys)
	}
	rec.Reason = fmt.Sprintf("generation %d was accepted as it was in place; the log before was %s, and this one begins anew", generation, p.log.fault())
	if p.log.there {
		rec.Reason += "; the other is kept beside it"
	}
	s, err := v.stageEmpty(h.ID)
	if err != nil {
		return out, err
	}
	out.MovedLog, err = v.startOver(ctx, rec, s, next, st, keys)
	return out, errors.Join(err, s.close())
}

// stateInPlace opens the document in place, whatever its log says.
func (v *Vault) stateInPlace(p *inPlace, keys *keyring) (*State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	gen, h, line, sealed, err := v.load()
	if err != nil {
		return nil, err
	}
	if gen != p.gen || wrappedOf(h) != keys.wrapped {
		return nil, api.Errorf(api.VaultUnavailable, "vault %s: was changed meanwhile", v.cfg.Dir)
	}
	var plain []byte
	err = keys.use(func(state, _ []byte) error {
		plain, err = unseal(state, sealed, line)
		return err
	})
	if err != nil {
		return nil, v.unavailable("vault.aiv does not open:", err)
	}
	defer clear(plain)
	st, err := decodeState(plain)
	if err != nil {
		return nil, v.unavailable("the state in vault.aiv", err)
	}
	return st, nil
}

// stageEmpty begins a log in the staging directory. restore.lock is held.
func (v *Vault) stageEmpty(id string) (*staged, error) {
	dir, err := v.stage()
	if err != nil {
		return nil, err
	}
	cfg := v.logConfig(id)
	cfg.Dir = filepath.Join(dir, "audit")
	log, err := audit.Create(cfg)
	if err != nil {
		return nil, v.unavailable("the new log:", err)
	}
	return &staged{dir: dir, log: log}, nil
}
