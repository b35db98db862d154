// Package admin makes the operator's changes: each is validated, applied as
// one change of the vault, and recorded.
package admin

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Config is what an Admin needs.
type Config struct {
	Vault    *vault.Vault
	Registry *registry.Registry
	Default  keysource.Request // how the first command that stores something makes a vault
}

// Admin makes changes. Every method takes the caller and answers
// operator_required to anyone who is none.
type Admin struct{}

// New makes an Admin.
func New(cfg Config) *Admin { panic("contract") }

func (a *Admin) Init(ctx context.Context, who grant.Caller, r api.KeyOptions) (api.VaultChanged, error) {
	panic("contract")
}
func (a *Admin) Unlock(ctx context.Context, who grant.Caller, r api.Unlock) (api.VaultChanged, error) {
	panic("contract")
}
func (a *Admin) Lock(ctx context.Context, who grant.Caller) (api.VaultChanged, error) {
	panic("contract")
}
func (a *Admin) RotateMaster(ctx context.Context, who grant.Caller, r api.KeyOptions) (api.VaultChanged, error) {
	panic("contract")
}

func (a *Admin) Secrets(ctx context.Context, who grant.Caller) (api.SecretList, error) {
	panic("contract")
}
func (a *Admin) CreateSecret(ctx context.Context, who grant.Caller, r api.SecretCreate) (api.Secret, error) {
	panic("contract")
}
func (a *Admin) UpdateSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretUpdate) (api.Secret, error) {
	panic("contract")
}
func (a *Admin) RotateSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretRotate) (api.Secret, error) {
	panic("contract")
}
func (a *Admin) DeleteSecret(ctx context.Context, who grant.Caller, ref string) (api.SecretDeleted, error) {
	panic("contract")
}

func (a *Admin) Credentials(ctx context.Context, who grant.Caller) (api.CredentialList, error) {
	panic("contract")
}
func (a *Admin) CreateCredential(ctx context.Context, who grant.Caller, r api.CredentialCreate) (api.Credential, error) {
	panic("contract")
}
func (a *Admin) DeleteCredential(ctx context.Context, who grant.Caller, id string) (api.Credential, error) {
	panic("contract")
}

func (a *Admin) CreateCapability(ctx context.Context, who grant.Caller, r api.CapabilityCreate) (api.CapabilityDetail, error) {
	panic("contract")
}
func (a *Admin) DeleteCapability(ctx context.Context, who grant.Caller, id string) (api.CapabilityDetail, error) {
	panic("contract")
}

// Audit returns the newest records, oldest first.
func (a *Admin) Audit(ctx context.Context, who grant.Caller, limit int) (api.AuditList, error) {
	panic("contract")
}
