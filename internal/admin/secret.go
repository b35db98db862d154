package admin

import (
	"context"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// Secrets lists every secret, without its value.
func (a *Admin) Secrets(ctx context.Context, who grant.Caller) (api.SecretList, error) {
	list := api.SecretList{Secrets: []api.Secret{}}
	snap, err := a.look(ctx, who, "secrets list")
	if err != nil {
		return list, err
	}
	for i := range snap.State().Secrets {
		list.Secrets = append(list.Secrets, shown(&snap.State().Secrets[i]))
	}
	return list, nil
}

func shown(s *vault.Secret) api.Secret {
	return api.Secret{
		ID: s.ID, Name: s.Name, Aliases: append([]string{}, s.Aliases...), Scope: s.Scope,
		AttachedGroups: slices.Clone(s.Groups), PinnedProvider: s.Pin, PinnedTenant: s.PinTenant, Version: s.Version, CreatedAtMs: s.CreatedAtMs, RotatedAtMs: s.RotatedAtMs,
	}
}

// CreateSecret stores a new secret. A name that the registry claims pins it
// to its provider and provides the credential. The value is wiped.
func (a *Admin) CreateSecret(ctx context.Context, who grant.Caller, r api.SecretCreate) (api.Secret, error) {
	defer r.Value.Wipe()
	if err := a.allow(ctx, who, "secrets create"); err != nil {
		return api.Secret{}, err
	}
	aliases, err := names(r.Name, r.Aliases)
	if err != nil {
		return api.Secret{}, err
	}
	scope, err := parseScope(r.Scope)
	if err != nil {
		return api.Secret{}, err
	}
	if err := checkValue(r.Value); err != nil {
		return api.Secret{}, err
	}
	claim, claimed, err := a.claimOf(r.Name, aliases)
	if err != nil {
		return api.Secret{}, err
	}
	fresh := vault.Secret{Name: r.Name, Aliases: aliases, Scope: scope.String(), Version: 1}
	if claimed {
		if err := a.fitsProvider(claim.Provider, claim.Secret.Field, r.Value, "aivault secrets create --name "+shownRef(r.Name)+" --value-file FILE"); err != nil {
			return api.Secret{}, err
		}
		fresh.Pin, fresh.Field = claim.Provider, claim.Secret.Field
	}
	if a.vault.Status(ctx).State == vault.None {
		// What would be refused makes no vault.
		if _, err := a.addSecret(emptyTx(), &r, fresh, func(*vault.Secret) error { return nil }); err != nil {
			return api.Secret{}, err
		}
	}
	if err := a.ready(ctx, who); err != nil {
		return api.Secret{}, err
	}
	var made api.Secret
	_, err = a.update(ctx, who, audit.SecretCreated, func(tx *vault.Tx) (err error) {
		made, err = a.addSecret(tx, &r, fresh, func(s *vault.Secret) error {
			s.ID, s.CreatedAtMs = tx.NewID(), tx.Now()
			return tx.Seal(s, r.Value)
		})
		return err
	})
	if err != nil {
		return api.Secret{}, err
	}
	return made, nil
}

// addSecret adds a checked secret to a state, and puts it to work.
func (a *Admin) addSecret(tx *vault.Tx, r *api.SecretCreate, s vault.Secret, seal func(*vault.Secret) error) (api.Secret, error) {
	only, err := a.chooseOnly(tx.State, s.Pin, r.Only)
	if err != nil {
		return api.Secret{}, err
	}
	if err := taken(tx.State, s.Scope, "", s.Name, s.Aliases); err != nil {
		return api.Secret{}, err
	}
	if err := seal(&s); err != nil {
		return api.Secret{}, err
	}
	tx.State.Secrets = append(tx.State.Secrets, s)
	made := shown(&s)
	made.Credential, made.Capabilities = new(string), []string{}
	if err := a.provision(tx, &s, only, &made); err != nil {
		return api.Secret{}, err
	}
	name(tx, &s)
	tx.Record.Credential = *made.Credential
	return made, nil
}

// UpdateSecret renames a secret and changes its aliases. A claimed name given
// now pins it; nothing unpins.
func (a *Admin) UpdateSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretUpdate) (api.Secret, error) {
	if err := a.allow(ctx, who, "secrets update"); err != nil {
		return api.Secret{}, err
	}
	if r.NewName == "" && len(r.Aliases) == 0 && !r.ClearAliases {
		return api.Secret{}, api.Errorf(api.InvalidRequest, "nothing to update: give a new name or aliases").
			WithHint("aivault secrets rotate %s replaces the value", shownRef(ref))
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Secret{}, err
	}
	var made api.Secret
	_, err := a.update(ctx, who, audit.SecretUpdated, func(tx *vault.Tx) error {
		s, err := find(tx.State, ref)
		if err != nil {
			return err
		}
		newName, aliases := s.Name, s.Aliases
		if r.NewName != "" {
			newName = r.NewName
		}
		if r.ClearAliases {
			aliases = nil
		}
		aliases, err = names(newName, append(slices.Clone(aliases), r.Aliases...))
		if err != nil {
			return err
		}
		if err := taken(tx.State, s.Scope, s.ID, newName, aliases); err != nil {
			return err
		}
		s.Name, s.Aliases = newName, aliases
		pinned, err := a.pinByName(tx, s)
		if err != nil {
			return err
		}
		made = shown(s)
		if pinned {
			if err := a.provision(tx, s, nil, &made); err != nil {
				return err
			}
		}
		name(tx, s)
		return nil
	})
	return made, err
}

