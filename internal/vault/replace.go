package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// replace puts a new vault in the place of one that has never held a secret.
// The header alone is not believed: anyone could have flipped its bit, so the
// log must say the same. vault.lock is held.
func (v *Vault) replace(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	v.mu.Lock()
	_, h, _, _, err := v.load()
	seen := v.seen
	v.mu.Unlock()
	if err != nil {
		return v.errOccupied("it cannot be read, so nobody can tell that it is empty", err)
	}
	if h.Used {
		return v.errOccupied("it has held secrets", nil)
	}
	if h.Dev != v.cfg.Dev {
		return v.errOccupied("another kind of build made it", nil)
	}
	log, err := v.openLog(h.ID)
	if err != nil {
		return v.errOccupied("its audit log cannot be read, so nobody can tell that it is empty", err)
	}
	last, err := neverUsed(log)
	if errors.Is(err, errUsed) {
		return v.errOccupied("its audit log says that it has held secrets", nil)
	}
	if err != nil {
		return v.errOccupied("its audit log is broken", err)
	}
	st := v.keptState(ctx)
	cfg := v.keyConfig(h.ID)
	old := h.Key
	key, err := v.prepareKey(ctx, cfg, old, r)
	if err != nil {
		return err
	}
	h.Generation = max(h.Generation, last) + 1
	h.Previous = seen.hash
	h.Key = key.Params
	if err := v.firstState(ctx, log, seen.gen, h, key, st, who); err != nil {
		if !errors.As(err, new(notWritten)) {
			v.settleKeys(ctx, cfg, old)
		}
		return err
	}
	v.settleKeys(ctx, cfg, key.Params)
	return nil
}

func (v *Vault) errOccupied(why string, err error) error {
	if err != nil {
		return api.Errorf(api.AlreadyExists, "there is a vault in %s already: %s: %w", v.cfg.Dir, why, err)
	}
	return api.Errorf(api.AlreadyExists, "there is a vault in %s already: %s", v.cfg.Dir, why).
		WithHint("aivault rotate-master changes its key; AIVAULT_DIR names another directory")
}

var errUsed = errors.New("has held a secret")

// neverUsed reads the whole log, which is short for a vault that holds
// nothing, and returns the generation last committed.
func neverUsed(log *audit.Log) (last uint64, err error) {
	next := uint64(1)
	_, err = log.Walk(audit.Head{}, func(line []byte, at audit.Head) error {
		// What came before a log that begins with a restore, or whose oldest part
		// is no longer kept, nobody knows.
		if at.Seq != next {
			return errUsed
		}
		next = at.Seq + 1
		if slices.ContainsFunc(usedMarks, func(mark []byte) bool { return bytes.Contains(line, mark) }) {
			return errUsed
		}
		c, err := parseCommit(line)
		if c != nil {
			last = max(last, c.Generation)
		}
		return err
	})
	return last, err
}

// keptState is what the new vault starts with: nothing, where the old one does
// not open. Else it keeps the signing key, so that one key verifies the whole
// log, and what was set to narrow the calls, so that changing the key of a
// vault that is still empty lets nobody in.
func (v *Vault) keptState(ctx context.Context) *State {
	st := newState()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.marker.locked(v.now()) {
		return st
	}
	s, err := v.reopen(ctx, true)
	if err != nil {
		return st
	}
	old := s.state.clone()
	st.AuditKey = old.AuditKey
	st.Switches, st.Policies, st.Grants, st.GrantDefault = old.Switches, old.Policies, old.Grants, old.GrantDefault
	return st
}
