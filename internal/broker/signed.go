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
	switch text := p.call.Request.Body; {
	case p.body.read:
		sent.Whole = p.body.whole
	case p.body.given.Reader == nil && text == nil:
	case sent.Length > policy.MaxInspected:
		if !auth.LeavesLong(p.login.strategy, p.request, to) {
			return signable(p)
		}
	case p.body.given.Reader == nil:
		sent.Whole = []byte(*text)
	default:
		long := auth.LeavesLong(p.login.strategy, p.request, to)
		err := b.readWhole(ctx, p)
		if api.CodeOf(err) == api.RequestTooLarge && p.limits.MaxRequest() < 0 {
			if err = signable(p); long {
				err = api.Errorf(api.RequestTooLarge, "a body of more than %d bytes goes to %s only with its length, and it has none", policy.MaxInspected, p.decision.Host).
					WithHint("send a file instead of a pipe: --body-file FILE")
			}
		}
		if err != nil {
			return err
		}
		sent.Whole = p.body.whole
	}
	return nil
}

func signable(p *plan) error {
	return api.Errorf(api.RequestTooLarge, "%s signs the body, and so takes one of at most %d bytes", p.capability.id, policy.MaxInspected)
}

// readWhole reads the body into memory. A caller may take its time with it, so
// that the vault is looked at again.
func (b *Broker) readWhole(ctx context.Context, p *plan) error {
	if err := b.readBody(p); err != nil {
		return err
	}
	if now, err := b.index(ctx); err != nil || now != p.index || p.expired(b.clock()) {
		return errChanged
	}
	return nil
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
