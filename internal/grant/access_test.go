package grant

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
)

var now = time.UnixMilli(1_000_000)

func uid(n uint32) api.Consumer { return api.Consumer{UID: &n} }
func gid(n uint32) api.Consumer { return api.Consumer{GID: &n} }

func ids(grants []api.Grant) string {
	var out []string
	for _, g := range grants {
		out = append(out, g.ID)
	}
	return fmt.Sprint(out)
}

var everything = []string{"*"}

func TestWho(t *testing.T) {
	grants := []api.Grant{
		{ID: "own", Consumer: uid(1), Capabilities: []string{"a/*"}},
		{ID: "g1", Consumer: gid(10), Capabilities: []string{"b/*"}},
		{ID: "g2", Consumer: gid(11), Capabilities: []string{"c/*"}},
		{ID: "g3", Consumer: gid(11), Capabilities: []string{"d/d"}},
		{ID: "empty", Consumer: uid(2), Capabilities: []string{}},
		{ID: "expired", Consumer: uid(3), Capabilities: everything, ExpiresAtMs: 999_999},
		{ID: "two", Consumer: api.Consumer{UID: new(uint32(4)), GID: new(uint32(12))}, Capabilities: everything},
		{ID: "nobody's", Capabilities: everything},
	}
	for _, c := range []struct {
		what   string
		caller Caller
		knows  string // of a/x b/x c/x d/d d/e
		all    bool   // by default
	}{
		{"own", Caller{UID: 1, GID: 1, Groups: []uint32{1}}, "a/x", false},
		{"own, and in groups", Caller{UID: 1, GID: 10, Groups: []uint32{10, 11}}, "a/x", false},
		{"of one group", Caller{UID: 9, GID: 9, Groups: []uint32{9, 10}}, "b/x", false},
		{"of two groups", Caller{UID: 9, GID: 9, Groups: []uint32{11, 9, 10, 11}}, "b/x c/x d/d", false},
		{"by the first group", Caller{UID: 9, GID: 11}, "c/x d/d", false},
		{"by both", Caller{UID: 9, GID: 11, Groups: []uint32{10}}, "b/x c/x d/d", false},
		{"an empty one", Caller{UID: 2, GID: 10, Groups: []uint32{10}}, "", false},
		{"an expired one", Caller{UID: 3, GID: 10, Groups: []uint32{10}}, "", false},
		{"two consumers, by uid", Caller{UID: 4, GID: 4, Groups: []uint32{4}}, "", false},
		{"two consumers, by gid", Caller{UID: 9, GID: 12, Groups: []uint32{12}}, "", false},
		{"none", Caller{UID: 9, GID: 9, Groups: []uint32{9}}, "a/x b/x c/x d/d d/e", true},
		{"a uid is no gid", Caller{UID: 10, GID: 1, Groups: []uint32{1, 2}}, "a/x b/x c/x d/d d/e", true},
		{"of unknown groups", Caller{UID: 9, GID: 9}, "", false},
		{"in a container", Caller{UID: 9, GID: 9, Groups: []uint32{9}, Contained: true}, "", false},
		{"in a container, own", Caller{UID: 1, GID: 1, Groups: []uint32{1}, Contained: true}, "a/x", false},
		{"in a container, of a group", Caller{UID: 9, GID: 9, Groups: []uint32{9, 10}, Contained: true}, "b/x", false},
		{"of no further groups", Caller{UID: 9, GID: 9, Groups: []uint32{}}, "a/x b/x c/x d/d d/e", true},
	} {
		for _, def := range []string{api.GrantAllow, api.GrantDeny, "", "ALLOW"} {
			a := NewRules(def, grants).Of(c.caller)
			got := ""
			for _, id := range []string{"a/x", "b/x", "c/x", "d/d", "d/e"} {
				knows := a.Knows(id, now)
				_, permits := a.Permits(id, Global, Global, now)
				if knows != a.Reaches(id, Global, now) || knows != permits {
					t.Errorf("%s: %s is known: %v", c.what, id, knows)
				}
				if knows {
					got += " " + id
				}
			}
			want := " " + c.knows
			if c.all && def != api.GrantAllow || c.knows == "" {
				want = ""
			}
			if got != want || a.Everything() != (c.all && def == api.GrantAllow) {
				t.Errorf("%s, default %q: may%s, want%s; everything: %v", c.what, def, got, want, a.Everything())
			}
		}
		c.caller.Operator = true
		if !NewRules(api.GrantDeny, grants).Of(c.caller).Everything() {
			t.Errorf("%s: the operator is limited", c.what)
		}
	}
	if a := NewRules(api.GrantAllow, nil).Of(Caller{UID: 9}); !a.Everything() {
		t.Error("unknown groups deny where no group has grants")
	}
	if a := NewRules(api.GrantAllow, nil).Of(Caller{UID: 9, Contained: true}); !a.Everything() {
		t.Error("a container denies where nobody has grants")
	}
	if a := NewRules(api.GrantAllow, grants[:1]).Of(Caller{UID: 100_005, Groups: []uint32{9}, Contained: true}); a.Everything() {
		t.Error("a subordinate uid has left its user's grants behind")
	}
	if a := (Access{}); a.Everything() || a.Knows("a/b", now) || a.Reaches("a/b", Global, now) {
		t.Error("the zero Access allows something")
	}
}

