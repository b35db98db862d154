package admin

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// maxSwitches bounds the list of switches. `disable '*'` empties it.
const maxSwitches = 4096

// EnableCapabilities turns capabilities on: also for credentials that were
// made for a few alone, so that what is enabled can be called. An admin
// capability is turned on by its own id alone, not by a pattern or a set.
func (a *Admin) EnableCapabilities(ctx context.Context, who grant.Caller, r api.SwitchRequest) (api.Switched, error) {
	return a.turn(ctx, who, "capability enable", audit.CapabilityOn, r, true)
}

// DisableCapabilities turns capabilities off, for everyone.
func (a *Admin) DisableCapabilities(ctx context.Context, who grant.Caller, r api.SwitchRequest) (api.Switched, error) {
	return a.turn(ctx, who, "capability disable", audit.CapabilityOff, r, false)
}

func (a *Admin) turn(ctx context.Context, who grant.Caller, what, event string, r api.SwitchRequest, on bool) (api.Switched, error) {
	done := api.Switched{On: on, Capabilities: []string{}}
	if err := a.allow(ctx, who, what); err != nil {
		return done, err
	}
	if len(r.Patterns) == 0 {
		return done, api.Errorf(api.InvalidRequest, "no capability is named").WithHint("aivault %s PATTERN", what)
	}
	err := a.readyFor(ctx, who, func(st *vault.State) error {
		all := a.known(st)
		list, err := a.expand(all, r.Patterns)
		if err != nil {
			return err
		}
		for _, c := range list {
			if err := a.turnOne(st, all, c, on); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return done, err
	}
	snap, err := a.update(ctx, who, event, func(tx *vault.Tx) error {
		all := a.known(tx.State)
		list, err := a.expand(all, r.Patterns)
		if err != nil {
			return err
		}
		before := openings(tx.State, all)
		for _, c := range list {
			if err := a.turnOne(tx.State, all, c, on); err != nil {
				return err
			}
		}
		if len(tx.State.Switches) > maxSwitches {
			return api.Errorf(api.InvalidRequest, "more than %d capabilities and patterns are turned on or off", maxSwitches).
				WithHint("aivault capability disable '*' forgets them, and turns everything off")
		}
		done.Capabilities = []string{}
		after := openings(tx.State, all)
		for i, k := range all {
			if after[i] != before[i] {
				done.Capabilities = append(done.Capabilities, k.id)
			}
		}
		slices.Sort(done.Capabilities)
		if len(list) == 1 {
			tx.Record.Object = list[0].given
		}
		tx.Record.Name = strings.Join(r.Patterns, " ")
		return nil
	})
	switch {
	case err != nil:
	case on:
		done.Limited = a.unlimited(snap, done.Capabilities...)
	default:
		done.Overlaps = broker.Overlapping(a.registry, snap, done.Capabilities...)
	}
	return done, err
}

func (a *Admin) turnOne(st *vault.State, all []known, c chosen, on bool) error {
	turned := 0
	for _, pattern := range c.patterns {
		found := matched(all, pattern)
		if len(found) == 0 {
			continue
		}
		if c.set && on && found[0].admin {
			continue
		}
		turned++
		st.Switches = addSwitch(st.Switches, api.Switch{Pattern: pattern, On: on})
		if !on {
			continue
		}
		if err := widen(st, pattern, found); err != nil {
			return err
		}
	}
	switch {
	case turned > 0:
		return nil
	case c.set:
		return api.Errorf(api.InvalidRequest, "the members of %s are an admin's, and are turned on by their own ids: %s", c.given, listed(c.patterns))
	}
	return api.Errorf(api.CapabilityNotFound, "no capability matches %s", api.Quote(c.given)).WithHint("aivault capability list --all")
}

// addSwitch appends a switch and drops those that count no more: an earlier
// one of the same pattern and, where something is turned off, earlier ones of
// single capabilities that it matches. The latter keeps a wildcard, when it
// later turns on what it turned off, from uncovering the switch of an admin
// capability.
func addSwitch(list []api.Switch, s api.Switch) []api.Switch {
	list = slices.DeleteFunc(list, func(old api.Switch) bool {
		single := !strings.Contains(old.Pattern, "*")
		return old.Pattern == s.Pattern || !s.On && (s.Pattern == "*" || single && grant.Match(s.Pattern, old.Pattern))
	})
	return append(list, s)
}

// widen lets credentials that were made for a few capabilities be used for
// those that pattern matches.
func widen(st *vault.State, pattern string, found []known) error {
	for i := range st.Credentials {
		c := &st.Credentials[i]
		if len(c.Only) == 0 || !slices.ContainsFunc(found, func(k known) bool {
			return k.provider == c.Provider && !grant.Covers(c.Only, k.id)
		}) {
			continue
		}
		if len(c.Only) >= maxPatterns {
			return api.Errorf(api.InvalidRequest, "credential %s is limited to %d capabilities and patterns already", c.ID, maxPatterns)
		}
		c.Only = append(c.Only, pattern)
	}
	return nil
}

// openings tells how far each capability is open: -1 when it is off, else how
// many credentials of its provider may be used for it.
func openings(st *vault.State, all []known) []int {
	credentials := map[string][]*vault.Credential{}
	for i := range st.Credentials {
		c := &st.Credentials[i]
		credentials[c.Provider] = append(credentials[c.Provider], c)
	}
	out := make([]int, len(all))
	for i, k := range all {
		if !grant.On(st.Switches, k.id, k.admin) {
			out[i] = -1
			continue
		}
		for _, c := range credentials[k.provider] {
			if len(c.Only) == 0 || grant.Covers(c.Only, k.id) {
				out[i]++
			}
		}
	}
	return out
}
