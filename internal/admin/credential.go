package admin

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Bounds of what one credential adds to the state.
const (
	maxHosts = 64
	maxPorts = 64
	maxCAPEM = 256 << 10
)

// Credentials lists every credential.
func (a *Admin) Credentials(ctx context.Context, who grant.Caller) (api.CredentialList, error) {
	list := api.CredentialList{Credentials: []api.Credential{}}
	snap, err := a.look(ctx, who, "credential list")
	if err != nil {
		return list, err
	}
	list.Credentials = broker.DescribeCredentials(a.registry, snap)
	return list, nil
}

// CreateCredential makes an account at a provider out of secrets. Of a
// provider that the registry knows, hosts and auth are the registry's, and
// the secrets must be pinned to it; one that is not pinned yet is pinned by
// this. A pinned secret never gets into a custom provider's credential.
func (a *Admin) CreateCredential(ctx context.Context, who grant.Caller, r api.CredentialCreate) (api.Credential, error) {
	if err := a.allow(ctx, who, "credential create"); err != nil {
		return api.Credential{}, err
	}
	if !api.ValidID(r.ID) {
		return api.Credential{}, badID("credential id", r.ID)
	}
	if len(r.SecretRefs) == 0 {
		return api.Credential{}, api.Errorf(api.InvalidRequest, "a credential needs at least one secret").
			WithHint("aivault credential create %s --provider %s --secret NAME", r.ID, r.Provider)
	}
	if len(r.SecretRefs) > maxRecorded {
		return api.Credential{}, api.Errorf(api.InvalidRequest, "a credential has at most %d secrets", maxRecorded)
	}
	scope, err := parseScope(r.Scope)
	if err != nil {
		return api.Credential{}, err
	}
	p := a.registry.Provider(r.Provider)
	// Whatever else is wrong, a pin is named first.
	var unfit error
	switch {
	case !api.ValidID(r.Provider):
		unfit = badID("provider", r.Provider)
	case p == nil:
		unfit = checkCustom(&r)
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Credential{}, cmp.Or(unfit, err)
	}
	snap, err := a.update(ctx, who, audit.CredentialCreated, func(tx *vault.Tx) error {
		if credentialOf(tx.State, r.ID) >= 0 {
			return api.Errorf(api.AlreadyExists, "a credential %s exists already", r.ID).
				WithHint("aivault credential delete %s", r.ID)
		}
		c := vault.Credential{
			ID: r.ID, Provider: r.Provider, Scope: scope.String(),
			Secrets: map[string]string{}, CreatedAtMs: tx.Now(),
		}
		secrets, err := a.secretsFor(tx.State, p, &r, scope)
		if err != nil {
			return err
		}
		if unfit != nil {
			return unfit
		}
		for _, field := range slices.Sorted(maps.Keys(secrets)) {
			s := secrets[field]
			if p != nil {
				field, err = a.takeRegistry(tx, p, &r, &c, field, s)
			} else {
				field, err = takeCustom(&r, field, s)
			}
			if err != nil {
				return err
			}
			if !usable(scope, s) {
				return foreign(s, scope)
			}
			if c.Secrets[field] != "" {
				return api.Errorf(api.InvalidRequest, "field %s is given twice", api.Quote(field))
			}
			c.Secrets[field] = s.ID
			tx.Record.Secrets = append(tx.Record.Secrets, audit.SecretUse{ID: s.ID, Version: s.Version})
		}
		if p != nil {
			err = a.completeRegistry(tx, p, &c, &r)
		} else {
			err = a.completeCustom(tx, &c, &r)
		}
		if err == nil {
			err = takeOptions(&c, p, &r)
		}
		if err != nil {
			return err
		}
		tx.State.Credentials = append(tx.State.Credentials, c)
		tx.Record.Object, tx.Record.Provider, tx.Record.Scope = c.ID, c.Provider, c.Scope
		tx.Record.Host = listed(r.Hosts)
		return nil
	})
	if err != nil {
		return api.Credential{}, err
	}
	made, err := described(a.registry, snap, r.ID)
	if p == nil {
		made.Notice = a.notice(&r)
	}
	return made, err
}

