package broker

import (
	"context"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Try says whether spec can authenticate with these values: what could only
// fail at each call is found when it is stored.
func Try(spec api.AuthSpec, fields map[string]secret.Value) error {
	strategy, err := auth.New(spec)
	if err != nil {
		return err
	}
	probe, err := policy.Canonicalise("GET", "/", nil, policy.Rules{})
	if err != nil {
		return err
	}
	add, err := strategy.Additions(context.Background(), auth.Input{Fields: fields, Request: probe, Now: time.Now()})
	if err != nil {
		return err
	}
	wipeAdditions(add)
	return nil
}
