package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/peer"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/server"
	"moldable.sh/aivault/internal/vault"
)

// Options assemble one aivault: vault, registry, egress, broker, admin and
// the API's handler. The daemon and the in-process CLI build the same one.
type Options struct {
	Env      Env
	Build    Build
	Daemon   *api.DaemonStatus // nil in-process
	Clock    func() time.Time
	Argon2id keysource.Argon2Params // zero: the product's; tests use less
	Busy     func(delta int)        // counts requests being served; may be nil
	Log      *slog.Logger           // diagnostic log; nil: none
	Audit    AuditOptions
}

// AuditOptions say how the audit log is kept.
type AuditOptions struct {
	Sync   bool          // every record is on disk before what it records happens; else within 50 ms
	Retain time.Duration // how long closed parts are kept; 0: for good
}

// Build is what the binary knows about itself.
type Build struct {
	Version string // e.g. 0.1.0 or a commit
	Commit  string // the source's revision
	Go      string // version of Go that built it
	Dev     *Dev   // nil unless built with the tag aivault_dev
}

// Dev are the development exceptions of a build with the tag aivault_dev.
type Dev struct {
	Resolve map[string]netip.AddrPort                                    // AIVAULT_DEV_RESOLVE
	DNS     string                                                       // AIVAULT_DEV_DNS: ip:port of a resolver
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error) // asks that resolver; nil without one
	Roots   *x509.CertPool                                               // AIVAULT_DEV_CA_CERT_PATH
	AnyPort bool                                                         // AIVAULT_DEV_ALLOW_NON_DEFAULT_PORTS
}

// Instance is one assembled aivault.
type Instance struct {
	Handler http.Handler

	env    Env
	vault  *vault.Vault
	admin  *admin.Admin
	broker *broker.Broker
	egress *egress.Client
	quota  *quota.Book
	leave  context.CancelFunc
}

// New assembles an Instance; it opens nothing yet.
func New(o Options) (*Instance, error) {
	reg, err := registry.Load()
	if err != nil {
		return nil, api.Errorf(api.Internal, "daemon: the compiled-in registry: %w", err)
	}
	v := vault.New(vault.Config{
		Dir: o.Env.Dir, DefaultKeyFile: o.Env.KeyFile, Dev: o.Build.Dev != nil,
		Argon2id: o.Argon2id, Clock: o.Clock,
		AuditSync: o.Audit.Sync, AuditTend: o.Daemon != nil, AuditRetain: o.Audit.Retain, AuditFailed: auditFailed(o.Log),
	})
	out := egress.New(egressConfig(o.Build))
	// Every process that makes calls counts them in the same file.
	limits := quota.New(quota.Config{Path: filepath.Join(o.Env.Dir, limitsFile)})
	b := broker.New(broker.Config{Vault: v, Registry: reg, Egress: out, Quota: limits, Clock: o.Clock, Refuse: refusal(o)})
	a := admin.New(admin.Config{
		Vault: v, Registry: reg, Default: keysource.Request{Provider: keysource.File}, Quota: limits, Clock: o.Clock, Observe: b.Observe, OAuth: b.OAuth(),
	})
	leaving, leave := context.WithCancel(context.Background())
	i := &Instance{env: o.Env, vault: v, admin: a, broker: b, egress: out, quota: limits, leave: leave}
	i.Handler = server.New(server.Config{
		Broker: b, Admin: a, Vault: v, Daemon: o.Daemon, Busy: o.Busy, Log: o.Log, Leaving: leaving,
		Process: func() *api.ProcessStatus { return processStatus(v.KeysLocked()) },
	})
	return i, nil
}

// auditFailed reports what stops nothing, but wants to be mended.
func auditFailed(log *slog.Logger) func(error) {
	if log == nil {
		return nil
	}
	return func(err error) {
		log.Warn("the audit log's old parts cannot be compressed or removed", "why", err.Error())
	}
}

// limitsFile is where the calls of rate limits are counted, in the vault's
// directory.
const limitsFile = "limits"

func egressConfig(b Build) egress.Config {
	cfg := egress.Config{UserAgent: "aivault/" + b.Version}
	if d := b.Dev; d != nil {
		cfg.Dial, cfg.AnyPort, cfg.Roots, cfg.Resolve = d.Resolve, d.AnyPort, d.Roots, d.Lookup
	}
	return cfg
}

// refusal is why no call may be made: somebody counts on development
// variables that this build does not know.
func refusal(o Options) error {
	if o.Build.Dev != nil || len(o.Env.DevNames) == 0 {
		return nil
	}
	return api.Errorf(api.PolicyViolation, "this build makes no calls while %s is set: only builds with the tag aivault_dev know it", strings.Join(o.Env.DevNames, ", ")).
		WithHint("unset %s", strings.Join(o.Env.DevNames, " "))
}

// Locked says whether a person must give something before calls can be made.
func (i *Instance) Locked(ctx context.Context) bool {
	return i.vault.Status(ctx).State == vault.Locked
}

// needed says whether something would be lost with this process: a key that a
// person typed, or a login that waits for them.
func (i *Instance) needed(ctx context.Context) bool {
	return i.vault.Status(ctx).Typed || i.admin.LoginPending()
}

// UnlockFromEnv opens the vault of an env key provider with the key that this
// process was given, if it was given one. A vault that somebody locked stays
// locked until somebody unlocks it.
func (i *Instance) UnlockFromEnv(ctx context.Context) error {
	key, ok := EnvKey(i.env, i.vault.Status(ctx))
	if !ok {
		return nil
	}
	_, err := i.admin.Unlock(ctx, peer.Self(), api.Unlock{Key: key})
	return err
}

// EnvKey is the key that env holds for a vault with this status, if it is one
// that may be opened without asking.
func EnvKey(env Env, st vault.Status) (secret.Value, bool) {
	if st.State != vault.Locked || st.Key.Provider != keysource.Env {
		return secret.Value{}, false
	}
	name := st.Key.EnvVar
	if name == "" {
		name = varKey
	}
	key, ok := env.Keys[name]
	return key, ok && !LockedOnPurpose(env.Dir)
}

// LockedOnPurpose says whether the vault was locked by a person, or is to be
// at some time: then nothing but an unlock by a person opens it.
func LockedOnPurpose(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "locked"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Leave ends what would go on as long as its client wants: following the audit
// log. It is called when the process begins to leave.
func (i *Instance) Leave() { i.leave() }

// Recover sees to it that the log has an outcome for the calls of processes
// that were killed.
func (i *Instance) Recover(ctx context.Context) (calls int, err error) { return i.broker.Recover(ctx) }

// Close forgets keys, closes connections and the log.
func (i *Instance) Close() error {
	i.leave()
	i.broker.Close()
	i.egress.CloseIdle()
	return errors.Join(i.quota.Close(), i.vault.Close())
}
