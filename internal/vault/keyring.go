package vault

import (
	"io"
	"runtime"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// keyring holds the keys that one root key stands for. Snapshots share it;
// when it is wiped, none of them opens anything any more.
type keyring struct {
	vaultID string
	wrapped string // the header's keyId and rootKey that these came from

	mu     sync.RWMutex
	dead   bool
	state  secret.Value
	wrap   secret.Value
	backup secret.Value // what the keys of backups are derived from
}

// newKeyring derives the keys and wipes root.
func newKeyring(h header, root secret.Value) (*keyring, error) {
	defer root.Wipe()
	state, err := derive(root.Expose(), infoStateKey)
	if err != nil {
		return nil, err
	}
	wrap, err := derive(root.Expose(), infoWrapKey)
	if err != nil {
		return nil, err
	}
	backup, err := derive(root.Expose(), infoBackupKey)
	if err != nil {
		return nil, err
	}
	k := &keyring{vaultID: h.ID, wrapped: wrappedOf(h), state: secret.NewLocked(state), wrap: secret.NewLocked(wrap), backup: secret.NewLocked(backup)}
	// After a rotation the calls that run may still open values by the old
	// keys; these are wiped with the last of them.
	runtime.AddCleanup(k, func(v [3]secret.Value) { v[0].Wipe(); v[1].Wipe(); v[2].Wipe() }, [3]secret.Value{k.state, k.wrap, k.backup})
	return k, nil
}

// wrappedOf tells whether two headers name the same root key.
func wrappedOf(h header) string { return h.ID + " " + h.Key.KeyID + " " + h.RootKey }

// openKeyring opens the header's root key with kek, and wipes kek.
func openKeyring(h header, kek secret.Value) (*keyring, error) {
	defer kek.Wipe()
	sealed, err := b64.DecodeString(h.RootKey)
	if err != nil {
		return nil, errDamaged
	}
	root, err := unseal(kek.Expose(), sealed, rootKeyContext(h.ID, h.Key.KeyID))
	if err != nil {
		return nil, err
	}
	return newKeyring(h, secret.NewLocked(root))
}

// makeKeyring makes a new root key for the vault and puts it, wrapped by kek,
// into the header. It wipes kek.
func makeKeyring(rand io.Reader, h *header, kek secret.Value) (*keyring, error) {
	defer kek.Wipe()
	root := make([]byte, rootKeySize)
	if _, err := io.ReadFull(rand, root); err != nil {
		return nil, err
	}
	sealed, err := seal(rand, kek.Expose(), root, rootKeyContext(h.ID, h.Key.KeyID))
	if err != nil {
		return nil, err
	}
	h.RootKey = b64.EncodeToString(sealed)
	return newKeyring(*h, secret.NewLocked(root))
}

// use calls fn with the keys, or fails when they were wiped.
func (k *keyring) use(fn func(state, wrap []byte) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.dead {
		return errLocked()
	}
	return fn(k.state.Expose(), k.wrap.Expose())
}

func (k *keyring) alive() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return !k.dead
}

// wipe ends the keyring for everyone who holds it. It waits for those who
// are using it this moment.
func (k *keyring) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead = true
	k.state.Wipe()
	k.wrap.Wipe()
	k.backup.Wipe()
}

// A sealing is what binds a value that is sealed under a data key of its own,
// and that data key.
type sealing struct{ dataKey, value []byte }

func sealingOf(vaultID string, s *Secret) sealing {
	return sealing{dataKeyContext(vaultID, s), valueContext(vaultID, s)}
}

func sealingOfToken(vaultID string, t *Token) sealing {
	return sealing{tokenDataKeyContext(vaultID, t), tokenContext(vaultID, t)}
}

// openValue opens one secret's value. The caller wipes it.
func (k *keyring) openValue(s *Secret) (secret.Value, error) {
	plain, err := k.open(sealingOf(k.vaultID, s), s.DEK, s.Value)
	return secret.New(plain), err
}

// open opens what seal made. The caller wipes it.
func (k *keyring) open(context sealing, wrapped, value string) (plain []byte, err error) {
	sealedDEK, err := b64.DecodeString(wrapped)
	if err != nil {
		return nil, errDamaged
	}
	sealed, err := b64.DecodeString(value)
	if err != nil {
		return nil, errDamaged
	}
	err = k.use(func(_, wrap []byte) error {
		dek, err := unseal(wrap, sealedDEK, context.dataKey)
		if err != nil {
			return err
		}
		defer clear(dek)
		plain, err = unseal(dek, sealed, context.value)
		return err
	})
	return plain, err
}

// sealValue fills s.DEK and s.Value under a data key of their own.
func (k *keyring) sealValue(rand io.Reader, s *Secret, value secret.Value) error {
	if n := value.Len(); n == 0 || n > secret.MaxSize {
		return api.Errorf(api.InvalidRequest, "a value has 1 to %d bytes, this one has %d", secret.MaxSize, n)
	}
	wrapped, sealed, err := k.seal(rand, sealingOf(k.vaultID, s), value.Expose())
	if err == nil {
		s.DEK, s.Value = wrapped, sealed
	}
	return err
}

// seal seals plain under a new data key, which it wraps.
func (k *keyring) seal(rand io.Reader, context sealing, plain []byte) (wrapped, value string, err error) {
	dek := make([]byte, dekSize)
	defer clear(dek)
	if _, err := io.ReadFull(rand, dek); err != nil {
		return "", "", err
	}
	err = k.use(func(_, wrap []byte) error {
		sealed, err := seal(rand, dek, plain, context.value)
		if err != nil {
			return err
		}
		sealedDEK, err := seal(rand, wrap, dek, context.dataKey)
		wrapped, value = b64.EncodeToString(sealedDEK), b64.EncodeToString(sealed)
		return err
	})
	return wrapped, value, err
}

// rewrap moves s's data key from this keyring to another. The sealed value
// does not change.
func (k *keyring) rewrap(rand io.Reader, to *keyring, s *Secret) (err error) {
	s.DEK, err = k.rewrapKey(rand, to, sealingOf(k.vaultID, s), s.DEK)
	return err
}

// rewrapToken is rewrap for a token.
func (k *keyring) rewrapToken(rand io.Reader, to *keyring, t *Token) (err error) {
	t.DEK, err = k.rewrapKey(rand, to, sealingOfToken(k.vaultID, t), t.DEK)
	return err
}

func (k *keyring) rewrapKey(rand io.Reader, to *keyring, context sealing, wrapped string) (string, error) {
	sealed, err := b64.DecodeString(wrapped)
	if err != nil {
		return wrapped, errDamaged
	}
	err = k.use(func(_, wrap []byte) error {
		dek, err := unseal(wrap, sealed, context.dataKey)
		if err != nil {
			return err
		}
		defer clear(dek)
		return to.use(func(_, wrap []byte) error {
			out, err := seal(rand, wrap, dek, context.dataKey)
			wrapped = b64.EncodeToString(out)
			return err
		})
	})
	return wrapped, err
}
