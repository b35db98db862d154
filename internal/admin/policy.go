package admin

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/vault"
)

// Policies lists every policy.
func (a *Admin) Policies(ctx context.Context, who grant.Caller) (api.PolicyList, error) {
	list := api.PolicyList{Policies: []api.Policy{}}
	snap, err := a.look(ctx, who, "capability policy show")
	if err != nil {
		return list, err
	}
	list.Policies = append(list.Policies, snap.State().Policies...)
	return list, nil
}

// Policy is the policy of one capability: none when nothing limits it.
func (a *Admin) Policy(ctx context.Context, who grant.Caller, capability string) (api.PolicyList, error) {
	list := api.PolicyList{Policies: []api.Policy{}}
	snap, err := a.look(ctx, who, "capability policy show")
	if err != nil {
		return list, err
	}
	st := snap.State()
	if i := policyOf(st, capability); i >= 0 {
		list.Policies = append(list.Policies, st.Policies[i])
		return list, nil
	}
	return list, a.oneCapability(a.known(st, capability), capability)
}

func policyOf(st *vault.State, capability string) int {
	return slices.IndexFunc(st.Policies, func(p api.Policy) bool { return p.Capability == capability })
}

func nothingToLift(capability string) error {
	return api.Errorf(api.InvalidRequest, "nothing limits %s that could be lifted", capability)
}

// SetPolicy changes the limits that r names and leaves the others.
func (a *Admin) SetPolicy(ctx context.Context, who grant.Caller, r api.PolicyChange) (api.PolicyList, error) {
	list := api.PolicyList{Policies: []api.Policy{}}
	if err := a.allow(ctx, who, "capability policy set"); err != nil {
		return list, err
	}
	if err := checkPolicyChange(&r); err != nil {
		return list, err
	}
	err := a.readyFor(ctx, who, func(st *vault.State) error {
		if err := a.oneCapability(a.known(st, r.Capability), r.Capability); err != nil {
			return err
		}
		var p api.Policy
		if merge(&p, &r); policy.LimitsNothing(&p) {
			return nothingToLift(r.Capability)
		}
		_, err := policy.CompileLimits(p)
		return err
	})
	if err != nil {
		return list, err
	}
	snap, err := a.update(ctx, who, audit.PolicySet, func(tx *vault.Tx) error {
		list.Policies = []api.Policy{}
		all := a.known(tx.State)
		if err := a.oneCapability(all, r.Capability); err != nil {
			return err
		}
		counted := hasRates(tx.State)
		p := api.Policy{Capability: r.Capability}
		i := policyOf(tx.State, r.Capability)
		if i >= 0 {
			p = tx.State.Policies[i]
		}
		merge(&p, &r)
		if _, err := policy.CompileLimits(p); err != nil {
			return err
		}
		switch {
		case policy.LimitsNothing(&p) && i >= 0:
			tx.State.Policies = slices.Delete(tx.State.Policies, i, i+1)
		case policy.LimitsNothing(&p):
			return nothingToLift(r.Capability)
		case i >= 0:
			tx.State.Policies[i] = p
		default:
			tx.State.Policies = append(tx.State.Policies, p)
		}
		if !policy.LimitsNothing(&p) {
			list.Policies = append(list.Policies, p)
		}
		recordPolicy(tx, all, r.Capability)
		return a.startCounting(ctx, counted, tx.State)
	})
	if err == nil && len(list.Policies) > 0 {
		list.Overlaps = broker.Overlapping(a.registry, snap, r.Capability)
	}
	return list, err
}

// unlimited lists the capabilities with a policy, some of whose calls are calls
// of these, too, which are on: the policy does not hold for those calls.
func (a *Admin) unlimited(snap *vault.Snapshot, ids ...string) []string {
	if len(ids) == 0 {
		return nil
	}
	var found []string
	for _, p := range snap.State().Policies {
		others := broker.Overlapping(a.registry, snap, p.Capability)
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(others, id) }) {
			found = append(found, p.Capability)
		}
	}
	return found
}

// A limit is one member of a policy, by its name in JSON.
type limit struct {
	name  string
	given func(*api.PolicyChange) bool
	empty func(*api.PolicyChange) bool // given, and says nothing: never "no limit"
	set   func(*api.Policy, *api.PolicyChange)
	lift  func(*api.Policy)
}

func number[T int | int64](name string, from func(*api.PolicyChange) *T, to func(*api.Policy) *T) limit {
	return limit{
		name:  name,
		given: func(r *api.PolicyChange) bool { return from(r) != nil },
		empty: func(r *api.PolicyChange) bool { return from(r) != nil && *from(r) <= 0 },
		set:   func(p *api.Policy, r *api.PolicyChange) { *to(p) = *from(r) },
		lift:  func(p *api.Policy) { *to(p) = 0 },
	}
}

func list[T any](name string, from func(*api.PolicyChange) []T, to func(*api.Policy) *[]T) limit {
	return limit{
		name:  name,
		given: func(r *api.PolicyChange) bool { return from(r) != nil },
		empty: func(r *api.PolicyChange) bool { return from(r) != nil && len(from(r)) == 0 },
		set:   func(p *api.Policy, r *api.PolicyChange) { *to(p) = slices.Clone(from(r)) },
		lift:  func(p *api.Policy) { *to(p) = nil },
	}
}

