package broker

import (
	"context"
	"fmt"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/policy"
)

// readSigned has the body in memory where the login signs it: what is signed
// is then what is sent. A body that is too long for that goes out unread where
// the login can do without, with its length.
func (b *Broker) readSigned(ctx context.Context, p *plan) error {
	to := p.credential.destination(p.decision.Host, p.login)
	if p.body.signs = p.login.strategy.SignsBody(p.request, to); !p.body.signs {
		return nil
	}
	sent := &p.body.sent
	long := auth.LeavesLong(p.login.strategy, p.request, to)
	switch {
	case p.body.given.Reader == nil && p.call.Request.Body == nil:
		return nil
	case sent.Length > policy.MaxInspected && long:
		return nil
	case sent.Length > policy.MaxInspected:
		return signable(p)
	}
	whole, err := b.inspected(ctx, p)
	if api.CodeOf(err) == api.RequestTooLarge && p.limits.MaxRequest() < 0 {
		if err = signable(p); long {
			err = api.Errorf(api.RequestTooLarge, "a body of more than %d bytes goes to %s only with its length, and it has none", policy.MaxInspected, p.decision.Host).
				WithHint("send a file instead of a pipe: --body-file FILE")
		}
	}
	if err != nil {
		return err
	}
	sent.Whole = whole
	return nil
}

func signable(p *plan) error {
	return api.Errorf(api.RequestTooLarge, "%s signs the body, and so takes one of at most %d bytes", p.capability.id, policy.MaxInspected)
}

// foundSigned is what the step found.
func (p *plan) foundSigned() string {
	switch sent := &p.body.sent; {
	case !p.body.signs:
		return "the login signs none"
	case sent.Length > int64(len(sent.Whole)):
		return fmt.Sprintf("goes out unsigned: it has more than %d bytes", policy.MaxInspected)
	case len(sent.Whole) == 0:
		return "no body"
	}
	return fmt.Sprintf("all %d bytes are signed", len(p.body.sent.Whole))
}
