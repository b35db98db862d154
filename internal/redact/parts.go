package redact

import "io"

// parts is the text of packed parts that follow each other, with zeros between
// them or nothing. It is one text, since whoever unpacks the body reads it so:
// a value may begin in one part and end in the next.
type parts struct {
	tap    *tap
	layer  *layer // nil between two parts
	broken bool   // the last one could not be unpacked to its end

	size  int64 // of the text
	last  int64 // bytes of the body that were taken when text last came
	marks []mark
}

// A mark says that the body up to raw unpacks to no more than the first text
// bytes. Unpacking looks ahead, so that this is known only when text comes for
// which more of the body was taken, and where a part ends.
type mark struct{ raw, text int64 }

func newParts(t *tap, first packing) *parts {
	return &parts{tap: t, layer: newLayer(t, first), last: t.offset()}
}

// cleanUpTo is how many of the bytes that the tap keeps may be passed on when
// so many bytes of the text are clean.
func (p *parts) cleanUpTo(text int64) int {
	n, upTo := 0, p.tap.base
	for n < len(p.marks) && p.marks[n].text <= text {
		upTo = max(upTo, p.marks[n].raw)
		n++
	}
	p.marks = append(p.marks[:0], p.marks[n:]...)
	return int(upTo - p.tap.base)
}

// Read implements io.Reader. It ends where the last part does.
func (p *parts) Read(b []byte) (int, error) {
	for {
		if p.layer == nil {
			if err := p.next(); err != nil {
				return 0, err
			}
		}
		n, err := p.layer.Read(b)
		p.size += int64(n)
		at := p.tap.offset()
		if n > 0 && at > p.last {
			p.marks = append(p.marks, mark{p.last, p.size})
			p.last = at
		}
		if err == io.EOF {
			p.marks = append(p.marks, mark{at, p.size})
			p.broken, p.layer, err = p.layer.broken, nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next goes on to the part that follows.
func (p *parts) next() error {
	if p.broken {
		return io.EOF
	}
	for zeros := 0; zeros <= maxPadding; {
		b := p.tap.waiting()
		n := 0
		for n < len(b) && b[n] == 0 {
			n++
		}
		p.tap.skip(n)
		zeros += n
		kind, more := beginsLike(b[n:])
		switch {
		case kind != 0:
			p.layer = newLayer(p.tap, kind)
			return nil
		case !more:
			return io.EOF
		case p.tap.err != nil:
			return p.tap.err
		}
		p.tap.fill()
	}
	return io.EOF
}
