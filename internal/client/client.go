// Package client speaks the daemon's API: over its unix socket, or to the
// same handler inside this process.
package client

import (
	"context"
	"io"
	"net/http"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// Config says whom to talk to.
type Config struct {
	Env    daemon.Env
	Build  daemon.Build
	Socket string // --socket; "" for what Env and discovery say
	// Unlock asks the person at the terminal for the vault's passphrase
	// (in-process mode only); nil: vault_locked instead.
	Unlock func(ctx context.Context) (api.Unlock, error)
	// Notice takes lines for people (stderr), e.g. that a daemon was started.
	Notice func(line string)
}

// Client is a connection to one daemon, or to the broker in this process.
type Client struct{}

// Connect finds the daemon and starts the user's own where that is allowed:
// see docs/design.md. daemon_unreachable (exit 7) when there is none.
func Connect(ctx context.Context, cfg Config) (*Client, error) { panic("contract") }

// InProcess says whether the broker runs in this process.
func (c *Client) InProcess() bool { panic("contract") }

// Close closes connections; in-process it closes the vault.
func (c *Client) Close() error { panic("contract") }

// Body is a call's body. Length -1: unknown.
type Body struct {
	Reader io.Reader
	Length int64
}

// Answer is an upstream's answer. Body must be closed. A Read that ends with
// an *api.Error tells what broke the answer off.
type Answer struct {
	Planned api.Planned
	Status  int
	Header  http.Header
	Body    io.ReadCloser
}

// Proxy makes a call. With body.Reader nil the envelope's own body is sent.
func (c *Client) Proxy(ctx context.Context, call api.Call, body Body) (*Answer, error) {
	panic("contract")
}

func (c *Client) Status(ctx context.Context) (api.Status, error)               { panic("contract") }
func (c *Client) Capabilities(ctx context.Context) (api.CapabilityList, error) { panic("contract") }
func (c *Client) Capability(ctx context.Context, id string) (api.CapabilityDetail, error) {
	panic("contract")
}

// The operator's requests: each goes only to a listener that the kernel says
// runs as this user, as root, or as the user that setup wrote down.

func (c *Client) Init(ctx context.Context, r api.KeyOptions) (api.VaultChanged, error) {
	panic("contract")
}
func (c *Client) Unlock(ctx context.Context, r api.Unlock) (api.VaultChanged, error) {
	panic("contract")
}
func (c *Client) Lock(ctx context.Context) (api.VaultChanged, error) { panic("contract") }
func (c *Client) RotateMaster(ctx context.Context, r api.KeyOptions) (api.VaultChanged, error) {
	panic("contract")
}
func (c *Client) Secrets(ctx context.Context) (api.SecretList, error) { panic("contract") }
func (c *Client) CreateSecret(ctx context.Context, r api.SecretCreate) (api.Secret, error) {
	panic("contract")
}
func (c *Client) UpdateSecret(ctx context.Context, ref string, r api.SecretUpdate) (api.Secret, error) {
	panic("contract")
}
func (c *Client) RotateSecret(ctx context.Context, ref string, r api.SecretRotate) (api.Secret, error) {
	panic("contract")
}
func (c *Client) DeleteSecret(ctx context.Context, ref string) (api.SecretDeleted, error) {
	panic("contract")
}
func (c *Client) Credentials(ctx context.Context) (api.CredentialList, error) { panic("contract") }
func (c *Client) CreateCredential(ctx context.Context, r api.CredentialCreate) (api.Credential, error) {
	panic("contract")
}
func (c *Client) DeleteCredential(ctx context.Context, id string) (api.Credential, error) {
	panic("contract")
}
func (c *Client) CreateCapability(ctx context.Context, r api.CapabilityCreate) (api.CapabilityDetail, error) {
	panic("contract")
}
func (c *Client) DeleteCapability(ctx context.Context, id string) (api.CapabilityDetail, error) {
	panic("contract")
}
func (c *Client) Audit(ctx context.Context, limit int) (api.AuditList, error) { panic("contract") }

// Daemon is a running daemon as `daemon status` shows it.
type Daemon struct {
	Sockets []string
	PID     int
	Version string
	Started time.Time
}

// StartDaemon starts the user's own daemon in the background (see Connect)
// or returns the one that runs; started says which.
func StartDaemon(ctx context.Context, cfg Config) (d Daemon, started bool, err error) {
	panic("contract")
}

// StopDaemon asks the user's own daemon to drain and leave, and waits until
// its lock is free.
func StopDaemon(ctx context.Context, cfg Config) (Daemon, error) { panic("contract") }

// RunningDaemon returns the user's own daemon; daemon_unreachable when there is
// none.
func RunningDaemon(ctx context.Context, cfg Config) (Daemon, error) { panic("contract") }
