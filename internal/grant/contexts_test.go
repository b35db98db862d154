package grant

import (
	"fmt"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestContexts(t *testing.T) {
	r := NewRules(api.GrantAllow, []api.Grant{
		{Consumer: uid(1), Capabilities: []string{"a/b"}, WorkspaceID: "w"},
		{Consumer: uid(1), Capabilities: []string{"a/*"}, WorkspaceID: "w", GroupID: "g", StrictScope: true},
		{Consumer: uid(1), Capabilities: []string{"*"}, WorkspaceID: "w"},
		{Consumer: uid(1), Capabilities: []string{"c/d"}},
		{Consumer: uid(1), Capabilities: []string{"*"}, WorkspaceID: "past", ExpiresAtMs: 1},
		{Consumer: uid(1), Capabilities: []string{"*"}, GroupID: "nowhere"},
		{Consumer: uid(2), Capabilities: []string{"*"}, WorkspaceID: "other"},
	})
	for capability, want := range map[string]string{
		"a/b": "[workspace:w group:w:g]",
		"c/d": "[workspace:w global]",
		"e/f": "[workspace:w]",
	} {
		if got := fmt.Sprint(r.Of(Caller{UID: 1}).Contexts(capability, now)); got != want {
			t.Errorf("%s: %s, want %s", capability, got, want)
		}
	}
	if got := r.Of(Caller{UID: 1, Operator: true}).Contexts("a/b", now); got != nil {
		t.Errorf("the operator is limited to %v", got)
	}
}
