package redact

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxUnit is the longest spelling of one character that is understood, in
// bytes: a spelling of an introducer, and of each character behind it. In an
// event stream, a line's end may stand before each of them.
const (
	maxUnit    = 76
	maxBody    = 48 // of an escape that is spelled itself, in bytes
	maxNesting = 2  // escapes of an escape's introducer
	maxDigits  = 8  // of an HTML number, leading zeros included
	maxUnits   = 16 // readings of one position
)

func introduces(c byte) bool { return c == '\\' || c == '%' || c == '&' }

// unit is one reading of the text at some position: the bytes that it stands
// for, and where the next unit begins.
type unit struct {
	b    [4]byte
	n    int
	next int
}

// units are all readings of one position: as it stands, and as an escape.
type units struct {
	u    [maxUnits]unit
	n    int
	more bool // there may be others: the text ends inside an escape

	events bool // the text is an event stream
}

// at reads b[i], which is special. The literal reading is the first.
func (us *units) at(b []byte, i int, eof bool) {
	us.n, us.more = 0, false
	us.add(b[i], i+1)
	if endsLine(b[i]) {
		us.line(b, i, eof)
		return
	}
	us.spelled(b, i, eof)
}

// spelled adds what the escape at b[i] stands for.
func (us *units) spelled(b []byte, i int, eof bool) {
	if us.events && bytes.ContainsAny(b[i:min(len(b), i+maxJoined)], "\r\n") {
		us.across(b, i, eof)
		return
	}
	us.one(b, i, eof)
}

// one adds what the escape at b[i] stands for, as it is and as one that was
// escaped itself.
func (us *units) one(b []byte, i int, eof bool) {
	us.escape(b[i], b, i+1, eof, maxNesting)
	switch {
	case b[i] == '&':
		us.spelledOut('&', b, i+1, eof, 1) // &quot%3B: HTML within a path
	case b[i] == '\\' && i+1 < len(b) && (b[i+1] == '%' || b[i+1] == '&'):
		us.spelledOut('\\', b, i+1, eof, 1) // \&quot;: JSON within HTML
	}
}

func (us *units) add(c byte, next int) {
	if us.n < maxUnits {
		us.u[us.n] = unit{b: [4]byte{c}, n: 1, next: next}
		us.n++
	}
}

func (us *units) addRune(r rune, next int) {
	if us.n < maxUnits {
		u := &us.u[us.n]
		u.n, u.next = utf8.EncodeRune(u.b[:], r), next
		us.n++
	}
}

// escape adds what an escape introduced by c, whose body begins at b[i],
// stands for. Where that is itself an introducer, its body is tried too: text
// is often escaped twice, JSON within JSON above all.
func (us *units) escape(c byte, b []byte, i int, eof bool, nesting int) {
	r, isByte, next, st := decode(c, b, i, eof)
	if st != complete {
		us.more = us.more || st == truncated
		return
	}
	if isByte || r < 0x100 {
		us.add(byte(r), next) // U+0080 to U+00FF: a byte to some, two to others
	}
	if !isByte && r >= utf8.RuneSelf {
		us.addRune(r, next)
	}
	if r >= utf8.RuneSelf || !introduces(byte(r)) || nesting == 0 {
		return
	}
	us.escape(byte(r), b, next, eof, nesting-1)
	us.spelledOut(byte(r), b, next, eof, nesting-1)
	if r != '\\' {
		return
	}
	// \\\" is what is left of " within JSON within JSON.
	switch {
	case next == len(b):
		us.more = us.more || !eof
	case b[next] == '\\':
		r, _, next, st := decode('\\', b, next+1, eof)
		us.more = us.more || st == truncated
		if st == complete && (r == '"' || r == '\\' || r == '/' || r == '\'') {
			us.add(byte(r), next)
		}
	}
}

// spelledOut is escape where the body was escaped, too: %5C%22 is what a URL
// makes of \". Each character of the body is read as an escape where it is one.
func (us *units) spelledOut(c byte, b []byte, i int, eof bool, nesting int) {
	most := 2 // characters of the body
	switch c {
	case '\\':
		most = len("ud83d") + len("\\\\ude00")
	case '&':
		most = longestName + 1
	}
	plain := i
	for plain < len(b) && plain < i+most && inBody(b[plain]) {
		plain++
	}
	if plain == len(b) || plain == i+most || !introduces(b[plain]) {
		return // for nearly all escapes
	}
	if b[plain] == '\\' && plain+1 < len(b) && b[plain+1]|0x20 != 'u' && b[plain+1] != 'x' {
		return // escape has read it
	}
	var text [maxBody]byte
	var ends [maxBody + 1]int // of each character of text in b
	n, pos, spelled := 0, i, false
	for ends[0] = i; n < most && pos < len(b) && pos < i+maxBody; {
		text[n] = b[pos]
		pos++
		if introduces(text[n]) {
			r, _, next, st := decode(text[n], b, pos, eof)
			if st == truncated {
				us.more = true
				return
			}
			if st == complete && r < utf8.RuneSelf && next <= i+maxBody {
				text[n], pos, spelled = byte(r), next, true
			}
		}
		n++
		ends[n] = pos
		if c == '&' && !inBody(text[n-1]) {
			break // it ends there
		}
	}
	if spelled {
		before := us.n
		us.escape(c, text[:n], 0, eof || pos < len(b), max(0, nesting))
		for k := before; k < us.n; k++ {
			us.u[k].next = ends[us.u[k].next]
		}
	}
	clear(text[:])
}