func TestExpiry(t *testing.T) {
	for until, want := range map[int64]bool{0: true, 1_000_001: true, 1_000_000: false, 999_999: false, -1: false} {
		a := NewRules(api.GrantAllow, []api.Grant{{ID: "g", Consumer: uid(1), Capabilities: everything, ExpiresAtMs: until}}).Of(Caller{UID: 1})
		_, permits := a.Permits("a/b", Global, Global, now)
		if a.Everything() || a.Knows("a/b", now) != want || a.Reaches("a/b", Global, now) != want || permits != want {
			t.Errorf("until %d: %v", until, !want)
		}
	}
}

// Where a grant holds: its context, and the scopes of the credentials.
func TestContext(t *testing.T) {
	w, w2 := Scope{Workspace: "w"}, Scope{Workspace: "w2"}
	g, g2, other := Scope{Workspace: "w", Group: "g"}, Scope{Workspace: "w", Group: "g2"}, Scope{Workspace: "w2", Group: "g"}
	all := []Scope{Global, w, w2, g, g2, other}
	for _, c := range []struct {
		workspace, group string
		strict           bool
		contexts         []Scope
	}{
		{"", "", false, all},
		{"w", "", false, []Scope{w, g, g2}},
		{"w", "g", false, []Scope{g}},
		{"w", "", true, []Scope{w}},
		{"w", "g", true, []Scope{g}},
		// contradictions
		{"", "", true, nil},
		{"", "g", false, nil},
		{"", "g", true, nil},
	} {
		r := NewRules(api.GrantAllow, []api.Grant{{ID: "x", Consumer: uid(1), Capabilities: everything, WorkspaceID: c.workspace, GroupID: c.group, StrictScope: c.strict}})
		a := r.Of(Caller{UID: 1})
		if a.Knows("a/b", now) != (c.contexts != nil) {
			t.Errorf("%+v: known: %v", c, a.Knows("a/b", now))
		}
		for _, context := range all {
			want := slices.Contains(c.contexts, context)
			if a.Reaches("a/b", context, now) != want {
				t.Errorf("%+v reaches %s: %v", c, context, !want)
			}
			for _, credential := range all {
				grants, ok := a.Permits("a/b", context, credential, now)
				want := want && context.Sees(credential) && (!c.strict || credential == context)
				if ok != want || ok != (ids(grants) == "[x]") {
					t.Errorf("%+v permits %s in %s: %v %s", c, credential, context, ok, ids(grants))
				}
			}
		}
	}
	if _, ok := NewRules(api.GrantAllow, nil).Of(Caller{Operator: true}).Permits("a/b", w, w2, now); ok {
		t.Error("the operator's call uses another workspace's credential")
	}
}

func TestPermitsListsAll(t *testing.T) {
	r := NewRules(api.GrantAllow, []api.Grant{
		{ID: "a", Consumer: gid(1), Capabilities: []string{"a/*"}},
		{ID: "b", Consumer: gid(1), Capabilities: []string{"b/b", "a/b", "a/a"}},
		{ID: "c", Consumer: gid(2), Capabilities: []string{"*-read", "a/b"}, RatePerMinute: 5},
		{ID: "d", Consumer: gid(2), Capabilities: []string{"d/d"}},
	})
	a := r.Of(Caller{UID: 5, GID: 1, Groups: []uint32{1, 2}})
	for range 2 { // the first list did not spoil the rules
		for id, want := range map[string]string{"a/b": "[a b c]", "a/a": "[a b]", "a/x": "[a]", "b/b": "[b]", "x/y-read": "[c]", "x/y": "[]", "d/d": "[d]", "a/a-read": "[a c]"} {
			got, ok := a.Permits(id, Global, Global, now)
			if ids(got) != want || ok != (want != "[]") {
				t.Errorf("%s: %s %v", id, ids(got), ok)
			}
		}
	}
}

// What is no pattern names nothing, whoever put it there.
func TestNoPatterns(t *testing.T) {
	a := NewRules(api.GrantAllow, []api.Grant{{ID: "a", Consumer: uid(1), Capabilities: []string{"B/*", "**", "", "C/x", "a/b/c", "a", "x/*/y"}}}).Of(Caller{UID: 1})
	for _, id := range []string{"B/x", "C/x", "a/b", "a/b/c", "a", "", "x/z/y", "**"} {
		if a.Knows(id, now) || a.Reaches(id, Global, now) {
			t.Errorf("%q is known", id)
		}
	}
}

