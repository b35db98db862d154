// Package server is the daemon's HTTP API: it decodes strictly, asks broker
// and admin, and encodes what they answer. It has no rules of its own.
package server

import (
	"context"
	"net/http"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/broker"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// Config is what the handler needs.
type Config struct {
	Broker *broker.Broker
	Admin  *admin.Admin
	Vault  *vault.Vault
	Daemon *api.DaemonStatus // nil in-process
	Busy   func(delta int)   // counts requests being served, may be nil
}

// New makes the handler of every route in package api.
func New(cfg Config) http.Handler { panic("contract") }

// WithCaller puts the caller that the kernel named into a connection's
// context. A request without one is refused.
func WithCaller(ctx context.Context, who grant.Caller) context.Context { panic("contract") }
