package redact

import "unicode/utf16"

// Nearly all escapes of honest text stand for a byte that no pattern's zone
// holds, or for one behind which no pattern goes on. A glance at the usual
// spellings tells so, for a small part of what it costs to read one in all the
// ways that units.at knows. Of what is spelled otherwise, or goes on behind a
// line's end or the end of the text, it says that it does not know.

// verdict is what a glance tells of an introducer's readings, but for the
// literal one.
type verdict uint8

const (
	unsure verdict = iota // units.at has to tell
	idle                  // none can stand in a zone
	single                // one can: a byte, and where the text goes on
)

// glance looks at the introducer at b[p]. Of backslashes in a row that are
// idle, all are, and next is where they end.
func (ix *index) glance(b []byte, p int) (c byte, next int, v verdict) {
	switch b[p] {
	case '%':
		return ix.percent(b, p+1, 1)
	case '&':
		return ix.ampersand(b, p+1, 1)
	case '\\':
		return ix.backslash(b, p+1)
	}
	return 0, 0, unsure // a line's end
}

// glanceRune tells of an escape that stands for r and ends at next.
func (ix *index) glanceRune(b []byte, r rune, next, nesting int) (byte, int, verdict) {
	switch {
	case r < 0x80:
		return ix.glanceByte(b, byte(r), next, nesting)
	case r < 0x100 && ix.zoned[r], r < 0x800 && ix.zoned[0xc0|r>>6]:
	case r < 0x800:
		return 0, next, idle
	case r < 0x10000 && !utf16.IsSurrogate(r) && !ix.zoned[0xe0|r>>12]:
		return 0, next, idle
	case (r >= 0x10000 || utf16.IsSurrogate(r)) && !ix.zonedLong:
		return 0, next, idle
	}
	return 0, 0, unsure
}

// glanceByte tells of an escape that stands for c and ends at next. Where c
// introduces an escape itself, it looks at that one's body, nesting times.
func (ix *index) glanceByte(b []byte, c byte, next, nesting int) (byte, int, verdict) {
	switch {
	case ix.away[c]:
		return 0, next, idle
	case !introduces(c):
		return c, next, single
	case nesting == 0 || ix.zoned[c]:
	case c == '%':
		return ix.percent(b, next, nesting-1)
	case c == '&':
		return ix.ampersand(b, next, nesting-1)
	}
	return 0, 0, unsure
}

// pairAway says whether two digits behind a percent sign spell a byte that
// cannot matter, as most of a URL's do.
func (ix *index) pairAway(b []byte) bool {
	high, low := ix.digits[b[0]], ix.digits[b[1]]
	return high&low&digitMark != 0 && ix.away[high<<4|low&^digitMark]
}

// percent looks at what follows a percent sign.
func (ix *index) percent(b []byte, i, nesting int) (byte, int, verdict) {
	r, st := ix.glanceHex(b, i, 2)
	switch {
	case st == none:
		return 0, i, idle
	case st == complete:
		return ix.glanceByte(b, byte(r), i+2, nesting)
	}
	return 0, 0, unsure
}

// backslash looks at what follows a backslash.
func (ix *index) backslash(b []byte, i int) (byte, int, verdict) {
	if i == len(b) {
		return 0, 0, unsure
	}
	switch c := b[i]; {
	case ix.dull[c]:
		return 0, i, idle
	case c == '\\':
		return ix.backslashes(b, i)
	case c == 'u':
		if r, st := ix.glanceHex(b, i+1, 4); st == complete {
			return ix.glanceRune(b, r, i+5, 1)
		}
	case c == 'x':
		if r, st := ix.glanceHex(b, i+1, 2); st == complete {
			return ix.glanceByte(b, byte(r), i+3, 1)
		}
	case !introduces(c):
		if r, _, next, st := decodeBackslash(b, i, false); st == complete {
			return ix.glanceByte(b, byte(r), next, 1)
		}
	}
	return 0, 0, unsure
}

