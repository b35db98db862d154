package broker

import (
	"context"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// pickMember picks the capability that the canonical request belongs to. Of a
// target that is no set it is the only one, whether it admits the request or
// not; of a set the most specific member that admits it and, of several that
// share an endpoint and differ by the operation alone, the one that the body
// asks for. It says plainly when nothing can be done with the capability: it
// is broken, or needs what this version lacks.
func (b *Broker) pickMember(_ context.Context, p *plan) error {
	one := p.target.alone()
	if one == nil {
		fitting, err := p.target.fitting(p.request)
		if err == nil && len(fitting) > 1 && !slices.ContainsFunc(fitting, func(c *capability) bool { return c.policy.Operation == nil }) {
			fitting, err = b.askedFor(p, fitting)
		}
		if err != nil {
			return err
		}
		if len(fitting) > 1 {
			return p.target.rivals(fitting[0], fitting[1], p.request)
		}
		one = fitting[0]
	}
	if err := one.usable(); err != nil {
		return err
	}
	p.capability = one
	return nil
}

// askedFor are those of members whose operation the body asks for. A body that
// has to be taken from the caller is not, unless the call could go out as some
// member's: else it is left to the steps that follow to say why not even one.
func (b *Broker) askedFor(p *plan, members []*capability) ([]*capability, error) {
	if err := members[0].policy.Operation.CheckHead(p.request); err != nil {
		return nil, withDescribe(err, p.target.id)
	}
	most := int64(policy.MaxInspected)
	if !p.body.atHand() {
		var open bool
		if most, open = p.couldBe(members); !open {
			return []*capability{p.target.firstOf(members)}, nil
		}
	}
	whole, waited, err := b.wholeBody(p, most)
	if err != nil {
		return nil, err
	}
	if waited {
		return nil, errChanged // whether it did or not: what was decided so far is of before
	}
	var asked []*capability
	var found *policy.Operation
	var untold error
	for _, one := range members {
		switch o, err := b.tell(p, one.policy.Operation, whole); {
		case err != nil && untold == nil:
			untold = err
		case err != nil:
		case one.policy.Operation.Admits(o):
			asked = append(asked, one)
		default:
			found = o
		}
	}
	switch {
	case len(asked) > 0:
		return asked, nil
	case found != nil:
		return nil, p.target.noOperation(members, found)
	}
	return nil, withDescribe(untold, p.target.id)
}

// couldBe says whether the call, whatever its body asks for, could go out as
// one of members, and how long a body any of these takes.
func (p *plan) couldBe(members []*capability) (most int64, open bool) {
	for _, one := range members {
		if one.usable() != nil || p.index.enabled(one) != nil {
			continue
		}
		use, err := p.index.choose(&p.subject, one, p.call.Credential)
		if err != nil {
			continue
		}
		decision, err := policy.Decide(use.rules, p.request)
		if err != nil || !use.credential.mayReach(decision.Host) {
			continue
		}
		limits, err := p.index.limits(one.id)
		if err != nil {
			continue
		}
		most, open = max(most, limits.MaxInspected()), true
	}
	return most, open
}

// firstOf is the member whose default call is the set's, else the first.
func (t *target) firstOf(members []*capability) *capability {
	if slices.Contains(members, t.usual) {
		return t.usual
	}
	return members[0]
}

// tell reads which operation a body asks for, once. Only so many are read at a
// time: while a document is parsed it takes up far more memory than its body.
func (b *Broker) tell(p *plan, rule *policy.OperationRule, whole []byte) (*policy.Operation, error) {
	if rule.Reads(p.operation) {
		return p.operation, nil
	}
	b.parsing.take(p.caller.UID)
	defer b.parsing.done()
	o, err := rule.Read(p.request, whole)
	if err == nil {
		p.operation = o
	}
	return o, err
}

// checkOperation wants the body to ask for what the capability admits. What
// was judged is then what is sent, byte for byte.
func (b *Broker) checkOperation(ctx context.Context, p *plan) error {
	rule := p.rules.Operation
	if rule == nil {
		return nil
	}
	if err := rule.CheckHead(p.request); err != nil {
		return withDescribe(err, p.capability.id)
	}
	whole, err := b.inspected(ctx, p)
	if err != nil {
		return err
	}
	o, err := b.tell(p, rule, whole)
	switch {
	case err != nil:
		return withDescribe(err, p.capability.id)
	case !rule.Admits(o):
		return rule.Refuse(p.capability.id, o)
	}
	return nil
}

// noOperation lists what operations the members of a set take.
func (t *target) noOperation(members []*capability, o *policy.Operation) error {
	shapes := make([]string, len(members))
	for i, one := range members {
		shapes[i] = one.id + " (" + one.policy.Operation.String() + ")"
	}
	return api.Errorf(api.PolicyViolation, "%s has no capability for %s; it has %s", t.id, o.InWords(), strings.Join(shapes, ", ")).
		WithHint("aivault capability describe %s", shellWord(t.id))
}

// withDescribe adds where to read on, where nothing better was said.
func withDescribe(err error, id string) error {
	e := api.AsError(err)
	if e.Hint != "" {
		return e
	}
	return e.WithHint("aivault capability describe %s", shellWord(id))
}
