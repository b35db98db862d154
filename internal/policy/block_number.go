package policy

// number goes on with a number, or ends it at the first byte that is none of
// it.
func (b *blocker) number(in []byte) (n int, ok bool) {
	for n < len(in) {
		next, whole := nextInNumber(b.state, in[n])
		if next != afterValue {
			b.state = next
			n++
			continue
		}
		b.emit(in[:n])
		if whole {
			b.endValue()
		}
		return n, whole
	}
	b.emit(in)
	return n, true
}

// nextInNumber is the state after a byte of a number; afterValue when the
// byte is none of it, and whole says whether the number may end before it.
func nextInNumber(s state, c byte) (next state, whole bool) {
	digit := '0' <= c && c <= '9'
	switch s {
	case afterMinus:
		if c == '0' {
			return inNumber0, false
		}
		if digit {
			return inDigits, false
		}
		return afterValue, false
	case inNumber0, inDigits:
		switch {
		case digit && s == inDigits:
			return inDigits, true
		case c == '.':
			return afterPoint, true
		case c == 'e' || c == 'E':
			return afterE, true
		}
		return afterValue, true
	case afterPoint, inFraction:
		switch {
		case digit:
			return inFraction, true
		case s == inFraction && (c == 'e' || c == 'E'):
			return afterE, true
		}
		return afterValue, s == inFraction
	case afterE:
		if c == '+' || c == '-' {
			return afterSign, false
		}
	}
	if digit { // afterE, afterSign, inExponent
		return inExponent, true
	}
	return afterValue, s == inExponent
}
