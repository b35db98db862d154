package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
)

// creatingName holds the id of a vault in the making. It is there from before
// the key is stored until the first document is committed.
const creatingName = "creating"

var createdMark = []byte(`"event":"` + audit.VaultCreated + `"`)

// usedMarks are how the log tells that a vault has, or may have, held a secret:
// whatever was done to one (secret.*) or to several (secrets.*), a login that
// brought one, and a document from elsewhere.
var usedMarks = [][]byte{
	[]byte(`"event":"secret`),
	[]byte(`"event":"` + audit.LoginFinished + `"`),
	[]byte(`"event":"` + audit.VaultRestored + `"`),
}

// ours are the entries that may lie in a vault directory before there is a
// vault, or after one was lost.
func ours() []string {
	return []string{"vault.lock", "store.lock", "unlock.lock", "daemon.lock", "locked", "run", "kek.key",
		"limits", "limits.lock", "limits.next", attemptsName, creatingName, rekeyingName, callsName, tokensDir, "audit",
		"restore.lock", stagingName, restoringName}
}

var (
	tempName = regexp.MustCompile(`^\.(.+)\.tmp-[A-Z2-7]+$`)
	oldLog   = regexp.MustCompile(`^` + regexp.QuoteMeta(movedLogName) + `[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$`)
)

// isOurs says whether aivault made an entry of a vault directory, or told a
// person to: what was put aside stays, and is in nobody's way.
func isOurs(name string) bool {
	if m := tempName.FindStringSubmatch(name); m != nil {
		name = m[1]
	} else if of, ok := durable.IsAside(name); ok {
		name = of
	}
	return name == "vault.aiv" || slices.Contains(ours(), name) || oldLog.MatchString(name)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// CanCreate says (nil) that a vault may be made here: none is there, no audit
// log of a lost one, and nothing of another product. Else vault_unavailable.
func (v *Vault) CanCreate() error {
	if _, err := v.store.Generation(); err == nil {
		return api.Errorf(api.VaultUnavailable, "there is a vault in %s already", v.cfg.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return v.unavailable("vault.aiv", err)
	}
	if err := durable.CheckAbove(v.cfg.Dir); err != nil {
		return v.unavailable("the directory", err)
	}
	if _, err := v.leftover(); err != nil {
		return err
	}
	return v.checkDir()
}

// checkDir refuses a directory that others can enter or that holds what
// aivault did not make.
func (v *Vault) checkDir() error {
	if err := durable.CheckPrivate(v.cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return v.unavailable("the directory", err)
	}
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return v.unavailable("the directory", err)
	}
	for _, e := range entries {
		// Of a vault.aiv that came this moment the store says so.
		if !isOurs(e.Name()) {
			return api.Errorf(api.VaultUnavailable, "vault %s: the directory holds %q, which is not aivault's", v.cfg.Dir, e.Name()).
				WithHint("choose an empty directory with AIVAULT_DIR")
		}
	}
	return nil
}

// leftover returns the id of a vault that a crash kept from being made, ""
// where there is none. A log that tells of more than a creation is what
// remains of a vault that was lost: an error.
func (v *Vault) leftover() (id string, err error) {
	id = v.readCreating()
	if !exists(v.logDir()) {
		return id, nil
	}
	if id == "" {
		return "", v.errLost()
	}
	log, err := audit.Open(v.logConfig(id))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil // the directory was made, its first file not
	}
	if err != nil {
		return "", v.errLog(err)
	}
	_, err = log.Walk(audit.Head{}, func(line []byte, _ audit.Head) error {
		if !bytes.Contains(line, createdMark) {
			return v.errLost()
		}
		return nil
	})
	if err = errors.Join(err, log.Close()); err != nil {
		return "", v.errLost()
	}
	return id, nil
}

func (v *Vault) readCreating() string {
	path := v.path(creatingName)
	if durable.CheckPrivate(path) != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	id := strings.TrimSuffix(string(data), "\n")
	if err != nil || !validID(id) {
		return ""
	}
	return id
}

