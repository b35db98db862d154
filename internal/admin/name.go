package admin

import (
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

const maxName = 128

// maxAliases bounds what one secret adds to the state.
const maxAliases = 32

// checkName says why a secret may not bear a name. Names are plain ASCII, so
// that two that look alike are alike.
func checkName(what, name string) error {
	if name == "" {
		return api.Errorf(api.InvalidRequest, "the %s is empty", what)
	}
	if len(name) > maxName {
		return api.Errorf(api.InvalidRequest, "the %s has %d characters; %d are allowed", what, len(name), maxName)
	}
	for _, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return api.Errorf(api.InvalidRequest, "the %s %s holds %s; allowed are the letters a-z and A-Z, digits, '_', '-' and '.'",
				what, api.Quote(name), api.Quote(string(c)))
		}
	}
	if name[0] == '-' || name[0] == '.' {
		// It would be read as a flag, or as a directory.
		return api.Errorf(api.InvalidRequest, "the %s %s does not begin with a letter, a digit or '_'", what, api.Quote(name))
	}
	return nil
}

// names checks a name and its aliases, and returns the aliases without
// repetitions.
func names(name string, aliases []string) ([]string, error) {
	if err := checkName("name", name); err != nil {
		return nil, err
	}
	var unique []string
	for _, alias := range aliases {
		if err := checkName("alias", alias); err != nil {
			return nil, err
		}
		if !strings.EqualFold(alias, name) && !slices.ContainsFunc(unique, func(u string) bool { return strings.EqualFold(u, alias) }) {
			unique = append(unique, alias)
		}
	}
	if len(unique) > maxAliases {
		return nil, api.Errorf(api.InvalidRequest, "a secret has at most %d aliases", maxAliases)
	}
	return unique, nil
}

func checkValue(v secret.Value) error {
	switch {
	case v.IsZero():
		return api.Errorf(api.InvalidRequest, "the value is empty")
	case v.Len() > secret.MaxSize:
		return api.Errorf(api.InvalidRequest, "the value has %d bytes; %d are allowed", v.Len(), secret.MaxSize)
	}
	return nil
}

// claimOf says which provider's field a name and its aliases claim together.
func (a *Admin) claimOf(name string, aliases []string) (registry.Claim, bool, error) {
	var claim registry.Claim
	var by string
	for _, n := range append([]string{name}, aliases...) {
		c, claimed := a.registry.Claims(n)
		switch {
		case !claimed:
		case by == "":
			claim, by = c, n
		case c.Provider != claim.Provider || c.Secret.Field != claim.Secret.Field:
			return claim, true, api.Errorf(api.InvalidRequest, "%s belongs to %s and %s to %s: one value cannot be both",
				by, claimText(claim), n, claimText(c))
		}
	}
	return claim, by != "", nil
}

func claimText(c registry.Claim) string { return c.Provider + " (" + c.Secret.Name + ")" }

// taken says whether another secret of the scope bears one of the names.
func taken(s *vault.State, scope, except, name string, aliases []string) error {
	wanted := append([]string{name}, aliases...)
	for i := range s.Secrets {
		other := &s.Secrets[i]
		if other.ID == except || other.Scope != scope {
			continue
		}
		for _, w := range wanted {
			if strings.EqualFold(other.Name, w) {
				return api.Errorf(api.AlreadyExists, "a secret %s exists already in scope %s", other.Name, scope).
					WithHint("aivault secrets rotate %s", broker.Reference(s, other))
			}
			if broker.Bears(other, w) {
				return api.Errorf(api.AlreadyExists, "%s is an alias of the secret %s in scope %s", w, other.Name, scope).
					WithHint("aivault secrets rotate %s", broker.Reference(s, other))
			}
		}
	}
	return nil
}

// find resolves a reference: an id, vault:secret:ID, a name or an alias.
func find(s *vault.State, ref string) (*vault.Secret, error) {
	found, err := named(s, ref)
	if err != nil || len(found) == 1 {
		return first(found), err
	}
	return nil, ambiguous(ref, found)
}

// findIn is find for something of a scope: of several secrets with one name it
// takes the only one that the scope may use, or that is the scope's own. That
// a name is taken once in a scope is what makes it a name there.
func findIn(s *vault.State, ref string, scope grant.Scope) (*vault.Secret, error) {
	found, err := named(s, ref)
	if err != nil || len(found) == 1 {
		return first(found), err
	}
	if slices.ContainsFunc(found, func(one *vault.Secret) bool { return one.ID == ref }) {
		return nil, ambiguous(ref, found) // one by its id, another by a name like it
	}
	for _, fits := range []func(*vault.Secret) bool{
		func(one *vault.Secret) bool { return usable(scope, one) },
		func(one *vault.Secret) bool { return one.ScopeOf() == scope },
	} {
		var here []*vault.Secret
		for _, one := range found {
			if fits(one) {
				here = append(here, one)
			}
		}
		if len(here) == 1 {
			return here[0], nil
		}
	}
	return nil, ambiguous(ref, found)
}

func first(list []*vault.Secret) *vault.Secret {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// named lists the secrets that a reference may mean, one at least.
func named(s *vault.State, ref string) ([]*vault.Secret, error) {
	if ref == "" {
		return nil, api.Errorf(api.InvalidRequest, "no secret is named")
	}
	id, byID := strings.CutPrefix(ref, "vault:secret:")
	var found []*vault.Secret
	for i := range s.Secrets {
		one := &s.Secrets[i]
		if one.ID == id || !byID && broker.Bears(one, ref) {
			found = append(found, one)
		}
	}
	if len(found) == 0 {
		return nil, api.Errorf(api.SecretNotFound, "there is no secret %s", api.Quote(ref)).WithHint("aivault secrets list")
	}
	return found, nil
}

func ambiguous(ref string, found []*vault.Secret) error {
	list := make([]string, len(found))
	for i, one := range found {
		list[i] = fmt.Sprintf("vault:secret:%s (%s, %s)", one.ID, one.Name, one.Scope)
	}
	return api.Errorf(api.InvalidRequest, "%s names several secrets, of which the reference tells one: %s", api.Quote(ref), strings.Join(list, ", ")).
		WithHint("aivault secrets list")
}
