package policy

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Overlaps says whether some call is admitted by both capabilities, whatever
// their hosts and whether they are off: as Admits says, and by what they want
// of bodies.
func (c *Capability) Overlaps(d *Capability) bool {
	return slices.ContainsFunc(c.Methods, func(m string) bool { return slices.Contains(d.Methods, m) }) &&
		c.Operation.Meets(d.Operation) && headersMeet(c.MatchHeader, d.MatchHeader) &&
		slices.ContainsFunc(c.Paths, func(p PathRule) bool { return slices.ContainsFunc(d.Paths, p.Meets) })
}

// headersMeet says whether a request can satisfy both lists of headers: of
// each name that both have, one value has to be in both.
func headersMeet(a, b []string) bool {
	for _, line := range a {
		name, _, _ := strings.Cut(line, ": ")
		both, shared := false, false
		for _, other := range b {
			if n, value, _ := strings.Cut(other, ": "); SameHeader(n, name) {
				both = true
				shared = shared || slices.ContainsFunc(a, func(l string) bool {
					n, v, _ := strings.Cut(l, ": ")
					return SameHeader(n, name) && v == value
				})
			}
		}
		if both && !shared {
			return false
		}
	}
	return true
}

// Meets says whether some path is admitted by both rules.
func (p PathRule) Meets(q PathRule) bool {
	_, ok := p.meet(&q)
	return ok
}

// meet finds a path of the fewest segments that both rules admit, by its
// segments. What it puts in place of a '*' is in neither rule.
func (p *PathRule) meet(q *PathRule) (segs []string, ok bool) {
	n := max(p.least(), q.least())
	if p.text == "" || q.text == "" || p.exact && n > p.least() || q.exact && n > q.least() {
		return nil, false
	}
	fresh := freshText(p, q)
	segs = make([]string, n)
	for i := range n {
		switch ok = true; {
		case i < len(p.segments) && i < len(q.segments):
			segs[i], ok = p.segments[i].meet(q.segments[i], fresh)
		case i < len(p.segments):
			segs[i], ok = p.segments[i].anyBelow(fresh)
		case i < len(q.segments):
			segs[i], ok = q.segments[i].anyBelow(fresh)
		default:
			segs[i] = fresh
		}
		if !ok {
			return nil, false
		}
	}
	return segs, true
}

// anyBelow is a segment that the pattern matches, and that may stand below a
// prefix.
func (pat pattern) anyBelow(fresh string) (seg string, ok bool) {
	return strings.Join(pat, fresh), !pat.escapesSlash()
}

// least is the least number of segments that the rule admits.
func (p *PathRule) least() int {
	if p.open {
		return len(p.segments) + 1
	}
	return len(p.segments)
}

// meet finds a segment that both patterns match. Two that have a '*' each need
// only agree about their beginnings and ends: what is between them can be
// written one after the other, each between two texts that neither names.
func (pat pattern) meet(other pattern, fresh string) (seg string, ok bool) {
	if pat.escapesSlash() != other.escapesSlash() {
		return "", false
	}
	if len(pat) == 1 {
		return pat[0], other.match(pat[0])
	}
	if len(other) == 1 {
		return other[0], pat.match(other[0])
	}
	first, second := pat[0], other[0]
	if len(first) < len(second) {
		first, second = second, first
	}
	last, end := pat[len(pat)-1], other[len(other)-1]
	if len(last) < len(end) {
		last, end = end, last
	}
	if !strings.HasPrefix(first, second) || !strings.HasSuffix(last, end) {
		return "", false
	}
	var b strings.Builder
	b.WriteString(first)
	b.WriteString(fresh)
	for _, part := range slices.Concat(pat[1:len(pat)-1], other[1:len(other)-1]) {
		b.WriteString(part)
		b.WriteString(fresh)
	}
	b.WriteString(last)
	return b.String(), true
}

// freshText is one character that none of the rules names.
func freshText(rules ...*PathRule) string {
	for c := 'q'; ; c++ {
		if c == 'z'+1 {
			c = 0x4E00 // there are more of these than a rule may have characters
		}
		named := func(pat pattern) bool {
			return slices.ContainsFunc(pat, func(part string) bool { return strings.ContainsRune(part, c) })
		}
		if !slices.ContainsFunc(rules, func(p *PathRule) bool { return slices.ContainsFunc(p.segments, named) }) {
			return string(c)
		}
	}
}

// ErrTangled says that rules have so much in common that their difference is
// not looked for any further.
var ErrTangled = errors.New("policy: too many rules with '*' admit the same paths")

// maxStates bounds what without looks at. It doubles with each rule that holds
// a '*' and a text of its own; the registry's rules take less than 20.
const maxStates = 2000

// Common finds a path that both rules admit and none of but does. It decides
// exactly whether there is one, or is ErrTangled.
func (p PathRule) Common(q PathRule, but ...PathRule) (path string, ok bool, err error) {
	segs, ok := p.meet(&q)
	if !ok {
		return "", false, nil
	}
	rules := []*PathRule{&p, &q}
	for i := range but {
		if b := &but[i]; b.Meets(p) && b.Meets(q) {
			rules = append(rules, b)
		}
	}
	if len(rules) > 2 {
		if segs, ok, err = without(rules); !ok {
			return "", false, err
		}
	}
	var out []byte
	for _, s := range segs {
		out = append(out, '/')
		for i := range len(s) {
			out = appendEscaped(out, s[i], class[s[i]]&clsPath != 0)
		}
	}
	return string(out), true, nil
}

