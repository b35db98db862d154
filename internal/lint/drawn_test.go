package lint

import (
	"strings"

	"moldable.sh/aivault/internal/api"
)

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
