package admin

import (
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// certificate says why a client certificate of a credential and its private
// key cannot be used together, once both are there, and which fields they
// have.
func (a *Admin) certificate(tx *vault.Tx, c *vault.Credential) (fields []string, err error) {
	for _, spec := range a.specs(c) {
		strategy, err := auth.New(spec)
		if err != nil {
			continue // nothing can be made of it, and its calls say so
		}
		fields := auth.CertificateFields(strategy)
		if len(fields) == 0 || slices.ContainsFunc(fields, func(f string) bool { return c.Secrets[f] == "" }) {
			continue
		}
		if err := checkCertificate(tx, strategy, fields, c); err != nil {
			return fields, err
		}
	}
	return nil, nil
}

// specs are all ways to authenticate that a credential may have.
func (a *Admin) specs(c *vault.Credential) []api.AuthSpec {
	if c.Auth != nil {
		return []api.AuthSpec{*c.Auth}
	}
	p := a.registry.Provider(c.Provider)
	if p == nil {
		return nil
	}
	var all []api.AuthSpec
	for i := range p.Logins {
		if l := &p.Logins[i]; l.NotYet == "" {
			all = append(all, l.Spec())
		}
	}
	return all
}

func checkCertificate(tx *vault.Tx, strategy auth.Strategy, fields []string, c *vault.Credential) error {
	values := map[string]secret.Value{}
	defer func() {
		for _, v := range values {
			v.Wipe()
		}
	}()
	for _, f := range fields {
		s, err := find(tx.State, "vault:secret:"+c.Secrets[f])
		if err != nil {
			return err
		}
		if s.Value == "" {
			return nil // rehearsed without a vault: no value is sealed
		}
		if values[f], err = tx.Open(s); err != nil {
			return err
		}
	}
	if _, err := auth.ClientCertificate(strategy, values); err != nil {
		return api.Errorf(api.InvalidRequest, "the secrets of credential %s do not fit: %w", c.ID, err)
	}
	return nil
}

// unpaired names the secrets that have to be rotated, too, after one was that
// has a certificate or a key: each by itself cannot be refused, since the two
// come one after the other.
func (a *Admin) unpaired(tx *vault.Tx, s *vault.Secret) []string {
	var names []string
	for i := range tx.State.Credentials {
		c := &tx.State.Credentials[i]
		fields, err := a.certificate(tx, c)
		if err == nil || !slices.ContainsFunc(fields, func(f string) bool { return c.Secrets[f] == s.ID }) {
			continue
		}
		for _, f := range fields {
			other, err := find(tx.State, "vault:secret:"+c.Secrets[f])
			if err == nil && other.ID != s.ID && !slices.Contains(names, other.Name) {
				names = append(names, other.Name)
			}
		}
	}
	return names
}
