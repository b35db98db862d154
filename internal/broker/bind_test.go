package broker_test

import (
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/vault"
)

// A binding whose pattern names no provider is for that of its credential; one
// that names its provider is for it, whatever the credential became.
func TestABindingIsForTheProviderOfItsCredential(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-openai-0123456789")
	v.Create(t, "GITHUB_TOKEN", "ghp-github-0123456789")
	bind := func(pattern, credential string) {
		t.Helper()
		tamper(t, v, func(tx *vault.Tx) error {
			tx.State.Bindings = []api.Binding{{ID: "b1", Capability: pattern, Credential: credential, Scope: "global"}}
			return nil
		})
	}
	for _, pattern := range []string{"*", "*-read", "*/models"} {
		bind(pattern, "openai")
		mustInvoke(t, v, get("github/user-read", "/user"))
		mustInvoke(t, v, get("openai/models", "/v1/models"))
	}
	bind("*", "gone")
	mustRefuse(t, v, get("github/user-read", "/user"), api.CredentialNotFound)
	bind("github/*", "openai")
	mustRefuse(t, v, get("github/user-read", "/user"), api.CredentialNotFound)
	mustInvoke(t, v, get("openai/models", "/v1/models"))
}
