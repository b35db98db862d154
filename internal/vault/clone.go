package vault

import (
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
)

// clone copies a state so deeply that an edit of the copy cannot be seen in
// the original.
func (st *State) clone() *State {
	out := *st
	out.Secrets = slices.Clone(st.Secrets)
	for i := range out.Secrets {
		s := &out.Secrets[i]
		s.Aliases, s.Groups = slices.Clone(s.Aliases), slices.Clone(s.Groups)
	}
	out.Credentials = slices.Clone(st.Credentials)
	for i := range out.Credentials {
		out.Credentials[i].unshare()
	}
	out.Capabilities = slices.Clone(st.Capabilities)
	for i := range out.Capabilities {
		c := &out.Capabilities[i]
		c.Hosts, c.Methods, c.Paths = slices.Clone(c.Hosts), slices.Clone(c.Methods), slices.Clone(c.Paths)
	}
	out.Switches = slices.Clone(st.Switches)
	out.Policies = slices.Clone(st.Policies)
	for i := range out.Policies {
		p := &out.Policies[i]
		p.ResponseBlock = slices.Clone(p.ResponseBlock)
		p.AllowQuery, p.DenyQuery = slices.Clone(p.AllowQuery), slices.Clone(p.DenyQuery)
		p.RequireJSON = slices.Clone(p.RequireJSON)
		for j := range p.RequireJSON {
			p.RequireJSON[j].Values = slices.Clone(p.RequireJSON[j].Values)
		}
	}
	out.Bindings = slices.Clone(st.Bindings)
	for i := range out.Bindings {
		if c := out.Bindings[i].Consumer; c != nil {
			own := cloneConsumer(*c)
			out.Bindings[i].Consumer = &own
		}
	}
	out.Grants = slices.Clone(st.Grants)
	for i := range out.Grants {
		g := &out.Grants[i]
		g.Consumer, g.Capabilities = cloneConsumer(g.Consumer), slices.Clone(g.Capabilities)
	}
	return &out
}

// unshare gives a shallow copy of a credential lists of its own.
func (c *Credential) unshare() {
	c.Secrets, c.HostParams = maps.Clone(c.Secrets), maps.Clone(c.HostParams)
	c.Hosts, c.AllowPorts = slices.Clone(c.Hosts), slices.Clone(c.AllowPorts)
	c.PublicParts, c.Only = slices.Clone(c.PublicParts), slices.Clone(c.Only)
	if c.Auth != nil {
		a := *c.Auth
		a.Headers, a.Params = slices.Clone(a.Headers), slices.Clone(a.Params)
		c.Auth = &a
	}
}

func cloneConsumer(c api.Consumer) api.Consumer {
	c.UID, c.GID = clonePointer(c.UID), clonePointer(c.GID)
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
