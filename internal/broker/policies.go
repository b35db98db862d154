package broker

import (
	"errors"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// A capabilityPolicy is compiled when it is first asked for.
type capabilityPolicy struct {
	entry   *api.Policy
	compile func() (*policy.Limits, error)
}

// newPolicies indexes policies by capability.
func newPolicies(list []api.Policy) map[string]*capabilityPolicy {
	all := make(map[string]*capabilityPolicy, len(list))
	for i := range list {
		entry := &list[i]
		all[entry.Capability] = &capabilityPolicy{entry: entry, compile: sync.OnceValues(func() (*policy.Limits, error) {
			l, err := policy.CompileLimits(*entry)
			// No command leaves an entry without a limit: it stands for a limit
			// of 0 that was put into the state by other means, and is refused
			// rather than taken for none.
			if err == nil && policy.LimitsNothing(entry) {
				err = errors.New("it limits nothing, and a limit of 0 is none")
			}
			if err != nil {
				return nil, api.Errorf(api.PolicyViolation, "the policy of %q is broken: %s", entry.Capability, err.Error())
			}
			return l, nil
		})}
	}
	return all
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
