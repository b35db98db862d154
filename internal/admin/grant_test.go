package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

func TestAddGrant(t *testing.T) {
	o := startOffice(t)
	base := time.UnixMilli(1_800_000_000_000)
	o.now = func() time.Time { return base }
	agents := api.ConsumerRef{User: "agent"}
	o.store(t, "PLAIN", "")
	list, err := o.Grants(background, op)
	if err != nil || list.Default != api.GrantAllow || list.Grants == nil || len(list.Grants) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, c := range []struct {
		what string
		r    api.GrantAdd
		code api.Code
		text string
	}{
		{"nobody", api.GrantAdd{}, api.InvalidRequest, "one user or one group"},
		{"two", api.GrantAdd{Consumer: api.ConsumerRef{User: "agent", GroupName: "robots"}}, api.InvalidRequest, "one user or one group"},
		{"unknown", api.GrantAdd{Consumer: api.ConsumerRef{User: "stranger"}}, api.InvalidRequest, `no user "stranger"`},
		{"an unknown group", api.GrantAdd{Consumer: api.ConsumerRef{GroupName: "strangers"}}, api.InvalidRequest, `no group "strangers"`},
		{"a name that is none", api.GrantAdd{Consumer: api.ConsumerRef{User: "a\nb"}}, api.InvalidRequest, `"a\nb"`},
		{"root", api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(0))}}, api.InvalidRequest, "operator"},
		{"root by name", api.GrantAdd{Consumer: api.ConsumerRef{User: "root"}}, api.InvalidRequest, "user root is the vault's operator"},
		{"the operator", api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(1000))}}, api.InvalidRequest, "uid 1000 is the vault's operator"},
		{"the owner", api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(990))}}, api.InvalidRequest, "operator"},
		{"an empty list", api.GrantAdd{Consumer: agents, Capabilities: []string{}}, api.InvalidRequest, "empty list"},
		{"no pattern", api.GrantAdd{Consumer: agents, Capabilities: []string{"openai"}}, api.InvalidRequest, "no pattern"},
		{"two stars", api.GrantAdd{Consumer: agents, Capabilities: []string{"**"}}, api.InvalidRequest, "no pattern"},
		{"an unknown capability", api.GrantAdd{Consumer: agents, Capabilities: []string{"openai/*", "openai/nope"}}, api.CapabilityNotFound, "openai/nope"},
		{"too many", api.GrantAdd{Consumer: agents, Capabilities: slices.Repeat([]string{"openai/*"}, 513)}, api.InvalidRequest, "512"},
		{"a group alone", api.GrantAdd{Consumer: agents, GroupID: "g"}, api.InvalidRequest, "workspace"},
		{"a bad workspace", api.GrantAdd{Consumer: agents, WorkspaceID: "W"}, api.InvalidRequest, "workspace id"},
		{"a bad group", api.GrantAdd{Consumer: agents, WorkspaceID: "w", GroupID: "g h"}, api.InvalidRequest, "group id"},
		{"strict about nothing", api.GrantAdd{Consumer: agents, StrictScope: true}, api.InvalidRequest, "strict"},
		{"rate 0", api.GrantAdd{Consumer: agents, RatePerMinute: new(0)}, api.InvalidRequest, "rate of 0"},
		{"rate -1", api.GrantAdd{Consumer: agents, RatePerMinute: new(-1)}, api.InvalidRequest, "rate of -1"},
		{"a great rate", api.GrantAdd{Consumer: agents, RatePerMinute: new(1 << 40)}, api.InvalidRequest, "rate of"},
		{"expired", api.GrantAdd{Consumer: agents, ExpiresInMs: new(int64(0))}, api.InvalidRequest, "longer than nothing"},
		{"long expired", api.GrantAdd{Consumer: agents, ExpiresInMs: new(int64(-1))}, api.InvalidRequest, "longer than nothing"},
		{"for ever", api.GrantAdd{Consumer: agents, ExpiresInMs: new(int64(1) << 62)}, api.InvalidRequest, "ten years"},
	} {
		o.unchanged(t, c.what, c.code, c.text, func() error { _, err := o.AddGrant(background, op, c.r); return err })
	}
	if _, err := o.AddGrant(background, op, api.GrantAdd{Consumer: api.ConsumerRef{User: "2000"}}); hintOf(err) != "a number is given with --uid 2000" {
		t.Errorf("hint %q", hintOf(err))
	}
	seen := map[string]bool{}
	for _, c := range []struct {
		r            api.GrantAdd
		capabilities string
		scope        any
	}{
		{api.GrantAdd{Consumer: agents}, "*", nil},
		{api.GrantAdd{Consumer: agents, Capabilities: []string{"openai/*", "openai/models", "openai/*"}}, "openai/* openai/models", nil},
		{api.GrantAdd{Consumer: agents, Capabilities: []string{"mail/things"}}, "mail/things-read mail/things-write", nil},
		{api.GrantAdd{Consumer: agents, Capabilities: []string{"openai/responses"}}, "openai/responses", nil}, // a capability and a set
		{api.GrantAdd{Consumer: agents, Capabilities: []string{"*-read", "later/*"}}, "*-read later/*", nil},
		{api.GrantAdd{Consumer: api.ConsumerRef{UID: new(uint32(4711))}, WorkspaceID: "w", StrictScope: true}, "*", "workspace:w"},
		{api.GrantAdd{Consumer: api.ConsumerRef{GroupName: "robots"}, WorkspaceID: "w", GroupID: "g", RatePerMinute: new(5), ExpiresInMs: new(int64(8 * 3600_000))}, "*", "group:w:g"},
	} {
		g, err := o.AddGrant(background, op, c.r)
		if err != nil {
			t.Errorf("%+v: %v", c.r, err)
			continue
		}
		if strings.Join(g.Capabilities, " ") != c.capabilities || g.WorkspaceID != c.r.WorkspaceID || g.GroupID != c.r.GroupID || g.StrictScope != c.r.StrictScope {
			t.Errorf("%+v became %+v", c.r, g)
		}
		if len(g.ID) != 10 || !strings.HasPrefix(g.ID, "g-") || seen[g.ID] {
			t.Errorf("id %q", g.ID)
		}
		seen[g.ID] = true
		if c.r.ExpiresInMs != nil && (g.ExpiresAtMs != base.UnixMilli()+8*3600_000 || g.RatePerMinute != 5) {
			t.Errorf("%+v", g)
		}
		if r := o.last(t, "grant.added"); r["object"] != g.ID || r["scope"] != c.scope || r["capability"] != strings.ReplaceAll(c.capabilities, " ", ", ") {
			t.Errorf("record %v", r)
		}
	}
	if list, err = o.Grants(background, op); err != nil || len(list.Grants) != 7 {
		t.Errorf("%+v, %v", list, err)
	}
	c := list.Grants[0].Consumer
	if *c.UID != 2000 || c.User != "agent" || *list.Grants[5].Consumer.UID != 4711 || *list.Grants[6].Consumer.GID != 3000 || list.Grants[6].Consumer.Group != "robots" {
		t.Errorf("%+v", list.Grants)
	}
	o.edit(t, func(st *vault.State) {
		for i := range 4096 {
			st.Grants = append(st.Grants, api.Grant{ID: fmt.Sprint(i), Consumer: api.Consumer{UID: new(uint32(i + 5000))}, Capabilities: []string{"*"}})
		}
	})
	o.unchanged(t, "too many grants", api.InvalidRequest, "4096", func() error { _, err := o.AddGrant(background, op, api.GrantAdd{Consumer: agents}); return err })
}

