package admin

import (
	"maps"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// takeRegistry decides whether a secret may serve as a field of a registry
// provider, and pins it: to the provider, and to the tenant that the
// credential's host names.
func (a *Admin) takeRegistry(tx *vault.Tx, p *registry.Provider, r *api.CredentialCreate, c *vault.Credential, field string, s *vault.Secret) (string, error) {
	params, err := registryHost(p, r, s)
	if err != nil {
		return "", err
	}
	tenant := p.Tenant(params)
	if s.PinTenant != "" && s.PinTenant != tenant {
		return "", api.Errorf(api.PolicyViolation, "secret %s is pinned to %s and to its tenant %s, and goes to no other: %s", s.Name, s.Pin, s.PinTenant, tenant).
			WithHint("for another tenant store its value under a name of its own: aivault secrets create")
	}
	if len(params) > 0 {
		c.HostParams = maps.Clone(params)
	}
	if field == "" {
		if field = s.Field; field == "" && len(p.Secrets) == 1 {
			field = p.Secrets[0].Field
		}
	}
	known := slices.ContainsFunc(p.Secrets, func(n registry.SecretName) bool { return n.Field == field })
	switch {
	case field == "":
		return "", api.Errorf(api.InvalidRequest, "say which secret of %s this is, as FIELD=NAME; it has %s", p.ID, fieldsOf(p)).
			WithHint("aivault credential create %s --provider %s --secret %s=%s", r.ID, p.ID, p.Secrets[0].Field, s.Name)
	case !known:
		return "", api.Errorf(api.InvalidRequest, "%s has no field %s; it has %s", p.ID, api.Quote(field), fieldsOf(p))
	case s.Pin != "" && s.Field != "" && s.Field != field:
		return "", api.Errorf(api.InvalidRequest, "secret %s is %s's %s, not its %s", s.Name, p.ID, s.Field, field)
	case s.Pin != "" && s.PinTenant == tenant:
		return field, nil
	case s.Pin != "":
		return field, tx.Reseal(s, func(s *vault.Secret) { s.PinTenant = tenant })
	}
	for i := range tx.State.Credentials {
		if other := &tx.State.Credentials[i]; other.Provider != p.ID && slices.Contains(slices.Collect(maps.Values(other.Secrets)), s.ID) {
			return "", api.Errorf(api.InvalidRequest, "secret %s serves credential %s of %s already, and would be pinned to %s by this", s.Name, other.ID, other.Provider, p.ID)
		}
	}
	return field, a.pin(tx, s, p.ID, field, tenant)
}

func fieldsOf(p *registry.Provider) string {
	list := make([]string, len(p.Secrets))
	for i, s := range p.Secrets {
		list[i] = s.Field + " (" + s.Name + ")"
	}
	return strings.Join(list, ", ")
}

func pinned(s *vault.Secret) error {
	return api.Errorf(api.PolicyViolation, "secret %s is pinned to %s and goes nowhere else", s.Name, s.Pin)
}

// registryHost decides what fills the provider's hosts. For a provider that
// anyone may run, host and exceptions are the operator's to say; for any other
// the registry says all but which of its tenants and regions it is.
func registryHost(p *registry.Provider, r *api.CredentialCreate, s *vault.Secret) (map[string]string, error) {
	exceptions := r.CAPEM != "" || r.AllowPrivateNetwork || len(r.AllowPorts) > 0 || r.AllowHTTP
	switch {
	case r.Auth != nil || len(r.PublicParts) > 0 || exceptions && !p.SelfHosted || len(r.Hosts) > 0 && len(p.HostParams) == 0:
		return nil, api.Errorf(api.PolicyViolation,
			"secret %s %s and goes to the hosts of %s alone, in the way that the registry says: hosts, auth and exceptions of one's own are for providers that the registry does not know",
			s.Name, pinText(p, s), p.ID)
	case len(r.Hosts) > 1:
		return nil, api.Errorf(api.InvalidRequest, "a credential of %s is for one host: make another credential for the other", p.ID)
	case len(r.Hosts) == 0:
		params := p.Defaults()
		if params == nil {
			return nil, api.Errorf(api.InvalidRequest, "%s has a host for each account: say which", p.ID).
				WithHint("add --host %s", hostTemplate(p))
		}
		return params, nil
	case p.SelfHosted:
		if err := checkOwnHosts(r); err != nil {
			return nil, err
		}
		params, ok := p.MatchHost(r.Hosts[0])
		if !ok {
			return nil, api.Errorf(api.InvalidRequest, "host %s is none", api.Quote(r.Hosts[0]))
		}
		return params, nil
	}
	name, port, err := policy.ParseHost(r.Hosts[0])
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "secret %s %s and goes to its hosts alone (%s): %w", s.Name, pinText(p, s), hostTemplate(p), err).
			WithHint("add --host %s", hostTemplate(p))
	}
	params, ok := p.MatchHost(name)
	if !ok || port != 0 && port != 443 {
		return nil, api.Errorf(api.PolicyViolation, "secret %s %s and goes to its hosts alone (%s), of which %s is none", s.Name, pinText(p, s), hostTemplate(p), api.Quote(r.Hosts[0])).
			WithHint("add --host %s", hostTemplate(p))
	}
	return params, nil
}

func pinText(p *registry.Provider, s *vault.Secret) string {
	if s.Pin == "" {
		return "would be pinned to " + p.ID + " by this"
	}
	return "is pinned to " + s.Pin
}

// completeRegistry checks that some login is complete, and takes over the
// exceptions, which registryHost let pass.
func (a *Admin) completeRegistry(tx *vault.Tx, p *registry.Provider, c *vault.Credential, r *api.CredentialCreate) error {
	if missing := broker.Missing(p, c.Secrets); len(missing) > 0 {
		return api.Errorf(api.InvalidRequest, "%s needs %s too", p.ID, strings.Join(missing, " and "))
	}
	if p.SelfHosted {
		c.CAPEM, c.AllowPrivateNetwork, c.AllowHTTP = r.CAPEM, r.AllowPrivateNetwork, r.AllowHTTP
		c.AllowPorts = slices.Clone(r.AllowPorts)
	}
	_, err := a.certificate(tx, c)
	return err
}
