package policy

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"moldable.sh/aivault/internal/api"
)

// maxIssued is how many pointers one capability has: one bit each.
const maxIssued = 64

// Issued says where the answers of a capability carry tokens, passwords and
// other keys that are new to us, so that no scrubbing could know them.
type Issued struct {
	capability string
	pointers   []string
	all        uint64        // every pointer
	levels     []issuedLevel // by depth of what contains the value, from 1
}

// issuedLevel is what the pointers have at one depth: a bit for each of them.
type issuedLevel struct {
	any    uint64            // '*'
	names  map[string]uint64 // folded
	index  map[int]uint64
	ending uint64 // those that end here
}

// CompileIssued compiles JSON pointers (RFC 6901) to the values that are not
// the caller's to have. A token '*' stands for every element of an array and
// every member of an object. An error is invalid_request and names the pointer.
// Without pointers there is nil.
func CompileIssued(capability string, pointers []string) (*Issued, error) {
	if len(pointers) == 0 {
		return nil, nil
	}
	if len(pointers) > maxIssued {
		return nil, api.Errorf(api.InvalidRequest, "more than %d pointers to new tokens", maxIssued)
	}
	s := &Issued{capability: capability, pointers: slices.Clone(pointers)}
	for i, p := range pointers {
		if slices.Contains(pointers[:i], p) {
			return nil, api.Errorf(api.InvalidRequest, "the pointer %s to a new token is there twice", api.Quote(p))
		}
		tokens, err := pointerTokens(p)
		if err != nil {
			return nil, err
		}
		s.add(uint64(1)<<i, tokens)
	}
	return s, nil
}

// Pointers are those that it was compiled from.
func (s *Issued) Pointers() []string {
	if s == nil {
		return nil
	}
	return slices.Clone(s.pointers)
}

// pointerTokens takes a pointer to a value within an answer apart.
func pointerTokens(p string) ([]string, error) {
	tokens, why := parsePointer(p)
	switch {
	case why != "":
	case len(tokens) == 0:
		why = "is the whole answer"
	case strings.ContainsFunc(p, unicode.IsControl):
		why = "holds a control character"
	case slices.Contains(tokens, ""):
		why = "has an empty name"
	case slices.ContainsFunc(tokens, func(t string) bool { return len(t) > maxLimitName }):
		why = "has a name of more than " + strconv.Itoa(maxLimitName) + " bytes"
	}
	if why != "" {
		return nil, api.Errorf(api.InvalidRequest, "the JSON pointer %s to a new token %s", api.Quote(p), why).
			WithHint("it reads /token, or /data/*/key for each element of a list; a / in a name is ~1, and a ~ is ~0")
	}
	return tokens, nil
}

func (s *Issued) add(bit uint64, tokens []string) {
	s.all |= bit
	for depth, t := range tokens {
		if depth == len(s.levels) {
			s.levels = append(s.levels, issuedLevel{names: map[string]uint64{}, index: map[int]uint64{}})
		}
		at := &s.levels[depth]
		if t == "*" {
			at.any |= bit
		} else {
			at.names[string(appendFolded(nil, t))] |= bit
			if n, err := strconv.Atoi(t); err == nil && strconv.Itoa(n) == t {
				at.index[n] |= bit
			}
		}
		if depth == len(tokens)-1 {
			at.ending |= bit
		}
	}
}

// redacted stands in place of every value that is taken out.
var redacted = []byte(`"[redacted]"`)

// Redact replaces the values that the pointers lead to by "[redacted]" while a
// JSON text streams: each whole, whatever it is, but for null. Everything else
// passes as with Block, names without case and each occurrence of a name that
// is there twice. A text that is no JSON ends with a policy_violation; what
// Read gave before that was clean.
func (s *Issued) Redact(answer io.Reader) io.Reader {
	if s == nil {
		return answer
	}
	return &blocker{issued: s, answer: answer, in: make([]byte, scanned)}
}

// member are those of the pointers in from that lead on to a member of the
// object at a depth. Of a name that is longer than all that they have, folded
// is empty, as none of theirs is.
func (s *Issued) member(depth int, from uint64, folded []byte) uint64 {
	if s == nil || from == 0 || depth > len(s.levels) {
		return 0
	}
	at := &s.levels[depth-1]
	return from & (at.any | at.names[string(folded)])
}

// element are those that lead on to an element of the array at a depth.
func (s *Issued) element(depth int, from uint64, index int) uint64 {
	if depth > len(s.levels) {
		return 0
	}
	at := &s.levels[depth-1]
	return from & (at.any | at.index[index])
}

// ends says whether one of the pointers that lead to a value within depth
// objects and arrays ends there.
func (s *Issued) ends(depth int, leads uint64) bool {
	return leads != 0 && depth > 0 && leads&s.levels[depth-1].ending != 0
}

func (s *Issued) refuse(at int64) error {
	return api.Errorf(api.PolicyViolation, "the answer is not one JSON value, at byte %d: the new tokens that answers of %s carry cannot be removed from it", at, s.capability).
		WithHint("aivault capability describe %s", s.capability)
}
