package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
)

// maxTimeout bounds what a caller may ask for; it is far beyond any call.
const maxTimeout = 7 * 24 * time.Hour

// A plan is a call on its way through the pipeline: each step adds to it, and
// what is there when a step fails is what the audit log can say of the call.
type plan struct {
	id      string
	started time.Time
	caller  grant.Caller
	who     *audit.Caller
	call    *api.Call
	asking  bool // the call is explained, not made
	empty   bool // there is no vault yet; only while asking

	index      *index
	log        *audit.Log
	session    *audit.Session
	open       audit.OpenCall
	timeout    time.Duration
	context    grant.Scope
	subject    subject
	target     *target
	request    *policy.Request
	capability *capability
	operation  *policy.Operation // what the body asks for, once that was read
	choice                       // credential, login, rules, binding, grants
	decision   policy.Decision
	limits     *policy.Limits
	body       body
	over       string  // key of the rate that has no room
	note       string  // of the outcome: what happened on the way
	signed     *signed // what signs the request as it was sent last; nil where nothing does
}

func (b *Broker) newPlan(who grant.Caller, call *api.Call, given egress.Body) *plan {
	return &plan{
		id: rand.Text(), started: b.clock(), caller: who, who: audit.CallerOf(who), call: call,
		body: body{given: given},
	}
}

// A step is one check of a call.
type step struct {
	name   string
	run    func(*Broker, context.Context, *plan) error
	detail func(*plan) string // what was found when it passed, for the operator
	other  bool               // where it fails another capability may admit the call
}

// steps are every check of a call, in order. Do runs them and Explain traces
// them: there is no other list, and no step has a second version. The count of
// a rate comes last, so that a call which is refused counts nothing.
var steps = [...]step{
	{name: stepProcess, run: (*Broker).checkProcess, detail: (*plan).foundProcess},
	{name: stepVault, run: (*Broker).openVault, detail: (*plan).foundVault},
	{name: stepLog, run: (*Broker).checkLog, detail: (*plan).foundLog},
	{name: stepRequest, run: (*Broker).readContext, detail: (*plan).foundContext},
	{name: stepCapability, run: (*Broker).findTarget, detail: (*plan).foundTarget, other: true},
	{name: stepCanonical, run: (*Broker).canonicalise, detail: (*plan).foundRequest},
	{name: stepMember, run: (*Broker).pickMember, detail: (*plan).foundMember, other: true},
	{name: stepEnabled, run: (*Broker).checkEnabled, detail: (*plan).foundEnabled, other: true},
	{name: stepCredential, run: (*Broker).pickCredential, detail: (*plan).foundCredential, other: true},
	{name: stepRules, run: (*Broker).applyRules, detail: (*plan).foundRule, other: true},
	{name: stepHost, run: (*Broker).checkHost, detail: (*plan).foundHost, other: true},
	{name: stepPolicy, run: (*Broker).readPolicy, detail: (*plan).foundPolicy},
	{name: stepQuery, run: (*Broker).checkQuery, detail: (*plan).foundQuery},
	{name: stepSize, run: (*Broker).checkSize, detail: (*plan).foundSize},
	{name: stepOperation, run: (*Broker).checkOperation, detail: (*plan).foundOperation, other: true},
	{name: stepFields, run: (*Broker).checkFields, detail: (*plan).foundFields},
	{name: stepSigned, run: (*Broker).readSigned, detail: (*plan).foundSigned},
	{name: stepRate, run: (*Broker).count, detail: (*plan).foundRate},
}

// Names of steps, as an explanation shows them.
const (
	stepProcess    = "process"
	stepVault      = "vault"
	stepLog        = "audit log"
	stepRequest    = "request"
	stepCapability = "capability"
	stepCanonical  = "canonical request"
	stepMember     = "member"
	stepEnabled    = "enabled"
	stepCredential = "credential"
	stepRules      = "rules"
	stepHost       = "host"
	stepPolicy     = "policy"
	stepQuery      = "query"
	stepSize       = "body size"
	stepOperation  = "operation"
	stepFields     = "body fields"
	stepSigned     = "signed body"
	stepRate       = "rate"
)

