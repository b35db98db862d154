package client

import (
	"context"
	"net/http"
	"net/url"

	"moldable.sh/aivault/internal/api"
)

const (
	get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
)

// Status describes the daemon, its vault, and who is asking.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return ask[api.Status](ctx, c, c.calls, get, api.RouteStatus, nil)
}

// Capabilities lists what can be called, and what could be.
func (c *Client) Capabilities(ctx context.Context) (api.CapabilityList, error) {
	return ask[api.CapabilityList](ctx, c, c.calls, get, api.RouteCapabilities, nil)
}

// CapabilitiesBy lists a part of it.
func (c *Client) CapabilitiesBy(ctx context.Context, q api.CapabilityQuery) (api.CapabilityList, error) {
	values := url.Values{}
	if q.Usable {
		values.Set("show", api.ShowUsable)
	}
	if q.Provider != "" {
		values.Set("provider", q.Provider)
	}
	route := api.RouteCapabilities
	if len(values) > 0 {
		route += "?" + values.Encode()
	}
	return ask[api.CapabilityList](ctx, c, c.calls, get, route, nil)
}

// Capability describes one capability.
func (c *Client) Capability(ctx context.Context, id string) (api.CapabilityDetail, error) {
	return ask[api.CapabilityDetail](ctx, c, c.calls, get, api.RouteCapabilities+"/"+escape(id), nil)
}

// Registry lists the providers that the registry describes.
func (c *Client) Registry(ctx context.Context) (api.RegistryList, error) {
	return ask[api.RegistryList](ctx, c, c.calls, get, api.RouteRegistry, nil)
}

// RegistryFile is one provider's file.
func (c *Client) RegistryFile(ctx context.Context, id string) (api.RawRecord, error) {
	return ask[api.RawRecord](ctx, c, c.calls, get, api.RouteRegistry+"/"+escape(id), nil)
}

// The operator's requests: each goes only to a listener that the kernel says
// runs as this user, as root, or as the user that setup wrote down.

// Init makes a vault.
func (c *Client) Init(ctx context.Context, r api.KeyOptions) (api.VaultChanged, error) {
	return ask[api.VaultChanged](ctx, c, c.operator, post, api.RouteInit, r)
}

// Unlock opens the vault with what a person gave.
func (c *Client) Unlock(ctx context.Context, r api.Unlock) (api.VaultChanged, error) {
	return ask[api.VaultChanged](ctx, c, c.operator, post, api.RouteUnlock, r)
}

// Lock makes the vault refuse every call until Unlock.
func (c *Client) Lock(ctx context.Context) (api.VaultChanged, error) {
	return ask[api.VaultChanged](ctx, c, c.operator, post, api.RouteLock, nil)
}

// RotateMaster replaces the vault's master key.
func (c *Client) RotateMaster(ctx context.Context, r api.KeyOptions) (api.VaultChanged, error) {
	return ask[api.VaultChanged](ctx, c, c.operator, post, api.RouteRotateMaster, r)
}

// Secrets lists the secrets, without their values.
func (c *Client) Secrets(ctx context.Context) (api.SecretList, error) {
	return ask[api.SecretList](ctx, c, c.operator, get, api.RouteSecrets, nil)
}

// CreateSecret stores a secret.
func (c *Client) CreateSecret(ctx context.Context, r api.SecretCreate) (api.Secret, error) {
	return ask[api.Secret](ctx, c, c.operator, post, api.RouteSecrets, r)
}

// UpdateSecret changes a secret's names.
func (c *Client) UpdateSecret(ctx context.Context, ref string, r api.SecretUpdate) (api.Secret, error) {
	return ask[api.Secret](ctx, c, c.operator, patch, api.RouteSecrets+"/"+escape(ref), r)
}

// RotateSecret replaces a secret's value.
func (c *Client) RotateSecret(ctx context.Context, ref string, r api.SecretRotate) (api.Secret, error) {
	return ask[api.Secret](ctx, c, c.operator, post, api.RouteSecrets+"/"+escape(ref)+"/rotate", r)
}

// DeleteSecret removes a secret and what it enabled.
func (c *Client) DeleteSecret(ctx context.Context, ref string) (api.SecretDeleted, error) {
	return ask[api.SecretDeleted](ctx, c, c.operator, del, api.RouteSecrets+"/"+escape(ref), nil)
}

// Credentials lists the credentials.
func (c *Client) Credentials(ctx context.Context) (api.CredentialList, error) {
	return ask[api.CredentialList](ctx, c, c.operator, get, api.RouteCredentials, nil)
}

// CreateCredential makes a credential.
func (c *Client) CreateCredential(ctx context.Context, r api.CredentialCreate) (api.Credential, error) {
	return ask[api.Credential](ctx, c, c.operator, post, api.RouteCredentials, r)
}

// DeleteCredential removes a credential.
func (c *Client) DeleteCredential(ctx context.Context, id string) (api.Credential, error) {
	return ask[api.Credential](ctx, c, c.operator, del, api.RouteCredentials+"/"+escape(id), nil)
}

// CreateCapability makes a custom capability.
func (c *Client) CreateCapability(ctx context.Context, r api.CapabilityCreate) (api.CapabilityDetail, error) {
	return ask[api.CapabilityDetail](ctx, c, c.operator, post, api.RouteCapabilities, r)
}

// DeleteCapability removes a custom capability.
func (c *Client) DeleteCapability(ctx context.Context, id string) (api.CapabilityDetail, error) {
	return ask[api.CapabilityDetail](ctx, c, c.operator, del, api.RouteCapabilities+"/"+escape(id), nil)
}