// without finds a path that the first two rules admit and none of the others
// does, by walking all rules together, a character at a time, over the
// characters that they name and one that they don't. A state is the places in
// the rules that what was read may have led to; the shortest path is found.
func without(rules []*PathRule) (segs []string, ok bool, err error) {
	type step struct {
		from int
		char rune
	}
	walks := make([]walk, len(rules))
	alphabet := []rune(freshText(rules...))
	for i, p := range rules {
		walks[i] = newWalk(p)
		for _, t := range walks[i].tokens {
			if t >= 0 && !slices.Contains(alphabet, t) {
				alphabet = append(alphabet, t)
			}
		}
	}
	alphabet = append(alphabet, tokenNext)
	start := make([][]int, len(rules))
	for i := range walks {
		start[i] = walks[i].start()
	}
	steps, states, shapes := []step{{-1, 0}}, [][][]int{start}, []shape{shapeEmpty}
	seen := map[string]bool{stateKey(start, shapeEmpty): true}
	for at := 0; at < len(states); at++ {
		state, s := states[at], shapes[at]
		if s.ends() && walks[0].admits(state[0]) && walks[1].admits(state[1]) {
			excluded := false
			for i := 2; i < len(rules) && !excluded; i++ {
				excluded = walks[i].admits(state[i])
			}
			if !excluded {
				var text []rune
				for ; at > 0; at = steps[at].from {
					text = append(text, steps[at].char)
				}
				slices.Reverse(text)
				return splitTokens(text), true, nil
			}
		}
		for _, c := range alphabet {
			next, ok := s.then(c)
			if !ok {
				continue
			}
			to := make([][]int, len(rules))
			for i := range walks {
				to[i] = walks[i].after(state[i], c)
			}
			if len(to[0]) == 0 || len(to[1]) == 0 {
				continue
			}
			if key := stateKey(to, next); !seen[key] {
				if len(states) == maxStates {
					return nil, false, ErrTangled
				}
				seen[key] = true
				steps, states, shapes = append(steps, step{at, c}), append(states, to), append(shapes, next)
			}
		}
	}
	return nil, false, nil
}

// splitTokens splits what was walked into segments.
func splitTokens(text []rune) []string {
	var segs []string
	var b strings.Builder
	for _, c := range text {
		if c == tokenNext {
			segs = append(segs, b.String())
			b.Reset()
			continue
		}
		b.WriteRune(c)
	}
	return append(segs, b.String())
}

// Tokens of a rule besides the characters that it names.
const (
	tokenNext  rune = -1 - iota // the next segment begins
	tokenOne                    // any one character but an escaped '/'
	tokenMore                   // any number of them
	tokenOne2                   // any one character
	tokenMore2                  // any number of them
	tokenBelow                  // the rest of a path, if it begins with another segment
	tokenRest                   // the rest of a path
)

// A walk is a rule as a row of tokens.
type walk struct {
	tokens []rune
	open   bool
}

func newWalk(p *PathRule) walk {
	w := walk{open: p.open}
	for i, pat := range p.segments {
		if i > 0 {
			w.tokens = append(w.tokens, tokenNext)
		}
		one, more := tokenOne, tokenMore
		if pat.escapesSlash() {
			one, more = tokenOne2, tokenMore2
		}
		for j, part := range pat {
			if j > 0 {
				w.tokens = append(w.tokens, one, more)
			}
			w.tokens = append(w.tokens, []rune(part)...)
		}
	}
	switch {
	case p.open && len(p.segments) == 0:
		w.tokens = append(w.tokens, tokenRest)
	case !p.exact:
		w.tokens = append(w.tokens, tokenBelow, tokenRest)
	}
	return w
}

func (w *walk) start() []int { return w.settle(nil, 0) }

// settle adds a place, and those that it leads to without a character.
func (w *walk) settle(places []int, at int) []int {
	for ; ; at++ {
		if !slices.Contains(places, at) {
			places = append(places, at)
		}
		if at >= len(w.tokens) || w.tokens[at] != tokenMore && w.tokens[at] != tokenMore2 {
			return places
		}
	}
}

// after are the places that a character leads to.
func (w *walk) after(places []int, c rune) []int {
	var to []int
	for _, at := range places {
		if at >= len(w.tokens) {
			continue
		}
		switch t := w.tokens[at]; {
		case t == c, t == tokenOne && c >= 0 && c != '/', t == tokenOne2 && c >= 0, t == tokenBelow && c == tokenNext:
			to = w.settle(to, at+1)
		case t == tokenMore && c >= 0 && c != '/', t == tokenMore2 && c >= 0, t == tokenRest && c != '/':
			to = w.settle(to, at)
		}
	}
	slices.Sort(to)
	return to
}

// admits says whether a path that ends at one of these places is the rule's.
func (w *walk) admits(places []int) bool {
	return slices.ContainsFunc(places, func(at int) bool {
		return at == len(w.tokens) || w.tokens[at] == tokenRest || w.tokens[at] == tokenBelow && !w.open
	})
}

// A shape is what the part of a segment that was read last looks like, as
// far as checkSegment minds.
type shape int

const (
	shapeEmpty shape = iota // a segment begins
	shapePart               // a part after an escaped '/' begins
	shapeDots               // dots and blanks alone
	shapeText
)

func (s shape) then(c rune) (shape, bool) {
	switch c {
	case tokenNext:
		return shapeEmpty, s == shapeText
	case '/':
		return shapePart, s == shapeText
	case '.', ' ':
		if s != shapeText {
			return shapeDots, true
		}
	}
	return shapeText, true
}

func (s shape) ends() bool { return s == shapeText || s == shapeEmpty }

func stateKey(state [][]int, s shape) string {
	key := []byte{byte(s)}
	for _, places := range state {
		for _, at := range places {
			key = binary.AppendUvarint(key, uint64(at)+1)
		}
		key = append(key, 0)
	}
	return string(key)
}
