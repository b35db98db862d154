package client

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// What one takes away in-process ends the streams of the daemon that runs.
func TestAnInProcessChangeEndsTheDaemonsStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(ctx context.Context, c *Client) error
		code   api.Code
	}{
		{"lock", func(ctx context.Context, c *Client) error { _, err := c.Lock(ctx); return err }, api.VaultLocked},
		{"secret", func(ctx context.Context, c *Client) error { _, err := c.DeleteSecret(ctx, "ACME_KEY"); return err }, api.PolicyViolation},
		{"credential", func(ctx context.Context, c *Client) error { _, err := c.DeleteCredential(ctx, "acme"); return err }, api.PolicyViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t)
			runDaemon(t, daemon.Config{Env: cfg.Env})
			served := connect(t, cfg)
			acme(t, served, nil)
			a, err := served.Proxy(t.Context(), api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/sse"}}, Body{})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, a.Body)
				ended <- err
			}()
			inside := cfg
			inside.Env.Disable = true
			inside.Notice = func(l string) { t.Errorf("said %q", l) }
			if err := c.change(t.Context(), connect(t, inside)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if api.CodeOf(err) != c.code || !strings.Contains(err.Error(), "during the call") {
					t.Errorf("the stream ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the stream goes on")
				a.Body.Close()
				<-ended
			}
		})
	}
}

// A daemon that hangs holds up a change in this process for a moment only.
func TestAnInProcessChangeDoesNotWaitForADaemonThatHangs(t *testing.T) {
	cfg := config(t)
	runDaemon(t, daemon.Config{Env: cfg.Env}) // writes the lock
	if err := os.Remove(cfg.Env.OwnSocket); err != nil {
		t.Fatal(err)
	}
	l := listenAt(t, cfg.Env.OwnSocket) // takes connections, by its queue, and says nothing
	defer l.Close()
	inside := cfg
	inside.Env.Disable = true
	c := connect(t, inside)
	start := time.Now()
	if _, err := c.Init(t.Context(), api.KeyOptions{Provider: "file"}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 8*tellPatience {
		t.Errorf("the change took %v", took)
	}
}
