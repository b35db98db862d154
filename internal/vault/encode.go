package vault

import (
	"fmt"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/strictjson"
)

// encodeState checks and encodes a state. Empty lists are lists, never null.
func encodeState(st *State) ([]byte, error) {
	if st.Secrets == nil {
		st.Secrets = []Secret{}
	}
	if st.Credentials == nil {
		st.Credentials = []Credential{}
	}
	if st.Capabilities == nil {
		st.Capabilities = []Capability{}
	}
	if err := st.check(); err != nil {
		return nil, err
	}
	return strictjson.Marshal(st)
}

// decodeState refuses whatever encodeState would not have written.
func decodeState(plain []byte) (*State, error) {
	var st State
	if err := strictjson.Unmarshal(plain, &st); err != nil {
		return nil, errNewer
	}
	if st.Version != StateVersion {
		return nil, errNewer
	}
	return &st, st.check()
}

// check holds what every reader of a state relies on.
func (st *State) check() error {
	seen := make(map[string]struct{}, len(st.Secrets))
	for i := range st.Secrets {
		s := &st.Secrets[i]
		if _, ok := grant.ParseScope(s.Scope); !ok {
			return fmt.Errorf("secret %q has a scope that does not parse", s.ID)
		}
		if _, twice := seen[s.ID]; twice || s.ID == "" {
			return fmt.Errorf("two secrets have the id %q", s.ID)
		}
		seen[s.ID] = struct{}{}
	}
	clear(seen)
	for i := range st.Credentials {
		c := &st.Credentials[i]
		if _, ok := grant.ParseScope(c.Scope); !ok {
			return fmt.Errorf("credential %q has a scope that does not parse", c.ID)
		}
		if _, twice := seen[c.ID]; twice || c.ID == "" {
			return fmt.Errorf("two credentials have the id %q", c.ID)
		}
		seen[c.ID] = struct{}{}
	}
	clear(seen)
	for i := range st.Capabilities {
		id := st.Capabilities[i].ID
		if _, twice := seen[id]; twice || id == "" {
			return fmt.Errorf("two capabilities have the id %q", id)
		}
		seen[id] = struct{}{}
	}
	return nil
}

// clone copies a state so deeply that an edit of the copy cannot be seen in
// the original.
func (st *State) clone() *State {
	out := *st
	out.Secrets = slices.Clone(st.Secrets)
	for i := range out.Secrets {
		out.Secrets[i].Aliases = slices.Clone(out.Secrets[i].Aliases)
	}
	out.Credentials = slices.Clone(st.Credentials)
	for i := range out.Credentials {
		c := &out.Credentials[i]
		c.Secrets = maps.Clone(c.Secrets)
		c.Hosts = slices.Clone(c.Hosts)
		c.AllowPorts = slices.Clone(c.AllowPorts)
		if c.Auth != nil {
			a := *c.Auth
			a.Headers, a.Params = slices.Clone(a.Headers), slices.Clone(a.Params)
			c.Auth = &a
		}
	}
	out.Capabilities = slices.Clone(st.Capabilities)
	for i := range out.Capabilities {
		c := &out.Capabilities[i]
		c.Hosts, c.Methods, c.Paths = slices.Clone(c.Hosts), slices.Clone(c.Methods), slices.Clone(c.Paths)
	}
	return &out
}
