package broker

import (
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
)

// contextOf reads the scope that a call claims. A claim selects among what
// the caller may use; it never adds to it.
func contextOf(call *api.Call) (grant.Scope, error) {
	s := grant.Scope{Workspace: call.WorkspaceID, Group: call.GroupID}
	switch {
	case s.Workspace == "" && s.Group != "":
		return s, api.Errorf(api.InvalidRequest, "a group id needs its workspace's id")
	case s.Workspace != "" && !api.ValidID(s.Workspace):
		return s, api.Errorf(api.InvalidRequest, "the workspace id is none: it has 1 to 64 of a-z, 0-9, '-', '_' and '.'")
	case s.Group != "" && !api.ValidID(s.Group):
		return s, api.Errorf(api.InvalidRequest, "the group id is none: it has 1 to 64 of a-z, 0-9, '-', '_' and '.'")
	}
	return s, nil
}

// capabilityNotFound points at the provider with whose name the id begins,
// when the registry has it: at its public list, not at what the vault holds.
func (ix *index) capabilityNotFound(id string) error {
	err := api.Errorf(api.CapabilityNotFound, "there is no capability %s", quoted(id))
	if provider, _, _ := strings.Cut(id, "/"); ix.registry.Provider(provider) != nil {
		return err.WithHint("aivault capability list --provider %s", provider)
	}
	return err.WithHint("aivault capability list")
}

// resolveCapability finds what a call names and says plainly when nothing can
// be done with it.
func (ix *index) resolveCapability(id string) (*capability, error) {
	c := ix.capability(id)
	if c == nil {
		return nil, ix.capabilityNotFound(id)
	}
	if c.err != nil {
		return c, c.err
	}
	if missing := c.notYet(); missing != "" {
		return c, api.Errorf(api.InvalidRequest, "%s needs %s, which this version does not have yet", c.id, missing)
	}
	return c, nil
}

// resolveCredential picks the credential of a call: the one it names, else
// the most specific one that its context sees and that can authenticate the
// capability. A broken one is never passed over for a less specific one,
// which would quietly use another account.
func (ix *index) resolveCredential(one *capability, context grant.Scope, named string) (*credential, login, error) {
	if named != "" {
		return ix.namedCredential(one, context, named)
	}
	for _, scope := range levels(context) {
		var found []*credential
		var with login
		var broken error
		for _, c := range ix.byProvider[place{one.provider.id, scope}] {
			err := c.check()
			l, ok := c.loginFor(one)
			switch {
			case !ok:
			case err != nil:
				broken = err
			default:
				found, with = append(found, c), l
			}
		}
		switch {
		case len(found) == 1:
			return found[0], with, with.err
		case len(found) > 1:
			return nil, login{}, ambiguous(one, found)
		case broken != nil:
			return nil, login{}, broken
		}
	}
	return nil, login{}, ix.noCredential(one, context)
}

func (ix *index) namedCredential(one *capability, context grant.Scope, named string) (*credential, login, error) {
	c := ix.credentials[named]
	if c == nil || !context.Sees(c.scope) || c.Provider != one.provider.id {
		return nil, login{}, api.Errorf(api.CredentialNotFound, "there is no credential %s for %s in scope %s", quoted(named), one.provider.id, context).
			WithHint("aivault credential list")
	}
	if err := c.check(); err != nil {
		return nil, login{}, err
	}
	l, ok := c.loginFor(one)
	if !ok {
		e := api.Errorf(api.CredentialNotFound, "credential %q cannot make calls of %s", c.ID, one.id)
		if p := one.provider.entry; p != nil {
			if names := one.missing(c.Secrets); len(names) > 0 {
				return nil, login{}, e.WithHint("aivault secrets create --name %s", names[0])
			}
		}
		return nil, login{}, e
	}
	return c, l, l.err
}

func ambiguous(one *capability, found []*credential) error {
	ids := make([]string, len(found))
	for i, c := range found {
		ids[i] = c.ID
	}
	return api.Errorf(api.CredentialAmbiguous, "several credentials fit %s equally well: %s", one.id, strings.Join(ids, ", ")).
		WithHint("aivault invoke %s --credential %s", one.id, ids[0])
}

// noCredential says what is missing before the capability can be called.
func (ix *index) noCredential(one *capability, context grant.Scope) error {
	e := api.Errorf(api.CredentialNotFound, "there is no credential for %s in scope %s", one.provider.id, context)
	if one.provider.entry == nil {
		if one.only != "" {
			e = api.Errorf(api.CredentialNotFound, "credential %q, which %s is restricted to, is not in scope %s", one.only, one.id, context)
		}
		return e.WithHint("aivault credential create %s --provider %s --help", one.provider.id, one.provider.id)
	}
	missing := ix.missingFor(one, context)
	if len(missing) == 0 {
		return e.WithHint("aivault credential list")
	}
	e = api.Errorf(api.CredentialNotFound, "%s; it waits for %s", e.Message, strings.Join(missing, " and "))
	return e.WithHint("aivault secrets create --name %s", missing[0])
}

// missingFor names the secrets that the capability waits for in a context,
// judged by the credential of its provider that comes closest.
func (ix *index) missingFor(one *capability, context grant.Scope) []string {
	best := one.missing(nil)
	for _, scope := range levels(context) {
		for _, c := range ix.byProvider[place{one.provider.id, scope}] {
			if names := one.missing(c.Secrets); len(names) < len(best) {
				best = names
			}
		}
	}
	return best
}

// missing names the secrets that a credential with these fields lacks for the
// capability's closest login.
func (c *capability) missing(fields map[string]string) []string {
	var best []string
	for _, l := range c.logins {
		if l.NotYet != "" || !c.mayUse(l) {
			continue
		}
		var names []string
		for _, f := range l.Fields() {
			if fields[f] == "" {
				names = append(names, secretName(c.provider.entry, f))
			}
		}
		if best == nil || len(names) < len(best) {
			best = names
		}
		if len(names) == 0 {
			return nil
		}
	}
	return best
}

// target completes the method and the path of a call with the capability's
// default call. A path that begins with '?' is a query for the default path.
func (c *capability) target(r *api.Request) (method, path string, err error) {
	method, path = r.Method, r.Path
	if method == "" {
		method = c.policy.DefaultMethod
	}
	if path == "" || path[0] == '?' {
		if c.policy.DefaultPath == "" {
			path = ""
		} else {
			path = c.policy.DefaultPath + path
		}
	}
	if method != "" && path != "" {
		return method, path, nil
	}
	missing := "--method and --path"
	switch {
	case method != "":
		missing = "--path"
	case path != "":
		missing = "--method"
	}
	return "", "", api.Errorf(api.InvalidRequest, "%s has no default call: give %s", c.id, missing).
		WithHint("aivault capability describe %s", c.id)
}

// quoted shows what a caller named: escaped, and of bounded length.
func quoted(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s[:most])
	}
	return fmt.Sprintf("%q", s)
}
