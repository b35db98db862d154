package redact

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"moldable.sh/aivault/internal/secret"
)

// maxLeaves bounds the readings of one window that are looked up. Text that
// has more is followed through the trie instead, which takes longer for
// honest text but is bounded by what patterns look like.
const maxLeaves = 16

// manyBackslashes are more than any escape's spelling takes.
const manyBackslashes = 8

type span struct{ start, end int }

// scanner finds the matches in a text that comes piece by piece. All its
// positions count from the first byte that was not emitted yet.
type scanner struct {
	ix      *index
	next    int    // where the next look at a raw window is due
	esc     int    // escapes before it have been looked at
	open    []walk // walks that the end of the text interrupted
	found   []span // matches that were not emitted yet
	covered int    // up to here the text belongs to a match already emitted

	units  units // of the walk
	around units // of the escape that is looked at
	deep   [windowLen]units
	walk   walk
	spare  []walk // finished, for their memory
}

func (s *scanner) reset() {
	s.next, s.esc, s.covered = 0, 0, 0
	s.ofEvents(false)
	s.found = s.found[:0]
	s.spare = append(s.spare, s.open...)
	s.open = s.open[:0]
}

// ofEvents says whether the text is an event stream.
func (s *scanner) ofEvents(events bool) { s.units.events, s.around.events = events, events }

// clean says that the text can be emitted as it is.
func (s *scanner) clean() bool { return len(s.found) == 0 && s.covered == 0 }

// scan looks at the bytes of b that are new since the last scan, and returns
// how many of b's bytes no later text can make part of a match. eof says that
// there is no later text.
func (s *scanner) scan(b []byte, eof bool) (hold int) {
	s.resume(b, eof)
	s.look(b, eof)
	s.escapes(b, eof)
	hold = s.ending(b, eof)
	for i := range s.open {
		hold = min(hold, s.open[i].start)
	}
	return hold
}

// try follows the text from start, unless that is being done.
func (s *scanner) try(b []byte, start int, eof bool) (open bool) {
	if start < 0 {
		return false // emitted: it was known not to begin a match
	}
	for i := range s.open {
		if s.open[i].start == start {
			return true
		}
	}
	s.walk.begin(start)
	if s.walk.run(s.ix, &s.units, b, eof) {
		return true
	}
	if s.walk.end >= 0 {
		s.found = append(s.found, span{start, s.walk.end})
	}
	return false
}

// begins says whether a pattern may begin with c, or with what it spells.
func (s *scanner) begins(c byte) bool {
	return s.ix.first[c] || introduces(c) || c == '\r' && s.units.events && s.ix.first['\n']
}

// follow is try for a start that must be taken up again with the next text.
func (s *scanner) follow(b []byte, start int, eof bool) {
	if start < 0 || !s.begins(b[start]) {
		return
	}
	n := len(s.open)
	if s.try(b, start, eof) && !slices.ContainsFunc(s.open[:n], func(w walk) bool { return w.start == start }) {
		s.open = append(s.open, s.walk)
		s.walk = walk{}
		if k := len(s.spare); k > 0 {
			s.walk, s.spare = s.spare[k-1], s.spare[:k-1]
		}
	}
}

func (s *scanner) resume(b []byte, eof bool) {
	keep := s.open[:0]
	for i := range s.open {
		w := s.open[i]
		if w.run(s.ix, &s.units, b, eof) {
			keep = append(keep, w)
			continue
		}
		if w.end >= 0 {
			s.found = append(s.found, span{w.start, w.end})
		}
		s.spare = append(s.spare, w)
	}
	s.open = keep
}

// look looks up raw windows. Each pattern is at least zoneLen bytes long, so
// that one look falls within it, wherever it stands; the ending takes care of
// the last bytes, where a zone is not complete.
func (s *scanner) look(b []byte, eof bool) {
	ix := s.ix
	i := s.next
	for i+zoneLen <= len(b) {
		j := i + nextWindow(ix, b[i:])
		if j < 0 || j+zoneLen > len(b) {
			i += (len(b) - zoneLen - i) / stride * stride
			i += stride
			break
		}
		for o := range stride {
			if start := j - o; start >= 0 && ix.hasZone(binary.LittleEndian.Uint64(b[start:])) {
				s.follow(b, start, eof)
			}
		}
		i = j + stride
	}
	s.next = i
}

