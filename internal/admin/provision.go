package admin

import (
	"slices"
	"strconv"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// provision puts a pinned secret to work: it completes its provider's
// automatic credential in the secret's scope, or makes it. Where a credential
// of that provider and scope has the field already, the secret is only
// stored: which account is used stays the operator's decision, who makes a
// second credential by hand.
func (a *Admin) provision(tx *vault.Tx, s *vault.Secret, answer *api.Secret) {
	p := a.registry.Provider(s.Pin)
	if p == nil || s.Field == "" {
		return
	}
	var c *vault.Credential
	for i := range tx.State.Credentials {
		one := &tx.State.Credentials[i]
		if one.Provider != s.Pin || one.Scope != s.Scope {
			continue
		}
		if one.Secrets[s.Field] != "" {
			return
		}
		if one.Auto && c == nil {
			c = one
		}
	}
	if c == nil {
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
			ID: freeID(tx.State, s.Pin), Provider: s.Pin, Scope: s.Scope, Auto: true,
			Secrets: map[string]string{}, CreatedAtMs: tx.Now(),
		})
		c = &tx.State.Credentials[len(tx.State.Credentials)-1]
	}
	c.Secrets[s.Field] = s.ID
	answer.Credential = new(c.ID)
	answer.Capabilities = append([]string{}, broker.Enabled(a.registry, s.Pin, c.Secrets)...)
	answer.Waiting = broker.MissingFor(p, c.Secrets, s.Field)
}

// freeID is id, or id-2 and so on where a credential has that id already.
func freeID(s *vault.State, id string) string {
	for n, free := 2, id; ; n++ {
		if !slices.ContainsFunc(s.Credentials, func(c vault.Credential) bool { return c.ID == free }) {
			return free
		}
		free = id + "-" + strconv.Itoa(n)
	}
}

// fitsProvider checks a value against the strategies of a registry provider
// that use it as field: one of them must be able to send it.
func (a *Admin) fitsProvider(provider, field string, value secret.Value) error {
	p := a.registry.Provider(provider)
	if p == nil {
		return nil
	}
	var failure error
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.NotYet != "" || !slices.Contains(l.Fields(), field) {
			continue
		}
		failure = fits(l.Auth, l.Fields(), map[string]secret.Value{field: value})
		if failure == nil {
			return nil
		}
	}
	if failure != nil {
		return api.Errorf(api.InvalidRequest, "the value does not fit %s: %w", provider, failure)
	}
	return nil
}

// fits tries a strategy with the values that are at hand; something harmless
// stands in for the others.
func fits(spec api.AuthSpec, fields []string, values map[string]secret.Value) error {
	all := make(map[string]secret.Value, len(fields))
	for _, f := range fields {
		if v, ok := values[f]; ok {
			all[f] = v
		} else {
			all[f] = secret.FromString("placeholder")
		}
	}
	return broker.Try(spec, all)
}

// fitsUses checks a secret's new value against everything that uses it.
func (a *Admin) fitsUses(tx *vault.Tx, s *vault.Secret, value secret.Value) error {
	if s.Pin != "" {
		return a.fitsProvider(s.Pin, s.Field, value)
	}
	for i := range tx.State.Credentials {
		c := &tx.State.Credentials[i]
		if c.Auth == nil {
			continue
		}
		values := map[string]secret.Value{}
		for field, id := range c.Secrets {
			if id == s.ID {
				values[field] = value
			}
		}
		if len(values) == 0 {
			continue
		}
		fields := make([]string, 0, len(c.Secrets))
		for field := range c.Secrets {
			fields = append(fields, field)
		}
		if err := fits(*c.Auth, fields, values); err != nil {
			return api.Errorf(api.InvalidRequest, "the value does not fit credential %s: %w", c.ID, err)
		}
	}
	return nil
}
