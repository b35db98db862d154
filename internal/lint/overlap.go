package lint

import (
	"fmt"
	"slices"

	"moldable.sh/aivault/internal/policy"
)

// overlaps holds each two capabilities of a provider against each other. What
// both admit has to be declared by the broader one, and some may never be:
// reading implies no writing, what starts on implies nothing that starts off,
// and every call belongs to the one of the two whose rule is more specific,
// which is the same one for all of them.
func overlaps(all []capability) []Problem {
	var problems []Problem
	bad := func(c *capability, format string, args ...any) {
		problems = append(problems, Problem{c.ID, fmt.Sprintf(format, args...)})
	}
	declared := map[string]bool{} // "broader narrower" that are there
	for i := range all {
		for j := range all[i+1:] {
			a, b := &all[i], &all[i+1+j]
			m, err := meet(a, b)
			switch {
			case err != nil:
				bad(a, "what it has in common with %s cannot be told: too many of their rules with a '*' admit the same paths", b.ID)
				continue
			case m == nil:
				continue
			case implies(b.Access, a.Access):
				a, b = b, a
				fallthrough
			case implies(a.Access, b.Access):
				bad(a, "its access is %s, but it admits %s as %s does, which is %s", a.Access, m.call(), b.ID, b.Access)
				continue
			case m.equal != "":
				m.path = m.equal
				bad(a, "it admits %s by a rule as specific as that of %s", m.call(), b.ID)
				continue
			case m.first != "" && m.second != "":
				bad(a, "of %s and it neither is the broader one: %s is more its own, %s more the other's", b.ID, m.first, m.second)
				continue
			case m.first != "":
				a, b = b, a // a is now the broader one
			}
			declared[a.ID+" "+b.ID] = true
			if !slices.Contains(a.Overlaps, b.ID) {
				bad(a, "%s admits %s, too, by a narrower rule: narrow this one, or name the other in its overlaps", b.ID, m.call())
			}
		}
	}
	for i := range all {
		for _, id := range all[i].Overlaps {
			if !declared[all[i].ID+" "+id] {
				bad(&all[i], "its overlaps name %s, which admits none of its calls by a narrower rule", id)
			}
		}
	}
	return problems
}

// implies says whether having one access must not give another.
func implies(less, more string) bool {
	return less == "read" && more != "read" || less != "admin" && more == "admin"
}

// A meeting is what two capabilities have in common: a method, and paths for
// which the first, the second or none of them has the more specific rule.
type meeting struct {
	method               string
	path                 string // one of the following
	first, second, equal string
}

func (m *meeting) call() string { return m.method + " " + m.path }

// meet finds what two capabilities have in common, nil where that is nothing.
// It decides for each two rules exactly whether there is a path for which
// they are the most specific ones, or is policy.ErrTangled.
func meet(a, b *capability) (*meeting, error) {
	if a.hosts[0] != b.hosts[0] || !share(a.places, b.places) || !a.policy.Overlaps(b.policy) {
		return nil, nil
	}
	m := &meeting{}
	for _, method := range a.Methods {
		if m.method == "" && slices.Contains(b.Methods, method) {
			m.method = method
		}
	}
	for _, p := range a.policy.Paths {
		for _, q := range b.policy.Paths {
			path, ok, err := p.Common(q, append(above(a, p), above(b, q)...)...)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			if m.path == "" {
				m.path = path
			}
			switch mine, others := p.Specificity(), q.Specificity(); {
			case mine > others:
				m.first = path
			case mine < others:
				m.second = path
			default:
				m.equal = path
			}
		}
	}
	return m, nil
}

// above are the capability's rules that are more specific than one of them.
func above(c *capability, rule policy.PathRule) []policy.PathRule {
	var more []policy.PathRule
	for _, p := range c.policy.Paths {
		if p.Specificity() > rule.Specificity() {
			more = append(more, p)
		}
	}
	return more
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(h string) bool { return slices.Contains(b, h) })
}
