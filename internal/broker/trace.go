package broker

import "fmt"

// What each step found when it passed, in words for the operator. A query's
// values and the caller's own names are in them: they go into no log.

func (p *plan) foundProcess() string { return "may make calls" }

func (p *plan) foundVault() string {
	if p.empty {
		return "there is none yet: judged by the registry alone"
	}
	return fmt.Sprintf("unlocked, generation %d", p.index.snapshot.Generation())
}

func (p *plan) foundLog() string { return "has room for records of this user" }

func (p *plan) foundContext() string {
	text := "in scope " + p.context.String()
	if p.timeout > 0 {
		text += fmt.Sprintf(", within %s", p.timeout)
	}
	return text
}

func (p *plan) foundTarget() string {
	if p.target.set {
		return fmt.Sprintf("%s, a set of %d", p.target.id, len(p.target.members))
	}
	return p.target.id
}

func (p *plan) foundRequest() string { return p.request.Method() + " " + p.request.Target() }

func (p *plan) foundMember() string { return p.capability.id }

func (p *plan) foundEnabled() string { return "it is on" }

func (p *plan) foundCredential() string {
	text := fmt.Sprintf("%s, of scope %s", p.credential.ID, p.credential.Scope)
	switch {
	case p.call.Credential != "":
		text += ", as the call says"
	case p.binding != "":
		text += ", by the binding " + p.binding
	}
	return text
}

func (p *plan) foundRule() string { return "admitted by " + p.decision.Rule }

func (p *plan) foundHost() string { return p.decision.Host }

func (p *plan) foundPolicy() string {
	if p.limits == nil {
		return "none"
	}
	return "of " + p.capability.id
}

func (p *plan) foundQuery() string {
	if l := p.limits; l == nil || len(l.Policy().AllowQuery)+len(l.Policy().DenyQuery) == 0 {
		return notLimited
	}
	return "every parameter is allowed"
}

func (p *plan) foundSize() string {
	most, sent := p.limits.MaxRequest(), p.body.sent
	switch {
	case sent.Reader == nil:
		return "no body"
	case most < 0:
		return notLimited
	case sent.Length < 0:
		return fmt.Sprintf("breaks off after %d bytes", most)
	}
	return fmt.Sprintf("%d bytes of at most %d", sent.Length, most)
}

func (p *plan) foundOperation() string {
	if p.rules.Operation == nil {
		return notLimited
	}
	return p.operation.String()
}

func (p *plan) foundFields() string {
	if !p.limits.InspectsBody() {
		return notLimited
	}
	return "the body says what it must"
}

func (p *plan) foundRate() string {
	all, any := p.demands()
	if len(all)+len(any) == 0 {
		return notLimited
	}
	return "there is room for one call more"
}

const notLimited = "not limited"
