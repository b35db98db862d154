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
	}
	return ix.backslash(b, p+1)
}

// glanceRune tells of an escape that stands for r and ends at next.
func (ix *index) glanceRune(r rune, next int) (byte, int, verdict) {
	switch {
	case r < 0x80:
		return ix.glanceByte(byte(r), next)
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

func (ix *index) glanceByte(c byte, next int) (byte, int, verdict) {
	switch {
	case introduces(c):
		return 0, 0, unsure
	case ix.zoned[c]:
		return c, next, single
	}
	return 0, next, idle
}

// percent looks at what follows a percent sign. %25 is one itself.
func (ix *index) percent(b []byte, i, nesting int) (byte, int, verdict) {
	r, st := glanceHex(b, i, 2)
	switch {
	case st == none:
		return 0, i, idle
	case st == complete && r == '%' && nesting > 0 && !ix.zoned['%']:
		return ix.percent(b, i+2, nesting-1)
	case st == complete:
		return ix.glanceByte(byte(r), i+2)
	}
	return 0, 0, unsure
}

// backslash looks at what follows a backslash.
func (ix *index) backslash(b []byte, i int) (byte, int, verdict) {
	switch end := i; {
	case i == len(b) || introduces(b[i]) && b[i] != '\\':
	case ix.dull[b[i]]:
		return 0, i, idle
	case b[i] == '\\':
		if ix.zoned['\\'] {
			break
		}
		// Each of them stands for a backslash, or for what the last one does,
		// be it that this is one more body behind a backslash.
		for end < len(b) && b[end] == '\\' {
			end++
		}
		if end == len(b) {
			break
		}
		if ix.dull[b[end]] {
			return 0, end, idle
		}
		if r, st := glanceHex(b, end+1, 4); b[end] == 'u' && st == complete && (r >= 0x80 || ix.dull[r]) {
			if _, _, v := ix.glanceRune(r, end); v == idle {
				return 0, end, idle
			}
		}
	case b[i] == 'u':
		if r, st := glanceHex(b, i+1, 4); st == complete {
			return ix.glanceRune(r, i+5)
		}
	case b[i] == 'x':
		if r, st := glanceHex(b, i+1, 2); st == complete {
			return ix.glanceByte(byte(r), i+3)
		}
	default:
		if r, _, next, st := decodeBackslash(b, i, false); st == complete {
			return ix.glanceByte(byte(r), next)
		}
	}
	return 0, 0, unsure
}

// ampersand looks at what follows an ampersand. &amp; is one itself.
func (ix *index) ampersand(b []byte, i, nesting int) (byte, int, verdict) {
	end := i
	for end < len(b) && isLetter(b[end]) && end < i+longestName {
		end++
	}
	switch {
	case end == len(b) || introduces(b[end]) || endsLine(b[end]):
		return 0, 0, unsure
	case end == i && b[i] == '#':
		return ix.glanceNumber(b, i+1)
	case end == i:
		return 0, i, idle
	case b[end] == ';':
		c, _ := entity(b[i:end])
		switch {
		case c == '&' && nesting > 0 && !ix.zoned['&']:
			return ix.ampersand(b, end+1, nesting-1)
		case c != 0:
			return ix.glanceByte(c, end+1)
		}
	case isLetter(b[end]):
		return 0, 0, unsure
	}
	if mayBeBare(b[i:end]) {
		return 0, 0, unsure
	}
	return 0, i, idle
}

// mayBeBare says whether name may begin with one that HTML understands without
// a semicolon.
func mayBeBare(name []byte) bool {
	if len(name) < 2 {
		return false
	}
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
func (ix *index) glanceNumber(b []byte, i int) (byte, int, verdict) {
	r, next, st := decodeNumber(b[:min(len(b), i+maxDigits)], i, false)
	if st == complete && b[next-1] == ';' {
		return ix.glanceRune(r, next)
	}
	return 0, 0, unsure
}

// glanceHex reads n digits. Of fewer it says that there is no escape, unless
// what stands in their place may be read as a digit.
func glanceHex(b []byte, i, n int) (r rune, st status) {
	if i+n > len(b) {
		return 0, truncated
	}
	for _, c := range b[i : i+n] {
		d, ok := hexDigit(c)
		switch {
		case ok:
			r = r<<4 | d
		case introduces(c) || endsLine(c):
			return 0, truncated
		default:
			return 0, none
		}
	}
	return r, complete
}
