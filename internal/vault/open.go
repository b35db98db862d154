package vault

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// maxRetries bounds how often a reader starts over because the document
// changed under its hands.
const maxRetries = 16

var errNoDocument = errors.New("there is no vault")

// refresh makes the snapshot the current one, opening the vault when it must.
// v.mu is held; held says that vault.lock is, too.
//
// A vault that does not open ends the snapshot and the keys with it: what was
// true before says nothing about a document that nobody can read.
func (v *Vault) refresh(ctx context.Context, held bool) (*Snapshot, error) {
	if v.closed {
		return nil, errLocked()
	}
	if v.marker.locked(v.now()) {
		v.dropKeys()
		if fromMs, _ := v.marker.read(); fromMs > 0 {
			v.recordRelock(ctx, held, fromMs)
		}
		if _, err := v.look(); err != nil {
			return nil, err
		}
		return nil, errLocked()
	}
	return v.reopen(ctx, held)
}

// reopen is refresh whatever the marker says.
func (v *Vault) reopen(ctx context.Context, held bool) (*Snapshot, error) {
	if err := v.takeUp(held); err != nil {
		return nil, err
	}
	for range maxRetries {
		gen, err := v.store.Generation()
		if s := v.current.Load(); err == nil && s != nil && s.gen == gen && s.keys.alive() {
			return s, nil
		}
		s, err := v.open(ctx)
		if err == nil {
			v.setKeys(s.keys)
			if err := v.signWith(s); err != nil {
				return nil, err
			}
			v.current.Store(s)
			v.tidy(ctx, s, held)
			v.signAnew(s)
			return s, nil
		}
		// Another process may have replaced document and key between our two
		// looks: then the error is about neither the old nor the new.
		if now, e := v.store.Generation(); e == nil && v.seen.gen != "" && now != v.seen.gen && ctx.Err() == nil {
			continue
		}
		v.current.Store(nil)
		if !transient(err) {
			v.dropKeys()
		}
		return nil, err
	}
	v.current.Store(nil)
	return nil, api.Errorf(api.VaultUnavailable, "vault %s: keeps changing while it is read", v.cfg.Dir)
}

// transient errors say nothing about the vault: a key that a person typed is
// not thrown away for them.
func transient(err error) bool {
	return slices.ContainsFunc([]error{context.Canceled, context.DeadlineExceeded,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR},
		func(e error) bool { return errors.Is(err, e) })
}

// look reads the header of the document, which needs no key. v.mu is held.
func (v *Vault) look() (header, error) {
	gen, err := v.store.Generation()
	if err == nil && gen == v.seen.gen {
		return v.seen.header, v.seen.err
	}
	_, h, _, _, err := v.load()
	return h, err
}

// load reads the document and takes it apart. v.mu is held.
func (v *Vault) load() (gen Generation, h header, line, sealed []byte, err error) {
	// The store keeps only the last file open, so an older snapshot's
	// generation could come back: that snapshot ends here.
	v.current.Store(nil)
	v.seen = seenHeader{}
	if err = durable.CheckAbove(v.cfg.Dir); err != nil {
		return gen, h, nil, nil, v.unavailable("the directory", err)
	}
	if err = durable.CheckPrivate(v.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return gen, h, nil, nil, v.unavailable("the directory", err)
	}
	blob, gen, err := v.store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return gen, h, nil, nil, v.errMissing()
	}
	if err != nil {
		return gen, h, nil, nil, v.unavailable("vault.aiv", err)
	}
	if len(blob) > maxFile {
		err = errTooLarge
	} else {
		h, line, sealed, err = splitDocument(blob)
	}
	if err != nil {
		v.seen = seenHeader{gen: gen, err: v.unavailable("vault.aiv", err).WithHint(hintDamaged)}
		return gen, header{}, nil, nil, v.seen.err
	}
	v.seen = seenHeader{gen: gen, header: h, hash: fileHash(blob)}
	return gen, h, line, sealed, nil
}

// errMissing tells a vault that was lost from one that was never made.
func (v *Vault) errMissing() error {
	if _, err := v.leftover(); err != nil {
		return err
	}
	return api.Errorf(api.VaultUnavailable, "%w in %s", errNoDocument, v.cfg.Dir).WithHint("aivault init")
}