// pinByName pins s where its names claim a provider. A pin that is there
// already must be the same.
func (a *Admin) pinByName(tx *vault.Tx, s *vault.Secret) (pinned bool, err error) {
	claim, claimed, err := a.claimOf(s.Name, s.Aliases)
	switch {
	case err != nil:
		return false, err
	case !claimed:
		return false, nil
	case s.Pin == claim.Provider && (s.Field == "" || s.Field == claim.Secret.Field):
		return false, nil
	case s.Pin != "":
		return false, api.Errorf(api.InvalidRequest, "secret %s is pinned to %s, and a name of %s cannot change that", s.Name, s.Pin, claimText(claim))
	}
	return true, a.pin(tx, s, claim.Provider, claim.Secret.Field, "")
}

// pin binds a value to a provider, and to a tenant of it where one is known,
// for good.
func (a *Admin) pin(tx *vault.Tx, s *vault.Secret, provider, field, tenant string) error {
	value, err := tx.Open(s)
	if err != nil {
		return err
	}
	defer value.Wipe()
	if err := a.fitsProvider(provider, field, value, "aivault secrets rotate "+broker.Reference(tx.State, s)+" --value-file FILE"); err != nil {
		return err
	}
	return tx.Reseal(s, func(s *vault.Secret) { s.Pin, s.Field, s.PinTenant = provider, field, tenant })
}

// RotateSecret replaces a secret's value. The value given is wiped.
func (a *Admin) RotateSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretRotate) (api.Secret, error) {
	defer r.Value.Wipe()
	if err := a.allow(ctx, who, "secrets rotate"); err != nil {
		return api.Secret{}, err
	}
	if err := checkValue(r.Value); err != nil {
		return api.Secret{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Secret{}, err
	}
	var made api.Secret
	_, err := a.update(ctx, who, audit.SecretRotated, func(tx *vault.Tx) error {
		s, err := find(tx.State, ref)
		if err != nil {
			return err
		}
		if err := a.fitsUses(tx, s, r.Value); err != nil {
			return err
		}
		s.Version++
		s.RotatedAtMs = tx.Now()
		if err := tx.Seal(s, r.Value); err != nil {
			return err
		}
		made = shown(s)
		made.Waiting = a.unpaired(tx, s)
		name(tx, s)
		return nil
	})
	return made, err
}

// name completes a change's record with the secret that it is about.
func name(tx *vault.Tx, s *vault.Secret) {
	tx.Record.Object, tx.Record.Name, tx.Record.Provider, tx.Record.Scope = s.ID, s.Name, s.Pin, s.Scope
	tx.Record.Secrets = []audit.SecretUse{{ID: s.ID, Version: s.Version}}
}

// shownRef repeats a reference in a hint only where it can be typed as it is.
func shownRef(ref string) string {
	if checkName("name", ref) != nil {
		return "NAME"
	}
	return ref
}
