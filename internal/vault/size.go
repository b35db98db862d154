package vault

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
		if a := c.Auth; a != nil {
			n += room(a.HeaderName, a.ValueTemplate, a.ParamName, a.PrefixTemplate, a.UsernameTemplate, a.PasswordTemplate)
			for _, f := range a.Headers {
				n += 32 + room(f.Name, f.ValueTemplate)
			}
			for _, f := range a.Params {
				n += 32 + room(f.Name, f.ValueTemplate)
			}
		}
	}
	for i := range st.Capabilities {
		c := &st.Capabilities[i]
		n += roomPerEntry + room(c.Hosts...) + room(c.Methods...) + room(c.Paths...)
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
