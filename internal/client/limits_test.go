package client

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// A limit counts the calls of every process that uses the vault.
func TestALimitHoldsForDaemonAndInProcessTogether(t *testing.T) {
	cfg := config(t)
	runDaemon(t, daemon.Config{Env: cfg.Env})
	c := connect(t, cfg)
	acme(t, c, nil)
	inside := cfg
	inside.Env.Disable = true
	other := connect(t, inside)
	if _, err := c.SetPolicy(t.Context(), api.PolicyChange{Capability: "acme/all", RatePerMinute: ptr(3)}); err != nil {
		t.Fatal(err)
	}
	call := func(c *Client) error {
		a, err := c.Proxy(t.Context(), api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/x"}}, Body{})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, a.Body)
		return errors.Join(err, a.Body.Close())
	}
	first := time.Now()
	for i, c := range []*Client{c, other, c} {
		if err := call(c); err != nil {
			t.Fatalf("call %d: %v", i+1, err)
		}
	}
	for name, c := range map[string]*Client{"daemon": c, "in-process": other} {
		err := call(c)
		e := api.AsError(err)
		if err == nil && time.Since(first) > time.Minute {
			continue // so slow a machine may start another
		}
		if api.CodeOf(err) != api.RateLimited || e.RetryAfterMs < 1 || e.RetryAfterMs > time.Minute.Milliseconds() {
			t.Errorf("%s: %v (%+v)", name, err, e)
		}
	}
	info, err := os.Stat(filepath.Join(cfg.Env.Dir, "limits"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func ptr[T any](v T) *T { return &v }
