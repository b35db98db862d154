package admin

import (
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// parseScope reads the scope that a request names; none is the global one.
func parseScope(s string) (grant.Scope, error) {
	if s == "" {
		return grant.Global, nil
	}
	scope, ok := grant.ParseScope(s)
	if !ok {
		return scope, api.Errorf(api.InvalidRequest, "scope %s is none: it reads global, workspace:ID or group:WORKSPACE:ID, with ids of 1 to 64 of a-z, 0-9, '-', '_' and '.'", api.Quote(s))
	}
	return scope, nil
}

// contextScope reads a workspace's and a group's id. Neither is the global
// scope.
func contextScope(workspace, group string) (grant.Scope, error) {
	switch {
	case workspace == "" && group != "":
		return grant.Global, api.Errorf(api.InvalidRequest, "a group id needs its workspace's id").WithHint("add --workspace-id ID")
	case workspace != "" && !api.ValidID(workspace):
		return grant.Global, badID("workspace id", workspace)
	case group != "" && !api.ValidID(group):
		return grant.Global, badID("group id", group)
	}
	return grant.Scope{Workspace: workspace, Group: group}, nil
}

// usable says whether what belongs to scope may use a secret: the secret's own
// scope is one that it sees, or the secret is attached to that very group.
func usable(scope grant.Scope, s *vault.Secret) bool {
	return scope.Sees(s.ScopeOf()) || attachedTo(s, scope)
}

func attachedTo(s *vault.Secret, group grant.Scope) bool {
	return group.Group != "" && slices.Contains(s.Groups, group.String())
}

// serves says whether every call made in scope may use a credential: it
// belongs to a scope that scope sees, or all its secrets may be used by the
// group that scope is, one of them because it is attached.
func serves(st *vault.State, scope grant.Scope, c *vault.Credential) bool {
	if own, ok := grant.ParseScope(c.Scope); ok && scope.Sees(own) {
		return true
	}
	attached := false
	for _, id := range c.Secrets {
		i := slices.IndexFunc(st.Secrets, func(s vault.Secret) bool { return s.ID == id })
		if i < 0 || !usable(scope, &st.Secrets[i]) {
			return false
		}
		attached = attached || attachedTo(&st.Secrets[i], scope)
	}
	return attached
}