// AttachSecret lets a group use a secret of its workspace, or a global one.
func (c *Client) AttachSecret(ctx context.Context, ref string, r api.SecretAttach) (api.Secret, error) {
	return ask[api.Secret](ctx, c, c.operator, post, api.RouteSecrets+"/"+escape(ref)+"/groups", r)
}

// DetachSecret undoes AttachSecret.
func (c *Client) DetachSecret(ctx context.Context, ref string, r api.SecretAttach) (api.Secret, error) {
	return ask[api.Secret](ctx, c, c.operator, del, api.RouteSecrets+"/"+escape(ref)+"/groups", r)
}

// ImportSecrets stores many secrets in one change.
func (c *Client) ImportSecrets(ctx context.Context, r api.SecretImport) (api.SecretImported, error) {
	return ask[api.SecretImported](ctx, c, c.operator, post, api.RouteSecrets+"/import", r)
}

// EnableCapabilities turns capabilities on.
func (c *Client) EnableCapabilities(ctx context.Context, r api.SwitchRequest) (api.Switched, error) {
	return ask[api.Switched](ctx, c, c.operator, post, api.RouteCapabilities+"/enable", r)
}

// DisableCapabilities turns capabilities off.
func (c *Client) DisableCapabilities(ctx context.Context, r api.SwitchRequest) (api.Switched, error) {
	return ask[api.Switched](ctx, c, c.operator, post, api.RouteCapabilities+"/disable", r)
}

// Policies lists every policy.
func (c *Client) Policies(ctx context.Context) (api.PolicyList, error) {
	return ask[api.PolicyList](ctx, c, c.operator, get, api.RoutePolicies, nil)
}

// Policy is the policy of one capability.
func (c *Client) Policy(ctx context.Context, capability string) (api.PolicyList, error) {
	return ask[api.PolicyList](ctx, c, c.operator, get, api.RoutePolicies+"/"+escape(capability), nil)
}

// SetPolicy changes the limits that r names.
func (c *Client) SetPolicy(ctx context.Context, r api.PolicyChange) (api.PolicyList, error) {
	return ask[api.PolicyList](ctx, c, c.operator, post, api.RoutePolicies, r)
}

// ClearPolicy lifts every limit of a capability.
func (c *Client) ClearPolicy(ctx context.Context, capability string) (api.PolicyList, error) {
	return ask[api.PolicyList](ctx, c, c.operator, del, api.RoutePolicies+"/"+escape(capability), nil)
}

// Bindings lists every binding.
func (c *Client) Bindings(ctx context.Context) (api.BindingList, error) {
	return ask[api.BindingList](ctx, c, c.operator, get, api.RouteBindings, nil)
}

// Bind sets which credential calls of a capability use.
func (c *Client) Bind(ctx context.Context, r api.BindingCreate) (api.Binding, error) {
	return ask[api.Binding](ctx, c, c.operator, post, api.RouteBindings, r)
}

// Unbind removes a binding.
func (c *Client) Unbind(ctx context.Context, r api.BindingDelete) (api.Binding, error) {
	return ask[api.Binding](ctx, c, c.operator, del, api.RouteBindings, r)
}

// Grants lists every grant.
func (c *Client) Grants(ctx context.Context) (api.GrantList, error) {
	return ask[api.GrantList](ctx, c, c.operator, get, api.RouteGrants, nil)
}

// AddGrant adds a grant.
func (c *Client) AddGrant(ctx context.Context, r api.GrantAdd) (api.Grant, error) {
	return ask[api.Grant](ctx, c, c.operator, post, api.RouteGrants, r)
}

// RemoveGrant removes a grant.
func (c *Client) RemoveGrant(ctx context.Context, id string) (api.GrantList, error) {
	return ask[api.GrantList](ctx, c, c.operator, del, api.RouteGrants+"/"+escape(id), nil)
}

// ResetGrants removes every grant of a user or group.
func (c *Client) ResetGrants(ctx context.Context, r api.ConsumerRef) (api.GrantList, error) {
	return ask[api.GrantList](ctx, c, c.operator, post, api.RouteGrants+"/reset", r)
}

// SetGrantDefault sets what callers without a grant may do.
func (c *Client) SetGrantDefault(ctx context.Context, r api.GrantDefault) (api.GrantList, error) {
	return ask[api.GrantList](ctx, c, c.operator, post, api.RouteGrants+"/default", r)
}

// OAuth lists the tokens, without what they are.
func (c *Client) OAuth(ctx context.Context) (api.OAuthList, error) {
	return ask[api.OAuthList](ctx, c, c.operator, get, api.RouteOAuth, nil)
}

// OAuthSetup gives the address where consent is given.
func (c *Client) OAuthSetup(ctx context.Context, r api.OAuthSetup) (api.OAuthConsent, error) {
	return ask[api.OAuthConsent](ctx, c, c.operator, post, api.RouteOAuthSetup, r)
}

// StartLogin begins a login at a provider.
func (c *Client) StartLogin(ctx context.Context, r api.OAuthStart) (api.OAuthLogin, error) {
	return ask[api.OAuthLogin](ctx, c, c.operator, post, api.RouteOAuthLogins, r)
}

// FinishLogin hands over what the browser brought, or asks how a login by
// device stands.
func (c *Client) FinishLogin(ctx context.Context, id string, r api.OAuthAnswer) (api.OAuthLogin, error) {
	return ask[api.OAuthLogin](ctx, c, c.operator, post, api.RouteOAuthLogins+"/"+escape(id), r)
}

// Logout gives a login's tokens back and removes it.
func (c *Client) Logout(ctx context.Context, ref string) (api.OAuthLogout, error) {
	return ask[api.OAuthLogout](ctx, c, c.operator, del, api.RouteOAuth+"/"+escape(ref), nil)
}
