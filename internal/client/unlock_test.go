package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

const envKey = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func TestInProcessAsksForThePassphraseOnce(t *testing.T) {
	cfg := config(t, "AIVAULTD_DISABLE=1")
	first := connect(t, cfg)
	if _, err := first.Init(t.Context(), api.KeyOptions{Provider: "passphrase", Passphrase: secret.FromString("correct horse")}); err != nil {
		t.Fatal(err)
	}
	acme(t, first, nil)

	if _, err := connect(t, cfg).Secrets(t.Context()); api.CodeOf(err) != api.VaultLocked {
		t.Errorf("without anyone to ask: %v", err)
	}
	asked := 0
	cfg.Unlock = func(context.Context) (api.Unlock, error) {
		asked++
		return api.Unlock{Passphrase: secret.FromString("correct horse")}, nil
	}
	c := connect(t, cfg)
	if st, err := c.Status(t.Context()); err != nil || st.Vault.State != "locked" || asked != 0 {
		t.Errorf("status: %+v %v, asked %d times", st.Vault, err, asked)
	}
	// A body that can be sent once is sent once, after the question.
	a, err := c.Proxy(t.Context(), api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/x"}}, Body{io.MultiReader(strings.NewReader("once")), -1})
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if _, err := c.Secrets(t.Context()); err != nil || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	stop := errors.New("no terminal")
	cfg.Unlock = func(context.Context) (api.Unlock, error) { return api.Unlock{}, stop }
	if _, err := connect(t, cfg).Secrets(t.Context()); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	cfg.Unlock = func(context.Context) (api.Unlock, error) {
		return api.Unlock{Passphrase: secret.FromString("wrong")}, nil
	}
	if _, err := connect(t, cfg).Secrets(t.Context()); api.CodeOf(err) != api.VaultLocked {
		t.Errorf("a wrong passphrase: %v", err)
	}
}

// Only a passphrase can be typed: a vault with a key file that somebody locked
// stays locked, and nobody is asked for a passphrase that it does not have.
func TestInProcessAsksForNoPassphraseThatIsNone(t *testing.T) {
	cfg := config(t, "AIVAULTD_DISABLE=1")
	first := connect(t, cfg)
	if _, err := first.Init(t.Context(), api.KeyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Unlock = func(context.Context) (api.Unlock, error) {
		t.Error("a passphrase was asked for")
		return api.Unlock{}, nil
	}
	_, err := connect(t, cfg).Secrets(t.Context())
	if e := api.AsError(err); api.CodeOf(err) != api.VaultLocked || e.Hint != "aivault unlock" {
		t.Errorf("got %v (%+v)", err, e)
	}
}

func TestTheKeyOfAnEnvVaultIsSent(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
	}{{"daemon", nil}, {"in-process", []string{"AIVAULTD_DISABLE=1"}}} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			cfg := config(t, append(c.env, "AIVAULT_KEY="+envKey)...)
			cfg.Env.Autostart = true
			first := connect(t, cfg)
			if _, err := first.Init(ctx, api.KeyOptions{Provider: "env", Key: secret.FromString(envKey)}); err != nil {
				t.Fatal(err)
			}
			if _, err := StopDaemon(ctx, cfg); err != nil && !first.InProcess() {
				t.Fatal(err)
			}
			next := connect(t, cfg)
			if _, err := next.Secrets(ctx); err != nil {
				t.Errorf("with the key in the environment: %v", err)
			}
			if _, err := next.Lock(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := next.Secrets(ctx); api.CodeOf(err) != api.VaultLocked {
				t.Errorf("a vault that was locked by hand was opened: %v", err)
			}
			if _, err := connect(t, cfg).Secrets(ctx); api.CodeOf(err) != api.VaultLocked {
				t.Errorf("and by another process: %v", err)
			}
			if _, err := next.Unlock(ctx, api.Unlock{Key: secret.FromString(envKey)}); err != nil {
				t.Fatal(err)
			}
			without := cfg
			without.Env.Keys = nil
			if !next.InProcess() {
				if _, err := StopDaemon(ctx, cfg); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := connect(t, without).Secrets(ctx); api.CodeOf(err) != api.VaultLocked {
				t.Errorf("without the key: %v", err)
			}
		})
	}
}
