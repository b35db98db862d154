package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
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
	if !api.ValidID(r.Provider) {
		return api.Credential{}, badID("provider", r.Provider)
	}
	if len(r.SecretRefs) == 0 {
		return api.Credential{}, api.Errorf(api.InvalidRequest, "a credential needs at least one secret").
			WithHint("aivault credential create %s --provider %s --secret NAME", r.ID, r.Provider)
	}
	p := a.registry.Provider(r.Provider)
	if p == nil {
		if err := checkCustom(&r); err != nil {
			return api.Credential{}, err
		}
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Credential{}, err
	}
	snap, err := a.update(ctx, who, audit.CredentialCreated, func(tx *vault.Tx) error {
		if slices.ContainsFunc(tx.State.Credentials, func(c vault.Credential) bool { return c.ID == r.ID }) {
			return api.Errorf(api.AlreadyExists, "a credential %s exists already", r.ID).
				WithHint("aivault credential delete %s", r.ID)
		}
		c := vault.Credential{
			ID: r.ID, Provider: r.Provider, Scope: grant.Global.String(),
			Secrets: map[string]string{}, CreatedAtMs: tx.Now(),
		}
		for _, field := range slices.Sorted(maps.Keys(r.SecretRefs)) {
			s, err := find(tx.State, r.SecretRefs[field])
			if err != nil {
				return err
			}
			if p != nil {
				field, err = a.takeRegistry(tx, p, &r, field, s)
			} else {
				field, err = takeCustom(&r, field, s)
			}
			if err != nil {
				return err
			}
			if c.Secrets[field] != "" {
				return api.Errorf(api.InvalidRequest, "field %s is given twice", quoted(field))
			}
			c.Secrets[field] = s.ID
			tx.Record.Secrets = append(tx.Record.Secrets, audit.SecretUse{ID: s.ID, Version: s.Version})
		}
		if p != nil {
			if missing := broker.Missing(p, c.Secrets); len(missing) > 0 {
				return api.Errorf(api.InvalidRequest, "%s needs %s too", p.ID, strings.Join(missing, " and "))
			}
		} else if err := completeCustom(tx, &c, &r); err != nil {
			return err
		}
		tx.State.Credentials = append(tx.State.Credentials, c)
		tx.Record.Object, tx.Record.Provider, tx.Record.Scope = c.ID, c.Provider, c.Scope
		return nil
	})
	if err != nil {
		return api.Credential{}, err
	}
	return described(a.registry, snap, r.ID)
}

func described(r *registry.Registry, snap *vault.Snapshot, id string) (api.Credential, error) {
	for _, c := range broker.DescribeCredentials(r, snap) {
		if c.ID == id {
			return c, nil
		}
	}
	return api.Credential{}, api.Errorf(api.CredentialNotFound, "there is no credential %s", quoted(id)).
		WithHint("aivault credential list")
}

func badID(what, id string) error {
	return api.Errorf(api.InvalidRequest, "%s %s is none: it has 1 to 64 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit", what, quoted(id))
}

// checkCustom checks what a custom provider's credential says of itself.
func checkCustom(r *api.CredentialCreate) error {
	if r.Auth == nil {
		return api.Errorf(api.InvalidRequest, "the registry doesn't know %s: say how it authenticates", r.Provider).
			WithHint("aivault credential create %s --provider %s --auth header --host HOST --secret NAME", r.ID, r.Provider)
	}
	if _, err := auth.New(*r.Auth); err != nil {
		return err
	}
	if len(r.AllowPorts) > maxPorts || len(r.Hosts) > maxHosts {
		return api.Errorf(api.InvalidRequest, "a credential has at most %d hosts and %d ports", maxHosts, maxPorts)
	}
	for _, port := range r.AllowPorts {
		if port < 1 || port > 65535 {
			return api.Errorf(api.InvalidRequest, "port %d: a port lies between 1 and 65535", port)
		}
	}
	if len(r.Hosts) == 0 {
		return api.Errorf(api.InvalidRequest, "the registry doesn't know %s: say which host it has", r.Provider).
			WithHint("aivault credential create %s --provider %s --host HOST …", r.ID, r.Provider)
	}
	for i, h := range r.Hosts {
		_, port, err := policy.ParseHost(h)
		if err != nil {
			return err
		}
		if port != 0 && port != 443 && !slices.Contains(r.AllowPorts, port) {
			return api.Errorf(api.InvalidRequest, "host %s names a port other than 443: allow it for this credential", h).
				WithHint("add --allow-port %d", port)
		}
		if slices.Contains(r.Hosts[:i], h) {
			return api.Errorf(api.InvalidRequest, "host %s is given twice", h)
		}
	}
	return checkCAs(r.CAPEM)
}