// errChanged says that the vault changed while a step waited for the caller.
var errChanged = errors.New("broker: the vault changed while the call's body was read")

// decide takes the call as far as it goes without a secret. It returns the
// step that failed, len(steps) where none did.
//
// A vault that changed while the body was read is asked again: what counts is
// how it stands when the call goes out. The body is in memory by then, so
// that nothing waits a second time.
func (b *Broker) decide(ctx context.Context, p *plan) (failed int, err error) {
	for i := 0; i < len(steps); i++ {
		err := steps[i].run(b, ctx, p)
		switch {
		case err == errChanged:
			p.again()
			i = -1
		case err != nil:
			return i, err
		}
	}
	return len(steps), nil
}

// again forgets what was decided, and keeps what was read.
func (p *plan) again() {
	*p = plan{id: p.id, started: p.started, caller: p.caller, who: p.who, call: p.call, asking: p.asking, body: p.body}
}

func (b *Broker) checkProcess(context.Context, *plan) error {
	if b.refusal == nil {
		return nil
	}
	refused := api.Errorf(api.PolicyViolation, "%w", b.refusal)
	refused.Hint = api.AsError(b.refusal).Hint
	return refused
}

func (b *Broker) openVault(ctx context.Context, p *plan) (err error) {
	if p.index, err = b.index(ctx); err != nil {
		if p.asking && b.vault.CanCreate() == nil {
			// There is no vault yet. What the registry alone says of the call
			// can be told, up to the credential that is missing.
			p.index, p.empty = newIndex(b.catalog, nil), true
			return nil
		}
		return err
	}
	p.log, err = b.vault.AuditOf(p.index.snapshot)
	return err
}

// checkLog refuses a caller who has filled as much of the log as one may.
func (b *Broker) checkLog(_ context.Context, p *plan) error {
	return b.vault.Desk().Room(p.caller.UID)
}

func (b *Broker) readContext(_ context.Context, p *plan) (err error) {
	ms := p.call.TimeoutMs
	if ms < 0 || ms > maxTimeout.Milliseconds() {
		return api.Errorf(api.InvalidRequest, "the timeout must lie between 0 and %d ms", maxTimeout.Milliseconds())
	}
	p.timeout = time.Duration(ms) * time.Millisecond
	p.context, err = contextOf(p.call)
	return err
}

func (b *Broker) findTarget(_ context.Context, p *plan) (err error) {
	p.subject = *p.index.subject(p.caller, p.context, b.clock())
	p.target, err = p.index.find(&p.subject, p.call.Capability)
	return err
}

func (b *Broker) canonicalise(_ context.Context, p *plan) error {
	method, target, err := p.target.call(&p.call.Request)
	if err != nil {
		return err
	}
	rules := p.target.provider.rules
	rules.Slashes = p.target.slashes()
	p.request, err = policy.Canonicalise(method, target, p.body.settle(&p.call.Request), rules)
	return err
}

func (b *Broker) checkEnabled(_ context.Context, p *plan) error {
	return p.index.enabled(p.capability)
}

func (b *Broker) pickCredential(_ context.Context, p *plan) error {
	c, err := p.index.choose(&p.subject, p.capability, p.call.Credential)
	if err != nil {
		p.binding = c.binding // which led nowhere
		return err
	}
	p.choice = c
	return nil
}

func (b *Broker) applyRules(_ context.Context, p *plan) (err error) {
	p.decision, err = policy.Decide(p.rules, p.request)
	return err
}

func (b *Broker) checkHost(_ context.Context, p *plan) error {
	if p.credential.mayReach(p.decision.Host) {
		return nil
	}
	return api.Errorf(api.PolicyViolation, "%s goes to a host that credential %q is not for", p.capability.id, p.credential.ID)
}
