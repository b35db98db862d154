package policy

// text goes on with a string, up to its end or an escape.
func (b *blocker) text(in []byte) (n int, ok bool) {
	for n < len(in) {
		c := in[n]
		switch {
		case b.utf8.more > 0 || c >= 0x80:
			if !b.utf8.next(c) {
				b.put(in[:n])
				return n, false
			}
		case plainInString[c]:
		case c == '"':
			b.put(in[:n+1])
			b.endString()
			return n + 1, true
		case c == '\\':
			b.state = inEscape
			b.put(in[:n+1])
			return n + 1, true
		default: // a control character
			b.put(in[:n])
			return n, false
		}
		n++
	}
	b.put(in)
	return n, true
}

// plainInString is a constant table: the bytes that mean nothing but
// themselves in a string.
var plainInString = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// put passes a part of a string on, or holds it back while it is a name that
// may have to be left out.
func (b *blocker) put(text []byte) {
	if !b.naming {
		b.emit(text)
		return
	}
	b.held = append(b.held, text...)
	if len(b.held)-b.nameAt > maxBlockName {
		b.decide(false)
	}
}

func (b *blocker) endString() {
	if !b.isName {
		b.endValue()
		return
	}
	b.state = atColon
	if b.naming {
		b.decide(true)
	}
}

// utf8State checks UTF-8 byte by byte: overlong forms, surrogates and what is
// beyond Unicode are refused, so that nobody finds a quote or a letter in
// bytes where another reader finds none.
type utf8State struct {
	more   uint8 // bytes to come
	lo, hi byte  // bounds of the next one
}

// next says whether c may stand here.
func (u *utf8State) next(c byte) bool {
	if u.more > 0 {
		if c < u.lo || c > u.hi {
			return false
		}
		u.more, u.lo, u.hi = u.more-1, 0x80, 0xBF
		return true
	}
	u.lo, u.hi = 0x80, 0xBF
	switch {
	case c < 0x80:
	case c < 0xC2:
		return false
	case c < 0xE0:
		u.more = 1
	case c < 0xF0:
		u.more = 2
		if c == 0xE0 {
			u.lo = 0xA0
		} else if c == 0xED {
			u.hi = 0x9F
		}
	case c < 0xF5:
		u.more = 3
		if c == 0xF0 {
			u.lo = 0x90
		} else if c == 0xF4 {
			u.hi = 0x8F
		}
	default:
		return false
	}
	return true
}
