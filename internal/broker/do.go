package broker

import (
	"context"
	"errors"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
)

// Do makes one call. body overrides call.Request.Body when its Reader is not
// nil. When the answer's body ends with an error, it is an *api.Error.
func (b *Broker) Do(ctx context.Context, who grant.Caller, call api.Call, body egress.Body) (*Answer, error) {
	p := b.newPlan(who, &call, body)
	if _, err := b.decide(ctx, p); err != nil {
		return nil, b.refuse(ctx, p, err)
	}
	if err := b.allow(ctx, p); errors.Is(err, context.Canceled) {
		// The log can be written: it was not waited for, and is told so.
		return nil, b.refuse(ctx, p, err)
	} else if err != nil {
		b.bodies.letGo(p)
		return nil, unrecorded("the call was refused, because it could not be recorded", err)
	}
	ctx, stop := b.begin(ctx, p)
	answer, err := b.send(ctx, stop, p)
	if err != nil {
		err = causeOf(ctx, err)
		stop()
		return nil, b.finish(p, outcome{err: err})
	}
	return answer, nil
}

// send opens the secret, authenticates and sends, and prepares the answer.
func (b *Broker) send(ctx context.Context, stop context.CancelFunc, p *plan) (*Answer, error) {
	token, set, err := b.token(ctx, p, 0)
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	response, err := b.transmit(ctx, p, token.Fields)
	if err != nil {
		set.release()
		return nil, err
	}
	if response, set, err = b.again(ctx, p, token.Version, response, set); err != nil {
		return nil, err
	}
	all := &made{raw: counter{r: response.Body}}
	raw := &all.raw
	clean, err := p.withoutBlocked(response, raw)
	if err == nil {
		err = p.checkCharset(response)
	}
	known := b.newWatch(p, set)
	if err == nil {
		err = known.look() // the header was long in coming, perhaps
	}
	if err != nil {
		_ = response.Body.Close()
		set.release()
		return nil, err
	}
	header, redactions := passOn(response.Header, known.text)
	all.body = AnswerBody{
		broker: b, plan: p, ctx: ctx, stop: stop, set: set,
		response: response, raw: raw, scrubbed: known.scrubAnswer(response, clean), redactions: redactions,
		most: p.limits.MaxResponse(),
	}
	all.answer = Answer{
		Planned: p.planned(),
		Status:  response.Status,
		Header:  header,
		Length:  knownLength(response),
		Body:    &all.body,
	}
	return &all.answer, nil
}

// made is an answer with what it is read through: one allocation for all.
type made struct {
	answer Answer
	body   AnswerBody
	raw    counter
}

// transmit is the only moment at which the values of a call are in the clear,
// but for the token that it is made with.
func (b *Broker) transmit(ctx context.Context, p *plan, token map[string]secret.Value) (*egress.Response, error) {
	fields, err := p.credential.open(p.login)
	if err != nil {
		return nil, err
	}
	defer wipe(fields)
	for name, v := range token {
		fields[name] = v
	}
	add, err := p.login.strategy.Additions(ctx, auth.Input{
		Fields: fields, Public: p.credential.publics, Request: p.request, Destination: p.credential.destination(p.decision.Host, p.login),
		Body: p.body.sent.Whole, BodyLength: p.body.sent.Length, Now: b.clock(),
		Nonces: &b.nonces,
	})
	if err != nil {
		return nil, err
	}
	defer wipeAdditions(add)
	p.signed.end() // of the request before, where this one is sent again
	p.signed = newSigned(p.login.strategy, add)
	return b.egress.Send(ctx, p.credential.destination(p.decision.Host, p.login), p.request, add, p.body.sent)
}

func knownLength(r *egress.Response) int64 {
	if r.Length == 0 {
		return 0
	}
	return -1 // scrubbing changes it
}

func (p *plan) planned() api.Planned {
	host := p.decision.Host
	if strings.Count(host, ":") > 1 && host[0] != '[' {
		host = "[" + host + "]"
	}
	scheme := "https://"
	if p.credential.destination(p.decision.Host, p.login).AllowHTTP {
		scheme = "http://"
	}
	url := scheme + host + p.login.pathPrefix + p.request.Path()
	if q := p.request.Query(); q != "" {
		url += "?" + q
	}
	return api.Planned{
		Capability: p.capability.id, Credential: p.credential.ID,
		Method: p.request.Method(), URL: url,
	}
}

// begin bounds the call by its own time limit and by what may happen to its
// secret meanwhile; the error of either is then the context's cause.
func (b *Broker) begin(ctx context.Context, p *plan) (context.Context, context.CancelFunc) {
	stop := context.CancelFunc(func() {})
	if p.timeout > 0 {
		// What the caller took for a body that a policy had to read counts.
		// No longer than it asked for, though, if the clock was set back meanwhile.
		ctx, stop = context.WithTimeoutCause(ctx, p.timeout-max(0, b.clock().Sub(p.started)),
			api.Errorf(api.UpstreamTimeout, "%s: no complete answer within %s", p.decision.Host, p.timeout))
	}
	ctx, end := context.WithCancelCause(ctx)
	b.running.add(p, end)
	return ctx, func() {
		b.running.remove(p)
		end(context.Canceled)
		stop()
	}
}

// causeOf is the error that ended ctx for a reason of ours, else err.
func causeOf(ctx context.Context, err error) error {
	var known *api.Error
	if errors.As(context.Cause(ctx), &known) {
		return known
	}
	return err
}