func (v *Vault) endCreation() error {
	if err := os.Remove(v.path(creatingName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return durable.SyncDir(v.cfg.Dir)
}

// Init makes a vault, or replaces one that has never held a secret (keeping
// its id and log); already_exists for any other.
func (v *Vault) Init(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	return v.make(ctx, who, r, true)
}

// Ensure is Init for the command that stores the first secret: of several at
// once one makes the vault, and a vault that is there is left as it is.
func (v *Vault) Ensure(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	return v.make(ctx, who, r, false)
}

func (v *Vault) make(ctx context.Context, who *audit.Caller, r keysource.Request, replace bool) error {
	if err := r.Check(); err != nil {
		return err
	}
	if _, err := v.store.Generation(); errors.Is(err, fs.ErrNotExist) {
		// Nothing is made in a directory where no vault may be.
		if err := v.CanCreate(); err != nil && !v.present() {
			return err
		}
	} else if err != nil {
		return v.unavailable("vault.aiv", err)
	}
	if err := durable.MkdirAll(v.cfg.Dir); err != nil {
		return v.unavailable("the directory", err)
	}
	var err error
	for range maxRetries {
		err = v.underLock(ctx, func() error {
			if !v.present() {
				return v.create(ctx, who, r)
			}
			if !replace {
				return nil
			}
			return v.replace(ctx, who, r)
		})
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	return err
}

func (v *Vault) present() bool {
	_, err := v.store.Generation()
	return err == nil
}

// create makes the first document. Each step is synced before the next, and
// from the first one on a crash leaves what the next attempt takes up.
// vault.lock is held.
func (v *Vault) create(ctx context.Context, who *audit.Caller, r keysource.Request) error {
	if err := v.CanCreate(); err != nil {
		return err
	}
	id, err := v.leftover()
	if err != nil {
		return err
	}
	fresh := id == ""
	if fresh {
		if id, err = newID(v.cfg.Rand); err != nil {
			return api.Errorf(api.Internal, "vault: read randomness: %w", err)
		}
		if err := durable.WriteFile(v.path(creatingName), []byte(id+"\n")); err != nil {
			return v.unavailable("the mark of a new vault", err)
		}
	}
	cfg := v.keyConfig(id)
	key, err := v.prepareKey(ctx, cfg, keysource.Params{}, r)
	if err != nil {
		if fresh {
			_ = v.endCreation() // nothing was made yet: leave nothing behind
		}
		return err
	}
	log, err := v.createLog(id)
	if err != nil {
		return err
	}
	h := header{Format: formatVersion, ID: id, Generation: 1, Previous: noPrevious, Dev: v.cfg.Dev, Key: key.Params}
	return v.firstState(ctx, log, "", h, key, newState(), who)
}

// firstState commits a state without secrets, and opens the vault for this
// process.
func (v *Vault) firstState(ctx context.Context, log *audit.Log, old Generation, h header, key *keysource.NewKey, st *State, who *audit.Caller) error {
	keys, err := makeKeyring(v.cfg.Rand, &h, key.KEK)
	if err != nil {
		return api.Errorf(api.Internal, "vault: make a root key: %w", err)
	}
	if st.AuditKey == "" {
		seed := make([]byte, ed25519.SeedSize)
		if _, err := io.ReadFull(v.cfg.Rand, seed); err != nil {
			return api.Errorf(api.Internal, "vault: read randomness: %w", err)
		}
		st.AuditKey = b64.EncodeToString(seed)
		clear(seed)
		if err := log.ForgetKey(); err != nil {
			return v.errLog(err)
		}
	}
	_, err = v.commit(ctx, log, change{old, h, st, keys, audit.Record{
		Event: audit.VaultCreated, Caller: who, Object: h.ID, Provider: h.Key.Provider}})
	if err != nil {
		return err
	}
	// Whatever the vault before this one was: this one is open. What fails
	// here leaves it whole, and locked at worst.
	_ = v.endCreation()
	_ = os.Remove(v.path(attemptsName))
	if _, present := v.marker.read(); present {
		if err := v.marker.clear(); err != nil {
			return v.unavailable("the mark of a lock", err)
		}
	}
	return nil
}

// createLog makes the log, or takes up the one of an attempt that crashed.
func (v *Vault) createLog(id string) (*audit.Log, error) {
	v.logMu.Lock()
	defer v.logMu.Unlock()
	if v.logClosed {
		return nil, v.errLog(fs.ErrClosed)
	}
	log, err := audit.Create(v.logConfig(id))
	if errors.Is(err, fs.ErrExist) {
		log, err = audit.Open(v.logConfig(id))
	}
	if err != nil {
		return nil, v.errLog(err)
	}
	v.keepLog(log, id)
	return log, nil
}
