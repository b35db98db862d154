// Package broker makes authenticated calls on behalf of callers who hold no
// key. Do is one pipeline for every surface: canonicalise, resolve, decide,
// record, open the secret, authenticate, send, clean the answer, record.
package broker

import (
	"context"
	"io"
	"net/http"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Config is what a Broker needs.
type Config struct {
	Vault    *vault.Vault
	Registry *registry.Registry
	Egress   *egress.Client
	Clock    func() time.Time // default time.Now
	// Refuse, when not nil, is why no call may be made by this process: a
	// build that does not know the development variables found one set.
	Refuse error
}

// Broker makes calls. Its methods may be called concurrently.
type Broker struct{}

// New makes a Broker.
func New(cfg Config) *Broker { panic("contract") }

// Answer is an upstream's answer as the caller may see it. Body must be
// closed. Err tells, after Body ended, what broke it off (nil: nothing).
type Answer struct {
	Planned api.Planned
	Status  int
	Header  http.Header // the few that are passed on, scrubbed
	Length  int64       // -1 unknown
	Body    io.ReadCloser
}

// Do makes one call. body overrides call.Request.Body when its Reader is not
// nil. When the answer's body ends with an error, it is an *api.Error.
func (b *Broker) Do(ctx context.Context, who grant.Caller, call api.Call, body egress.Body) (*Answer, error) {
	panic("contract")
}

// Capabilities lists what the caller may know of.
func (b *Broker) Capabilities(ctx context.Context, who grant.Caller) (api.CapabilityList, error) {
	panic("contract")
}

// Capability describes one capability.
func (b *Broker) Capability(ctx context.Context, who grant.Caller, id string) (api.CapabilityDetail, error) {
	panic("contract")
}

// Providers and Problems are the broker's part of a status.
func (b *Broker) Providers(ctx context.Context, who grant.Caller) ([]api.ProviderStatus, []api.Problem) {
	panic("contract")
}
