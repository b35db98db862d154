package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/quota"
)

func (b *Broker) readPolicy(_ context.Context, p *plan) (err error) {
	p.limits, err = p.index.limits(p.capability.id)
	return err
}

func (b *Broker) checkQuery(_ context.Context, p *plan) error {
	return p.limits.CheckQuery(p.request)
}

// count takes the call's place in every rate that limits it. Where nothing
// can count, nothing goes out.
func (b *Broker) count(ctx context.Context, p *plan) error {
	all, any := p.demands()
	if len(all) == 0 && len(any) == 0 {
		return nil
	}
	if b.quota == nil {
		return api.Errorf(api.Internal, "a rate limits %s, and this process cannot count", p.capability.id)
	}
	take := b.quota.Take
	if p.asking {
		take = b.quota.Check
	}
	err := take(ctx, all, any)
	var over *quota.Exceeded
	switch {
	case err == nil:
		return nil
	case errors.As(err, &over):
		return rateLimited(p, over)
	}
	return api.Errorf(api.Internal, "a rate limits %s, and its count is not known: %w", p.capability.id, err)
}

func rateLimited(p *plan, over *quota.Exceeded) error {
	ms := max(1, (over.Wait + time.Millisecond - 1).Milliseconds())
	wait := time.Duration(ms) * time.Millisecond
	e := api.Errorf(api.RateLimited, "%s has had as many calls within a minute as it may: the next can go out in %s", p.capability.id, wait)
	e.RetryAfterMs, p.over = ms, over.Key
	return e
}

// demands are the rates that a call has to keep: all those of its
// capability's policy, and one of those of the grants that permit it, so that
// taking a grant away never lets more through.
func (p *plan) demands() (all, any []quota.Demand) {
	if p.limits != nil {
		limit, id := p.limits.Policy(), p.capability.id
		if n := limit.RatePerMinute; n > 0 {
			all = append(all, quota.Demand{Key: "capability:" + id, PerMinute: n})
		}
		if n := limit.RatePerCallerPerMinute; n > 0 {
			all = append(all, quota.Demand{Key: "caller:" + p.uid() + ":" + id, PerMinute: n})
		}
	}
	rated := func(g api.Grant) bool { return g.RatePerMinute > 0 }
	if !slices.ContainsFunc(p.grants, rated) {
		return all, nil
	}
	for i := range p.grants {
		g := &p.grants[i]
		any = append(any, quota.Demand{Key: "grant:" + g.ID + ":" + p.uid(), PerMinute: g.RatePerMinute})
	}
	return all, any
}

func (p *plan) uid() string { return strconv.FormatUint(uint64(p.caller.UID), 10) }