func checkCAs(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > maxCAPEM {
		return api.Errorf(api.InvalidRequest, "the CA file is larger than %d KiB", maxCAPEM>>10)
	}
	rest, found := []byte(text), false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return api.Errorf(api.InvalidRequest, "the CA file holds %s, and only certificates belong there", quoted(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return api.Errorf(api.InvalidRequest, "the CA file holds a certificate that cannot be read")
		}
		found = true
	}
	if !found || strings.TrimSpace(string(rest)) != "" {
		return api.Errorf(api.InvalidRequest, "the CA file is not made of PEM certificates alone")
	}
	return nil
}

// takeRegistry decides whether a secret may serve as a field of a registry
// provider, and pins it.
func (a *Admin) takeRegistry(tx *vault.Tx, p *registry.Provider, r *api.CredentialCreate, field string, s *vault.Secret) (string, error) {
	if s.Pin != "" && s.Pin != p.ID {
		return "", pinned(s)
	}
	if r.Auth != nil || len(r.Hosts) > 0 || r.CAPEM != "" || r.AllowPrivateNetwork || len(r.AllowPorts) > 0 {
		return "", api.Errorf(api.PolicyViolation,
			"secret %s goes to the hosts of %s alone, in the way that the registry says: hosts, auth and exceptions of one's own are for providers that the registry does not know", s.Name, p.ID)
	}
	if field == "" {
		if field = s.Field; field == "" && len(p.Secrets) == 1 {
			field = p.Secrets[0].Field
		}
	}
	known := slices.ContainsFunc(p.Secrets, func(n registry.SecretName) bool { return n.Field == field })
	switch {
	case field == "":
		return "", api.Errorf(api.InvalidRequest, "say which secret of %s this is, as FIELD=NAME; it has %s", p.ID, fieldsOf(p))
	case !known:
		return "", api.Errorf(api.InvalidRequest, "%s has no field %s; it has %s", p.ID, quoted(field), fieldsOf(p))
	case s.Pin != "" && s.Field != "" && s.Field != field:
		return "", api.Errorf(api.InvalidRequest, "secret %s is %s's %s, not its %s", s.Name, p.ID, s.Field, field)
	case s.Pin != "":
		return field, nil
	}
	for i := range tx.State.Credentials {
		if c := &tx.State.Credentials[i]; c.Provider != p.ID && slices.Contains(slices.Collect(maps.Values(c.Secrets)), s.ID) {
			return "", api.Errorf(api.InvalidRequest, "secret %s serves credential %s of %s already, and would be pinned to %s by this", s.Name, c.ID, c.Provider, p.ID)
		}
	}
	return field, a.pin(tx, s, p.ID, field)
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

// takeCustom decides whether a secret may serve as a field of a custom
// provider's credential.
func takeCustom(r *api.CredentialCreate, field string, s *vault.Secret) (string, error) {
	if s.Pin != "" {
		return "", pinned(s)
	}
	wanted := auth.Fields(*r.Auth)
	if field == "" && len(wanted) == 1 {
		field = wanted[0]
	}
	if field == "" {
		return "", api.Errorf(api.InvalidRequest, "say which field of the auth this secret is, as FIELD=NAME; it has %s", strings.Join(wanted, ", "))
	}
	if !slices.Contains(wanted, field) {
		return "", api.Errorf(api.InvalidRequest, "the auth has no field %s; it has %s", quoted(field), strings.Join(wanted, ", "))
	}
	return field, nil
}

// completeCustom checks that the secrets are those that the auth names, and
// that it can send their values.
func completeCustom(tx *vault.Tx, c *vault.Credential, r *api.CredentialCreate) error {
	values := map[string]secret.Value{}
	defer func() {
		for _, v := range values {
			v.Wipe()
		}
	}()
	for _, field := range auth.Fields(*r.Auth) {
		id := c.Secrets[field]
		if id == "" {
			return api.Errorf(api.InvalidRequest, "the auth needs a secret for its field %s", quoted(field)).
				WithHint("add --secret %s=NAME", field)
		}
		s, err := find(tx.State, "vault:secret:"+id)
		if err != nil {
			return err
		}
		if values[field], err = tx.Open(s); err != nil {
			return err
		}
	}
	if err := broker.Try(*r.Auth, values); err != nil {
		return api.Errorf(api.InvalidRequest, "the secret does not fit the auth: %w", err)
	}
	spec := *r.Auth
	c.Auth, c.Hosts, c.CAPEM = &spec, slices.Clone(r.Hosts), r.CAPEM
	c.AllowPrivateNetwork, c.AllowPorts = r.AllowPrivateNetwork, slices.Clone(r.AllowPorts)
	return nil
}

// DeleteCredential removes a credential and leaves its secrets.
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
		i := slices.IndexFunc(tx.State.Credentials, func(c vault.Credential) bool { return c.ID == id })
		if i < 0 {
			return api.Errorf(api.CredentialNotFound, "there is no credential %s", quoted(id))
		}
		c := &tx.State.Credentials[i]
		tx.Record.Object, tx.Record.Provider, tx.Record.Scope = c.ID, c.Provider, c.Scope
		tx.State.Credentials = slices.Delete(tx.State.Credentials, i, i+1)
		return nil
	})
	return gone, err
}
