package vault

import (
	"context"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// Lock forgets the keys and refuses every call, here and in every other
// process that uses this vault, until Unlock.
func (v *Vault) Lock(ctx context.Context, who *audit.Caller) error {
	v.mu.Lock()
	h, err := v.look()
	if err != nil {
		v.dropKeys()
	}
	v.mu.Unlock()
	if err != nil {
		return err
	}
	return v.underLock(ctx, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		fromMs, present := v.marker.read()
		// First the lock, then the word that it was done: what fails on the
		// way fails locked.
		err := v.marker.set(0)
		v.closeKeys()
		defer v.dropSigner()
		if err != nil {
			return v.unavailable("the mark of the lock is not written:", err)
		}
		if present && fromMs == 0 {
			return nil // it was locked
		}
		err = v.record(ctx, h, audit.Record{Event: audit.VaultLocked, Caller: who})
		if err == nil {
			v.signNow() // before its key goes
		}
		return err
	})
}

func (v *Vault) record(ctx context.Context, h header, r audit.Record) error {
	log, err := v.openLog(h.ID)
	if err != nil {
		return forGeneration(err, h)
	}
	r.Provider = h.Key.Provider
	if _, err := log.AppendSync(context.WithoutCancel(ctx), r); err != nil {
		return forGeneration(v.errLog(err), h)
	}
	return nil
}

// recordRelock turns a lock whose time has come into one for good, so that a
// clock that goes back does not end it, and records it. v.mu is held; where
// vault.lock is busy, the next one who looks does it.
func (v *Vault) recordRelock(ctx context.Context, held bool, since int64) {
	if !held {
		lock, err := durable.TryAcquire(v.path("vault.lock"))
		if err != nil || lock == nil {
			return
		}
		defer lock.Release()
	}
	if fromMs, present := v.marker.read(); !present || fromMs != since {
		return // locked for good, unlocked, or given more time meanwhile
	}
	h, err := v.look()
	if err != nil {
		return
	}
	rec := audit.Record{Event: audit.VaultLocked, Reason: "the time that unlock was given is over"}
	if v.record(ctx, h, rec) == nil {
		_ = v.marker.set(0) // as it stands, it locks too
	}
}

// relockAfter locks the vault when the time is over, also while nobody calls
// and whatever the clock was set to. v.mu is held.
func (v *Vault) relockAfter(d time.Duration, fromMs int64) {
	v.relock = time.AfterFunc(d, func() {
		if !v.dropKeysOf(fromMs) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
		defer cancel()
		_ = v.underLock(ctx, func() error {
			// A call may have opened the vault again, by a clock that went back.
			if v.dropKeysOf(fromMs) {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.recordRelock(ctx, true, fromMs)
			}
			return nil
		})
	})
}

// dropKeysOf forgets the keys if the lock that was to begin at fromMs still
// stands.
func (v *Vault) dropKeysOf(fromMs int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now, present := v.marker.read(); v.closed || !present || now != fromMs {
		return false
	}
	v.dropKeys()
	return true
}

// Unlock opens the vault with what a person gave; for > 0 locks again after
// so long. Of an open vault it checks the passphrase. It also ends a Lock.
// changed is false when there was nothing to unlock. Wrong passphrases are
// counted in the vault's directory; after five in a row each attempt waits.
func (v *Vault) Unlock(ctx context.Context, who *audit.Caller, m keysource.Material, lockAfter time.Duration) (changed bool, err error) {
	if lockAfter < 0 {
		return false, api.Errorf(api.InvalidRequest, "a vault cannot be unlocked for a negative time")
	}
	v.mu.Lock()
	h, err := v.look()
	v.mu.Unlock()
	if err != nil {
		return false, err
	}
	if h.Dev != v.cfg.Dev {
		return false, v.errDev(h)
	}
	var keys *keyring
	switch {
	case h.Key.Provider == keysource.Passphrase:
		keys, err = v.tryPassphrase(ctx, who, m)
	case h.Key.Provider == keysource.Env && !m.EnvKey.IsZero():
		keys, err = v.tryKey(ctx, who, h, m)
	}
	if err != nil {
		return false, err
	}
	err = v.underLock(ctx, func() (err error) {
		changed, err = v.admit(ctx, who, keys, lockAfter)
		return err
	})
	return changed && err == nil, err
}

// admit opens the vault by keys, nil where none were given, and ends a lock.
// vault.lock is held.
func (v *Vault) admit(ctx context.Context, who *audit.Caller, keys *keyring, lockAfter time.Duration) (changed bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false, errLocked()
	}
	h, err := v.look()
	if err != nil {
		return false, err
	}
	locked := v.marker.locked(v.now())
	if locked {
		v.dropKeys() // another process may have locked the vault
	}
	open := !locked && (h.Key.Provider == keysource.File || v.keys != nil && v.keys.alive() && v.keys.wrapped == wrappedOf(h))
	defer func() {
		if err != nil && !open {
			v.dropKeys()
		}
	}()
	if keys != nil && open {
		keys.wipe() // they have shown that what was given is right
	} else if keys != nil {
		v.setKeys(keys)
	}
	if _, err := v.reopen(ctx, true); err != nil {
		return false, err
	}
	fromMs, present := v.marker.read()
	if open && lockAfter == 0 && !present {
		return false, nil
	}
	if err := v.record(ctx, h, audit.Record{Event: audit.VaultUnlocked, Caller: who, DurationMs: lockAfter.Milliseconds()}); err != nil {
		return false, err
	}
	if v.relock != nil {
		v.relock.Stop()
		v.relock = nil
	}
	if lockAfter > 0 {
		fromMs = v.now().Add(lockAfter).UnixMilli()
		err = v.marker.set(fromMs)
	} else if present {
		err = v.marker.clear()
	}
	if err != nil {
		return false, v.unavailable("the mark of the lock:", err)
	}
	if lockAfter > 0 {
		v.relockAfter(lockAfter, fromMs)
	}
	return !open, nil
}
