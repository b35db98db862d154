package keysource

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

const (
	keyFileVersion = 1
	maxKeyFile     = 16 << 10
	maxKeys        = 2 // the one in use, and the next while a rotation is under way
)

// keyFile is a key file's content, as docs/vault-format.md specifies it.
type keyFile struct {
	Version int         `json:"aivaultKeys"`
	Vault   string      `json:"vault"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

func (f *keyFile) find(id string) *storedKey {
	for i := range f.Keys {
		if f.Keys[i].ID == id {
			return &f.Keys[i]
		}
	}
	return nil
}

// parseKeyFile decodes and checks a key file. Its errors hold nothing of it.
func parseKeyFile(data []byte) (*keyFile, error) {
	if len(data) > maxKeyFile {
		return nil, errors.New("is too large to be a key file")
	}
	var f keyFile
	if err := strictjson.Unmarshal(data, &f); err != nil {
		return nil, errors.New("is damaged, or was made by a newer aivault")
	}
	if f.Version != keyFileVersion {
		return nil, errors.New("was made by a newer aivault")
	}
	if !validKeyID(f.Vault) || len(f.Keys) == 0 || len(f.Keys) > maxKeys {
		return nil, errors.New("is damaged")
	}
	for i, k := range f.Keys {
		if !validKeyID(k.ID) || f.find(k.ID) != &f.Keys[i] {
			return nil, errors.New("is damaged")
		}
		key, err := k.value()
		if err != nil {
			return nil, errors.New("is damaged")
		}
		key.Wipe()
	}
	return &f, nil
}

func (k storedKey) value() (secret.Value, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(k.Key)
	if err != nil || len(b) != KeySize || base64.RawURLEncoding.EncodeToString(b) != k.Key {
		clear(b)
		return secret.Value{}, errors.New("a key is not 32 bytes of base64url")
	}
	return secret.New(b), nil
}

// readKeyFile reads a key file that only its owner can read or replace. A
// missing one is fs.ErrNotExist.
func readKeyFile(path string) (*keyFile, error) {
	if err := durable.CheckAbove(path); err != nil {
		return nil, err
	}
	if err := durable.CheckPrivate(path); err != nil {
		return nil, err
	}
	// O_NONBLOCK so that a FIFO in the file's place cannot hold us up.
	fd, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	if err := durable.CheckPrivateFile(fd, path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(fd, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	defer clear(data)
	return parseKeyFile(data)
}

// keyLost is the one way out for a vault whose key is not in its file.
const keyLost = "put it back from your backup: nothing else opens this vault"

// errUnreadable says what is wrong with a key file, and how to mend it where
// that is known.
func errUnreadable(path string, err error) *api.Error {
	var perm *durable.PermissionError
	switch {
	case errors.As(err, &perm) && perm.Path != path:
		return api.Errorf(api.VaultUnavailable, "key file %s: %s is not private: %s", path, perm.Path, perm.Why).WithHint("%s", perm.Fix)
	case errors.As(err, &perm):
		return api.Errorf(api.VaultUnavailable, "key file %s is not private: %s", path, perm.Why).WithHint("%s", perm.Fix)
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.VaultUnavailable, "key file %s is missing", path).WithHint(keyLost)
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return api.Errorf(api.VaultUnavailable, "key file %s cannot be read: %w", path, p.Err)
	}
	return api.Errorf(api.VaultUnavailable, "key file %s %w", path, err)
}

// fileProvider keeps the key in a file.
type fileProvider struct{}

func (fileProvider) checkParams(p Params) error {
	if p.EnvVar != "" || p.Argon2id != nil {
		return errParams("a key file's parameters name another provider's")
	}
	return checkPath(p.Path)
}

func (fileProvider) checkRequest(r Request) error {
	if checkPath(r.Path) != nil {
		return api.Errorf(api.InvalidRequest, "the key file's path must be absolute, without . and .. in it: %q", r.Path)
	}
	return nil
}

func (fileProvider) open(_ context.Context, cfg Config, p Params, _ Material) (secret.Value, error) {
	path := cfg.KeyFile(p)
	f, err := readKeyFile(path)
	if err != nil {
		e := errUnreadable(path, err)
		if e.Hint == "" {
			e = e.WithHint(keyLost)
		}
		return secret.Value{}, e
	}
	if f.Vault != cfg.VaultID {
		return secret.Value{}, api.Errorf(api.VaultUnavailable, "key file %s belongs to another vault (%s)", path, f.Vault).WithHint(keyLost)
	}
	k := f.find(p.KeyID)
	if k == nil {
		return secret.Value{}, api.Errorf(api.VaultUnavailable, "key file %s does not hold this vault's key (%s)", path, p.KeyID).WithHint(keyLost)
	}
	return k.value()
}

func (fileProvider) prepare(_ context.Context, cfg Config, r Request) (*NewKey, error) {
	p := Params{Provider: File, Path: r.Path}
	if p.Path == cfg.DefaultKeyFile {
		p.Path = ""
	}
	var kek secret.Value
	var err error
	if r.Key.IsZero() {
		kek, err = cfg.newKey()
	} else {
		kek, err = ParseKey(r.Key)
	}
	if err != nil {
		return nil, err
	}
	if p.KeyID, err = cfg.newKeyID(); err == nil {
		err = storeKey(cfg, cfg.KeyFile(p), p.KeyID, kek)
	}
	if err != nil {
		kek.Wipe()
		return nil, err
	}
	return &NewKey{p, kek}, nil
}

// storeKey makes path with the new key, or puts it beside the one in use.
func storeKey(cfg Config, path, id string, kek secret.Value) error {
	entry := storedKey{id, base64.RawURLEncoding.EncodeToString(kek.Expose())}
	f, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
			return errNotStored(path, err)
		}
		err := writeKeyFile(path, &keyFile{keyFileVersion, cfg.VaultID, []storedKey{entry}}, durable.CreateFile)
		if errors.Is(err, fs.ErrExist) {
			return errTaken(path, "was made by another process just now")
		}
		return err
	}
	if err != nil {
		e := errUnreadable(path, err)
		var perm *durable.PermissionError
		if e.Hint == "" {
			return e.WithHint("move it away, or name another place with --file-path")
		}
		// What is there need not be a key file, or this vault's: it can be
		// /tmp, which no hint may close to others.
		if path != cfg.DefaultKeyFile && errors.As(err, &perm) && perm.Path == path {
			return e.WithHint("name another place with --file-path")
		}
		return e
	}
	if f.Vault != cfg.VaultID {
		return errTaken(path, "belongs to another vault ("+f.Vault+")")
	}
	for _, k := range f.Keys {
		have, err := k.value()
		same := err == nil && have.Equal(kek)
		have.Wipe()
		if same {
			return api.Errorf(api.InvalidRequest, "key file %s holds this key already: give another", path)
		}
	}
	if len(f.Keys) >= maxKeys {
		return errTaken(path, "holds two keys already")
	}
	f.Keys = append(f.Keys, entry)
	return writeKeyFile(path, f, durable.WriteFile)
}

func errTaken(path, why string) error {
	return api.Errorf(api.AlreadyExists, "key file %s %s", path, why).
		WithHint("move it away, or name another place with --file-path")
}

func errNotStored(path string, err error) error {
	return api.Errorf(api.VaultUnavailable, "key file %s cannot be written: %w", path, err)
}

func writeKeyFile(path string, f *keyFile, write func(string, []byte) error) error {
	data, err := strictjson.Marshal(f)
	if err != nil {
		return api.Errorf(api.Internal, "keysource: encode key file: %w", err)
	}
	data = append(data, '\n')
	defer clear(data)
	// A temporary file that a crash left holds a key too.
	if err := durable.RemoveTemp(path); err != nil {
		return errNotStored(path, err)
	}
	if err := write(path, data); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil {
		return errNotStored(path, err)
	}
	return nil
}

func (fileProvider) settle(cfg Config, p Params) error {
	path := cfg.KeyFile(p)
	f, err := readKeyFile(path)
	if err != nil {
		return errUnreadable(path, err)
	}
	k := f.find(p.KeyID)
	if f.Vault != cfg.VaultID || k == nil {
		return api.Errorf(api.VaultUnavailable, "key file %s does not hold this vault's key (%s): left as it is", path, p.KeyID)
	}
	if len(f.Keys) == 1 {
		return durable.RemoveTemp(path)
	}
	return writeKeyFile(path, &keyFile{keyFileVersion, f.Vault, []storedKey{*k}}, durable.WriteFile)
}

func (fileProvider) leftover(cfg Config, p Params) bool {
	f, err := readKeyFile(cfg.KeyFile(p))
	return err == nil && f.Vault == cfg.VaultID && len(f.Keys) > 1
}

func (fileProvider) forget(cfg Config, old, now Params) error {
	if now.Provider == File && samePlace(cfg.KeyFile(old), cfg.KeyFile(now)) {
		return nil
	}
	path := cfg.KeyFile(old)
	f, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errUnreadable(path, err)
	}
	if f.Vault != cfg.VaultID {
		return nil
	}
	if err := durable.RemoveTemp(path); err != nil {
		return errNotStored(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errNotStored(path, err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// samePlace says whether two paths lead to one file, also by way of a link.
func samePlace(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}
