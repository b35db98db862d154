package broker

import (
	"context"
	"io"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
)

// Results of a check.
const (
	passed     = "passed"
	failedHere = "failed"
	notReached = "not reached"
)

// Explain decides a call as Do would, and makes none: it counts nothing,
// opens no secret and sends nothing. The operator gets every step; anyone else
// learns whether the call would go out, and the error's code if not. Where
// there is no vault yet, a call is judged as far as the registry alone can.
func (b *Broker) Explain(ctx context.Context, who grant.Caller, call api.Call, body egress.Body) (api.Explanation, error) {
	p := b.newPlan(who, &call, body)
	p.asking = true
	defer func() { b.bodies.letGo(p) }()
	failed, reached, err := b.ask(ctx, p)
	e := api.Explanation{Allowed: err == nil, NoVault: p.empty}
	if !who.Operator {
		if err != nil {
			e.Error = &api.Error{Code: api.CodeOf(err)}
		}
		return e, nil
	}
	e.Error, e.Binding = api.AsError(err), p.binding
	if p.target != nil && p.target.set {
		e.Set = p.target.id
	}
	if p.decision.Host != "" {
		planned := p.planned()
		e.Planned = &planned
	}
	for i := range steps {
		c := api.Check{Name: steps[i].name, Result: notReached}
		switch {
		case i == failed:
			c.Result, c.Detail = failedHere, e.Error.Message
		case i < reached:
			c.Result, c.Detail = passed, steps[i].detail(p)
		}
		e.Checks = append(e.Checks, c)
	}
	if err != nil {
		if steps[failed].other {
			e.Instead = b.instead(ctx, p)
		}
		e.Command = p.wayOut(steps[failed].name, e.Error, e.Instead)
	}
	return e, nil
}

// ask decides a call that is not made. reached counts the steps that passed,
// or that were at least looked at.
func (b *Broker) ask(ctx context.Context, p *plan) (failed, reached int, err error) {
	if failed, err = b.decide(ctx, p); err != nil {
		return failed, failed, err
	}
	// A body of unknown length is found to be too long while it is sent.
	if bounded, ok := p.body.sent.Reader.(*boundedBody); ok {
		if _, err = io.Copy(io.Discard, bounded); err != nil {
			return stepOf(stepSize), failed, asBodyError(err)
		}
	}
	return failed, failed, nil
}

func stepOf(name string) int {
	for i := range steps {
		if steps[i].name == name {
			return i
		}
	}
	return len(steps)
}
