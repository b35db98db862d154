package lint

import (
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// overlaps finds the capabilities that admit more than their access says,
// because a rule of theirs covers one of another capability: reading implies
// no writing, and nothing that starts on implies what starts off.
func overlaps(all []capability) []Problem {
	var problems []Problem
	for _, less := range all {
		for _, more := range all {
			if !implies(less.Access, more.Access) || !share(less.hosts, more.hosts) || !share(less.places, more.places) ||
				!less.policy.Operation.Meets(more.policy.Operation) {
				continue
			}
			if method, rule := covered(less, more); rule != "" {
				problems = append(problems, Problem{less.ID, fmt.Sprintf("its access is %s, but it admits %s %s of %s, which is %s",
					less.Access, method, rule, more.ID, more.Access)})
			}
		}
	}
	return problems
}

// implies says whether having one access must not give another.
func implies(less, more string) bool {
	return less == "read" && more != "read" || less != "admin" && more == "admin"
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(h string) bool { return slices.Contains(b, h) })
}

// covered finds a method and a rule of more whose own path less admits. What
// more admits of a broader rule below an endpoint of less is not meant: a
// prefix may hold a narrower reading endpoint.
func covered(less, more capability) (method, rule string) {
	for _, method := range more.Methods {
		if !slices.Contains(less.Methods, method) {
			continue
		}
		for _, rule := range more.Paths {
			for _, headers := range more.allMatching() {
				if less.admits(method, instance(rule), headers) == nil {
					return method, rule
				}
			}
		}
	}
	return "", ""
}

// instance is a path that a rule stands for, with a text in place of each '*'
// that no other rule names.
func instance(rule string) string {
	path := strings.ReplaceAll(strings.TrimPrefix(rule, "="), "*", "q7w2")
	if strings.HasSuffix(path, "/") && !strings.HasPrefix(rule, "=") {
		path += "q7w2"
	}
	return path
}

// allMatching are the headers that the capability asks for, each value of one
// name by itself.
func (c capability) allMatching() [][]api.Header {
	if len(c.MatchHeader) == 0 {
		return [][]api.Header{nil}
	}
	var all [][]api.Header
	for _, m := range c.MatchHeader {
		name, value, _ := strings.Cut(m, ": ")
		headers := []api.Header{{Name: name, Value: value}}
		for _, h := range c.matching() {
			if h.Name != name {
				headers = append(headers, h)
			}
		}
		all = append(all, headers)
	}
	return all
}
