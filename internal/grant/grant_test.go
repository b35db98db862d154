package grant

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestScopeText(t *testing.T) {
	for text, want := range map[string]Scope{
		"global": {}, "workspace:w": {Workspace: "w"}, "group:w:g": {Workspace: "w", Group: "g"},
		"workspace:acme-1.x_y": {Workspace: "acme-1.x_y"}, "group:1:2": {Workspace: "1", Group: "2"},
	} {
		got, ok := ParseScope(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("%s: %v %v", text, got, ok)
		}
		var words []string
		for _, id := range []struct{ flag, id string }{{"--workspace-id", want.Workspace}, {"--group-id", want.Group}} {
			if id.id != "" {
				words = append(words, id.flag, id.id)
			}
		}
		if flags := got.Flags(); !slices.Equal(strings.Fields(flags), words) || flags != "" && flags[0] != ' ' {
			t.Errorf("%s: flags %q", text, flags)
		}
	}
	for _, text := range []string{
		"", "Global", "global ", "global:", "global:x", "workspace", "workspace:", "workspace:W", "workspace:a:b", "workspace:a ", "workspace: a", "workspace:-a",
		"group", "group:", "group:w", "group:w:", "group::g", "group:w:g:h", "group:w:G", "user:w", "workspace:a/b", "workspace:\u0430", "workspace:a\n", ":", "::",
	} {
		if got, ok := ParseScope(text); ok || got != Global {
			t.Errorf("%q: %v %v", text, got, ok)
		}
	}
	if s := (Scope{Group: "g"}).String(); s == "global" {
		t.Error("a group without a workspace passes for global")
	}
}

func TestSees(t *testing.T) {
	w, w2 := Scope{Workspace: "w"}, Scope{Workspace: "w2"}
	g, g2, other := Scope{Workspace: "w", Group: "g"}, Scope{Workspace: "w", Group: "g2"}, Scope{Workspace: "w2", Group: "g"}
	all := []Scope{Global, w, w2, g, g2, other}
	for _, c := range []struct {
		context Scope
		sees    []Scope
	}{
		{Global, []Scope{Global}},
		{w, []Scope{Global, w}},
		{w2, []Scope{Global, w2}},
		{g, []Scope{Global, w, g}},
		{g2, []Scope{Global, w, g2}},
		{other, []Scope{Global, w2, other}},
	} {
		want := map[Scope]bool{}
		for _, s := range c.sees {
			want[s] = true
		}
		for _, s := range all {
			if c.context.Sees(s) != want[s] {
				t.Errorf("a call in %s sees %s: %v", c.context, s, !want[s])
			}
		}
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "1": true, "a-b_c.d": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "-a": false, ".a": false, "_a": false, "A": false, "a b": false, "a:b": false, "a/b": false, "\u00e9": false, "a\x00": false,
	} {
		if api.ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

// What parses is written as it was read, and every scope sees itself and the
// global one, and nobody sees more than the other way round allows.
func FuzzScope(f *testing.F) {
	for _, s := range []string{"global", "workspace:w", "group:w:g", "group::g", "workspace:a:b", "group:w:g:h"} {
		f.Add(s, "group:w:g2")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s, ok := ParseScope(a)
		if !ok {
			return
		}
		if s.String() != a || !s.Sees(s) || !s.Sees(Global) {
			t.Fatalf("%q is read as %q", a, s)
		}
		if o, ok := ParseScope(b); ok && s != o && s.Sees(o) && o.Sees(s) {
			t.Fatalf("%q and %q see each other", a, b)
		}
	})
}