// nextWindow is the first multiple of stride in b at which the filter knows
// the window, len(b) if there is none.
func nextWindow(ix *index, b []byte) int {
	windows, key, shift := ix.windows, ix.window, ix.windowShift&63
	if len(windows) == 0 {
		return len(b)
	}
	mask := uint64(len(windows) - 1)
	i := 0
	for ; i+8*stride <= len(b); i += 4 * stride {
		p := (*[8 * stride]byte)(b[i:])
		h0 := (binary.LittleEndian.Uint64(p[0:]) & windowMask) * key >> shift
		h1 := (binary.LittleEndian.Uint64(p[stride:]) & windowMask) * key >> shift
		h2 := (binary.LittleEndian.Uint64(p[2*stride:]) & windowMask) * key >> shift
		h3 := (binary.LittleEndian.Uint64(p[3*stride:]) & windowMask) * key >> shift
		hit := windows[h0>>6&mask]>>(h0&63) |
			windows[h1>>6&mask]>>(h1&63) |
			windows[h2>>6&mask]>>(h2&63) |
			windows[h3>>6&mask]>>(h3&63)
		if hit&1 != 0 {
			break
		}
	}
	for ; i+zoneLen <= len(b); i += stride {
		h := (binary.LittleEndian.Uint64(b[i:]) & windowMask) * key >> shift
		if windows[h>>6&mask]>>(h&63)&1 != 0 {
			return i
		}
	}
	return len(b)
}

// escapes looks up the windows that begin or end with an escape. A pattern
// whose first escape stands for one of the bytes 0 to stride-1 of its zone has
// a window that begins there; for one of the others, a window that ends there
// and is raw before it.
func (s *scanner) escapes(b []byte, eof bool) {
	undecided := len(b)
	in := introducers{b: b, events: s.units.events}
	for p := in.next(s.esc); p < len(b); {
		if b[p] == '%' && p+2 < len(b) && s.ix.pairAway(b[p+1:p+3]) {
			p = in.next(p + 3)
			continue
		}
		c, next, v := s.ix.glance(b, p)
		if v == idle {
			p = in.next(next)
			continue
		}
		next, more := s.escape(b, p, eof, c, next, v)
		if more {
			undecided = min(undecided, p)
		}
		p = in.next(next)
	}
	s.esc = undecided
}

// escape looks up the windows around the introducer at p, of which a glance
// has told c, behind and v. None need be looked up for those before next; more
// says that the text ends too early to tell all of its windows.
func (s *scanner) escape(b []byte, p int, eof bool, c byte, behind int, v verdict) (next int, more bool) {
	if endsLine(b[p]) {
		if !s.breaks(b, p, eof) {
			return p + 1, false
		}
		return p + 1, s.readings(b, p, eof)
	}
	if v == single {
		if hit, ok := s.ahead(b, c, behind); ok {
			s.follows(b, p, eof, s.behind(b, p, c), hit)
			return p + 1, false
		}
	}
	if n := s.backslashes(b, p); n >= manyBackslashes {
		return p + n - manyBackslashes + 1, false
	}
	return p + 1, s.readings(b, p, eof)
}

// backslashes is how many stand at p that no pattern's zone holds.
func (s *scanner) backslashes(b []byte, p int) int {
	n := 0
	for !s.ix.zoned['\\'] && p+n < len(b) && b[p+n] == '\\' {
		n++
	}
	return n
}

// readings looks up the windows of all readings of the introducer at p.
func (s *scanner) readings(b []byte, p int, eof bool) (more bool) {
	us := &s.around
	us.at(b, p, eof)
	if us.n == 1 {
		return us.more
	}
	w := window{ix: s.ix, b: b, events: us.events, eof: eof, leaves: maxLeaves, more: us.more, deep: &s.deep}
	before := false
	for i := 1; i < us.n; i++ { // 0 is the literal reading
		u := &us.u[i]
		if !s.ix.zoned[u.b[0]] {
			continue
		}
		before = before || s.behind(b, p, u.b[0])
		w.unit(u, 0, 0)
	}
	s.follows(b, p, eof, before, w.hit || w.leaves <= 0)
	return w.more
}