// secretsFor finds the secrets that a request names, by field. One that is
// pinned to another provider is refused before anything else is looked at.
func (a *Admin) secretsFor(st *vault.State, p *registry.Provider, r *api.CredentialCreate, scope grant.Scope) (map[string]*vault.Secret, error) {
	found := map[string]*vault.Secret{}
	for _, field := range slices.Sorted(maps.Keys(r.SecretRefs)) {
		s, err := findIn(st, r.SecretRefs[field], scope)
		if err != nil {
			return nil, err
		}
		if s.Pin != "" && (p == nil || s.Pin != p.ID) {
			return nil, pinned(s)
		}
		found[field] = s
	}
	return found, nil
}

// foreign says why what belongs to a scope may not use a secret, and how it
// could.
func foreign(s *vault.Secret, scope grant.Scope) error {
	err := api.Errorf(api.InvalidRequest, "secret %s belongs to %s, which %s does not see", s.Name, s.Scope, scope)
	if scope.Group != "" && s.ScopeOf().Workspace == scope.Workspace {
		return err.WithHint("aivault secrets attach-group %s --workspace-id %s --group-id %s", s.ID, scope.Workspace, scope.Group)
	}
	return err.WithHint("aivault secrets create --name %s%s", shownRef(s.Name), scope.Flags())
}

func credentialOf(st *vault.State, id string) int {
	return slices.IndexFunc(st.Credentials, func(c vault.Credential) bool { return c.ID == id })
}

func noCredential(id string) error {
	return api.Errorf(api.CredentialNotFound, "there is no credential %s", api.Quote(id)).WithHint("aivault credential list")
}

func described(r *registry.Registry, snap *vault.Snapshot, id string) (api.Credential, error) {
	for _, c := range broker.DescribeCredentials(r, snap) {
		if c.ID == id {
			return c, nil
		}
	}
	return api.Credential{}, noCredential(id)
}

func badID(what, id string) error {
	return api.Errorf(api.InvalidRequest, "%s %s is none: it has 1 to 64 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit", what, api.Quote(id))
}

// DeleteCredential removes a credential and leaves its secrets. What is bound
// to it stays bound, and fails: to go on with another account is not for us to
// decide.
func (a *Admin) DeleteCredential(ctx context.Context, who grant.Caller, id string) (api.Credential, error) {
	if err := a.allow(ctx, who, "credential delete"); err != nil {
		return api.Credential{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Credential{}, err
	}
	snap, err := a.vault.Snapshot(ctx)
	if err != nil {
		return api.Credential{}, err
	}
	gone, err := described(a.registry, snap, id)
	if err != nil {
		return api.Credential{}, err
	}
	_, err = a.update(ctx, who, audit.CredentialDeleted, func(tx *vault.Tx) error {
		i := credentialOf(tx.State, id)
		if i < 0 {
			return noCredential(id)
		}
		c := tx.State.Credentials[i]
		tx.Record.Object, tx.Record.Provider, tx.Record.Scope = c.ID, c.Provider, c.Scope
		tx.State.Credentials = slices.Delete(tx.State.Credentials, i, i+1)
		a.unlimit(tx.State, &c)
		gone.Notice = stillBound(tx.State, id)
		return nil
	})
	return gone, err
}

// stillBound names the bindings that point at credentials that are gone.
func stillBound(st *vault.State, ids ...string) string {
	var bound []string
	for _, b := range st.Bindings {
		if slices.Contains(ids, b.Credential) {
			bound = append(bound, b.ID)
		}
	}
	if len(bound) == 0 {
		return ""
	}
	return "still bound to what is gone, and failing until it is there again: " + listed(bound) + " (aivault capability unbind " + bound[0] + ")"
}
