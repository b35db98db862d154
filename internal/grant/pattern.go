package grant

import (
	"strings"

	"moldable.sh/aivault/internal/api"
)

// ValidPattern says whether s is a pattern of capability ids: an id, in which
// '*' stands for any text, slashes included: provider/*, provider/name, *-read
// and * alone. Two '*' side by side are no pattern: one says the same. Nor is
// a text that no id could match, such as one with two slashes.
func ValidPattern(s string) bool {
	first, second, slash := strings.Cut(s, "/")
	if !strings.Contains(s, "*") {
		return slash && api.ValidID(first) && api.ValidID(second)
	}
	if strings.Contains(s, "**") {
		return false
	}
	if !slash {
		return validPart(s, maxPattern) // a '*' of it stands for the slash
	}
	return validPart(first, maxPart) && validPart(second, maxPart)
}

// An id's two parts, and the id.
const (
	maxPart    = 64
	maxPattern = 2*maxPart + 1
)

// validPart says whether s could be a part of an id, once its '*' are filled.
func validPart(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '*':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return false
		}
	}
	return true
}

// Match says whether a pattern matches a capability's id. What is no pattern
// matches nothing.
func Match(pattern, id string) bool {
	return glob(pattern, id) && ValidPattern(pattern) // in this order: most don't match
}

// Covers says whether one of the patterns matches id.
func Covers(patterns []string, id string) bool {
	for _, p := range patterns {
		if Match(p, id) {
			return true
		}
	}
	return false
}

// glob matches a pattern, valid or not. Each text between two '*' is looked for once,
// from left to right: the leftmost place is as good as any other, because
// what follows it only has more room.
func glob(pattern, id string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == id
	}
	id, ok := strings.CutPrefix(id, head)
	if !ok {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(id, part)
		}
		i := strings.Index(id, part)
		if i < 0 {
			return false
		}
		id, rest = id[i+len(part):], after
	}
}

// On says whether a capability is on after the switches: the last that
// matches counts. Without one it is on unless it is an admin's; an admin
// capability is turned on by its own id alone, never by a wildcard.
func On(switches []api.Switch, id string, admin bool) bool {
	for i := len(switches) - 1; i >= 0; i-- {
		s := &switches[i]
		if s.On && admin && s.Pattern != id {
			continue
		}
		if Match(s.Pattern, id) {
			return s.On
		}
	}
	return !admin
}