// open reads, decrypts and checks the document. v.mu is held.
func (v *Vault) open(ctx context.Context) (*Snapshot, error) {
	// Of a locked or damaged document nothing is read twice.
	if gen, err := v.store.Generation(); err == nil && gen == v.seen.gen {
		if v.seen.err != nil {
			return nil, v.seen.err
		}
		if h := v.seen.header; h.Dev == v.cfg.Dev && v.needsPerson(h) {
			return nil, v.errLockedFor(h)
		}
	}
	gen, h, line, sealed, err := v.load()
	if err != nil {
		return nil, err
	}
	if h.Dev != v.cfg.Dev {
		return nil, v.errDev(h)
	}
	keys, err := v.keysFor(ctx, h)
	if err != nil {
		return nil, err
	}
	var plain []byte
	err = keys.use(func(state, _ []byte) error {
		plain, err = unseal(state, sealed, line)
		return err
	})
	if err != nil {
		return nil, v.unavailable("vault.aiv does not open:", err).WithHint(hintDamaged)
	}
	st, err := decodeState(plain)
	clear(plain)
	if err != nil {
		return nil, v.unavailable("the state in vault.aiv", err)
	}
	s := newSnapshot(gen, v.seen.hash, len(line)+1+len(sealed), h, st, keys)
	log, err := v.currentLog(h.ID)
	if err != nil {
		return nil, forGeneration(err, h)
	}
	return s, forGeneration(v.checkLog(log, s), h)
}

func (v *Vault) errDev(h header) error {
	if h.Dev {
		return api.Errorf(api.VaultUnavailable, "vault %s was made by a development build, which alone opens it", v.cfg.Dir)
	}
	return api.Errorf(api.VaultUnavailable, "vault %s was made by a release build: a development build does not open it", v.cfg.Dir).
		WithHint("give the development build a directory of its own with AIVAULT_DIR")
}

// needsPerson says that the keys at hand do not open the document and that
// nobody but a person has the right one.
func (v *Vault) needsPerson(h header) bool {
	have := v.keys != nil && v.keys.alive() && v.keys.wrapped == wrappedOf(h)
	return !have && h.Key.Provider != keysource.File
}

func (v *Vault) errLockedFor(h header) error {
	if h.Key.Provider == keysource.Env {
		_, err := keysource.Open(context.Background(), v.keyConfig(h.ID), h.Key, keysource.Material{})
		return err
	}
	return errLocked()
}

// keysFor returns the keys at hand when they are the document's, or opens its
// root key by what needs no person. v.mu is held.
func (v *Vault) keysFor(ctx context.Context, h header) (*keyring, error) {
	if v.keys != nil && v.keys.alive() && v.keys.wrapped == wrappedOf(h) {
		return v.keys, nil
	}
	if v.needsPerson(h) {
		return nil, v.errLockedFor(h)
	}
	return v.openKeys(ctx, h, keysource.Material{})
}

// openKeys opens the root key by what the key provider has or was given.
func (v *Vault) openKeys(ctx context.Context, h header, m keysource.Material) (*keyring, error) {
	kek, err := keysource.Open(ctx, v.keyConfig(h.ID), h.Key, m)
	if err != nil {
		var coded *api.Error
		if errors.As(err, &coded) && coded.Code == api.VaultUnavailable {
			return nil, named(coded, "vault "+v.cfg.Dir+": ")
		}
		if coded != nil && !m.EnvKey.IsZero() {
			e := named(coded, "")
			e.Message += " (" + v.cfg.Dir + ")"
			return nil, e
		}
		return nil, err
	}
	k, err := openKeyring(h, kek)
	if err != nil && h.Key.Provider == keysource.Passphrase {
		return nil, api.Errorf(api.VaultLocked, "wrong passphrase for the vault in %s", v.cfg.Dir).WithHint("aivault unlock")
	}
	if err != nil {
		return nil, v.unavailable("vault.aiv does not open with its key:", err)
	}
	return k, nil
}

// tidy finishes what a crash left: the log's word that the document was
// committed, keys that are no longer in use, the mark of a vault in the
// making. Who cannot get vault.lock leaves it to the one who holds it, and
// what fails is tried again at the next opening. v.mu is held.
func (v *Vault) tidy(ctx context.Context, s *Snapshot, held bool) {
	cfg := v.keyConfig(s.header.ID)
	if s.confirmed && !exists(v.path(rekeyingName)) && !exists(v.path(creatingName)) && !keysource.Leftover(cfg, s.header.Key) {
		return
	}
	if !held {
		lock, err := durable.TryAcquire(v.path("vault.lock"))
		if err != nil || lock == nil {
			return
		}
		defer lock.Release()
	}
	// The key that is kept must be the one that the document names now.
	if gen, err := v.store.Generation(); err != nil || gen != s.gen {
		return
	}
	ctx = context.WithoutCancel(ctx)
	log, err := v.openLog(s.header.ID)
	if err != nil || v.confirm(ctx, log, s) != nil {
		return
	}
	v.settleKeys(ctx, cfg, s.header.Key)
	_ = v.endCreation()
}

// sealDocument is the document of a header and a state.
func (v *Vault) sealDocument(h header, st *State, keys *keyring) ([]byte, error) {
	line, err := h.encode()
	if err != nil {
		return nil, err
	}
	plain, err := encodeState(st)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var blob []byte
	err = keys.use(func(state, _ []byte) error {
		sealed, err := seal(v.cfg.Rand, state, plain, line)
		if err == nil {
			blob = bytes.Join([][]byte{line, sealed}, []byte{'\n'})
		}
		return err
	})
	return blob, err
}
