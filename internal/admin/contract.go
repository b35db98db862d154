package admin

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
)

// AttachSecret lets a group of the secret's workspace use it.
func (a *Admin) AttachSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretAttach) (api.Secret, error) {
	panic("contract")
}

// DetachSecret undoes AttachSecret.
func (a *Admin) DetachSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretAttach) (api.Secret, error) {
	panic("contract")
}

// ImportSecrets stores many secrets in one change.
func (a *Admin) ImportSecrets(ctx context.Context, who grant.Caller, r api.SecretImport) (api.SecretImported, error) {
	panic("contract")
}

// EnableCapabilities turns capabilities on.
func (a *Admin) EnableCapabilities(ctx context.Context, who grant.Caller, r api.SwitchRequest) (api.Switched, error) {
	panic("contract")
}

// DisableCapabilities turns capabilities off.
func (a *Admin) DisableCapabilities(ctx context.Context, who grant.Caller, r api.SwitchRequest) (api.Switched, error) {
	panic("contract")
}

// Policies lists every policy.
func (a *Admin) Policies(ctx context.Context, who grant.Caller) (api.PolicyList, error) {
	panic("contract")
}

// Policy is the policy of one capability: none when nothing limits it.
func (a *Admin) Policy(ctx context.Context, who grant.Caller, capability string) (api.PolicyList, error) {
	panic("contract")
}

// SetPolicy changes the limits that r names and leaves the others.
func (a *Admin) SetPolicy(ctx context.Context, who grant.Caller, r api.PolicyChange) (api.PolicyList, error) {
	panic("contract")
}

// ClearPolicy lifts every limit of a capability.
func (a *Admin) ClearPolicy(ctx context.Context, who grant.Caller, capability string) (api.PolicyList, error) {
	panic("contract")
}

// Bindings lists every binding.
func (a *Admin) Bindings(ctx context.Context, who grant.Caller) (api.BindingList, error) {
	panic("contract")
}

// Bind sets which credential calls of a capability use.
func (a *Admin) Bind(ctx context.Context, who grant.Caller, r api.BindingCreate) (api.Binding, error) {
	panic("contract")
}

// Unbind removes a binding.
func (a *Admin) Unbind(ctx context.Context, who grant.Caller, r api.BindingDelete) (api.Binding, error) {
	panic("contract")
}

// Grants lists every grant.
func (a *Admin) Grants(ctx context.Context, who grant.Caller) (api.GrantList, error) {
	panic("contract")
}

// AddGrant adds a grant.
func (a *Admin) AddGrant(ctx context.Context, who grant.Caller, r api.GrantAdd) (api.Grant, error) {
	panic("contract")
}

// RemoveGrant removes a grant. The last one of a user or group leaves an empty
// one, which allows nothing.
func (a *Admin) RemoveGrant(ctx context.Context, who grant.Caller, id string) (api.GrantList, error) {
	panic("contract")
}

// ResetGrants removes every grant of a user or group, the empty one included.
func (a *Admin) ResetGrants(ctx context.Context, who grant.Caller, r api.ConsumerRef) (api.GrantList, error) {
	panic("contract")
}

// SetGrantDefault sets what callers without a grant may do.
func (a *Admin) SetGrantDefault(ctx context.Context, who grant.Caller, r api.GrantDefault) (api.GrantList, error) {
	panic("contract")
}
