package policy

// state is what a scanner expects next.
type state uint8

const (
	atStart   state = iota // the value that is the text; also an element, and a member's value
	atElement              // the first element, or the array's end
	atMember               // the first member, or the object's end
	atName                 // a member's name, after a comma
	atColon
	afterValue // a comma or the end
	inString
	inEscape  // after a backslash
	inHex     // rest: digits to come
	inLiteral // rest: bytes to come
	afterMinus
	inNumber0 // a leading zero: no digit may follow
	inDigits
	afterPoint
	inFraction
	afterE
	afterSign // of an exponent
	inExponent
)

// scan reads on. It stops at the first byte that no JSON has there.
func (b *blocker) scan(in []byte) {
	for i := 0; i < len(in); {
		n, ok := b.step(in[i:])
		i += n
		b.offset += int64(n)
		if !ok {
			b.malformed()
			return
		}
	}
}

// step reads one byte or more of what is in the same state.
func (b *blocker) step(in []byte) (n int, ok bool) {
	c := in[0]
	switch b.state {
	case inString:
		return b.text(in)
	case inEscape:
		b.state = inString
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			b.state, b.rest = inHex, "0000"
		default:
			return 0, false
		}
		b.put(in[:1])
		return 1, true
	case inHex:
		if _, ok := unhex(c); !ok {
			return 0, false
		}
		if b.rest = b.rest[1:]; b.rest == "" {
			b.state = inString
		}
		b.put(in[:1])
		return 1, true
	case inLiteral:
		if c != b.rest[0] {
			return 0, false
		}
		b.emit(in[:1])
		if b.rest = b.rest[1:]; b.rest == "" {
			b.endValue()
		}
		return 1, true
	case afterMinus, inNumber0, inDigits, afterPoint, inFraction, afterE, afterSign, inExponent:
		return b.number(in)
	}
	if n := blanks(in); n > 0 {
		b.blank(in[:n])
		return n, true
	}
	return 1, b.structure(in[:1])
}

func blanks(in []byte) int {
	for i, c := range in {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return i
		}
	}
	return len(in)
}

// blank is white space between tokens. Beside members it is held back: it
// goes with the member that is left out.
func (b *blocker) blank(text []byte) {
	inObject := len(b.stack) > 0 && b.stack[len(b.stack)-1].object
	if b.removed > 0 {
		return
	}
	if inObject && (b.state == atMember || b.state == atName || b.state == afterValue) {
		b.held = append(b.held, text[:min(len(text), max(0, maxHeldBlank-len(b.held)))]...)
		return
	}
	b.emit(text)
}

// structure takes a byte that is neither white space nor within a value.
func (b *blocker) structure(in []byte) bool {
	c := in[0]
	switch b.state {
	case atStart:
		return b.begin(in)
	case atElement:
		if c == ']' {
			return b.close(in)
		}
		return b.begin(in)
	case atMember, atName:
		if c == '}' && b.state == atMember {
			return b.close(in)
		}
		if c != '"' {
			return false
		}
		b.state, b.isName = inString, true
		b.beginName()
		b.put(in)
		return true
	case atColon:
		if c != ':' {
			return false
		}
		b.state = atStart
		b.emit(in)
		return true
	}
	// afterValue
	if len(b.stack) == 0 {
		return false
	}
	top := &b.stack[len(b.stack)-1]
	switch {
	case c != ',':
		return b.close(in)
	case !top.object:
		b.state = atStart
		b.emit(in)
	default:
		b.state = atName
		switch {
		case b.removed > 0:
		case top.kept:
			b.held = append(b.held, c)
		default: // nothing is before this comma
			b.held = b.held[:0]
		}
	}
	return true
}

// beginName holds a member's name back where anything depends on it.
func (b *blocker) beginName() {
	if b.removed > 0 {
		return
	}
	top := &b.stack[len(b.stack)-1]
	if b.naming = b.limits != nil || top.leads != 0; b.naming {
		b.nameAt = len(b.held)
		return
	}
	top.kept, b.next = true, 0
	b.emit(b.held)
	b.held = b.held[:0]
}

// begin is the first byte of a value.
func (b *blocker) begin(in []byte) bool {
	leads := b.leading()
	if in[0] != 'n' && b.issued.ends(len(b.stack), leads) { // null is no token
		b.emit(redacted)
		b.removed = len(b.stack)
	}
	switch c := in[0]; {
	case c == '{' || c == '[':
		if len(b.stack) == maxNesting {
			return false
		}
		b.stack = append(b.stack, level{object: c == '{', leads: leads})
		if b.state = atElement; c == '{' {
			b.state = atMember
		}
	case c == '"':
		b.state, b.isName = inString, false
	case c == '-':
		b.state = afterMinus
	case c == '0':
		b.state = inNumber0
	case '1' <= c && c <= '9':
		b.state = inDigits
	case c == 't':
		b.state, b.rest = inLiteral, "rue"
	case c == 'f':
		b.state, b.rest = inLiteral, "alse"
	case c == 'n':
		b.state, b.rest = inLiteral, "ull"
	default:
		return false
	}
	b.emit(in)
	return true
}

// leading are the pointers that lead to the value which begins.
func (b *blocker) leading() uint64 {
	depth := len(b.stack)
	switch {
	case b.issued == nil || b.removed > 0:
		return 0
	case depth == 0:
		return b.issued.all
	}
	top := &b.stack[depth-1]
	switch {
	case top.object:
		return b.next
	case top.leads == 0:
		return 0
	}
	top.index++
	return b.issued.element(depth, top.leads, top.index-1)
}

// close is the end of the innermost object or array.
func (b *blocker) close(in []byte) bool {
	end := byte(']')
	if b.stack[len(b.stack)-1].object {
		end = '}'
	}
	if in[0] != end {
		return false
	}
	b.emit(b.held) // white space, and never a comma: that is before a name
	b.held = b.held[:0]
	b.emit(in)
	b.stack = b.stack[:len(b.stack)-1]
	b.endValue()
	return true
}

// endValue ends a value, and with it the member that it belongs to.
func (b *blocker) endValue() {
	b.state = afterValue
	if b.removed > 0 && b.removed == len(b.stack) {
		b.removed = 0
	}
}
