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
		c.IssuesToken = slices.Clone(c.IssuesToken)
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
	out.Tokens = slices.Clone(st.Tokens)
	for i := range out.Tokens {
		t := &out.Tokens[i]
		t.Sources, t.Scopes = maps.Clone(t.Sources), slices.Clone(t.Scopes)
	}
	return &out
}

// unshare gives a shallow copy of a credential lists of its own.
func (c *Credential) unshare() {
	c.Secrets, c.HostParams = maps.Clone(c.Secrets), maps.Clone(c.HostParams)
	c.Hosts, c.AllowPorts = slices.Clone(c.Hosts), slices.Clone(c.AllowPorts)
	c.PublicParts, c.Only = slices.Clone(c.PublicParts), slices.Clone(c.Only)
	c.Auth = cloneAuth(c.Auth)
	if t := clonePointer(c.Token); t != nil {
		t.Scopes, t.Repositories, t.Permissions = slices.Clone(t.Scopes), slices.Clone(t.Repositories), maps.Clone(t.Permissions)
		c.Token = t
	}
}

func cloneAuth(spec *api.AuthSpec) *api.AuthSpec {
	a := clonePointer(spec)
	if a == nil {
		return nil
	}
	a.Headers, a.Params = slices.Clone(a.Headers), slices.Clone(a.Params)
	if a.SigV4 = clonePointer(a.SigV4); a.SigV4 != nil {
		a.SigV4.Fields = slices.Clone(a.SigV4.Fields)
	}
	if h := clonePointer(a.HMAC); h != nil {
		h.Headers, h.Timestamp, h.Nonce = slices.Clone(h.Headers), clonePointer(h.Timestamp), clonePointer(h.Nonce)
		a.HMAC = h
	}
	if a.MTLS = clonePointer(a.MTLS); a.MTLS != nil {
		a.MTLS.Plus = cloneAuth(a.MTLS.Plus)
	}
	if o := clonePointer(a.OAuth2); o != nil {
		o.Fields, o.Yields, o.Scopes, o.Headers = slices.Clone(o.Fields), slices.Clone(o.Yields), slices.Clone(o.Scopes), slices.Clone(o.Headers)
		o.AuthorizationParams, o.TokenParams = maps.Clone(o.AuthorizationParams), maps.Clone(o.TokenParams)
		a.OAuth2 = o
	}
	if x := clonePointer(a.TokenExchange); x != nil {
		x.Body, x.Headers = maps.Clone(x.Body), slices.Clone(x.Headers)
		a.TokenExchange = x
	}
	return a
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
