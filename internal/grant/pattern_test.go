package grant

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
)

func TestValidPattern(t *testing.T) {
	long := strings.Repeat("a", maxPart)
	for p, want := range map[string]bool{
		"openai/chat-completions": true, "openai/*": true, "*-read": true, "*": true, "*/*": true, "*/repos": true, "git*/re*-r*d": true, "openai*": true,
		"a.b_c/d-e": true, "a-*": true, "*-": true, "1/2": true, "a/*-": true,
		long + "/" + long: true, long + "/*" + long[1:]: true,
		"": false, "openai": false, "/": false, "openai/": false, "/x": false, "**": false, "openai/**": false, "a**b/c": false, "a/b/c": false, "*/*/*": false,
		"a/b/*": false, "OpenAI/*": false, "openai/ *": false, " *": false, "-*": false, ".*": false, "_a/*": false, "a/-*": false, "a/.*": false, "/*": false, "*/": false,
		"a/\u0430*": false, "a/b\x00": false, "a/*\n": false, "a/?": false, "a/[b]": false, "a/\\*": false, "{a,b}/*": false, "*%2f*": false,
		long + "a/b": false, long + "a/*": false, "*/" + long + "a": false, "*" + strings.Repeat("a", maxPattern): false,
	} {
		if ValidPattern(p) != want {
			t.Errorf("%q: %v", p, !want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, id string
		want        bool
	}{
		{"openai/*", "openai/models", true},
		{"openai/*", "openai2/models", false},
		{"openai/*", "xopenai/models", false},
		{"openai/models", "openai/models", true},
		{"openai/models", "openai/models2", false},
		{"openai/models", "openai/model", false},
		{"*-read", "github/repos-read", true},
		{"*-read", "github/repos-read2", false},
		{"*-read", "a-read/x", false},
		{"*", "github/repos", true},
		{"github*", "github/repos", true},
		{"github*", "github-enterprise/repos", true},
		{"github/repos*", "github/repos", true},
		{"github/repos*", "github/repos-write", true},
		{"*a*a*", "aa/b", true},
		{"*a*a*", "ab/b", false},
		{"a*a", "a", false},
		{"ab*ba/x", "aba/x", false},
		{"*.*/x", "a.b/x", true},
		{"*-re*-w*", "a/b-rea-read-w", true},
		// no patterns
		{"", "", false},
		{"openai", "openai", false},
		{"**", "a/b", false},
		{"A/b", "A/b", false},
		{"a/b/c", "a/b/c", false},
	} {
		if Match(c.pattern, c.id) != c.want || Covers([]string{"zz/zz", c.pattern}, c.id) != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.id, !c.want)
		}
	}
	if Covers(nil, "a/b") || Covers([]string{}, "a/b") {
		t.Error("no pattern covers something")
	}
}

// slowly matches by trying each length for each '*', a table of prefixes.
func slowly(pattern, id string) bool {
	reach := make([]bool, len(id)+1) // the pattern so far matches id[:i]
	reach[0] = true
	for k := range len(pattern) {
		next := make([]bool, len(id)+1)
		for i := range reach {
			if pattern[k] == '*' {
				next[i] = reach[i] || i > 0 && next[i-1]
			} else {
				next[i] = i > 0 && reach[i-1] && id[i-1] == pattern[k]
			}
		}
		reach = next
	}
	return reach[len(id)]
}

func FuzzMatch(f *testing.F) {
	f.Add("*-read", "github/repos-read")
	f.Add("a*a*b/*", "aaab/b")
	f.Add("*ab*ab", "abab/ab")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, id string) {
		want := slowly(pattern, id)
		if !ValidPattern(pattern) {
			want = false
		}
		if Match(pattern, id) != want {
			t.Fatalf("%q %q: %v", pattern, id, !want)
		}
		if api.ValidID(strings.Replace(id, "/", "-", 1)) && strings.Count(id, "/") == 1 && ValidPattern(id) && !Match(id, id) {
			t.Fatalf("%q does not match itself", id)
		}
	})
}

func TestGlobAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab/*-")), 0, 8, -1).Draw(t, "pattern")
		id := rapid.StringOfN(rapid.RuneFrom([]rune("ab/-")), 0, 12, -1).Draw(t, "id")
		if want := slowly(pattern, id); glob(pattern, id) != want {
			t.Fatalf("%q %q: %v", pattern, id, !want)
		}
	})
}

func TestOn(t *testing.T) {
	on, off := func(p string) api.Switch { return api.Switch{Pattern: p, On: true} }, func(p string) api.Switch { return api.Switch{Pattern: p} }
	for _, c := range []struct {
		what     string
		switches []api.Switch
		plain    bool // whether a/b is on
		admin    bool // and if it is an admin's
	}{
		{"none", nil, true, false},
		{"off by id", []api.Switch{off("a/b")}, false, false},
		{"off by wildcard", []api.Switch{off("a/*")}, false, false},
		{"another's", []api.Switch{off("a/c"), off("b/*")}, true, false},
		{"on by id", []api.Switch{on("a/b")}, true, true},
		{"on by wildcard", []api.Switch{on("*")}, true, false},
		{"off, then on by id", []api.Switch{off("*"), on("a/b")}, true, true},
		{"off, then on by wildcard", []api.Switch{off("a/b"), on("a/*")}, true, false},
		{"on by id, then off", []api.Switch{on("a/b"), off("a/*")}, false, false},
		{"on by id, off, on by wildcard", []api.Switch{on("a/b"), off("a/*"), on("*")}, true, false},
		{"on by id, then by wildcard", []api.Switch{on("a/b"), on("*")}, true, true},
		{"the last counts", []api.Switch{off("*"), on("*"), off("a/b"), on("a/b"), off("a/b*")}, false, false},
		{"no pattern", []api.Switch{off("A/*"), off("**"), off("")}, true, false},
	} {
		if On(c.switches, "a/b", false) != c.plain {
			t.Errorf("%s: %v", c.what, !c.plain)
		}
		if On(c.switches, "a/b", true) != c.admin {
			t.Errorf("%s, an admin's: %v", c.what, !c.admin)
		}
	}
}
