package broker

import (
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// A capabilityPolicy is compiled when it is first asked for.
type capabilityPolicy struct {
	entry   *api.Policy
	compile func() (*policy.Limits, error)
}

// newPolicies indexes policies by capability. Two of one capability would
// leave open which of them holds: neither does, and its calls are refused.
func newPolicies(list []api.Policy) map[string]*capabilityPolicy {
	all := make(map[string]*capabilityPolicy, len(list))
	for i := range list {
		entry := &list[i]
		one := &capabilityPolicy{entry: entry}
		broken := func(why string) error {
			return api.Errorf(api.PolicyViolation, "the policy of %q is broken: %s", entry.Capability, why)
		}
		one.compile = sync.OnceValues(func() (*policy.Limits, error) {
			l, err := policy.CompileLimits(*entry)
			switch {
			case err != nil:
				return nil, broken(err.Error())
			case limitsNothing(entry):
				return nil, broken("it limits nothing, and a limit of 0 is none")
			}
			return l, nil
		})
		if all[entry.Capability] != nil {
			one.compile = func() (*policy.Limits, error) { return nil, broken("there are two of it") }
		}
		all[entry.Capability] = one
	}
	return all
}

// limitsNothing says whether an entry has no limit: no command leaves such a
// one, so that it stands for one that was meant.
func limitsNothing(p *api.Policy) bool {
	return p.RatePerMinute == 0 && p.RatePerCallerPerMinute == 0 && p.MaxRequestBodyBytes == 0 && p.MaxResponseBodyBytes == 0 &&
		len(p.ResponseBlock) == 0 && len(p.AllowQuery) == 0 && len(p.DenyQuery) == 0 && len(p.RequireJSON) == 0
}

// limits are what a capability's policy asks, nil where it has none. An error
// is policy_violation: a policy that cannot be evaluated refuses every call of
// its capability.
func (ix *index) limits(capability string) (*policy.Limits, error) {
	if one := ix.policies[capability]; one != nil {
		return one.compile()
	}
	return nil, nil
}