func TestRemoveAndReset(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	add := func(ref api.ConsumerRef, capability string) string {
		t.Helper()
		g, err := o.AddGrant(background, op, api.GrantAdd{Consumer: ref, Capabilities: []string{capability}, WorkspaceID: "w", RatePerMinute: new(1)})
		if err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	agents, robots := api.ConsumerRef{User: "agent"}, api.ConsumerRef{GroupName: "robots"}
	first, second, theirs := add(agents, "openai/*"), add(agents, "mail/*"), add(robots, "*")
	remove := func(id string) ([]api.Grant, error) {
		list, err := o.RemoveGrant(background, op, id)
		return list.Grants, err
	}
	o.unchanged(t, "unknown", api.InvalidRequest, "g-nope", func() error { _, err := remove("g-nope"); return err })
	if left, err := remove(first); err != nil || len(left) != 2 || left[0].ID != second {
		t.Fatalf("%+v, %v", left, err)
	}
	if r := o.last(t, "grant.removed"); r["object"] != first || r["name"] != "user agent" || r["capability"] != "openai/*" {
		t.Errorf("record %v", r)
	}
	left, err := remove(second)
	if err != nil || len(left) != 2 || left[0].ID != second || left[0].Capabilities == nil || len(left[0].Capabilities) != 0 || left[0].WorkspaceID != "" || left[0].RatePerMinute != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	o.unchanged(t, "the empty one", api.InvalidRequest, "allows nothing", func() error {
		_, err := remove(second)
		if hintOf(err) != "aivault grant reset --uid 2000" {
			t.Errorf("hint %q", hintOf(err))
		}
		return err
	})
	// A new grant takes the empty one's place.
	third := add(agents, "mail/keys")
	if list, _ := o.Grants(background, op); len(list.Grants) != 2 || list.Grants[1].ID != third {
		t.Errorf("%+v", list.Grants)
	}
	if left, err = remove(theirs); err != nil || len(left) != 2 {
		t.Fatalf("%+v, %v", left, err)
	}
	if _, err = remove(theirs); hintOf(err) != "aivault grant reset --group-name robots" {
		t.Errorf("hint %q", hintOf(err))
	}

	for name, ref := range map[string]api.ConsumerRef{"nobody": {}, "who has none": {User: "other"}, "a stranger": {User: "stranger"}, "another id": {UID: new(uint32(3000))}} {
		o.unchanged(t, name, api.InvalidRequest, "", func() error { _, err := o.ResetGrants(background, op, ref); return err })
	}
	list, err := o.ResetGrants(background, op, robots)
	if err != nil || len(list.Grants) != 1 || list.Grants[0].ID != third {
		t.Errorf("%+v, %v", list, err)
	}
	if r := o.last(t, "grant.reset"); r["name"] != "group robots" || fmt.Sprint(r["grants"]) != "["+theirs+"]" {
		t.Errorf("record %v", r)
	}
	if list, err = o.ResetGrants(background, op, api.ConsumerRef{UID: new(uint32(2000))}); err != nil || len(list.Grants) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// Whom the system has forgotten is known by the old name; whom it has not
	// is known by the id alone.
	o.edit(t, func(st *vault.State) {
		st.Grants = []api.Grant{
			{ID: "g-1", Consumer: api.Consumer{GID: new(uint32(77)), Group: "ghosts"}, Capabilities: []string{}},
			{ID: "g-2", Consumer: api.Consumer{UID: new(uint32(78)), User: "agent"}, Capabilities: []string{}},
		}
	})
	if list, err = o.ResetGrants(background, op, api.ConsumerRef{GroupName: "ghosts"}); err != nil || len(list.Grants) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	o.unchanged(t, "another of that name", api.InvalidRequest, "no grant", func() error { _, err := o.ResetGrants(background, op, agents); return err })
}

func TestGrantDefault(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	for _, bad := range []string{"", "Deny", "none"} {
		o.unchanged(t, bad, api.InvalidRequest, "allow or deny", func() error { _, err := o.SetGrantDefault(background, op, api.GrantDefault{Default: bad}); return err })
	}
	for _, d := range []string{api.GrantDeny, api.GrantAllow} {
		list, err := o.SetGrantDefault(background, op, api.GrantDefault{Default: d})
		if err != nil || list.Default != d || list.Grants == nil {
			t.Errorf("%+v, %v", list, err)
		}
		if r := o.last(t, "grant.default"); r["object"] != d {
			t.Errorf("record %v", r)
		}
	}
}

// Removing the grants of an agent and of its groups, one by one and in any
// order, never lets it do what it could not do before.
func TestRemovingNeverWidens(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	consumers := []api.ConsumerRef{{User: "agent"}, {GroupName: "robots"}, {GroupName: "people"}}
	capabilities := []string{"openai/models", "mail/things-read", "mail/users"}
	all := []grant.Scope{grant.Global, {Workspace: "w"}, {Workspace: "w", Group: "g"}, {Workspace: "w", Group: "h"}, {Workspace: "v"}}
	now := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		who := agent(2000, rapid.SampledFrom([][]uint32{{}, {3000}, {3000, 3001}}).Draw(rt, "groups")...)
		o.edit(t, func(st *vault.State) {
			st.Grants, st.GrantDefault = []api.Grant{}, rapid.SampledFrom([]string{api.GrantAllow, api.GrantDeny}).Draw(rt, "default")
		})
		for range rapid.IntRange(1, 5).Draw(rt, "grants") {
			r := api.GrantAdd{Consumer: rapid.SampledFrom(consumers).Draw(rt, "consumer")}
			if rapid.Bool().Draw(rt, "some") {
				r.Capabilities = []string{rapid.SampledFrom([]string{"*", "mail/*", "*-read", "openai/models", "mail/things"}).Draw(rt, "capability")}
			}
			s := rapid.SampledFrom(all).Draw(rt, "context")
			r.WorkspaceID, r.GroupID = s.Workspace, s.Group
			r.StrictScope = s != grant.Global && rapid.Bool().Draw(rt, "strict")
			if rapid.Bool().Draw(rt, "limited") {
				r.RatePerMinute = new(rapid.IntRange(1, 3).Draw(rt, "rate"))
			}
			if rapid.IntRange(0, 3).Draw(rt, "expires") == 0 {
				r.ExpiresInMs = new(int64(1)) // over, as of the test's now
			}
			o.now = func() time.Time { return now.Add(-time.Hour) }
			if _, err := o.AddGrant(background, op, r); err != nil {
				rt.Fatal(err)
			}
		}
		may := func() map[string]int { // what is permitted, to how many calls a minute
			st := o.state(t)
			access := grant.NewRules(st.GrantDefault, st.Grants).Of(who)
			out := map[string]int{}
			for _, id := range capabilities {
				if access.Knows(id, now) {
					out["knows "+id] = 1
				}
				for _, context := range all {
					for _, credential := range all {
						grants, ok := access.Permits(id, context, credential, now)
						if !ok {
							continue
						}
						const unlimited = 1 << 30
						room := 0
						for _, g := range grants {
							if room += g.RatePerMinute; g.RatePerMinute == 0 {
								room = unlimited
								break
							}
						}
						if len(grants) == 0 {
							room = unlimited
						}
						out[fmt.Sprint(id, " in ", context, " with ", credential)] = room
					}
				}
			}
			return out
		}
		before := may()
		for {
			var ids []string
			for _, g := range o.state(t).Grants {
				if len(g.Capabilities) > 0 {
					ids = append(ids, g.ID)
				}
			}
			if len(ids) == 0 {
				break
			}
			id := rapid.SampledFrom(ids).Draw(rt, "removed")
			if _, err := o.RemoveGrant(background, op, id); err != nil {
				rt.Fatal(err)
			}
			after := may()
			for what, room := range after {
				if room > before[what] {
					rt.Fatalf("after %s was removed: %s, %d of %d before", id, what, room, before[what])
				}
			}
			before = after
		}
		// Who had grants has nothing now, and does not fall back.
		st := o.state(t)
		if slices.ContainsFunc(st.Grants, func(g api.Grant) bool { return g.Consumer.UID != nil }) && len(before) != 0 {
			rt.Fatalf("without a grant: %v", before)
		}
	})
}
