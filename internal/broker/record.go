package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
)

// An outcome is how an allowed call ended.
type outcome struct {
	status     int
	sent       int64
	bytes      int64
	redactions int
	note       string // why it ended early without a failure
	err        error
}

// record starts a record with what is known of the call so far. Of the
// caller's words it holds the name of what was asked for, and nothing else.
func (p *plan) record(event string) audit.Record {
	r := audit.Record{Event: event, RequestID: p.id, Caller: p.who, Capability: p.named()}
	if t := p.target; t != nil {
		r.Provider = t.provider.id
		if t.set {
			r.Set = t.id
		}
	}
	if p.capability != nil {
		r.Capability = p.capability.id
	}
	if p.request != nil {
		r.Method = p.request.Method()
	}
	if c := p.credential; c != nil {
		r.Credential, r.Scope = c.ID, c.Scope
	}
	r.Binding = p.binding
	if n := min(len(p.grants), audit.MaxGrants); n > 0 {
		r.Grants = make([]string, n)
		for i := range r.Grants {
			r.Grants[i] = p.grants[i].ID
		}
	}
	r.Host, r.Path = p.decision.Host, p.decision.Rule
	return r
}

// named is the capability as the caller named it.
func (p *plan) named() string {
	if p.call == nil {
		return ""
	}
	return bounded(p.call.Capability, 128)
}

func (p *plan) allowed() audit.Record {
	r := p.record(audit.CallAllowed)
	used := p.credential.used(p.login)
	r.Secrets = make([]audit.SecretUse, 0, len(used))
	for _, f := range used {
		id := p.credential.Secrets[f]
		use := audit.SecretUse{ID: id}
		if s := p.credential.index.snapshot.Secret(id); s != nil {
			use.Version = s.Version
		}
		if !slices.Contains(r.Secrets, use) {
			r.Secrets = append(r.Secrets, use)
		}
	}
	return r
}

// refuse records a refusal and returns the error that the caller gets. A
// refusal that cannot be recorded is a refusal all the same; where there is
// no vault there is no log. A caller of whom the log takes no more hears that
// instead.
func (b *Broker) refuse(ctx context.Context, p *plan, err error) error {
	b.bodies.letGo(p)
	if errors.Is(err, context.Canceled) {
		err = context.Canceled // whichever step it was that waited
	}
	failure := api.AsError(err)
	r := p.record(audit.CallRefused)
	r.Code, r.Reason = string(failure.Code), bounded(failure.Message, 256)
	if over := b.vault.Desk().Refuse(ctx, p.log, r); over != nil {
		return over
	}
	return failure
}

// Refuse records a call that was refused before it could be read, and returns
// the error that the caller gets.
func (b *Broker) Refuse(ctx context.Context, who grant.Caller, err error) error {
	return b.refuse(ctx, &plan{id: rand.Text(), started: b.clock(), who: audit.CallerOf(who)}, err)
}

// finish records how an allowed call ended and returns the error that ends
// it for the caller: the outcome's own, or that there is no record of it.
func (b *Broker) finish(p *plan, o outcome) error {
	b.bodies.letGo(p)
	p.signed.end()
	r := p.record(audit.CallFinished)
	r.Status, r.SentBytes, r.Bytes, r.Redactions = o.status, o.sent, o.bytes, o.redactions
	r.DurationMs = max(0, b.clock().Sub(p.started).Milliseconds())
	r.Reason = bounded(p.noted(o.note), 256)
	failure := api.AsError(o.err)
	if failure != nil {
		r.Code, r.Reason = string(failure.Code), bounded(p.noted(failure.Message), 256)
	}
	err := b.recordOutcome(p, r)
	switch {
	case failure != nil:
		return failure
	case err != nil:
		return unrecorded("the outcome of the call could not be recorded", err)
	}
	return nil
}

// bounded shortens text to at most n bytes, so that a caller cannot fill the
// log, and keeps it valid UTF-8.
func bounded(text string, n int) string {
	if len(text) > n {
		text = text[:n] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}
