package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/vault"
)

// Bears says whether a secret has a name, or an alias, whatever its case.
func Bears(s *vault.Secret, name string) bool {
	return strings.EqualFold(s.Name, name) ||
		slices.ContainsFunc(s.Aliases, func(alias string) bool { return strings.EqualFold(alias, name) })
}

// Reference is how a command names a secret: by its name, where that names no
// other, such as one of another scope.
func Reference(st *vault.State, s *vault.Secret) string {
	for i := range st.Secrets {
		if other := &st.Secrets[i]; other.ID != s.ID && (other.ID == s.Name || Bears(other, s.Name)) {
			return s.ID
		}
	}
	return s.Name
}
