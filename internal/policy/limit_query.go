package policy

import (
	"strings"

	"moldable.sh/aivault/internal/api"
)

// denied are names of query parameters that a call may not have, in every
// spelling that a lenient server might take for them: as with the parameters
// that authenticate, case and the marks _ - . $ don't count, and a[b] is
// denied with a.
type denied struct {
	exact map[string]bool
	keys  map[string]bool // squashed
}

func compileQuery(allow, deny []string) (map[string]bool, denied, error) {
	var d denied
	for _, names := range [][]string{allow, deny} {
		if err := checkNames("query parameters", "query parameter", names); err != nil {
			return nil, d, err
		}
		for _, n := range names {
			if strings.ContainsAny(n, "=&%") {
				return nil, d, badLimit("the name %s of a query parameter holds a '=', '&' or '%%': give the name alone, without escapes", api.Quote(n))
			}
		}
	}
	var allowed map[string]bool
	if len(allow) > 0 {
		allowed = map[string]bool{}
		for _, n := range allow {
			allowed[n] = true
		}
	}
	if len(deny) > 0 {
		d = denied{map[string]bool{}, map[string]bool{}}
		for _, n := range deny {
			n = foldParam(n)
			d.exact[n] = true
			var key []byte
			for i := range len(n) {
				key = appendSquashed(key, n[i])
			}
			if len(key) > 0 {
				d.keys[string(key)] = true
			}
		}
	}
	return allowed, d, nil
}

// has looks a name up as it stands, at its end, and before each bracket.
func (d *denied) has(name string) bool {
	if d.exact[name] {
		return true
	}
	var buf [64]byte
	key := buf[:0]
	for i := range len(name) {
		if name[i] == '[' && d.keys[string(key)] {
			return true
		}
		key = appendSquashed(key, name[i])
	}
	return d.keys[string(key)]
}

// appendSquashed appends what squash keeps of a name, brackets apart.
func appendSquashed(key []byte, c byte) []byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return append(key, c+'a'-'A')
	case strings.IndexByte("_-. []$", c) >= 0:
		return key
	}
	return append(key, c)
}

// CheckQuery judges the request's query parameters: policy_violation. An
// allowed name is meant as it is written; a denied one in any spelling that a
// server might take for it. Empty parameters (a&&b) are none.
func (l *Limits) CheckQuery(r *Request) error {
	if l == nil || r.query == "" || l.allow == nil && l.deny.exact == nil {
		return nil
	}
	for rest, more := r.query, true; more; {
		var pair string
		if pair, rest, more = strings.Cut(rest, "&"); pair == "" {
			continue
		}
		raw, _, _ := strings.Cut(pair, "=")
		read, folded := raw, raw
		if strings.ContainsAny(raw, "%+") {
			var err error
			if folded, err = decodeParam(raw); err != nil {
				return err
			}
			read = string(unescapeParam(raw))
		}
		if l.deny.exact != nil && l.deny.has(folded) {
			return l.refuse("query parameter %s is denied by the capability's policy", api.Quote(read))
		}
		if l.allow != nil && !l.allow[read] {
			return l.refuse("query parameter %s is none of those that the capability's policy allows: %s", api.Quote(read), listNames(l.policy.AllowQuery))
		}
	}
	return nil
}
