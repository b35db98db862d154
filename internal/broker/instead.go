package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// instead is the most specific other capability under which the very same
// request would go out, "" when there is none. That it would is found by
// asking, with every step.
func (b *Broker) instead(ctx context.Context, p *plan) string {
	call := *p.call
	if p.request != nil {
		// As the capability that was named completed it.
		call.Request.Method, call.Request.Path = p.request.Method(), p.request.Target()
	}
	if call.Request.Method == "" || call.Request.Path == "" {
		return ""
	}
	provider, _, _ := strings.Cut(call.Capability, "/")
	if p.target != nil {
		provider = p.target.provider.id
	}
	best, rank := "", -1
	for _, id := range p.index.capabilitiesOf(provider) {
		if id == p.call.Capability {
			continue
		}
		call.Capability = id
		try := &plan{started: p.started, caller: p.caller, who: p.who, call: &call, asking: true, body: p.body}
		_, err := b.decide(ctx, try)
		p.body = try.body // what was read is read
		if _, open := try.body.sent.Reader.(*boundedBody); err != nil || open || try.capability.id != id {
			continue // open: how long the body is would show only when it is sent
		}
		rule, err := policy.ParsePathRule(try.decision.Rule)
		if err == nil && rule.Specificity() > rank {
			best, rank = id, rule.Specificity()
		}
	}
	return best
}

// wayOut is the command that would change the result, "" when no one command
// does.
func (p *plan) wayOut(step string, err *api.Error, instead string) string {
	switch step {
	case stepEnabled:
		return "aivault capability enable " + p.capability.id
	case stepPolicy:
		return "aivault capability policy clear --capability " + p.capability.id
	case stepQuery, stepSize, stepFields, stepRate:
		if flags := p.loosen(step, err); flags != "" {
			return "aivault capability policy set --capability " + p.capability.id + flags
		}
	case stepCapability, stepMember, stepRules, stepHost, stepOperation:
		if instead != "" {
			return p.invoke(instead)
		}
		if step == stepOperation && err.Code == api.RequestTooLarge && p.limits.MaxRequest() >= 0 {
			return "aivault capability policy set --capability " + p.capability.id + p.loosen(step, err)
		}
	}
	if strings.HasPrefix(err.Hint, "aivault ") && !strings.HasPrefix(err.Hint, "aivault explain ") {
		return err.Hint
	}
	return "" // nor would asking the same again change anything
}

// loosen is what of the capability's policy would have to be said anew.
func (p *plan) loosen(step string, err *api.Error) string {
	limit := p.limits.Policy()
	switch {
	case step == stepQuery:
		flags := ""
		for _, one := range []struct {
			flag string
			part api.Policy
		}{
			{" --allow-query none", api.Policy{Capability: limit.Capability, AllowQuery: limit.AllowQuery}},
			{" --deny-query none", api.Policy{Capability: limit.Capability, DenyQuery: limit.DenyQuery}},
		} {
			if l, err := policy.CompileLimits(one.part); err == nil && l.CheckQuery(p.request) != nil {
				flags += one.flag
			}
		}
		return flags
	case step == stepFields && err.Code == api.PolicyViolation:
		return " --require-json-field none"
	case err.Code == api.RequestTooLarge && p.limits.MaxRequest() >= 0:
		if n := p.body.sent.Length; n > p.limits.MaxRequest() {
			return fmt.Sprintf(" --max-request-body-bytes %d", n)
		}
		return " --max-request-body-bytes none"
	case err.Code == api.RequestTooLarge:
		return " --require-json-field none"
	case strings.HasPrefix(p.over, "capability:"):
		return " --rate-limit-per-minute none"
	case strings.HasPrefix(p.over, "caller:"):
		return " --rate-limit-per-minute none --per-caller"
	}
	return ""
}

// invoke is the command that makes the same call of another capability. What
// it cannot repeat, headers and a body, stands as an ellipsis.
func (p *plan) invoke(id string) string {
	text := "aivault invoke " + id
	add := func(flag, value string) {
		if value != "" {
			text += " " + flag + " " + shellWord(value)
		}
	}
	r := &p.call.Request
	method, path := r.Method, r.Path
	if p.request != nil {
		method, path = p.request.Method(), p.request.Target()
	}
	add("--method", method)
	add("--path", path)
	add("--workspace-id", p.call.WorkspaceID)
	add("--group-id", p.call.GroupID)
	add("--credential", p.call.Credential)
	if len(r.Headers) > 0 || r.Body != nil || p.body.given.Reader != nil {
		text += " …"
	}
	return text
}

// capabilitiesOf lists a provider's capabilities, registry and custom.
func (ix *index) capabilitiesOf(provider string) []string {
	var ids []string
	if p := ix.registry.Provider(provider); p != nil {
		for i := range p.Capabilities {
			ids = append(ids, p.Capabilities[i].ID)
		}
	}
	for _, c := range ix.byOwner[provider] {
		ids = append(ids, c.entry.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
