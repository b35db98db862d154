// Package admin makes the operator's changes: each is validated, applied as
// one change of the vault, and recorded.
//
// Nobody but the operator gets anything from it: every method asks who calls
// before it looks at anything else.
package admin

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Config is what an Admin needs.
type Config struct {
	Vault    *vault.Vault
	Registry *registry.Registry
	Default  keysource.Request // how the first command that stores something makes a vault
	Quota    *quota.Book       // its file is made when the first limit is set
	OAuth    *oauth.Source     // for logins
	Clock    func() time.Time  // default time.Now
	// LookupUser and LookupGroup name the system's users and groups; default:
	// os/user.
	LookupUser  func(name string) (uid uint32, err error)
	LookupGroup func(name string) (gid uint32, err error)
	// Owner is the user whose vault this is, and whom no grant limits; default:
	// the process's own.
	Owner *uint32
	// Observe, when not nil, is called before and after each change: the
	// broker of the same process, which goes on scrubbing values that a change
	// replaces and wipes what it holds when the vault is locked.
	Observe func(context.Context)
}

// Admin makes changes. Every method takes the caller and answers
// operator_required to anyone who is none.
type Admin struct {
	vault       *vault.Vault
	registry    *registry.Registry
	initial     keysource.Request
	quota       *quota.Book
	clock       func() time.Time
	lookupUser  func(string) (uint32, error)
	lookupGroup func(string) (uint32, error)
	owner       uint32
	observe     func(context.Context)
	oauth       *oauth.Source
	logins      logins
}

// New makes an Admin.
func New(cfg Config) *Admin {
	if cfg.Observe == nil {
		cfg.Observe = func(context.Context) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.LookupUser == nil {
		cfg.LookupUser = systemUser
	}
	if cfg.LookupGroup == nil {
		cfg.LookupGroup = systemGroup
	}
	if cfg.Owner == nil {
		cfg.Owner = new(uint32(os.Geteuid()))
	}
	return &Admin{
		vault: cfg.Vault, registry: cfg.Registry, initial: cfg.Default, quota: cfg.Quota, clock: cfg.Clock,
		lookupUser: cfg.LookupUser, lookupGroup: cfg.LookupGroup, owner: *cfg.Owner, observe: cfg.Observe, oauth: cfg.OAuth,
	}
}

// allow lets the operator pass. Anyone else's attempt is recorded.
func (a *Admin) allow(ctx context.Context, who grant.Caller, what string) error {
	if who.Operator {
		return nil
	}
	_ = a.vault.Desk().Refuse(ctx, nil, audit.Record{
		Event: audit.OperatorRefused, RequestID: rand.Text(), Caller: audit.CallerOf(who),
		Object: what, Code: string(api.OperatorRequired),
	})
	return api.Errorf(api.OperatorRequired, "only the vault's operator may do this")
}

// update makes one change of the vault.
func (a *Admin) update(ctx context.Context, who grant.Caller, event string, fn func(*vault.Tx) error) (*vault.Snapshot, error) {
	return a.change(ctx, audit.Record{Event: event, RequestID: rand.Text(), Caller: audit.CallerOf(who)}, fn)
}

func (a *Admin) change(ctx context.Context, rec audit.Record, fn func(*vault.Tx) error) (*vault.Snapshot, error) {
	a.observe(ctx)
	snap, err := a.vault.Update(ctx, rec, fn)
	a.observe(ctx)
	return snap, err
}

// ready makes the vault when there is none and one may be made here. Only
// what stores something calls it.
func (a *Admin) ready(ctx context.Context, who grant.Caller) error {
	if a.vault.Status(ctx).State != vault.None {
		return nil
	}
	return a.vault.Ensure(ctx, audit.CallerOf(who), a.initial)
}

// readyFor is ready for a change that check finds possible in a vault that
// holds nothing yet: one that is refused anyway makes no vault.
func (a *Admin) readyFor(ctx context.Context, who grant.Caller, check func(*vault.State) error) error {
	if a.vault.Status(ctx).State != vault.None {
		return nil
	}
	if err := check(&vault.State{}); err != nil {
		return err
	}
	return a.ready(ctx, who)
}

// emptyTx is a change of a vault that there is not yet, to try one on. Nothing
// can be sealed in it.
func emptyTx() *vault.Tx { return &vault.Tx{State: &vault.State{}, Record: &audit.Record{}} }

// look returns the state for the operator to read.
func (a *Admin) look(ctx context.Context, who grant.Caller, what string) (*vault.Snapshot, error) {
	if err := a.allow(ctx, who, what); err != nil {
		return nil, err
	}
	if _, err := a.existing(ctx); err != nil {
		return nil, err
	}
	return a.vault.Snapshot(ctx)
}
