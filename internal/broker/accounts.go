package broker

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// DescribeCredentials lists a state's credentials by id.
func DescribeCredentials(r *registry.Registry, s *vault.Snapshot) []api.Credential {
	ix := newIndex(newCatalog(r), s)
	list := []api.Credential{}
	for _, id := range slices.Sorted(maps.Keys(ix.credentials)) {
		list = append(list, ix.credentials[id].describe())
	}
	return list
}

func (c *credential) describe() api.Credential {
	d := api.Credential{
		ID: c.ID, Provider: c.Provider, Origin: "custom", Scope: c.Scope,
		Secrets: maps.Clone(c.Secrets), Hosts: append([]string{}, c.Hosts...), CreatedAt: c.CreatedAtMs,
		AllowPrivateNetwork: c.AllowPrivateNetwork, AllowPorts: slices.Clone(c.AllowPorts), AllowHTTP: c.AllowHTTP,
		PublicParts: slices.Clone(c.PublicParts), Only: slices.Clone(c.Only),
	}
	d.CAs, d.CAPEM = certificates(c.CAPEM)
	if c.Token != nil {
		options := *c.Token
		d.Token = &options
	}
	if d.Secrets == nil {
		d.Secrets = map[string]string{}
	}
	err := c.trouble()
	d.Ready = err == nil
	if c.Auth != nil {
		spec := *c.Auth
		d.Auth, d.AuthSpec = spec.Type, &spec
	}
	if p := c.provider.entry; p != nil {
		d.Origin = "registry"
		d.Hosts = slices.Sorted(maps.Keys(c.provider.hosts))
		if c.provider.templated {
			d.Hosts = append([]string{}, slices.Sorted(maps.Values(c.filled))...)
			d.Tenant = p.Tenant(c.params)
		}
		var missing []string
		d.Auth, missing = c.registryAuth(p)
		if err == nil && len(missing) > 0 {
			d.Ready, d.Problem = false, "waiting for "+joined(missing)
		}
	}
	if err != nil {
		d.Problem = api.AsError(err).Message
	}
	return d
}

// registryAuth names the strategies that the credential can use, or, while it
// can use none, those of its provider and what is missing.
func (c *credential) registryAuth(p *registry.Provider) (auth string, missing []string) {
	var can, all []string
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.NotYet != "" {
			continue
		}
		if !slices.Contains(all, l.Auth.Type) {
			all = append(all, l.Auth.Type)
		}
		if hasAll(c.provider.logins[l].fields, c.has) && !slices.Contains(can, l.Auth.Type) {
			can = append(can, l.Auth.Type)
		}
	}
	if len(can) == 0 {
		can = all
	}
	for i, name := range can {
		if i > 0 {
			auth += ", "
		}
		auth += name
	}
	return auth, Missing(p, c.Secrets)
}

// certificates are those of a PEM text, and how many. Nothing that stands
// beside them is told: a CA file may have come with what is nobody's to read.
func certificates(text string) (n int, alone string) {
	var out []byte
	for rest := []byte(text); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n, string(out)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return n, string(out)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
}
