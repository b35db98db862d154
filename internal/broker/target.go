package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
)

// A target is what a call names: one capability, or a set of them. It holds
// only what the subject may know of. It is immutable.
type target struct {
	id       string
	set      bool
	provider *provider
	members  []*capability // by id; one, where id is no set
	// usual is the member whose default call is the set's, if there is one.
	usual *capability
	entry *registry.Set // nil for a pattern
}

// find is what an id names for the subject: a set of the registry, one
// capability, or all of a provider's that a pattern matches. What does not
// exist and what the subject has no grant for give the very same error.
func (ix *index) find(s *subject, id string) (*target, error) {
	if p, set := ix.registry.Set(id); set != nil {
		return ix.findSet(s, id, p.ID, set)
	}
	if c := ix.capability(id); c != nil {
		if !s.knows(c) {
			return nil, ix.capabilityNotFound(id)
		}
		return c.alone, nil
	}
	if strings.Contains(id, "*") {
		return ix.findPattern(s, id)
	}
	return nil, ix.capabilityNotFound(id)
}

func (ix *index) findSet(s *subject, id, provider string, set *registry.Set) (*target, error) {
	t := &target{id: id, set: true, provider: ix.catalog.provider(provider), entry: set}
	usual := set.Default
	if usual == "" {
		usual = id
	}
	for _, name := range set.Members {
		if one := ix.catalog.capability(name); one != nil && s.knows(one) {
			t.members = append(t.members, one)
			if name == usual {
				t.usual = one
			}
		}
	}
	return ix.orNotFound(t)
}

// findPattern is every capability of a provider that a pattern matches, the
// custom ones too.
func (ix *index) findPattern(s *subject, id string) (*target, error) {
	name, _, ok := strings.Cut(id, "/")
	if !ok || !api.ValidID(name) || !grant.ValidPattern(id) {
		return nil, ix.capabilityNotFound(id)
	}
	t := &target{id: id, set: true, provider: ix.catalog.provider(name)}
	if t.provider == nil {
		if len(ix.byOwner[name]) == 0 {
			return nil, ix.capabilityNotFound(id) // nothing is kept of a name that somebody made up
		}
		t.provider = ix.customProvider(name)
	}
	for _, member := range ix.capabilitiesOf(name) {
		if !grant.Match(id, member) {
			continue
		}
		if one := ix.capability(member); s.knows(one) {
			t.members = append(t.members, one)
		}
	}
	return ix.orNotFound(t)
}

func (ix *index) orNotFound(t *target) (*target, error) {
	if len(t.members) == 0 {
		return nil, ix.capabilityNotFound(t.id)
	}
	slices.SortFunc(t.members, func(a, b *capability) int { return strings.Compare(a.id, b.id) })
	return t, nil
}

// call completes the method and path of a request with the default call. A
// path that begins with '?' is a query for the default path.
func (t *target) call(r *api.Request) (method, path string, err error) {
	defaults := t.defaults()
	if method, path = r.Method, r.Path; method == "" {
		method = defaults.Method
	}
	if path == "" || path[0] == '?' {
		if defaults.Path == "" {
			path = ""
		} else {
			path = defaults.Path + path
		}
	}
	if method != "" && path != "" {
		return method, path, nil
	}
	if one := t.alone(); one != nil {
		if err := one.usable(); err != nil {
			return "", "", err // which it would be with any call
		}
	}
	missing := "--method and --path"
	switch {
	case method != "":
		missing = "--path"
	case path != "":
		missing = "--method"
	}
	return "", "", api.Errorf(api.InvalidRequest, "%s has no default call: give %s", t.id, missing).
		WithHint("aivault capability describe %s", shellWord(t.id))
}

// alone is the capability that the target is, nil for a set.
func (t *target) alone() *capability {
	if t.set {
		return nil
	}
	return t.members[0]
}

// defaults is the default call.
func (t *target) defaults() api.CallDefaults {
	one := t.usual
	if !t.set {
		one = t.members[0]
	}
	if one == nil || one.policy == nil {
		return api.CallDefaults{}
	}
	return api.CallDefaults{Method: one.policy.DefaultMethod, Path: one.policy.DefaultPath}
}

// fitting are the members that a canonical request may belong to: those that
// admit it, and no other more specifically. There is at least one.
func (t *target) fitting(r *policy.Request) ([]*capability, error) {
	var best []*capability
	most := -1
	for _, one := range t.members {
		rank, ok := one.admits(r)
		switch {
		case !ok || rank < most:
		case rank > most:
			best, most = append(best[:0], one), rank
		default:
			best = append(best, one)
		}
	}
	if len(best) == 0 {
		return nil, t.noMember(r)
	}
	return best, nil
}

// rivals is the error of a call that two members fit.
func (t *target) rivals(a, b *capability, r *policy.Request) error {
	return api.Errorf(api.InvalidRequest, "%s and %s, both of %s, fit %s %s equally well: name one of them", a.id, b.id, t.id, r.Method(), api.Quote(r.Path())).
		WithHint("aivault invoke %s --method %s --path %s", a.id, r.Method(), shellWord(r.Target()))
}

// admits says whether a request is one of the capability's, and by how
// specific a rule. One that is broken admits nothing.
func (c *capability) admits(r *policy.Request) (rank int, ok bool) {
	if c.policy == nil {
		return 0, false
	}
	return c.policy.Admits(r)
}

// usable says why no call of the capability can be made, whoever makes it.
func (c *capability) usable() error {
	if c.err != nil {
		return c.err
	}
	if missing := c.notYet(); missing != "" {
		return api.Errorf(api.InvalidRequest, "%s needs %s, which this version does not have yet", c.id, missing)
	}
	return nil
}

// noMember lists what the members of a set admit, the first few of many.
func (t *target) noMember(r *policy.Request) error {
	const most = 6
	var shapes []string
	var broken error
	for _, one := range t.members {
		if one.policy == nil {
			broken = one.err
			continue
		}
		rules := one.policy.Paths
		shape := one.id + " (" + strings.Join(one.policy.Methods, ", ") + " " + rules[0].String()
		if len(rules) > 1 {
			shape += ", …"
		}
		shapes = append(shapes, shape+")")
	}
	switch n := len(shapes); {
	case n == 0:
		return broken
	case n > most:
		shapes = append(shapes[:most], "and others")
	}
	return api.Errorf(api.PolicyViolation, "%s has no capability for %s %s; it has %s", t.id, r.Method(), api.Quote(r.Path()), strings.Join(shapes, ", ")).
		WithHint("aivault explain %s --method %s --path %s", shellWord(t.id), r.Method(), shellWord(r.Target()))
}

// shellWord is s as one word of a command line, so that a hint can be typed
// as it is.
func shellWord(s string) string {
	plain := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("/_.,:@%+=-", c)
	}
	const most = 200
	switch {
	case len(s) > most || strings.ContainsRune(s, '\''):
		return "…"
	case strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0:
		return s
	}
	return "'" + s + "'"
}
