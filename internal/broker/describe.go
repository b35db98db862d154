package broker

import (
	"context"
	"fmt"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Capability describes one capability, or a set of them, as far as the caller
// may know of it.
func (b *Broker) Capability(ctx context.Context, who grant.Caller, id string) (api.CapabilityDetail, error) {
	return b.look(ctx, who).describe(id)
}

// DescribeCapability is Capability for a state that was just made, as the
// operator sees it.
func DescribeCapability(r *registry.Registry, s *vault.Snapshot, id string) (api.CapabilityDetail, error) {
	return operatorsView(newCatalog(r), s).describe(id)
}

func (v *viewer) describe(id string) (api.CapabilityDetail, error) {
	t, err := v.find(v.subject, id)
	switch {
	case err != nil:
		return api.CapabilityDetail{}, err
	case t.set:
		return v.describeSet(t), nil
	}
	d := v.describeOne(t.members[0])
	d.Overlaps = v.overlaps(t.members[0])
	return d, nil
}

func (v *viewer) describeOne(c *capability) api.CapabilityDetail {
	d := api.CapabilityDetail{
		Capability: c.id, Provider: c.provider.id, Origin: c.origin(),
		Allowed: api.Allowed{Hosts: []string{}, Methods: c.methods(), PathPrefixes: []string{}},
		Call:    api.CapabilityCall{Defaults: c.alone.defaults()},
		Setup:   api.CapabilitySetup{RequiredSecrets: []string{}, Commands: []string{}},
	}
	r := v.readiness(c)
	d.Ready, d.Off, d.Reason, d.Credential = r.ready, r.off, r.reason, r.credential
	if p := c.policy; p != nil {
		d.Allowed.Hosts = append(d.Allowed.Hosts, p.Hosts...)
		for _, rule := range p.Paths {
			d.Allowed.PathPrefixes = append(d.Allowed.PathPrefixes, rule.String())
		}
		d.IssuesToken = c.issued.Pointers()
		d.Allowed.Operations = p.Operation.Names()
	}
	if c.entry != nil {
		d.Access, d.Description = c.entry.Access, c.entry.Description
		d.Call.Example = exampleOf(c.id, c)
	}
	if d.Off {
		d.Setup.Commands = append(d.Setup.Commands, "aivault capability enable "+c.id)
	}
	if p := c.provider.entry; p != nil {
		d.Setup.RequiredSecrets = append(d.Setup.RequiredSecrets, c.missing(nil)...)
		d.Setup.GetKey = p.GetKey.Text
		if p.GetKey.URL != "" {
			d.Setup.GetKey = fmt.Sprintf("%s (%s)", p.GetKey.Text, p.GetKey.URL)
		}
		if !d.Ready {
			d.Setup.Commands = append(d.Setup.Commands, v.waitsFor(v.in(r.context), c).commands(p, r.context)...)
		}
	}
	if v.caller.Operator {
		d.OnlyCredential = c.only
	}
	if limit := v.policies[c.id]; limit != nil && v.caller.Operator {
		shown := *limit.entry
		d.Policy = &shown
	}
	return d
}

// describeSet joins what a set's members are. What is missing is told of the
// member that its default call goes to, else of the first.
func (v *viewer) describeSet(t *target) api.CapabilityDetail {
	usual := t.usual
	if usual == nil {
		usual = t.members[0]
	}
	d := v.describeOne(usual)
	d.Capability, d.Policy, d.Members, d.IssuesToken = t.id, nil, t.memberIDs(), nil
	d.Call = api.CapabilityCall{Defaults: t.defaults()}
	if t.usual != nil && usual.entry != nil {
		d.Call.Example = exampleOf(t.id, usual)
	}
	d.Description = ""
	if t.entry != nil {
		d.Description = t.entry.Description
	}
	told := !slices.ContainsFunc(t.members, func(c *capability) bool { return c.policy == nil || c.policy.Operation == nil })
	if d.Allowed.Operations = nil; told {
		d.Allowed.Operations = []string{}
	}
	for _, one := range t.members {
		m := v.describeOne(one)
		if told {
			d.Allowed.Operations = union(d.Allowed.Operations, m.Allowed.Operations)
		}
		if m.Access != d.Access {
			d.Access = "mixed"
		}
		if m.Origin != d.Origin {
			d.Origin = "registry"
		}
		d.Off = d.Off && m.Off
		if m.Ready && !d.Ready {
			d.Ready, d.Reason, d.Credential, d.Setup.Commands = true, m.Reason, m.Credential, []string{}
		}
		d.Allowed.Hosts = union(d.Allowed.Hosts, m.Allowed.Hosts)
		d.Allowed.Methods = union(d.Allowed.Methods, m.Allowed.Methods)
		d.Allowed.PathPrefixes = union(d.Allowed.PathPrefixes, m.Allowed.PathPrefixes)
		d.IssuesToken = union(d.IssuesToken, m.IssuesToken)
	}
	return d
}

// memberIDs names the members.
func (t *target) memberIDs() []string {
	ids := make([]string, len(t.members))
	for i, one := range t.members {
		ids[i] = one.id
	}
	return ids
}

func union(a, b []string) []string {
	a = slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// exampleOf is a complete command line that calls id as its capability c is
// usually called.
func exampleOf(id string, c *capability) string {
	line := "aivault invoke " + id
	if c.entry.Example != "" {
		line += " " + c.entry.Example
	}
	return line
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
