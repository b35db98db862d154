package broker

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// look is the index to describe things by: without an open vault it is what
// the registry alone says, and why tells what is in the way (to any caller,
// so that it names no directory).
func (b *Broker) look(ctx context.Context) (ix *index, why string) {
	ix, err := b.index(ctx)
	if err != nil {
		why = "there is no vault that could be opened"
		if api.CodeOf(err) == api.VaultLocked {
			why = "the vault is locked"
		}
		return newIndex(b.catalog, nil), why
	}
	return ix, ""
}

// Capabilities lists what the caller may know of: every capability of the
// registry and of the vault, with what each still waits for.
func (b *Broker) Capabilities(ctx context.Context, _ grant.Caller) (api.CapabilityList, error) {
	ix, why := b.look(ctx)
	list := api.CapabilityList{Capabilities: []api.CapabilitySummary{}, Available: []api.AvailableProvider{}}
	for _, id := range ix.sortedIDs() {
		c := ix.capability(id)
		s := api.CapabilitySummary{ID: id, Provider: c.provider.id, Origin: c.origin(), Methods: c.methods()}
		s.Ready, s.Reason, _ = ix.readiness(c, why)
		if c.policy != nil {
			s.Off = ix.enabled(c) != nil
		}
		if c.entry != nil {
			s.Access, s.Description = c.entry.Access, c.entry.Description
		}
		list.Capabilities = append(list.Capabilities, s)
	}
	for _, id := range ix.registry.Providers() {
		if ix.anyCredential(id) {
			continue
		}
		p := ix.registry.Provider(id)
		list.Available = append(list.Available, api.AvailableProvider{
			Provider: id, Title: p.Title, Capabilities: len(p.Capabilities), Secrets: firstSecrets(p),
		})
	}
	return list, nil
}

// firstSecrets names what to store for the provider's first login that this
// version has; the others are ways for special cases.
func firstSecrets(p *registry.Provider) []string {
	names := []string{}
	for i := range p.Logins {
		if l := &p.Logins[i]; l.NotYet == "" && !l.Dedicated {
			for _, f := range l.Fields() {
				names = append(names, secretName(p, f))
			}
			break
		}
	}
	return names
}

// Capability describes one capability.
func (b *Broker) Capability(ctx context.Context, _ grant.Caller, id string) (api.CapabilityDetail, error) {
	ix, why := b.look(ctx)
	return ix.describe(id, why)
}

// DescribeCapability is Capability for a state that was just made.
func DescribeCapability(r *registry.Registry, s *vault.Snapshot, id string) (api.CapabilityDetail, error) {
	return newIndex(newCatalog(r), s).describe(id, "")
}

func (ix *index) describe(id, why string) (api.CapabilityDetail, error) {
	c := ix.capability(id)
	if c == nil {
		return api.CapabilityDetail{}, ix.capabilityNotFound(id)
	}
	d := api.CapabilityDetail{
		Capability: id, Provider: c.provider.id, Origin: c.origin(),
		Allowed: api.Allowed{Hosts: []string{}, Methods: c.methods(), PathPrefixes: []string{}},
		Setup:   api.CapabilitySetup{RequiredSecrets: []string{}, Commands: []string{}},
	}
	d.Ready, d.Reason, d.Credential = ix.readiness(c, why)
	if p := c.policy; p != nil {
		d.Allowed.Hosts = append(d.Allowed.Hosts, p.Hosts...)
		for _, rule := range p.Paths {
			d.Allowed.PathPrefixes = append(d.Allowed.PathPrefixes, rule.String())
		}
		d.Call.Defaults = api.CallDefaults{Method: p.DefaultMethod, Path: p.DefaultPath}
	}
	if c.entry != nil {
		d.Access, d.Description = c.entry.Access, c.entry.Description
		d.Call.Example = "aivault invoke " + id
		if c.entry.Example != "" {
			d.Call.Example += " " + c.entry.Example
		}
	}
	if p := c.provider.entry; p != nil {
		d.Setup.RequiredSecrets = append(d.Setup.RequiredSecrets, c.missing(nil)...)
		d.Setup.GetKey = p.GetKey.Text
		if p.GetKey.URL != "" {
			d.Setup.GetKey = fmt.Sprintf("%s (%s)", p.GetKey.Text, p.GetKey.URL)
		}
		if !d.Ready {
			s := ix.subject(grant.Caller{Operator: true}, grant.Global, time.Time{})
			d.Setup.Commands = append(d.Setup.Commands, ix.waitsFor(s, c).commands(p, grant.Global)...)
		}
	}
	return d, nil
}

func (c *capability) origin() string {
	if c.entry != nil {
		return "registry"
	}
	return "custom"
}

