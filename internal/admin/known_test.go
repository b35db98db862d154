package admin

import (
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/grant"
)

// No pattern matches a capability of a provider that it cannot be about.
func TestMayReach(t *testing.T) {
	for _, c := range []struct {
		pattern, provider string
		want              bool
	}{
		{"openai/*", "openai", true}, {"openai/models", "openai", true}, {"openai/*", "open", false}, {"open*", "openai", true},
		{"*", "openai", true}, {"*-read", "openai", true}, {"op*/models", "openai", true}, {"op*/models", "github", false},
		{"openai", "openai", true}, {"open", "openai", false}, {"", "openai", false}, {"openai/*", "openai-2", false},
	} {
		if mayReach(c.pattern, c.provider) != c.want {
			t.Errorf("%q may reach %s: %v", c.pattern, c.provider, !c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*]{0,3}/?[ab*]{0,3}`).Draw(t, "pattern")
		provider := rapid.StringMatching(`[ab]{1,3}`).Draw(t, "provider")
		id := provider + "/" + rapid.StringMatching(`[ab]{1,3}`).Draw(t, "name")
		if grant.Match(pattern, id) && !mayReach(pattern, provider) {
			t.Fatalf("%s matches %s", pattern, id)
		}
	})
}
