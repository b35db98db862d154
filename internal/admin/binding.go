package admin

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// maxBindings bounds the bindings of a vault.
const maxBindings = 4096

// Bindings lists every binding.
func (a *Admin) Bindings(ctx context.Context, who grant.Caller) (api.BindingList, error) {
	list := api.BindingList{Bindings: []api.Binding{}}
	snap, err := a.look(ctx, who, "capability bindings")
	if err != nil {
		return list, err
	}
	list.Bindings = append(list.Bindings, snap.State().Bindings...)
	return list, nil
}

// Bind sets which credential calls of a capability use. It replaces the
// binding of the same capability, scope and consumer, under an id of its own:
// in the audit log an id stands for one credential.
func (a *Admin) Bind(ctx context.Context, who grant.Caller, r api.BindingCreate) (api.Binding, error) {
	if err := a.allow(ctx, who, "capability bind"); err != nil {
		return api.Binding{}, err
	}
	scope, consumer, err := a.bindingPlace(r.Capability, r.Scope, r.Consumer)
	if err != nil {
		return api.Binding{}, err
	}
	if !api.ValidID(r.Credential) {
		return api.Binding{}, badID("credential id", r.Credential)
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Binding{}, err
	}
	var made api.Binding
	_, err = a.update(ctx, who, audit.BindingSet, func(tx *vault.Tx) error {
		st := tx.State
		i := credentialOf(st, r.Credential)
		if i < 0 {
			return noCredential(r.Credential)
		}
		c := &st.Credentials[i]
		if err := a.canBind(st, r.Capability, scope, c); err != nil {
			return err
		}
		st.Bindings = slices.DeleteFunc(st.Bindings, func(b api.Binding) bool {
			return b.Capability == r.Capability && b.Scope == scope.String() && sameConsumer(b.Consumer, consumer)
		})
		if len(st.Bindings) >= maxBindings {
			return api.Errorf(api.InvalidRequest, "a vault has at most %d bindings", maxBindings)
		}
		made = api.Binding{
			ID: shortID(tx, "b", func(id string) bool {
				return slices.ContainsFunc(st.Bindings, func(b api.Binding) bool { return b.ID == id })
			}),
			Capability: r.Capability, Credential: c.ID, Scope: scope.String(), Consumer: consumer, CreatedAtMs: tx.Now(),
		}
		st.Bindings = append(st.Bindings, made)
		recordBinding(tx, &made)
		tx.Record.Provider = c.Provider
		return nil
	})
	return made, err
}

// bindingPlace reads what a binding is for.
func (a *Admin) bindingPlace(pattern, scopeText string, ref *api.ConsumerRef) (scope grant.Scope, consumer *api.Consumer, err error) {
	if !grant.ValidPattern(pattern) {
		return scope, nil, badPattern(pattern)
	}
	if scope, err = parseScope(scopeText); err != nil || ref == nil {
		return scope, nil, err
	}
	c, err := a.consumer(ref)
	return scope, &c, err
}

// canBind says why calls of a capability cannot use a credential.
func (a *Admin) canBind(st *vault.State, pattern string, scope grant.Scope, c *vault.Credential) error {
	all := a.known(st, pattern)
	if !strings.Contains(pattern, "*") {
		if err := a.oneCapability(all, pattern); err != nil {
			return err
		}
	}
	found := matched(all, pattern)
	own, _ := grant.ParseScope(c.Scope)
	fits := func(k known) bool { return k.provider == c.Provider && (k.only == "" || k.only == c.ID) }
	switch {
	case len(found) == 0:
		return api.Errorf(api.CapabilityNotFound, "no capability matches %s", api.Quote(pattern)).WithHint("aivault capability list --all")
	case !slices.ContainsFunc(found, fits) && found[0].provider == c.Provider:
		return api.Errorf(api.InvalidRequest, "%s is restricted to another credential than %s", found[0].id, c.ID)
	case !slices.ContainsFunc(found, fits):
		return api.Errorf(api.InvalidRequest, "credential %s is one of %s, which has no capability that %s matches", c.ID, c.Provider, api.Quote(pattern)).
			WithHint("aivault credential list")
	case !serves(st, scope, c):
		return api.Errorf(api.InvalidRequest, "credential %s belongs to %s, which calls made in %s do not see", c.ID, c.Scope, scope).
			WithHint("aivault capability bind '%s' --credential %s%s", pattern, c.ID, own.Flags())
	}
	return nil
}

// Unbind removes a binding.
func (a *Admin) Unbind(ctx context.Context, who grant.Caller, r api.BindingDelete) (api.Binding, error) {
	if err := a.allow(ctx, who, "capability unbind"); err != nil {
		return api.Binding{}, err
	}
	is, err := a.bindingNamed(&r)
	if err != nil {
		return api.Binding{}, err
	}
	if _, err := a.existing(ctx); err != nil {
		return api.Binding{}, err
	}
	var gone api.Binding
	_, err = a.update(ctx, who, audit.BindingDeleted, func(tx *vault.Tx) error {
		var found []int
		for i := range tx.State.Bindings {
			if is(&tx.State.Bindings[i]) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) == 0 && r.ID != "":
			return api.Errorf(api.InvalidRequest, "there is no binding %s", api.Quote(r.ID)).WithHint("aivault capability bindings")
		case len(found) == 0:
			return api.Errorf(api.InvalidRequest, "nothing is bound to %s there", api.Quote(r.Capability)).WithHint("aivault capability bindings")
		case len(found) > 1:
			// Users of one name, of whom the system knows none.
			return api.Errorf(api.InvalidRequest, "several bindings are meant").WithHint("aivault capability unbind BINDING")
		}
		gone = tx.State.Bindings[found[0]]
		tx.State.Bindings = slices.Delete(tx.State.Bindings, found[0], found[0]+1)
		recordBinding(tx, &gone)
		return nil
	})
	return gone, err
}

// bindingNamed tells the binding that a request means from the others.
func (a *Admin) bindingNamed(r *api.BindingDelete) (func(*api.Binding) bool, error) {
	if r.ID != "" {
		if r.Capability != "" || r.Scope != "" || r.Consumer != nil {
			return nil, api.Errorf(api.InvalidRequest, "name the binding by its id, or by what it is for, and not by both")
		}
		return func(b *api.Binding) bool { return b.ID == r.ID }, nil
	}
	scope, err := parseScope(r.Scope)
	if err != nil {
		return nil, err
	}
	if !grant.ValidPattern(r.Capability) {
		return nil, badPattern(r.Capability)
	}
	theirs := func(c *api.Consumer) bool { return c == nil }
	if r.Consumer != nil {
		is, err := a.entriesOf(r.Consumer)
		if err != nil {
			return nil, err
		}
		theirs = func(c *api.Consumer) bool { return c != nil && is(c) }
	}
	return func(b *api.Binding) bool {
		return b.Capability == r.Capability && b.Scope == scope.String() && theirs(b.Consumer)
	}, nil
}

func recordBinding(tx *vault.Tx, b *api.Binding) {
	tx.Record.Object, tx.Record.Binding, tx.Record.Capability = b.ID, b.ID, b.Capability
	tx.Record.Credential, tx.Record.Scope, tx.Record.Name = b.Credential, b.Scope, consumerText(b.Consumer)
}
