package admin

import (
	"context"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// DeleteSecret removes a secret and what it enabled: it leaves the automatic
// credential, which goes when nothing is left in it, and every credential that
// an operator made with it goes too. A binding to a credential that goes stays,
// and its calls fail until it is removed or the credential is there again:
// another account would not be what the operator decided.
func (a *Admin) DeleteSecret(ctx context.Context, who grant.Caller, ref string) (api.SecretDeleted, error) {
	gone := api.SecretDeleted{Credentials: []string{}}
	if err := a.allow(ctx, who, "secrets delete"); err != nil {
		return gone, err
	}
	if _, err := a.existing(ctx); err != nil {
		return gone, err
	}
	_, err := a.update(ctx, who, audit.SecretDeleted, func(tx *vault.Tx) error {
		s, err := find(tx.State, ref)
		if err != nil {
			return err
		}
		gone = a.removeSecret(tx, s)
		return nil
	})
	return gone, err
}

// removeSecret takes a secret out of a state, with what it enabled.
func (a *Admin) removeSecret(tx *vault.Tx, s *vault.Secret) api.SecretDeleted {
	name(tx, s)
	gone := api.SecretDeleted{Secret: shown(s), Credentials: []string{}}
	id := s.ID
	var lost []vault.Credential
	tx.State.Secrets = slices.DeleteFunc(tx.State.Secrets, func(s vault.Secret) bool { return s.ID == id })
	tx.State.Credentials = slices.DeleteFunc(tx.State.Credentials, func(c vault.Credential) bool {
		if !withdraw(&c, id) {
			return false
		}
		gone.Credentials = append(gone.Credentials, c.ID)
		lost = append(lost, c)
		return true
	})
	for i := range lost {
		a.unlimit(tx.State, &lost[i])
	}
	gone.Notice = stillBound(tx.State, gone.Credentials...)
	return gone
}

// withdraw takes a secret out of a credential and says whether the credential
// has to go with it.
func withdraw(c *vault.Credential, id string) bool {
	held := false
	for field, used := range c.Secrets {
		if used == id {
			held = true
			if c.Auto {
				delete(c.Secrets, field)
			}
		}
	}
	return held && (!c.Auto || len(c.Secrets) == 0)
}
