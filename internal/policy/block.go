package policy

import (
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Block removes the blocked members from a JSON text while it streams. A text
// that is no JSON ends with a policy_violation instead of being let through;
// an empty one is empty.
//
// What is let through is passed on byte for byte, numbers and white space
// included (but for white space without end between two members). Names are
// compared without their escapes and without case; of a name that occurs
// twice, both members go. Strings may be of any length: nothing is held back
// but the beginning of a member, until its name is known, and of that a few
// kilobytes at most. What Read gave before an error was clean.
func (l *Limits) Block(answer io.Reader) io.Reader {
	if !l.BlocksFields() {
		return answer
	}
	return &blocker{limits: l, answer: answer, in: make([]byte, scanned)}
}

const (
	maxNesting = 10_000 // objects and arrays within each other
	// No longer name can be one of those that are blocked: of maxLimitName
	// bytes, each may be a character, and each character an escape.
	maxBlockName = 6*maxLimitName + 2
	maxHeldBlank = 4 << 10 // between two members
	emptyReads   = 100     // in a row, before the answer is given up
	scanned      = 16 << 10
)

// blocker is the reader that Block and Redact return: a scanner of JSON that
// knows after each byte where it stands, and what of it may be let through.
type blocker struct {
	limits *Limits // whose members are left out; nil: none
	issued *Issued // whose values are replaced; nil: none
	answer io.Reader
	in     []byte
	out    []byte // let through, not yet read
	read   int    // bytes of out that were
	err    error  // after out
	offset int64  // bytes of the answer that were scanned

	state   state
	stack   []level // the objects and arrays that are open
	isName  bool    // the string that is being read is a name
	naming  bool    // and it is held back until it is known
	removed int     // depth of what is being left out, 0 for none
	next    uint64  // pointers of issued that lead to the member whose name was read
	rest    string  // of a literal; of an escape, as many bytes as digits
	utf8    utf8State
	// held is what may be left out with the next member: the comma before it,
	// white space, and from nameAt on its name.
	held   []byte
	nameAt int
	plain  []byte // scratch: the name without escapes
	folded []byte // and folded
}

// level is an open object or array.
type level struct {
	object bool
	kept   bool   // some member was let through
	leads  uint64 // pointers of issued that lead here, and on
	index  int    // of the next element that such a pointer may lead to
}

func (b *blocker) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for empty := 0; b.read == len(b.out); {
		if b.err != nil {
			return 0, b.err
		}
		b.out, b.read = b.out[:0], 0
		n, err := b.answer.Read(b.in)
		if n == 0 && err == nil {
			if empty++; empty > emptyReads {
				err = io.ErrNoProgress
			}
		}
		if n > 0 {
			empty = 0
			b.scan(b.in[:n])
		}
		if b.err == nil && err != nil {
			b.err = err
			if err == io.EOF {
				b.end()
			}
		}
	}
	n := copy(p, b.out[b.read:])
	b.read += n
	return n, nil
}

// end is the answer's: a text that is not whole is no JSON.
func (b *blocker) end() {
	switch {
	case b.offset == 0:
	case b.state == inNumber0 || b.state == inDigits || b.state == inFraction || b.state == inExponent:
		if len(b.stack) > 0 {
			b.malformed()
		}
	case b.state != afterValue || len(b.stack) > 0:
		b.malformed()
	}
}

func (b *blocker) malformed() {
	if b.limits == nil {
		b.err = b.issued.refuse(b.offset)
		return
	}
	b.err = b.limits.refuse("the answer is not one JSON value, at byte %d: fields cannot be removed from it, as the capability's policy wants", b.offset)
}

// emit lets bytes through, unless they belong to a member that is left out.
func (b *blocker) emit(text []byte) {
	if b.removed == 0 {
		b.out = append(b.out, text...)
	}
}

// decide is called when a name is whole, or longer than any that is looked
// for.
func (b *blocker) decide(whole bool) {
	top := &b.stack[len(b.stack)-1]
	b.naming, b.folded = false, b.folded[:0]
	if whole {
		b.fold(b.held[b.nameAt:])
	}
	if whole && b.limits != nil && b.limits.block[string(b.folded)] {
		b.removed = len(b.stack)
	} else {
		top.kept = true
		b.next = b.issued.member(len(b.stack), top.leads, b.folded)
		b.emit(b.held)
	}
	b.held = b.held[:0]
}

// fold puts a name, given as it is written, in the form in which names are
// looked for.
func (b *blocker) fold(raw []byte) {
	text := raw[1 : len(raw)-1]
	for _, c := range text {
		if c == '\\' {
			// The error is about halves of surrogate pairs, which become U+FFFD.
			text, _ = jsontext.AppendUnquote(b.plain[:0], raw)
			b.plain = text
			break
		}
	}
	b.folded = appendFolded(b.folded[:0], text)
}
