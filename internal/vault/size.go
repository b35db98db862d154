package vault

import "moldable.sh/aivault/internal/api"

// roomPerEntry bounds what an entry takes beside the parts that are counted:
// its ids, names and numbers.
const roomPerEntry = 4 << 10

// size is a bound on the state's encoding: at least what it takes, so that no
// change is recorded that then cannot be written.
func (st *State) size() int {
	n := 2 * roomPerEntry // the members beside the lists, and the header
	for i := range st.Secrets {
		s := &st.Secrets[i]
		n += roomPerEntry + len(s.Value) + room(s.Aliases...) + room(s.Groups...)
	}
	for i := range st.Credentials {
		c := &st.Credentials[i]
		n += roomPerEntry + room(c.CAPEM) + room(c.Hosts...) + room(c.PublicParts...) + room(c.Only...) + 8*len(c.AllowPorts)
		n += roomOfMap(c.Secrets) + roomOfMap(c.HostParams)
		n += roomOfAuth(c.Auth)
		if t := c.Token; t != nil {
			n += roomPerEntry + room(t.Subject, t.RoleARN, t.ExternalID, t.SessionName)
			n += room(t.Scopes...) + room(t.Repositories...) + roomOfMap(t.Permissions)
		}
	}
	for i := range st.Capabilities {
		c := &st.Capabilities[i]
		n += roomPerEntry + room(c.Hosts...) + room(c.Methods...) + room(c.Paths...) + room(c.IssuesToken...)
	}
	for i := range st.Switches {
		n += 32 + room(st.Switches[i].Pattern)
	}
	for i := range st.Policies {
		p := &st.Policies[i]
		n += roomPerEntry + room(p.ResponseBlock...) + room(p.AllowQuery...) + room(p.DenyQuery...)
		for _, r := range p.RequireJSON {
			n += 32 + room(r.Pointer) + room(r.Values...)
		}
	}
	n += roomPerEntry * len(st.Bindings)
	for i := range st.Grants {
		n += roomPerEntry + room(st.Grants[i].Capabilities...)
	}
	for i := range st.Tokens {
		n += st.Tokens[i].size()
	}
	return n
}

// size is a bound on a token's encoding.
func (t *Token) size() int {
	n := roomPerEntry + len(t.Value) + room(t.Account) + room(t.Scopes...)
	for id := range t.Sources {
		n += 32 + room(id)
	}
	return n
}

func roomOfAuth(a *api.AuthSpec) int {
	if a == nil {
		return 0
	}
	n := roomPerEntry + room(a.Type, a.HeaderName, a.ValueTemplate, a.ParamName, a.PrefixTemplate, a.UsernameTemplate, a.PasswordTemplate)
	n += roomOfFields(a.Headers) + roomOfFields(a.Params)
	if s := a.SigV4; s != nil {
		n += room(s.Service, s.Region) + room(s.Fields...)
	}
	if h := a.HMAC; h != nil {
		n += room(h.Algorithm, h.Encoding, h.KeyField, h.KeyEncoding, h.Sign) + roomOfFields(h.Headers)
		for _, p := range []*api.AuthPlace{&h.Output, h.Timestamp, h.Nonce} {
			if p != nil {
				n += 128 + room(p.In, p.Name, p.Template, p.Unit)
			}
		}
	}
	if m := a.MTLS; m != nil {
		n += room(m.CertField, m.KeyField) + roomOfAuth(m.Plus)
	}
	if o := a.OAuth2; o != nil {
		n += room(o.GrantType, o.TokenEndpoint, o.CodeEndpoint, o.AuthorizationEndpoint, o.DeviceEndpoint, o.RevocationEndpoint, o.RedirectHost, o.AccountMember)
		n += room(o.ScopeSeparator, o.ClientAuth, o.BodyFormat, o.Assertion)
		n += room(o.Fields...) + room(o.Yields...) + room(o.Scopes...) + roomOfFields(o.Headers)
		n += roomOfMap(o.AuthorizationParams) + roomOfMap(o.TokenParams)
	}
	if x := a.TokenExchange; x != nil {
		n += room(x.TokenEndpoint, x.BodyFormat, x.TokenField) + roomOfMap(x.Body) + roomOfFields(x.Headers)
	}
	return n
}

func roomOfFields(list []api.AuthField) int {
	n := 0
	for _, f := range list {
		n += 32 + room(f.Name, f.ValueTemplate)
	}
	return n
}

// room is the most that strings take in JSON: a control character has six
// bytes, and each string its quotes and a comma.
func room(list ...string) int {
	n := 0
	for _, s := range list {
		n += 6*len(s) + 3
	}
	return n
}

func roomOfMap(m map[string]string) int {
	n := 0
	for k, v := range m {
		n += room(k, v)
	}
	return n
}
