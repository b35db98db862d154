package doctor

import (
	"context"
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/vault"
)

// entries repeats what the status says of entries that are broken, or will
// be soon.
func (e *exam) entries() {
	const id = "entries"
	if !e.operator() || e.client == nil {
		e.add(id, Skipped, "broken entries: "+e.unseen(), "")
		return
	}
	for _, p := range e.status.Problems {
		level := Problem
		if p.Soon {
			level = Warning
		}
		e.add(id, level, p.What+": "+p.Why, orElse(p.Hint, "aivault status"))
	}
	switch {
	case len(e.status.Problems) > 0:
	case e.open():
		e.add(id, OK, "no credential, capability, binding, policy or grant is broken, and no certificate ends soon", "")
	case e.status.Vault.State != vault.None:
		e.add(id, Skipped, "broken entries: "+e.unseen(), "")
	}
}

// needsLogin is the state of a token that only a person can renew.
const needsLogin = "needs login"

// logins says which tokens wait for a person.
func (e *exam) logins(ctx context.Context) {
	const id = "logins"
	if !e.open() {
		return // said with the entries
	}
	list, err := e.client.OAuth(ctx)
	if err != nil {
		e.add(id, Problem, api.AsError(err).Message, orElse(api.AsError(err).Hint, "aivault oauth status"))
		return
	}
	waiting := 0
	for _, t := range list.Tokens {
		if t.State == needsLogin {
			waiting++
			e.add(id, Warning, fmt.Sprintf("the token of %s (%s) needs a login: %s", t.Provider, strings.Join(t.Credentials, ", "), t.Why), "aivault oauth login "+t.Provider)
		}
	}
	if waiting == 0 && len(list.Tokens) > 0 {
		e.add(id, OK, "no token waits for a login", "")
	}
}
