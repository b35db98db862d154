package vault

import (
	"io"
	"runtime"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// keyring holds the two keys that one root key stands for. Snapshots share
// it; when it is wiped, none of them opens anything any more.
type keyring struct {
	vaultID string
	wrapped string // the header's keyId and rootKey that these came from

	mu    sync.RWMutex
	dead  bool
	state secret.Value
	wrap  secret.Value
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
	k := &keyring{vaultID: h.ID, wrapped: wrappedOf(h), state: secret.New(state), wrap: secret.New(wrap)}
	// After a rotation the calls that run may still open values by the old
	// keys; these are wiped with the last of them.
	runtime.AddCleanup(k, func(v [2]secret.Value) { v[0].Wipe(); v[1].Wipe() }, [2]secret.Value{k.state, k.wrap})
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
	return newKeyring(h, secret.New(root))
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
	return newKeyring(*h, secret.New(root))
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
}

// openValue opens one secret's value. The caller wipes it.
func (k *keyring) openValue(s *Secret) (v secret.Value, err error) {
	sealedDEK, err := b64.DecodeString(s.DEK)
	if err != nil {
		return v, errDamaged
	}
	sealed, err := b64.DecodeString(s.Value)
	if err != nil {
		return v, errDamaged
	}
	err = k.use(func(_, wrap []byte) error {
		dek, err := unseal(wrap, sealedDEK, dataKeyContext(k.vaultID, s))
		if err != nil {
			return err
		}
		defer clear(dek)
		plain, err := unseal(dek, sealed, valueContext(k.vaultID, s))
		v = secret.New(plain)
		return err
	})
	return v, err
}

// sealValue fills s.DEK and s.Value under a data key of their own.
func (k *keyring) sealValue(rand io.Reader, s *Secret, value secret.Value) error {
	if n := value.Len(); n == 0 || n > secret.MaxSize {
		return api.Errorf(api.InvalidRequest, "a value has 1 to %d bytes, this one has %d", secret.MaxSize, n)
	}
	dek := make([]byte, dekSize)
	defer clear(dek)
	if _, err := io.ReadFull(rand, dek); err != nil {
		return err
	}
	return k.use(func(_, wrap []byte) error {
		sealed, err := seal(rand, dek, value.Expose(), valueContext(k.vaultID, s))
		if err != nil {
			return err
		}
		wrapped, err := seal(rand, wrap, dek, dataKeyContext(k.vaultID, s))
		if err != nil {
			return err
		}
		s.DEK, s.Value = b64.EncodeToString(wrapped), b64.EncodeToString(sealed)
		return nil
	})
}

// rewrap moves s's data key from this keyring to another. The sealed value
// does not change.
func (k *keyring) rewrap(rand io.Reader, to *keyring, s *Secret) error {
	sealed, err := b64.DecodeString(s.DEK)
	if err != nil {
		return errDamaged
	}
	return k.use(func(_, wrap []byte) error {
		dek, err := unseal(wrap, sealed, dataKeyContext(k.vaultID, s))
		if err != nil {
			return err
		}
		defer clear(dek)
		return to.use(func(_, wrap []byte) error {
			out, err := seal(rand, wrap, dek, dataKeyContext(k.vaultID, s))
			s.DEK = b64.EncodeToString(out)
			return err
		})
	})
}
