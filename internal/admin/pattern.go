package admin

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// maxPatterns bounds the patterns of one command, and of one entry that it
// makes, once sets have become their members.
const maxPatterns = 512

// A known is a capability that the registry or the vault has.
type known struct {
	id       string
	provider string
	only     string               // custom: the one credential that it is restricted to
	admin    bool                 // off until it is turned on by its own id
	entry    *registry.Capability // of a registry provider
}

// known lists every capability that there is; where patterns are given, at
// least every one that they can match or name, so that no other provider has
// to be looked into.
func (a *Admin) known(s *vault.State, patterns ...string) []known {
	var all []known
	for _, id := range a.registry.Providers() {
		if len(patterns) > 0 && !slices.ContainsFunc(patterns, func(p string) bool { return mayReach(p, id) }) {
			continue
		}
		p := a.registry.Provider(id)
		for i := range p.Capabilities {
			c := &p.Capabilities[i]
			all = append(all, known{id: c.ID, provider: id, admin: c.Access == "admin", entry: c})
		}
	}
	for i := range s.Capabilities {
		c := &s.Capabilities[i]
		if _, claimed := a.registry.Capability(c.ID); claimed != nil {
			continue // the registry's own cannot be replaced
		}
		k := known{id: c.ID, provider: c.Provider, only: c.Credential}
		if a.registry.Summary(c.Provider) != nil {
			k.entry = &registry.Capability{ID: c.ID, Methods: c.Methods, Paths: c.Paths, Hosts: c.Hosts}
		}
		all = append(all, k)
	}
	return all
}

// mayReach says whether a pattern, or a set of its name, can be about a
// provider.
func mayReach(pattern, provider string) bool {
	start, _, open := strings.Cut(pattern, "*")
	if owner, _, whole := strings.Cut(start, "/"); whole || !open {
		return owner == provider
	}
	return strings.HasPrefix(provider, start)
}

func knows(all []known, id string) bool {
	return slices.ContainsFunc(all, func(k known) bool { return k.id == id })
}

// matched are the capabilities that a pattern matches.
func matched(all []known, pattern string) []known {
	var found []known
	for _, k := range all {
		if grant.Match(pattern, k.id) {
			found = append(found, k)
		}
	}
	return found
}

// A chosen is one pattern that a command gave, and what it stands for: itself,
// or, where it names a set, the set's members.
type chosen struct {
	given    string
	patterns []string
	set      bool
}

// expand reads the patterns of a command. Of an id that is a capability's and
// a set's, the capability is meant.
func (a *Admin) expand(all []known, patterns []string) ([]chosen, error) {
	var list []chosen
	n := 0
	for _, p := range patterns {
		c := chosen{given: p, patterns: []string{p}}
		switch {
		case !grant.ValidPattern(p):
			return nil, badPattern(p)
		case strings.Contains(p, "*"), knows(all, p):
		default:
			_, set := a.registry.Set(p)
			if set == nil {
				return nil, a.unknownCapability(p)
			}
			c.patterns, c.set = set.Members, true
		}
		if n += len(c.patterns); n > maxPatterns {
			return nil, api.Errorf(api.InvalidRequest, "more than %d capabilities and patterns are named at once", maxPatterns).
				WithHint("a pattern with '*' names many: provider/*")
		}
		list = append(list, c)
	}
	return list, nil
}

// flat lists what patterns stand for, each once.
func flat(list []chosen) []string {
	var out []string
	for _, c := range list {
		for _, p := range c.patterns {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func badPattern(p string) error {
	return api.Errorf(api.InvalidRequest, "%s is no capability and no pattern: a pattern reads provider/name, and one with '*' for any text is quoted, so that the shell leaves it alone", api.Quote(p)).
		WithHint("aivault help patterns")
}

func (a *Admin) unknownCapability(id string) error {
	err := api.Errorf(api.CapabilityNotFound, "there is no capability %s", api.Quote(id))
	if provider, _, _ := strings.Cut(id, "/"); a.registry.Provider(provider) != nil {
		return err.WithHint("aivault capability list --provider %s", provider)
	}
	return err.WithHint("aivault capability list")
}

// oneCapability refuses what names several capabilities where one is meant,
// and says which these are.
func (a *Admin) oneCapability(all []known, id string) error {
	if knows(all, id) {
		return nil
	}
	var members []string
	if _, set := a.registry.Set(id); set != nil {
		members = set.Members
	} else if strings.Contains(id, "*") && grant.ValidPattern(id) {
		for _, k := range matched(all, id) {
			members = append(members, k.id)
		}
	} else if !grant.ValidPattern(id) {
		return api.Errorf(api.InvalidRequest, "capability id %s is none: it reads provider/name", api.Quote(id))
	}
	if len(members) == 0 {
		return a.unknownCapability(id)
	}
	return api.Errorf(api.InvalidRequest, "%s names several capabilities, and this is about one: %s", api.Quote(id), listed(members))
}

// listed joins ids for a message, the first few of many.
func listed(ids []string) string {
	const most = 20
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + ", ..."
	}
	return strings.Join(ids, ", ")
}
