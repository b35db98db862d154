package broker_test

import (
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// A key that a person typed is held until it is taken back: an hour without a
// call changes nothing, and neither does the process that asks.
func TestAnUnlockedPassphraseVaultStaysOpen(t *testing.T) {
	now := time.Now()
	v := start(t, aivaulttest.Options{Clock: func() time.Time { return now }})
	if _, err := v.Admin.Init(background, aivaulttest.Operator(), api.KeyOptions{Provider: "passphrase", Passphrase: secret.FromString("a long passphrase")}); err != nil {
		t.Fatal(err)
	}
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	mustInvoke(t, v, get("openai/models", "/v1/models"))

	now = now.Add(time.Hour)
	mustInvoke(t, v, get("openai/models", "/v1/models"))

	// Another process holds no key, and the twin of the hour is a lock after it.
	other := v.Open(t)
	if _, _, err := other.Invoke(get("openai/models", "/v1/models")); api.CodeOf(err) != api.VaultLocked {
		t.Errorf("a process without the passphrase: %v", err)
	}
	if _, err := v.Admin.Lock(background, aivaulttest.Operator()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Admin.Unlock(background, aivaulttest.Operator(), api.Unlock{Passphrase: secret.FromString("a long passphrase"), ForMs: time.Hour.Milliseconds()}); err != nil {
		t.Fatal(err)
	}
	mustInvoke(t, v, get("openai/models", "/v1/models"))
	now = now.Add(time.Hour)
	mustRefuse(t, v, get("openai/models", "/v1/models"), api.VaultLocked)
}

// What was replaced before the vault was locked is looked for when it is open
// again.
func TestReplacedValuesAreScrubbedAfterALock(t *testing.T) {
	const old = "sk-acme-the-first-0123456789"
	v := start(t, aivaulttest.Options{})
	acme(t, v, old, bearer())
	mustInvoke(t, v, get("acme/all", "/"))
	rotate(t, v, "ACME_TOKEN", "sk-acme-the-second-0123456789")
	if _, err := v.Admin.Lock(background, aivaulttest.Operator()); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, v, get("acme/all", "/"), api.VaultLocked)
	if _, err := v.Admin.Unlock(background, aivaulttest.Operator(), api.Unlock{}); err != nil {
		t.Fatal(err)
	}
	if body := mustInvoke(t, v, get("acme/all", "/"+old)); strings.Contains(body, old) || !strings.Contains(body, secret.Redacted) {
		t.Errorf("body %q", body)
	}
}
