package admin

import (
	"context"
	"slices"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/vault"
)

// Bounds of grants.
const (
	maxGrants = 4096
	// longestGrant is the latest that a grant expires.
	longestGrant = 10 * 365 * 24 * time.Hour
)

// Grants lists every grant.
func (a *Admin) Grants(ctx context.Context, who grant.Caller) (api.GrantList, error) {
	snap, err := a.look(ctx, who, "grant list")
	if err != nil {
		return api.GrantList{Grants: []api.Grant{}}, err
	}
	return shownGrants(snap.State()), nil
}

func shownGrants(st *vault.State) api.GrantList {
	return api.GrantList{Default: st.GrantDefault, Grants: append([]api.Grant{}, st.Grants...)}
}

// AddGrant adds a grant. From then on its consumer may do what its grants say,
// and nothing else.
func (a *Admin) AddGrant(ctx context.Context, who grant.Caller, r api.GrantAdd) (api.Grant, error) {
	if err := a.allow(ctx, who, "grant add"); err != nil {
		return api.Grant{}, err
	}
	g, err := a.grantOf(who, &r)
	if err != nil {
		return api.Grant{}, err
	}
	err = a.readyFor(ctx, who, func(st *vault.State) error {
		_, err := a.expand(a.known(st, r.Capabilities...), r.Capabilities)
		return err
	})
	if err != nil {
		return api.Grant{}, err
	}
	var made api.Grant
	_, err = a.update(ctx, who, audit.GrantAdded, func(tx *vault.Tx) error {
		st := tx.State
		counted := hasRates(st)
		made = g
		if made.Capabilities = []string{"*"}; r.Capabilities != nil {
			list, err := a.expand(a.known(st, r.Capabilities...), r.Capabilities)
			if err != nil {
				return err
			}
			made.Capabilities = flat(list)
		}
		// What was left of grants that are gone has served its purpose.
		st.Grants = slices.DeleteFunc(st.Grants, func(old api.Grant) bool {
			return len(old.Capabilities) == 0 && sameConsumer(&old.Consumer, &g.Consumer)
		})
		if len(st.Grants) >= maxGrants {
			return api.Errorf(api.InvalidRequest, "a vault has at most %d grants", maxGrants)
		}
		made.ID = shortID(tx, "g", func(id string) bool {
			return slices.ContainsFunc(st.Grants, func(g api.Grant) bool { return g.ID == id })
		})
		made.CreatedAtMs = tx.Now()
		if r.ExpiresInMs != nil {
			made.ExpiresAtMs = a.clock().UnixMilli() + *r.ExpiresInMs
		}
		st.Grants = append(st.Grants, made)
		recordGrant(tx, &made)
		return a.startCounting(ctx, counted, st)
	})
	return made, err
}

// grantOf checks what a request for a grant says by itself.
func (a *Admin) grantOf(who grant.Caller, r *api.GrantAdd) (api.Grant, error) {
	consumer, err := a.consumer(&r.Consumer)
	if err != nil {
		return api.Grant{}, err
	}
	if consumer.UID != nil && (*consumer.UID == 0 || *consumer.UID == who.UID || *consumer.UID == a.owner) {
		return api.Grant{}, api.Errorf(api.InvalidRequest, "%s is the vault's operator, and grants do not limit the operator: let agents run as a user of their own", consumerText(&consumer))
	}
	if r.Capabilities != nil && len(r.Capabilities) == 0 {
		return api.Grant{}, api.Errorf(api.InvalidRequest, "an empty list of capabilities grants nothing").WithHint("leave it out to grant all")
	}
	scope, err := contextScope(r.WorkspaceID, r.GroupID)
	switch {
	case err != nil:
		return api.Grant{}, err
	case r.StrictScope && scope == grant.Global:
		return api.Grant{}, api.Errorf(api.InvalidRequest, "a strict scope needs the workspace that it is strict about").WithHint("add --workspace-id ID")
	case r.RatePerMinute != nil && (*r.RatePerMinute < 1 || *r.RatePerMinute > policy.MaxRate):
		return api.Grant{}, api.Errorf(api.InvalidRequest, "a rate of %d calls a minute is none: it lies between 1 and %d", *r.RatePerMinute, policy.MaxRate).WithHint("leave it out for no limit")
	case r.ExpiresInMs != nil && (*r.ExpiresInMs < 1 || *r.ExpiresInMs > longestGrant.Milliseconds()):
		return api.Grant{}, api.Errorf(api.InvalidRequest, "a grant lasts longer than nothing, and ten years at most").WithHint("leave --expires out for no end")
	}
	g := api.Grant{Consumer: consumer, WorkspaceID: r.WorkspaceID, GroupID: r.GroupID, StrictScope: r.StrictScope}
	if r.RatePerMinute != nil {
		g.RatePerMinute = *r.RatePerMinute
	}
	return g, nil
}