// What the maker of the rules does with its grants later changes nothing.
func TestRulesAreTheirOwn(t *testing.T) {
	grants := []api.Grant{{ID: "a", Consumer: uid(1), Capabilities: []string{"a/b"}, ExpiresAtMs: 5}}
	r := NewRules(api.GrantAllow, grants)
	grants[0].ExpiresAtMs, grants[0].Capabilities[0] = 0, "*"
	if a := r.Of(Caller{UID: 1}); a.Knows("a/b", now) || a.Knows("c/d", now) {
		t.Error("changed from outside")
	}
}

func drawGrant(t *rapid.T, i int) api.Grant {
	g := api.Grant{ID: fmt.Sprint("g", i)}
	if n := uint32(rapid.IntRange(1, 2).Draw(t, "consumer")); rapid.Bool().Draw(t, "user") {
		g.Consumer = uid(n)
	} else {
		g.Consumer = gid(n + 10)
	}
	g.Capabilities = rapid.SliceOfN(rapid.SampledFrom([]string{"*", "a/*", "*-read", "a/b", "b/x-read", "b/c", "B/*"}), 0, 3).Draw(t, "patterns")
	g.WorkspaceID = rapid.SampledFrom([]string{"", "", "w", "w2"}).Draw(t, "workspace")
	g.GroupID = rapid.SampledFrom([]string{"", "", "g", "g2"}).Draw(t, "group")
	g.StrictScope = rapid.IntRange(0, 3).Draw(t, "strict") == 0
	g.ExpiresAtMs = rapid.SampledFrom([]int64{0, 0, 0, 999_999, 1_000_000, 1_000_001}).Draw(t, "until")
	g.RatePerMinute = rapid.SampledFrom([]int{0, 1, 5}).Draw(t, "rate")
	return g
}

func drawCaller(t *rapid.T) Caller {
	c := Caller{UID: uint32(rapid.IntRange(1, 3).Draw(t, "uid")), GID: uint32(rapid.IntRange(11, 13).Draw(t, "gid")), Contained: rapid.IntRange(0, 4).Draw(t, "in a container") == 0}
	if rapid.IntRange(0, 4).Draw(t, "groups known") > 0 {
		c.Groups = append([]uint32{}, rapid.SliceOfN(rapid.SampledFrom([]uint32{11, 12, 13, 14}), 0, 3).Draw(t, "groups")...)
	}
	return c
}

var scopes = []Scope{{}, {Workspace: "w"}, {Workspace: "w2"}, {Workspace: "w", Group: "g"}, {Workspace: "w", Group: "g2"}, {Workspace: "w2", Group: "g"}}

// remove takes out one grant as an operator would: the last of a consumer
// leaves an empty one.
func remove(grants []api.Grant, i int) []api.Grant {
	same := func(a, b api.Consumer) bool {
		return (a.UID == nil) == (b.UID == nil) && (a.UID == nil || *a.UID == *b.UID) && (a.GID == nil || *a.GID == *b.GID)
	}
	gone := grants[i]
	out := slices.Delete(slices.Clone(grants), i, i+1)
	if !slices.ContainsFunc(out, func(g api.Grant) bool { return same(g.Consumer, gone.Consumer) }) {
		out = append(out, api.Grant{ID: gone.ID, Consumer: gone.Consumer, Capabilities: []string{}})
	}
	return out
}

// Removing grants one by one never lets a caller do more: no capability, no
// context, no credential, and no grant that counts its calls less.
func TestRemovingNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var grants []api.Grant
		for i := range rapid.IntRange(1, 6).Draw(t, "grants") {
			grants = append(grants, drawGrant(t, i))
		}
		def := rapid.SampledFrom([]string{api.GrantAllow, api.GrantDeny}).Draw(t, "default")
		caller := drawCaller(t)
		for range len(grants) + 1 {
			before := NewRules(def, grants).Of(caller)
			fewer := remove(grants, rapid.IntRange(0, len(grants)-1).Draw(t, "removed"))
			after := NewRules(def, fewer).Of(caller)
			if after.Everything() && !before.Everything() {
				t.Fatal("limited no more")
			}
			for _, id := range []string{"a/b", "a/x-read", "b/c", "b/x-read", "B/x"} {
				if after.Knows(id, now) && !before.Knows(id, now) {
					t.Fatalf("%s becomes known", id)
				}
				for _, context := range scopes {
					if after.Reaches(id, context, now) && !before.Reaches(id, context, now) {
						t.Fatalf("%s becomes reachable in %s", id, context)
					}
					for _, credential := range scopes {
						was, could := before.Permits(id, context, credential, now)
						is, can := after.Permits(id, context, credential, now)
						if can && !could {
							t.Fatalf("%s in %s with %s becomes permitted", id, context, credential)
						}
						for _, g := range is {
							if !slices.ContainsFunc(was, func(w api.Grant) bool { return w.ID == g.ID }) {
								t.Fatalf("%s in %s with %s is newly permitted by %s", id, context, credential, g.ID)
							}
						}
					}
				}
			}
			grants = fewer
		}
	})
}