// limits is the one table of what a policy can limit.
func limits() []limit {
	return []limit{
		number("rateLimitPerMinute", func(r *api.PolicyChange) *int { return r.RatePerMinute }, func(p *api.Policy) *int { return &p.RatePerMinute }),
		number("rateLimitPerMinutePerCaller", func(r *api.PolicyChange) *int { return r.RatePerCallerPerMinute }, func(p *api.Policy) *int { return &p.RatePerCallerPerMinute }),
		number("maxRequestBodyBytes", func(r *api.PolicyChange) *int64 { return r.MaxRequestBodyBytes }, func(p *api.Policy) *int64 { return &p.MaxRequestBodyBytes }),
		number("maxResponseBodyBytes", func(r *api.PolicyChange) *int64 { return r.MaxResponseBodyBytes }, func(p *api.Policy) *int64 { return &p.MaxResponseBodyBytes }),
		list("responseBlock", func(r *api.PolicyChange) []string { return r.ResponseBlock }, func(p *api.Policy) *[]string { return &p.ResponseBlock }),
		list("allowQuery", func(r *api.PolicyChange) []string { return r.AllowQuery }, func(p *api.Policy) *[]string { return &p.AllowQuery }),
		list("denyQuery", func(r *api.PolicyChange) []string { return r.DenyQuery }, func(p *api.Policy) *[]string { return &p.DenyQuery }),
		list("requireJson", func(r *api.PolicyChange) []api.RequireJSON { return r.RequireJSON }, func(p *api.Policy) *[]api.RequireJSON { return &p.RequireJSON }),
	}
}

// checkPolicyChange judges a change by itself.
func checkPolicyChange(r *api.PolicyChange) error {
	if r.Capability == "" {
		return api.Errorf(api.InvalidRequest, "no capability is named").WithHint("add --capability ID")
	}
	given := 0
	names := []string{}
	for _, l := range limits() {
		names = append(names, l.name)
		lifted := slices.Contains(r.Lift, l.name)
		switch {
		case l.given(r) && lifted:
			return api.Errorf(api.InvalidRequest, "%s is set and lifted at once", l.name)
		case l.empty(r):
			return api.Errorf(api.InvalidRequest, "%s is nothing, zero or negative: what limits nothing is lifted, not set", l.name).
				WithHint("give the value none to lift it")
		case l.given(r) || lifted:
			given++
		}
	}
	for _, name := range r.Lift {
		if !slices.Contains(names, name) {
			return api.Errorf(api.InvalidRequest, "there is no limit %s to lift; there are %s", api.Quote(name), strings.Join(names, ", "))
		}
	}
	if given == 0 {
		return api.Errorf(api.InvalidRequest, "no limit is given to set or to lift").WithHint("aivault capability policy set --help")
	}
	return nil
}

func merge(p *api.Policy, r *api.PolicyChange) {
	for _, l := range limits() {
		switch {
		case l.given(r):
			l.set(p, r)
		case slices.Contains(r.Lift, l.name):
			l.lift(p)
		}
	}
}

// ClearPolicy lifts every limit of a capability, also of one that is gone.
func (a *Admin) ClearPolicy(ctx context.Context, who grant.Caller, capability string) (api.PolicyList, error) {
	list := api.PolicyList{Policies: []api.Policy{}}
	if err := a.allow(ctx, who, "capability policy clear"); err != nil {
		return list, err
	}
	if _, err := a.existing(ctx); err != nil {
		return list, err
	}
	_, err := a.update(ctx, who, audit.PolicyCleared, func(tx *vault.Tx) error {
		all := a.known(tx.State)
		i := policyOf(tx.State, capability)
		if i < 0 {
			if err := a.oneCapability(all, capability); err != nil {
				return err
			}
			return api.Errorf(api.InvalidRequest, "no policy limits %s", capability).WithHint("aivault capability policy show")
		}
		tx.State.Policies = slices.Delete(tx.State.Policies, i, i+1)
		recordPolicy(tx, all, capability)
		return nil
	})
	return list, err
}

func recordPolicy(tx *vault.Tx, all []known, capability string) {
	tx.Record.Object, tx.Record.Capability = capability, capability
	for _, k := range all {
		if k.id == capability {
			tx.Record.Provider = k.provider
		}
	}
}

// hasRates says whether some limit of the state is counted.
func hasRates(st *vault.State) bool {
	return slices.ContainsFunc(st.Policies, func(p api.Policy) bool { return p.RatePerMinute > 0 || p.RatePerCallerPerMinute > 0 }) ||
		slices.ContainsFunc(st.Grants, func(g api.Grant) bool { return g.RatePerMinute > 0 })
}

// startCounting makes the file of the counts when a change sets the first
// limit that is counted. Later a missing file is a full window, and never
// made anew here.
func (a *Admin) startCounting(ctx context.Context, before bool, st *vault.State) error {
	if before || !hasRates(st) {
		return nil
	}
	if a.quota == nil {
		return api.Errorf(api.Internal, "there is nothing to count calls with, and a limit that is not counted is none")
	}
	if err := a.quota.Begin(ctx); err != nil {
		return api.Errorf(api.Internal, "begin to count calls: %w", err)
	}
	return nil
}