// inBody says whether c may stand in an escape, behind its introducer and
// before its end.
func inBody(c byte) bool {
	return isLetter(c) || '0' <= c && c <= '9' || c == '#'
}

type status int

const (
	none      status = iota // no escape
	complete                // decoded
	truncated               // the text ends inside what may be one
)

func ended(eof bool) status {
	if eof {
		return none
	}
	return truncated
}

// decode reads the body of an escape. isByte tells a byte from a character.
func decode(introducer byte, b []byte, i int, eof bool) (r rune, isByte bool, next int, st status) {
	if i == len(b) {
		return 0, false, 0, ended(eof)
	}
	switch introducer {
	case '%':
		r, next, st = hexDigits(b, i, 2, eof)
		return r, true, next, st
	case '\\':
		return decodeBackslash(b, i, eof)
	case '&':
		if b[i] == '#' {
			r, next, st = decodeNumber(b, i+1, eof)
		} else {
			r, next, st = decodeName(b, i, eof)
		}
	}
	return r, false, next, st
}

func decodeBackslash(b []byte, i int, eof bool) (r rune, isByte bool, next int, st status) {
	switch b[i] {
	case '"', '\\', '/', '\'':
		return rune(b[i]), true, i + 1, complete
	case 'b':
		return '\b', true, i + 1, complete
	case 'f':
		return '\f', true, i + 1, complete
	case 'n':
		return '\n', true, i + 1, complete
	case 'r':
		return '\r', true, i + 1, complete
	case 't':
		return '\t', true, i + 1, complete
	case 'x':
		r, next, st = hexDigits(b, i+1, 2, eof)
		return r, true, next, st
	case 'u':
		r, next, st = hexDigits(b, i+1, 4, eof)
		if st != complete || !utf16.IsSurrogate(r) {
			return r, false, next, st
		}
		if next, st = secondHalf(b, next, eof); st != complete {
			return 0, false, 0, st
		}
		low, next, st := hexDigits(b, next, 4, eof)
		if st != complete {
			return 0, false, 0, st
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return 0, false, 0, none
		}
		return r, false, next, complete
	}
	return 0, false, 0, none
}

// secondHalf skips the introducer of a surrogate pair's second half. In text
// that was escaped twice or three times, the backslash was too.
func secondHalf(b []byte, i int, eof bool) (next int, st status) {
	slashes := 0
	for ; i < len(b) && b[i] == '\\' && slashes < 1<<maxNesting; i++ {
		slashes++
	}
	switch {
	case i == len(b):
		return 0, ended(eof)
	case slashes == 0 || b[i] != 'u':
		return 0, none
	}
	return i + 1, complete
}

func hexDigit(c byte) (rune, bool) {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0'), true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10, true
	}
	return 0, false
}

// hexDigits reads exactly n digits.
func hexDigits(b []byte, i, n int, eof bool) (r rune, next int, st status) {
	for end := i + n; i < end; i++ {
		if i >= len(b) {
			return 0, 0, ended(eof)
		}
		d, ok := hexDigit(b[i])
		if !ok {
			return 0, 0, none
		}
		r = r<<4 | d
	}
	return r, i, complete
}

// decodeNumber reads what follows "&#". Browsers do without the semicolon.
func decodeNumber(b []byte, i int, eof bool) (r rune, next int, st status) {
	base := rune(10)
	if i < len(b) && b[i]|0x20 == 'x' {
		base, i = 16, i+1
	}
	digits := 0
	for ; i < len(b); i++ {
		d, ok := hexDigit(b[i])
		if !ok || d >= base {
			break
		}
		if digits++; digits > maxDigits {
			return 0, 0, none
		}
		r = r*base + d
		if r > utf8.MaxRune {
			return 0, 0, none
		}
	}
	if i == len(b) && !eof {
		return 0, 0, truncated
	}
	if digits == 0 || !utf8.ValidRune(r) {
		return 0, 0, none
	}
	if i < len(b) && b[i] == ';' {
		i++
	}
	return r, i, complete
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