func (c *capability) methods() []string {
	if c.policy == nil {
		return []string{}
	}
	return c.policy.Methods
}

// readiness says whether a call of the capability could go out, with which
// credential, and if not, why. why is what keeps the vault closed.
func (ix *index) readiness(c *capability, why string) (ready bool, reason, credential string) {
	if c.err != nil {
		return false, api.AsError(c.err).Message, ""
	}
	if ix.enabled(c) != nil {
		return false, "off", ""
	}
	if missing := c.notYet(); missing != "" {
		return false, "needs " + missing + ", which this version does not have yet", ""
	}
	if why != "" {
		return false, why, ""
	}
	s := ix.subject(grant.Caller{Operator: true}, grant.Global, time.Time{})
	made, err := ix.choose(s, c, "")
	switch api.CodeOf(err) {
	case "":
		return true, "", made.credential.ID
	case api.CredentialAmbiguous:
		return true, "several credentials fit: name one with --credential", ""
	case api.CredentialNotFound:
		if names := ix.waitsFor(s, c).list(); len(names) > 0 {
			return false, "waiting for " + joined(names), ""
		}
		return false, "waiting for a credential of " + c.provider.id, ""
	}
	return false, api.AsError(err).Message, ""
}

func joined(names []string) string {
	text := ""
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			text += " and "
		default:
			text += ", "
		}
		text += n
	}
	return text
}

// anyCredential says whether a provider has a credential that every call
// sees.
func (ix *index) anyCredential(provider string) bool {
	return len(ix.byProvider[place{provider, level{}}]) > 0
}

// Providers and Problems are the broker's part of a status.
func (b *Broker) Providers(ctx context.Context, _ grant.Caller) ([]api.ProviderStatus, []api.Problem) {
	ix, _ := b.look(ctx)
	return ix.providers(), ix.problems()
}

func (ix *index) providers() []api.ProviderStatus {
	ready := map[string]int{}
	for id := range ix.capabilities {
		ix.countReady(ready, ix.capability(id))
	}
	names := map[string]bool{}
	for _, c := range ix.credentials {
		if c.scope == grant.Global && !names[c.Provider] {
			names[c.Provider] = true
			if c.provider.entry != nil {
				for i := range c.provider.entry.Capabilities {
					ix.countReady(ready, ix.catalog.capability(c.provider.entry.Capabilities[i].ID))
				}
			}
		}
	}
	list := []api.ProviderStatus{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s := api.ProviderStatus{Provider: name, Ready: ready[name] > 0, Capabilities: ready[name]}
		if p := ix.registry.Provider(name); p != nil {
			s.Waiting = ix.waiting(p)
		}
		list = append(list, s)
	}
	return list
}

func (ix *index) countReady(ready map[string]int, c *capability) {
	if c == nil {
		return
	}
	if ok, _, _ := ix.readiness(c, ""); ok {
		ready[c.provider.id]++
	}
}

// waiting names what a provider's credentials wait for: nothing when one of
// them is complete.
func (ix *index) waiting(p *registry.Provider) []string {
	var best []string
	for _, c := range ix.byProvider[place{p.ID, level{}}] {
		missing := Missing(p, c.Secrets)
		if len(missing) == 0 {
			return nil
		}
		if best == nil || len(missing) < len(best) {
			best = missing
		}
	}
	return best
}

// problems names every entry that is broken.
func (ix *index) problems() []api.Problem {
	list := []api.Problem{}
	for _, id := range slices.Sorted(maps.Keys(ix.credentials)) {
		if err := ix.credentials[id].check(); err != nil {
			list = append(list, api.Problem{
				What: "credential " + id, Why: api.AsError(err).Message, Hint: "aivault credential delete " + id,
			})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ix.capabilities)) {
		if c := ix.capabilities[id].compile(); c.err != nil {
			list = append(list, api.Problem{
				What: "capability " + id, Why: api.AsError(c.err).Message, Hint: "aivault capability delete " + id,
			})
		}
	}
	return list
}

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
		CAs: certificates(c.CAPEM), AllowPrivateNetwork: c.AllowPrivateNetwork, AllowPorts: slices.Clone(c.AllowPorts),
	}
	if d.Secrets == nil {
		d.Secrets = map[string]string{}
	}
	err := c.check()
	d.Ready = err == nil
	if c.Auth != nil {
		d.Auth = c.Auth.Type
	}
	if p := c.provider.entry; p != nil {
		d.Origin = "registry"
		d.Hosts = slices.Sorted(maps.Keys(c.provider.hosts))
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

// certificates counts the certificates of a PEM text.
func certificates(text string) int {
	n := 0
	for rest := []byte(text); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return n
		}
	}
}