// RemoveGrant removes a grant. The last one of a user or group leaves an empty
// one, which allows nothing: else its consumer would fall back to what its
// groups, or everyone, may do.
func (a *Admin) RemoveGrant(ctx context.Context, who grant.Caller, id string) (api.GrantList, error) {
	return a.changeGrants(ctx, who, "grant remove", audit.GrantRemoved, func(tx *vault.Tx) error {
		st := tx.State
		i := slices.IndexFunc(st.Grants, func(g api.Grant) bool { return g.ID == id })
		if i < 0 {
			return api.Errorf(api.InvalidRequest, "there is no grant %s", api.Quote(id)).WithHint("aivault grant list")
		}
		g := &st.Grants[i]
		last := true
		for j := range st.Grants {
			last = last && (j == i || !sameConsumer(&st.Grants[j].Consumer, &g.Consumer))
		}
		recordGrant(tx, g)
		switch {
		case !last:
			st.Grants = slices.Delete(st.Grants, i, i+1)
		case len(g.Capabilities) == 0:
			return api.Errorf(api.InvalidRequest, "grant %s allows nothing: it keeps %s from having what callers without a grant have", g.ID, consumerText(&g.Consumer)).
				WithHint("aivault grant reset %s", consumerFlag(&g.Consumer))
		default:
			*g = api.Grant{ID: g.ID, Consumer: g.Consumer, Capabilities: []string{}, CreatedAtMs: g.CreatedAtMs}
		}
		return nil
	})
}

// ResetGrants removes every grant of a user or group, the empty one included.
func (a *Admin) ResetGrants(ctx context.Context, who grant.Caller, r api.ConsumerRef) (api.GrantList, error) {
	var theirs func(*api.Consumer) bool
	return a.changeGrants(ctx, who, "grant reset", audit.GrantReset, func(tx *vault.Tx) (err error) {
		if theirs == nil {
			if theirs, err = a.entriesOf(&r); err != nil {
				return err
			}
		}
		var gone []api.Grant
		tx.State.Grants = slices.DeleteFunc(tx.State.Grants, func(g api.Grant) bool {
			if !theirs(&g.Consumer) {
				return false
			}
			gone = append(gone, g)
			return true
		})
		if len(gone) == 0 {
			return api.Errorf(api.InvalidRequest, "there is no grant of that user or group").WithHint("aivault grant list")
		}
		tx.Record.Name = consumerText(&gone[0].Consumer)
		for _, g := range gone[:min(len(gone), maxRecorded)] {
			tx.Record.Grants = append(tx.Record.Grants, g.ID)
		}
		return nil
	})
}

// SetGrantDefault sets what callers without a grant may do.
func (a *Admin) SetGrantDefault(ctx context.Context, who grant.Caller, r api.GrantDefault) (api.GrantList, error) {
	const what = "grant default"
	none := api.GrantList{Grants: []api.Grant{}}
	if err := a.allow(ctx, who, what); err != nil {
		return none, err
	}
	if r.Default != api.GrantAllow && r.Default != api.GrantDeny {
		return none, api.Errorf(api.InvalidRequest, "the default is %s or %s, not %s", api.GrantAllow, api.GrantDeny, api.Quote(r.Default))
	}
	if err := a.ready(ctx, who); err != nil {
		return none, err
	}
	return a.changeGrants(ctx, who, what, audit.GrantDefaultSet, func(tx *vault.Tx) error {
		tx.State.GrantDefault = r.Default
		tx.Record.Object = r.Default
		return nil
	})
}

func (a *Admin) changeGrants(ctx context.Context, who grant.Caller, what, event string, fn func(*vault.Tx) error) (api.GrantList, error) {
	none := api.GrantList{Grants: []api.Grant{}}
	if err := a.allow(ctx, who, what); err != nil {
		return none, err
	}
	if _, err := a.existing(ctx); err != nil {
		return none, err
	}
	snap, err := a.update(ctx, who, event, fn)
	if err != nil {
		return none, err
	}
	return shownGrants(snap.State()), nil
}

func recordGrant(tx *vault.Tx, g *api.Grant) {
	tx.Record.Object, tx.Record.Name = g.ID, consumerText(&g.Consumer)
	if scope := (grant.Scope{Workspace: g.WorkspaceID, Group: g.GroupID}); scope != grant.Global {
		tx.Record.Scope = scope.String()
	}
	tx.Record.Capability = listed(g.Capabilities)
}
