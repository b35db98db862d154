package admin

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// provision puts a pinned secret to work: it completes its provider's
// automatic credential in the secret's scope, or makes it. Where a credential
// of that provider and scope has the field already, the secret is only
// stored: which account is used stays the operator's decision, who makes a
// second credential by hand. So is one whose provider has a host for each
// tenant, until a credential names the host.
//
// only, when there are any, are the capabilities that the credential is made
// for. Where no credential is made they would say nothing, and are refused.
func (a *Admin) provision(tx *vault.Tx, s *vault.Secret, only []chosen, answer *api.Secret) error {
	p := a.registry.Provider(s.Pin)
	if p == nil || s.Field == "" {
		return refuseOnly(only, "pins the secret to no provider")
	}
	if fieldTaken(tx.State, s) {
		return refuseOnly(only, "makes no credential: "+p.ID+" has one in scope "+s.Scope+" already")
	}
	c := automatic(tx.State, s)
	if c == nil {
		params := p.Defaults()
		if params == nil || p.Tenant(params) != s.PinTenant {
			answer.Waiting = waitsForHost(tx.State, p, s)
			return refuseOnly(only, "makes no credential yet: "+p.ID+" has a host for each account")
		}
		one := vault.Credential{
			ID: freeID(tx.State, s.Pin), Provider: s.Pin, Scope: s.Scope, Auto: true,
			Secrets: map[string]string{}, CreatedAtMs: tx.Now(),
		}
		if len(params) > 0 {
			one.HostParams = maps.Clone(params)
		}
		tx.State.Credentials = append(tx.State.Credentials, one)
		c = &tx.State.Credentials[len(tx.State.Credentials)-1]
	}
	if err := a.limitTo(tx.State, p, c, only); err != nil {
		return err
	}
	c.Secrets[s.Field] = s.ID
	if _, err := a.certificate(tx, c); err != nil {
		return err
	}
	answer.Credential = new(c.ID)
	answer.Capabilities = append([]string{}, a.enabled(tx.State, c)...)
	answer.Waiting = broker.MissingFor(p, c.Secrets, s.Field)
	return nil
}

// fieldTaken says whether a credential of the secret's provider and scope has
// its field filled by another secret.
func fieldTaken(st *vault.State, s *vault.Secret) bool {
	return slices.ContainsFunc(st.Credentials, func(c vault.Credential) bool {
		return c.Provider == s.Pin && c.Scope == s.Scope && c.Secrets[s.Field] != "" && c.Secrets[s.Field] != s.ID
	})
}

// automatic is the automatic credential of a secret's provider and scope.
func automatic(st *vault.State, s *vault.Secret) *vault.Credential {
	for i := range st.Credentials {
		if c := &st.Credentials[i]; c.Auto && c.Provider == s.Pin && c.Scope == s.Scope {
			return c
		}
	}
	return nil
}

// waitsForHost says what is missing before a credential of a provider with a
// host for each tenant can be made: other secrets, judged by those that are
// there, and the host.
func waitsForHost(st *vault.State, p *registry.Provider, s *vault.Secret) []string {
	have := map[string]string{s.Field: s.ID}
	for i := range st.Secrets {
		if other := &st.Secrets[i]; other.Pin == p.ID && other.Scope == s.Scope && have[other.Field] == "" {
			have[other.Field] = other.ID
		}
	}
	return append(broker.MissingFor(p, have, s.Field), "--host "+hostTemplate(p))
}

// hostTemplate is a host of the provider as a person has to fill it.
func hostTemplate(p *registry.Provider) string {
	for _, h := range p.Hosts {
		if strings.Contains(h, "{") {
			return h
		}
	}
	return "HOST"
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
// that use it as field: one of them must be able to send it. again is the
// command that stores another value in its place, "" where there is none.
func (a *Admin) fitsProvider(provider, field string, value secret.Value, again string) error {
	p := a.registry.Provider(provider)
	if p == nil {
		return nil
	}
	var failure error
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.NotYet != "" || !slices.Contains(l.Fields(), field) && !slices.Contains(auth.OptionalFields(l.Spec()), field) {
			continue
		}
		failure = auth.Try(l.Spec(), map[string]secret.Value{field: value}, a.clock())
		if failure == nil {
			return nil
		}
		if o := l.OAuth2; o != nil && o.AuthorizationEndpoint+o.DeviceEndpoint != "" {
			e := api.Errorf(api.InvalidRequest, "%w", failure)
			failure = e.WithHint("aivault oauth login %s --client-id ID", p.ID)
		}
	}
	return unfit(provider, value, failure, again)
}

// unfit says that a value does not fit what uses it, what it is instead where
// that can be told, and how the right one is had: by again where the failure
// knows no more than that another is to be stored.
func unfit(use string, value secret.Value, failure error, again string) error {
	if failure == nil {
		return nil
	}
	why := unfitField.ReplaceAllString(failure.Error(), "it ")
	if shape := oauth.Shape(value); shape != "" && why != failure.Error() && !saysShape(why, shape) {
		why = "it looks like " + shape + ", and " + strings.TrimPrefix(why, "it ")
	}
	e := api.Errorf(api.InvalidRequest, "the value does not fit %s: %s", use, strings.TrimPrefix(why, "auth: "))
	hint, rotate := strings.CutSuffix(api.AsError(failure).Hint, "aivault secrets rotate NAME")
	switch {
	case !rotate:
		e.Hint = hint
	case again != "":
		e.Hint = hint + again
	}
	return e
}

// unfitField begins the strategies' errors about a value. Here it is the one
// value that is stored, and needs no field.
var unfitField = regexp.MustCompile(`^auth: the secret for field "[^"]*" `)

// saysShape says whether an error is about a value of the shape that is
// wanted, and so need not name it.
func saysShape(why, shape string) bool {
	for _, of := range [...][2]string{{"AWS", "profile"}, {"AWS", "session"}, {"PEM", "certificate"}, {"PEM", "private key"}} {
		if strings.Contains(shape, of[0]) && strings.Contains(why, of[1]) {
			return true
		}
	}
	return false
}

// fitsUses checks a secret's new value against everything that uses it.
func (a *Admin) fitsUses(tx *vault.Tx, s *vault.Secret, value secret.Value) error {
	again := "aivault secrets rotate " + broker.Reference(tx.State, s) + " --value-file FILE"
	if s.Pin != "" {
		return a.fitsProvider(s.Pin, s.Field, value, again)
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
		if err := auth.Try(*c.Auth, values, a.clock()); err != nil {
			return unfit("credential "+c.ID, value, err, again)
		}
	}
	return nil
}
