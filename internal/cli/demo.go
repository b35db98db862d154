package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/daemon"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

func newDemo(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Watch a call reach an HTTPS API with a key that the caller never sees",
		Long: "Makes a throw-away vault and an HTTPS API of its own on this machine, stores a key, calls the\n" +
			"API, and shows side by side what the caller got and what the API received. Then it tries\n" +
			"three attacks, prints the audit log, and removes everything. It needs no key and no network,\n" +
			"and touches neither your vault nor your daemon.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo(cmd.Context(), o) },
	}
}

// demoRun is what the demo did; it is also what --json prints.
type demoRun struct {
	Vault       string          `json:"vault"`
	Host        string          `json:"host"`
	Capability  string          `json:"capability"`
	CallerGot   demoCallerGot   `json:"callerGot"`
	APIReceived demoAPIReceived `json:"apiReceived"`
	Attacks     []demoAttack    `json:"attacks"`
	APIRequests int             `json:"apiRequests"`
	Audit       []api.RawRecord `json:"audit"`
}

type demoCallerGot struct {
	Status int            `json:"status"`
	Body   jsontext.Value `json:"body"`
}

type demoAPIReceived struct {
	Method        string `json:"method"`
	Path          string `json:"path"`
	Authorization string `json:"authorization"`
	Body          string `json:"body"`
}

// demoAttack is a call that must be refused.
type demoAttack struct {
	Name    string      `json:"name"`
	Command string      `json:"command"`
	Code    api.Code    `json:"error"`
	Why     string      `json:"message"`
	request api.Request // what is tried
}

const (
	demoCapability = "demo/echo"
	demoBody       = `{"hello":"world"}`
)

// demo runs in a directory of its own, which is gone when it returns, also
// after Ctrl-C.
func demo(ctx context.Context, o *Options) (err error) {
	env, err := o.env()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "aivault-demo-")
	if err != nil {
		return api.Errorf(api.Internal, "demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	upstream, err := standin.Start(nil)
	if err != nil {
		return err
	}
	defer upstream.Close()
	c, err := demoClient(ctx, o, dir, env.DevNames)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()

	run := &demoRun{
		Vault: filepath.Join(dir, "vault"), Capability: demoCapability,
		Host: fmt.Sprintf("localhost:%d", upstream.Addr().Port()),
	}
	key := "demo-" + rand.Text()
	if err := demoSetUp(ctx, c, run, upstream, key); err != nil {
		return err
	}
	if err := demoCall(ctx, c, run, upstream, key); err != nil {
		return err
	}
	if err := demoAttacks(ctx, c, run, upstream); err != nil {
		return err
	}
	log, err := c.Audit(ctx, audit.Query{Limit: 200})
	if err != nil {
		return err
	}
	run.Audit = log.Records
	if o.JSON {
		return o.printJSON(run)
	}
	return o.printDemo(run)
}

// demoClient is a broker in this process, on a vault of its own.
func demoClient(ctx context.Context, o *Options, dir string, devNames []string) (*client.Client, error) {
	env, err := daemon.ParseEnv([]string{
		"HOME=" + dir, "AIVAULT_DIR=" + filepath.Join(dir, "vault"), "AIVAULTD_DISABLE=1", "AIVAULT_DISABLE_DISK_LOGS=1",
	})
	if err != nil {
		return nil, err
	}
	// A build that must not call while these are set does not in the demo
	// either.
	env.DevNames = devNames
	return client.Connect(ctx, client.Config{Env: env, Build: o.Build})
}

// demoSetUp makes the vault and tells it of the API: the exceptions for a
// private address, a port and a CA are this credential's alone.
func demoSetUp(ctx context.Context, c *client.Client, run *demoRun, upstream *standin.API, key string) error {
	if _, err := c.Init(ctx, api.KeyOptions{Provider: keysource.File}); err != nil {
		return err
	}
	s, err := c.CreateSecret(ctx, api.SecretCreate{Name: "DEMO_KEY", Value: secret.FromString(key), Scope: "global"})
	if err != nil {
		return err
	}
	_, err = c.CreateCredential(ctx, api.CredentialCreate{
		ID: "demo", Provider: "demo", SecretRefs: map[string]string{"": "vault:secret:" + s.ID},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{run.Host},
		CAPEM: string(upstream.CAPEM()), AllowPrivateNetwork: true, AllowPorts: []int{int(upstream.Addr().Port())},
	})
	if err != nil {
		return err
	}
	_, err = c.CreateCapability(ctx, api.CapabilityCreate{ID: demoCapability, Methods: []string{"POST"}, Paths: []string{"=/echo"}})
	return err
}

// demoCall makes the one call that is allowed, and checks what the demo is
// about to claim.
func demoCall(ctx context.Context, c *client.Client, run *demoRun, upstream *standin.API, key string) error {
	body := demoBody
	answer, err := c.Proxy(ctx, api.Call{Capability: demoCapability, Request: api.Request{Body: &body}}, client.Body{})
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	run.CallerGot = demoCallerGot{Status: answer.Status, Body: got}
	seen := upstream.Seen()
	if len(seen) != 1 || !run.CallerGot.Body.IsValid() {
		return api.Errorf(api.Internal, "demo: the call did not go as it should: the API saw %d requests", len(seen))
	}
	run.APIReceived = demoAPIReceived{
		Method: seen[0].Method, Path: seen[0].Target, Authorization: seen[0].Header.Get("Authorization"), Body: string(seen[0].Body),
	}
	if run.APIReceived.Authorization != "Bearer "+key || strings.Contains(string(got), key) || !strings.Contains(string(got), secret.Redacted) {
		return api.Errorf(api.Internal, "demo: the key is not where it should be")
	}
	return nil
}

// demoAttacks tries what a caller without a key may try first.
func demoAttacks(ctx context.Context, c *client.Client, run *demoRun, upstream *standin.API) error {
	body := demoBody
	forged := []api.Header{{Name: "Authorization", Value: "Bearer mine"}}
	attacks := []demoAttack{
		{Name: "another path", Command: "--path /admin/keys", request: api.Request{Method: "POST", Path: "/admin/keys", Body: &body}},
		{Name: "another host", Command: "--path https://evil.test/echo", request: api.Request{Method: "POST", Path: "https://evil.test/echo", Body: &body}},
		{Name: "a key of its own", Command: "-H 'Authorization: Bearer mine'", request: api.Request{Headers: forged, Body: &body}},
	}
	for _, a := range attacks {
		answer, err := c.Proxy(ctx, api.Call{Capability: demoCapability, Request: a.request}, client.Body{})
		if err == nil {
			return errors.Join(api.Errorf(api.Internal, "demo: the attack %q was not refused", a.Name), answer.Body.Close())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e := api.AsError(err)
		if code := api.OutcomeOf(e.Code).Exit; code != 3 && code != 2 {
			return err
		}
		a.Code, a.Why = e.Code, e.Message
		run.Attacks = append(run.Attacks, a)
	}
	if run.APIRequests = len(upstream.Seen()); run.APIRequests != 1 {
		return api.Errorf(api.Internal, "demo: an attack reached the API")
	}
	return nil
}

// echoed is the part of the API's answer that the demo shows: the headers
// that the API says it received.
type echoed struct {
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
}

func (r *demoRun) echoed() (auth, body string) {
	var e echoed
	_ = json.Unmarshal(r.CallerGot.Body, &e) // checked in demoCall; an empty answer shows as such
	return strings.Join(e.Headers["Authorization"], ", "), e.Body
}
