package redact

import "io"

const (
	roomAtLeast = 512  // in p, to read into it directly
	roomOwn     = 4096 // to read into the Reader's own buffer
	maxEmpty    = 100  // reads of nothing in a row
)

// A Reader is a scrubbed stream.
type Reader struct {
	set   *Set
	sc    *scanner
	r     io.Reader
	held  []byte // read, not yet known to be safe
	own   []byte // where p is too small
	out   []byte // scrubbed, to be handed out
	off   int    // of out
	err   error  // of r
	count int
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.set.ix == nil {
		return r.r.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for empty := 0; ; {
		if r.off < len(r.out) {
			n := copy(p, r.out[r.off:])
			if r.off += n; r.off == len(r.out) {
				r.out, r.off = r.out[:0], 0
			}
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		n, read, err := r.fill(p)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			return n, nil
		}
		if read > 0 {
			empty = 0
		} else if empty++; empty == maxEmpty && r.err == nil {
			r.finish(io.ErrNoProgress)
		}
	}
}

// fill reads once. What is safe and stands in p already is n bytes; what is
// safe otherwise is in r.out.
func (r *Reader) fill(p []byte) (n, read int, err error) {
	work, direct := p, true
	if len(p) < len(r.held)+roomAtLeast {
		if need := len(r.held) + roomOwn; len(r.own) < need {
			clear(r.own)
			r.own = make([]byte, 2*need)
		}
		work, direct = r.own, false
	}
	kept := copy(work, r.held)
	read, readErr := r.r.Read(work[kept:])
	if r.set.closed.Load() {
		clear(work[:kept+read])
		r.finish(errClosed)
		return 0, 0, errClosed
	}
	b := work[:kept+read]
	// Of a stream that broke off, what may be the beginning of a secret stays
	// here: whoever can cut a stream short would else read a secret but for
	// its last byte.
	hold := r.sc.scan(b, readErr == io.EOF)
	r.held = append(r.held[:0], b[hold:]...)
	if r.sc.clean() && direct {
		n = hold
		clear(b[hold:])
	} else {
		var k int
		r.out, k = r.sc.emit(r.out, b, hold)
		r.count += k
		clear(b)
	}
	r.sc.emitted(hold)
	if readErr != nil {
		r.finish(readErr)
	}
	return n, read, nil
}

// finish lets go of everything but what is still to be handed out.
func (r *Reader) finish(err error) {
	r.err = err
	clear(r.held[:cap(r.held)])
	clear(r.own)
	r.held, r.own = nil, nil
	if r.sc != nil {
		r.set.release(r.sc)
		r.sc = nil
	}
}

// Redactions is how many matches were replaced so far.
func (r *Reader) Redactions() int { return r.count }