// backslashes looks at several in a row. Each stands for a backslash, or for
// what the last one does, be it that this stands behind a backslash once more.
func (ix *index) backslashes(b []byte, i int) (byte, int, verdict) {
	for i < len(b) && b[i] == '\\' {
		i++
	}
	if i == len(b) || ix.zoned['\\'] {
		return 0, 0, unsure
	}
	if ix.dull[b[i]] {
		return 0, i, idle
	}
	if r, st := ix.glanceHex(b, i+1, 4); b[i] == 'u' && st == complete && (r >= 0x80 || ix.dull[r]) {
		if _, _, v := ix.glanceRune(b, r, i, 0); v == idle {
			return 0, i, idle
		}
	}
	return 0, 0, unsure
}

// ampersand looks at what follows an ampersand.
func (ix *index) ampersand(b []byte, i, nesting int) (byte, int, verdict) {
	if i+4 <= len(b) && string(b[i:i+4]) == "amp;" {
		return ix.glanceByte(b, '&', i+4, nesting)
	}
	switch {
	case i+2 > len(b) || introduces(b[i]) || endsLine(b[i]):
		return 0, 0, unsure
	case b[i] == '#':
		return ix.glanceNumber(b, i+1, nesting)
	case !isLetter(b[i]):
		return 0, i, idle
	case introduces(b[i+1]) || endsLine(b[i+1]):
		return 0, 0, unsure
	case !isLetter(b[i+1]) || ix.names[b[i]]>>(b[i+1]&31)&1 == 0:
		return 0, i, idle // no name begins like this
	}
	end := i + 2
	for end < len(b) && isLetter(b[end]) && end < i+longestName {
		end++
	}
	if end == len(b) || isLetter(b[end]) || introduces(b[end]) || endsLine(b[end]) {
		return 0, 0, unsure
	}
	if b[end] == ';' {
		if c, _ := entity(b[i:end]); c != 0 {
			return ix.glanceByte(b, c, end+1, nesting)
		}
	}
	if mayBeBare(b[i:end]) {
		return 0, 0, unsure
	}
	return 0, i, idle
}

// mayBeBare says whether name may begin with one that HTML understands without
// a semicolon. It is of two letters or more.
func mayBeBare(name []byte) bool {
	switch second := name[1] | 0x20; name[0] | 0x20 {
	case 'a':
		return second == 'm'
	case 'l', 'g':
		return second == 't'
	case 'q':
		return second == 'u'
	}
	return false
}

// glanceNumber looks at what follows "&#", up to a semicolon.
func (ix *index) glanceNumber(b []byte, i, nesting int) (byte, int, verdict) {
	if i+3 <= len(b) && b[i+2] == ';' { // &#34; and the like
		high, low := ix.digits[b[i]]^digitMark, ix.digits[b[i+1]]^digitMark
		if high < 10 && low < 10 && ix.away[10*high+low] {
			return 0, i + 3, idle
		}
	}
	r, next, st := decodeNumber(b[:min(len(b), i+maxDigits)], i, false)
	if st == complete && b[next-1] == ';' {
		return ix.glanceRune(b, r, next, nesting)
	}
	return 0, 0, unsure
}

// glanceHex reads n digits. Of fewer it says that there is no escape, unless
// what stands in their place may be read as a digit.
func (ix *index) glanceHex(b []byte, i, n int) (r rune, st status) {
	if i+n > len(b) {
		return 0, truncated
	}
	marks := byte(digitMark)
	for _, c := range b[i : i+n] {
		d := ix.digits[c]
		marks &= d
		r = r<<4 | rune(d&^digitMark)
	}
	if marks != 0 {
		return r, complete
	}
	for _, c := range b[i : i+n] {
		if introduces(c) || endsLine(c) {
			return 0, truncated
		}
	}
	return 0, none
}