// behind says whether the filter knows the window of which c, spelled at p, is
// the last byte.
func (s *scanner) behind(b []byte, p int, c byte) bool {
	if p < windowLen-1 {
		return false
	}
	v := uint64(binary.LittleEndian.Uint32(b[p-windowLen+1:]))
	return s.ix.hasWindow(v | uint64(c)<<(8*(windowLen-1)))
}

// ahead looks up the window of which c is the first byte, and which goes on at
// next. It is not ok where a glance is not enough.
func (s *scanner) ahead(b []byte, c byte, next int) (hit, ok bool) {
	v := uint64(c)
	for n := 1; n < windowLen; n++ {
		if next == len(b) {
			return false, false
		}
		c = b[next]
		zoned := s.ix.zoned[c]
		if special(c, s.units.events) {
			if zoned || endsLine(c) {
				return false, false
			}
			var told verdict
			if c, next, told = s.ix.glance(b, next); told == unsure {
				return false, false
			}
			zoned = told == single
		} else {
			next++
		}
		if !zoned {
			return false, true
		}
		v |= uint64(c) << (8 * n)
	}
	return s.ix.hasWindow(v), true
}

// follows follows the text from each start for which the escape at p is in the
// window before it, or begins it.
func (s *scanner) follows(b []byte, p int, eof, before, begins bool) {
	if before {
		for o := range stride {
			s.follow(b, p-windowLen+1-o, eof)
		}
	}
	if begins {
		for o := range stride {
			s.follow(b, p-o, eof)
		}
	}
}

// ending finds the first byte of the end of b that may begin a match of which
// the rest is yet to come, and the matches that end too near to b's end for a
// look to have found them.
func (s *scanner) ending(b []byte, eof bool) (hold int) {
	// A look at i decides about the starts i-stride+1 to i.
	from := max(0, len(b)-zoneLen-stride+1)
	near := len(b) - zoneLen*maxUnit
	if s.units.events {
		// Of all that a zone is spelled with, each byte may have a line.
		wide := max(0, len(b)-zoneLen*maxUnit*(1+maxBreak))
		if i := s.firstBreak(b, wide, eof); i < len(b) {
			near, from = wide, min(from, max(0, i-zoneLen+1))
		}
	}
	if near = max(0, near); near < from {
		for _, c := range [3]byte{'\\', '%', '&'} {
			if i := bytes.IndexByte(b[near:], c); i >= 0 {
				from = min(from, max(0, near+i-zoneLen+1))
			}
		}
	}
	for i := from; i < len(b); i++ {
		if s.begins(b[i]) && s.try(b, i, eof) {
			return i
		}
	}
	return len(b)
}

// emit appends the first hold bytes of b to out, matches replaced, and says
// how many there were. Matches that overlap count as one.
func (s *scanner) emit(out, b []byte, hold int) ([]byte, int) {
	slices.SortFunc(s.found, func(x, y span) int { return cmp.Compare(x.start, y.start) })
	count, done, i := 0, min(s.covered, hold), 0
	for ; i < len(s.found) && s.found[i].start < hold; i++ {
		m := s.found[i]
		if m.start >= s.covered {
			out = append(out, b[done:m.start]...)
			out = append(out, secret.Redacted...)
			count++
		}
		s.covered = max(s.covered, m.end)
		done = min(s.covered, hold)
	}
	s.found = slices.Delete(s.found, 0, i)
	return append(out, b[done:hold]...), count
}

// emitted tells the scanner that the first n bytes are gone.
func (s *scanner) emitted(n int) {
	s.next -= n
	if s.next < 0 {
		s.next += (-s.next + stride - 1) / stride * stride
	}
	s.esc = max(0, s.esc-n)
	s.covered = max(0, s.covered-n)
	for i := range s.found {
		s.found[i].start -= n
		s.found[i].end -= n
	}
	for i := range s.open {
		w := &s.open[i]
		w.start -= n
		if w.end >= 0 {
			w.end -= n
		}
		for j := range w.front {
			w.front[j].pos -= n
		}
	}
}
