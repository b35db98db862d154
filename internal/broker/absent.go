package broker

import (
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
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
	err := api.Errorf(api.CapabilityNotFound, "there is no capability %s", api.Quote(id))
	provider, _, _ := strings.Cut(id, "/")
	if p := ix.registry.Provider(provider); p != nil {
		if why := p.Broken(); why != nil {
			return api.Errorf(api.CapabilityNotFound, "%s cannot be called: %w", api.Quote(id), why)
		}
		return err.WithHint("aivault capability list --provider %s", provider)
	}
	return err.WithHint("aivault capability list")
}

// notNamed is what naming a credential answers that is not there for a call.
func notNamed(s *subject, one *capability, named string) error {
	return api.Errorf(api.CredentialNotFound, "there is no credential %s for %s in scope %s", api.Quote(named), one.provider.id, s.context).
		WithHint("aivault credential list")
}

func ambiguous(one *capability, found []*credential) error {
	ids := make([]string, len(found))
	for i, c := range found {
		ids[i] = c.ID
	}
	return api.Errorf(api.CredentialAmbiguous, "several credentials fit %s equally well: %s", one.id, strings.Join(ids, ", ")).
		WithHint("aivault invoke %s --credential %s", one.id, ids[0])
}

// noCredential says what is missing before the subject can call the
// capability.
func (ix *index) noCredential(s *subject, one *capability) error {
	return noCredential(one, s.context, ix.waitsFor(s, one))
}

// nothingFor is what a context answers in which there is nothing.
func nothingFor(one *capability, context grant.Scope) error {
	return noCredential(one, context, one.needs(nil))
}

func noCredential(one *capability, context grant.Scope, missing needs) error {
	e := api.Errorf(api.CredentialNotFound, "there is no credential for %s in scope %s", one.provider.id, context)
	if one.provider.entry == nil {
		if one.only != "" {
			e = api.Errorf(api.CredentialNotFound, "credential %q, which %s is restricted to, is not in scope %s", one.only, one.id, context)
		}
		return e.WithHint("aivault credential create %s --provider %s --help", one.provider.id, one.provider.id)
	}
	if list := missing.list(); len(list) > 0 {
		e = api.Errorf(api.CredentialNotFound, "%s; it waits for %s", e.Message, joined(list))
	}
	if commands := missing.commands(one.provider.entry, context); len(commands) > 0 {
		return e.WithHint("%s", commands[0])
	}
	return e.WithHint("aivault credential list")
}

// waitsFor is what the capability still needs in the subject's context, judged
// by the credential of its provider that comes closest among those that the
// subject's grants permit.
func (ix *index) waitsFor(s *subject, one *capability) needs {
	if one.provider.entry == nil {
		return needs{}
	}
	best := one.needs(nil)
	if best.host != "" {
		best = one.needs(ix.pinnedFields(s, one))
	}
	for _, l := range levels(make([]level, 0, levelsMost), s.context) {
		here := ix.byProvider[place{one.provider.id, l}]
		if _, ok := s.access.Permits(one.id, s.context, l.scope, s.now); !ok {
			continue
		}
		for _, c := range here {
			if n := one.needs(c.Secrets); len(c.filled) > 0 || !c.provider.templated {
				n.host = ""
				if len(n.list()) < len(best.list()) {
					n.closest = c
					best = n
				}
			}
		}
	}
	return ix.unstored(s, one, best)
}

// unstored takes from the needs the secrets that are there already, under
// their own names in the very scope: to store one again is refused. Where none
// is left, what is missing is a credential of them, which was deleted.
func (ix *index) unstored(s *subject, one *capability, n needs) needs {
	p := one.provider.entry
	if ix.snapshot == nil || len(n.secrets) == 0 || HostFlag(p) != "" || !ix.pins()[p.ID] {
		return n
	}
	if _, ok := s.access.Permits(one.id, s.context, s.context, s.now); !ok {
		return n
	}
	secrets := ix.snapshot.State().Secrets
	left := slices.DeleteFunc(slices.Clone(n.secrets), func(name string) bool {
		return !p.ByLogin(name) && slices.ContainsFunc(secrets, func(v vault.Secret) bool {
			return v.Pin == p.ID && v.Name == name && v.ScopeOf() == s.context
		})
	})
	if len(left) > 0 {
		n.secrets = left
		return n
	}
	switch c := n.closest; {
	case c == nil:
		n.secrets, n.create = nil, true
	case len(Missing(p, c.Secrets)) > 0 && c.scope == s.context:
		n.replace = c.ID
	}
	return n
}

// pinnedFields are the fields of the capability's provider for which there is
// a secret already that could serve in the subject's context. Where a host has
// to be named first, a secret is there before its credential.
func (ix *index) pinnedFields(s *subject, one *capability) map[string]string {
	if ix.snapshot == nil {
		return nil
	}
	fields := map[string]string{}
	secrets := ix.snapshot.State().Secrets
	for i := range secrets {
		v := &secrets[i]
		if v.Pin != one.provider.id || v.Field == "" || !mayHold(s.context, v) {
			continue
		}
		from := v.ScopeOf()
		if !s.context.Sees(from) || slices.Contains(v.Groups, s.context.String()) {
			from = s.context // it is attached
		}
		if _, ok := s.access.Permits(one.id, s.context, from, s.now); ok {
			fields[v.Field] = v.ID
		}
	}
	return fields
}
