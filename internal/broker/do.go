package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
)

// maxTimeout bounds what a caller may ask for; it is far beyond any call.
const maxTimeout = 7 * 24 * time.Hour

// A plan is a call on its way through the pipeline: each step adds to it, and
// what is there when a step fails is what the audit log can say of the call.
type plan struct {
	id         string
	started    time.Time
	who        *audit.Caller
	named      string // the capability as the caller named it
	capability *capability
	context    grant.Scope
	request    *policy.Request
	credential *credential
	login      login
	decision   policy.Decision
	log        *audit.Log
	timeout    time.Duration
}

// Do makes one call. body overrides call.Request.Body when its Reader is not
// nil. When the answer's body ends with an error, it is an *api.Error.
func (b *Broker) Do(ctx context.Context, who grant.Caller, call api.Call, body egress.Body) (*Answer, error) {
	p := &plan{id: rand.Text(), started: b.clock(), who: audit.CallerOf(who), named: call.Capability}
	if err := b.decide(ctx, p, &call, &body); err != nil {
		return nil, b.refuse(ctx, p, err)
	}
	if _, err := p.log.Append(ctx, p.allowed()); err != nil {
		return nil, api.Errorf(api.Internal, "the call was refused, because it could not be recorded: %w", err)
	}
	ctx, stop := b.begin(ctx, p)
	answer, err := b.send(ctx, stop, p, body)
	if err != nil {
		err = causeOf(ctx, err)
		stop()
		return nil, b.finish(ctx, p, outcome{err: err})
	}
	return answer, nil
}

// decide takes the call as far as it goes without a secret.
func (b *Broker) decide(ctx context.Context, p *plan, call *api.Call, body *egress.Body) error {
	if b.refusal != nil {
		refused := api.Errorf(api.PolicyViolation, "%w", b.refusal)
		refused.Hint = api.AsError(b.refusal).Hint
		return refused
	}
	ix, err := b.index(ctx)
	if err != nil {
		return err
	}
	if p.log, err = b.vault.AuditOf(ix.snapshot); err != nil {
		return err
	}
	if call.TimeoutMs < 0 || call.TimeoutMs > maxTimeout.Milliseconds() {
		return api.Errorf(api.InvalidRequest, "the timeout must lie between 0 and %d ms", maxTimeout.Milliseconds())
	}
	p.timeout = time.Duration(call.TimeoutMs) * time.Millisecond
	if p.context, err = contextOf(call); err != nil {
		return err
	}
	if p.capability, err = ix.resolveCapability(call.Capability); err != nil {
		return err
	}
	method, target, err := p.capability.target(&call.Request)
	if err != nil {
		return err
	}
	p.request, err = policy.Canonicalise(method, target, withBody(call, body), p.capability.provider.rules)
	if err != nil {
		return err
	}
	p.credential, p.login, err = ix.resolveCredential(p.capability, p.context, call.Credential)
	if err != nil {
		return err
	}
	if p.decision, err = policy.Decide(p.capability.policy, p.request); err != nil {
		return err
	}
	if !p.credential.mayReach(p.decision.Host) {
		return api.Errorf(api.PolicyViolation, "%s goes to a host that credential %q is not for", p.capability.id, p.credential.ID)
	}
	return nil
}

// withBody settles what is sent as the body and returns the call's headers,
// completed by a content type for a body that was given as text and is JSON.
func withBody(call *api.Call, body *egress.Body) []api.Header {
	headers := call.Request.Headers
	if body.Reader != nil || call.Request.Body == nil {
		return headers
	}
	text := *call.Request.Body
	body.Reader, body.Length = strings.NewReader(text), int64(len(text))
	for _, h := range headers {
		if strings.EqualFold(h.Name, "content-type") {
			return headers
		}
	}
	// JSON as most upstreams take it: strictness is for what aivault reads.
	if !jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return headers
	}
	return append(headers[:len(headers):len(headers)], api.Header{Name: "Content-Type", Value: "application/json"})
}

// send opens the secret, authenticates and sends, and prepares the answer.
func (b *Broker) send(ctx context.Context, stop context.CancelFunc, p *plan, body egress.Body) (*Answer, error) {
	set, err := b.scrub.acquire(p.credential.index, bareHost(p.decision.Host), p.context)
	if err != nil {
		return nil, err
	}
	response, err := p.transmit(ctx, b.egress, b.clock(), body)
	if err != nil {
		set.release()
		return nil, err
	}
	header, redactions := passOn(response.Header, set.Set)
	raw := &counter{r: response.Body}
	return &Answer{
		Planned: p.planned(),
		Status:  response.Status,
		Header:  header,
		Length:  knownLength(response),
		Body: &answerBody{
			broker: b, plan: p, ctx: ctx, stop: stop, set: set,
			response: response, raw: raw, scrubbed: set.Reader(raw), redactions: redactions,
		},
	}, nil
}

// transmit is the only moment at which the values of a call are in the clear.
func (p *plan) transmit(ctx context.Context, client *egress.Client, now time.Time, body egress.Body) (*egress.Response, error) {
	fields, err := p.credential.open(p.login)
	if err != nil {
		return nil, err
	}
	defer wipe(fields)
	add, err := p.login.strategy.Additions(ctx, auth.Input{
		Fields: fields, Public: p.credential.publics, Request: p.request, Host: p.decision.Host, Now: now,
	})
	if err != nil {
		return nil, err
	}
	defer wipeAdditions(add)
	return client.Send(ctx, p.credential.destination(p.decision.Host, p.login), p.request, add, body)
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
	url := "https://" + host + p.login.pathPrefix + p.request.Path()
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
		ctx, stop = context.WithTimeoutCause(ctx, p.timeout,
			api.Errorf(api.UpstreamTimeout, "%s: no complete answer within %s", p.decision.Host, p.timeout))
	}
	ctx, end := context.WithCancelCause(ctx)
	b.running.add(p, end)
	if now := b.current.Load(); now != p.credential.index {
		// The vault changed since the call was decided.
		if err := p.revoked(now); err != nil {
			end(err)
		}
	}
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
