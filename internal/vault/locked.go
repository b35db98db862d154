package vault

// KeysLocked says whether this process holds keys of the vault, and whether
// all of them are in locked memory. It opens nothing.
func (v *Vault) KeysLocked() (held, locked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil || !v.keys.alive() {
		return false, false
	}
	locked = v.keys.locked()
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if v.signer != nil {
		locked = locked && v.signer.seed.Locked()
	}
	return true, locked
}

func (k *keyring) locked() bool {
	return k.state.Locked() && k.wrap.Locked() && k.backup.Locked()
}
