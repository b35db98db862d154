package admin

import (
	"context"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// maxGroups bounds the groups that one secret is attached to.
const maxGroups = 256

// AttachSecret lets a group of the secret's workspace use it.
func (a *Admin) AttachSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretAttach) (api.Secret, error) {
	return a.changeGroups(ctx, who, "secrets attach-group", audit.SecretAttached, ref, r, attach)
}

// DetachSecret undoes AttachSecret.
func (a *Admin) DetachSecret(ctx context.Context, who grant.Caller, ref string, r api.SecretAttach) (api.Secret, error) {
	return a.changeGroups(ctx, who, "secrets detach-group", audit.SecretDetached, ref, r, detach)
}

func (a *Admin) changeGroups(ctx context.Context, who grant.Caller, what, event, ref string, r api.SecretAttach, change func(*vault.Secret, grant.Scope) error) (api.Secret, error) {
	if err := a.allow(ctx, who, what); err != nil {
		return api.Secret{}, err
	}
	if r.WorkspaceID == "" || r.GroupID == "" {
		return api.Secret{}, api.Errorf(api.InvalidRequest, "say which group: a workspace id and a group id").
			WithHint("aivault %s %s --workspace-id ID --group-id ID", what, shownRef(ref))
	}
	group, err := contextScope(r.WorkspaceID, r.GroupID)
	if err != nil {
		return api.Secret{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Secret{}, err
	}
	var made api.Secret
	_, err = a.update(ctx, who, event, func(tx *vault.Tx) error {
		s, err := find(tx.State, ref)
		if err != nil {
			return err
		}
		if err := change(s, group); err != nil {
			return err
		}
		made = shown(s)
		name(tx, s)
		tx.Record.Scope = group.String()
		return nil
	})
	return made, err
}

// attach lends a secret within its workspace: no workspace lends to another.
func attach(s *vault.Secret, group grant.Scope) error {
	own := s.ScopeOf()
	switch {
	case own == group:
		return api.Errorf(api.InvalidRequest, "secret %s belongs to %s, and needs no attaching to it", s.Name, group)
	case own != grant.Global && own.Workspace != group.Workspace:
		return api.Errorf(api.InvalidRequest, "secret %s belongs to %s, and no workspace lends to another", s.Name, own)
	case attachedTo(s, group):
		return api.Errorf(api.AlreadyExists, "secret %s is attached to %s already", s.Name, group)
	case len(s.Groups) >= maxGroups:
		return api.Errorf(api.InvalidRequest, "a secret is attached to at most %d groups", maxGroups)
	}
	s.Groups = append(s.Groups, group.String())
	return nil
}

func detach(s *vault.Secret, group grant.Scope) error {
	if !attachedTo(s, group) {
		return api.Errorf(api.InvalidRequest, "secret %s is not attached to %s", s.Name, group).
			WithHint("aivault secrets list -v")
	}
	s.Groups = slices.DeleteFunc(s.Groups, func(g string) bool { return g == group.String() })
	return nil
}