// The rules agree with their sentences, read one grant after the other.
func TestAccessAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var grants []api.Grant
		for i := range rapid.IntRange(0, 6).Draw(t, "grants") {
			grants = append(grants, drawGrant(t, i))
		}
		def := rapid.SampledFrom([]string{api.GrantAllow, api.GrantDeny}).Draw(t, "default")
		caller := drawCaller(t)
		id := rapid.SampledFrom([]string{"a/b", "a/x-read", "b/c", "b/x-read"}).Draw(t, "id")
		context, credential := rapid.SampledFrom(scopes).Draw(t, "context"), rapid.SampledFrom(scopes).Draw(t, "credential")

		var own, groups []api.Grant
		someGroup := false
		for _, g := range grants {
			switch c := g.Consumer; {
			case c.UID != nil && *c.UID == caller.UID:
				own = append(own, g)
			case c.GID != nil && (*c.GID == caller.GID || slices.Contains(caller.Groups, *c.GID)):
				groups = append(groups, g)
			}
			someGroup = someGroup || g.Consumer.GID != nil
		}
		var want []string
		all := false
		theirs := own
		if len(own) == 0 {
			theirs = groups
		}
		if len(theirs) == 0 {
			all = def == api.GrantAllow && (!someGroup || caller.Groups != nil) && !(caller.Contained && len(grants) > 0)
		}
		knows, reaches := all, all
		for _, g := range theirs {
			if g.WorkspaceID == "" && (g.GroupID != "" || g.StrictScope) || g.ExpiresAtMs != 0 && g.ExpiresAtMs <= 1_000_000 {
				continue
			}
			if !Covers(g.Capabilities, id) {
				continue
			}
			knows = true
			mine := Scope{Workspace: g.WorkspaceID, Group: g.GroupID}
			if mine != Global && (context.Workspace != mine.Workspace || mine.Group != "" && context.Group != mine.Group) || g.StrictScope && context != mine {
				continue
			}
			reaches = true
			if context.Sees(credential) && (!g.StrictScope || credential == context) {
				want = append(want, g.ID)
			}
		}
		a := NewRules(def, grants).Of(caller)
		got, ok := a.Permits(id, context, credential, now)
		var gotIDs []string
		for _, g := range got {
			gotIDs = append(gotIDs, g.ID)
		}
		slices.Sort(gotIDs)
		slices.Sort(want)
		if a.Knows(id, now) != knows || a.Reaches(id, context, now) != reaches || !slices.Equal(gotIDs, want) || ok != (len(want) > 0 || all && context.Sees(credential)) {
			t.Fatalf("%s in %s with %s: knows %v, reaches %v, permits %v %v; want %v %v %v", id, context, credential,
				a.Knows(id, now), a.Reaches(id, context, now), gotIDs, ok, knows, reaches, want)
		}
	})
}

// Every call asks: who has no grant costs nothing, who has one next to nothing.
func TestAllocations(t *testing.T) {
	r := NewRules(api.GrantAllow, []api.Grant{{ID: "a", Consumer: uid(1), Capabilities: []string{"a/*", "b/c"}}, {ID: "g", Consumer: gid(1), Capabilities: everything}})
	groups := []uint32{7, 8}
	context := Scope{Workspace: "w"}
	for _, caller := range []Caller{{UID: 9, GID: 9, Groups: groups}, {UID: 1, GID: 1, Groups: groups}, {UID: 2, GID: 1, Groups: groups}} {
		if n := testing.AllocsPerRun(100, func() {
			a := r.Of(caller)
			if _, ok := a.Permits("a/b", context, Global, now); !ok || !a.Knows("a/b", now) || !a.Reaches("a/b", context, now) {
				t.Error("refused")
			}
		}); n != 0 {
			t.Errorf("%d: %v allocations", caller.UID, n)
		}
	}
}

func BenchmarkAccess(b *testing.B) {
	var grants []api.Grant
	for i := range 1000 {
		grants = append(grants, api.Grant{ID: fmt.Sprint(i), Consumer: uid(uint32(i)), Capabilities: []string{"openai/*", "github/repos-read", "*-list"}})
	}
	r := NewRules(api.GrantAllow, grants)
	for name, caller := range map[string]Caller{"none": {UID: 5000, Groups: []uint32{1, 2, 3}}, "own": {UID: 500}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := r.Of(caller).Permits("github/repos-read", Global, Global, now); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
