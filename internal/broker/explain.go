package broker

import (
	"context"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
)

// Explain decides a call as Do would, and makes none: it counts nothing,
// opens no secret and sends nothing. The operator gets every step; anyone else
// learns whether the call would go out, and the error's code if not.
func (b *Broker) Explain(ctx context.Context, who grant.Caller, call api.Call, body egress.Body) (api.Explanation, error) {
	panic("contract")
}
