package redact

import (
	"errors"
	"io"
)

// What ends a body that is packed and could not be passed on.
var (
	ErrPackedEcho = errors.New("redact: a secret is in what a packed body holds")
	ErrBomb       = errors.New("redact: a packed body expands too far")
	ErrUnchecked  = errors.New("redact: a packed body cannot be checked")
)

const (
	maxLayers  = 2        // that are undone: gzip within gzip, but no third
	maxPadding = 64 << 10 // zeros between two parts of one text
	maxWaiting = 1 << 20  // bytes that wait for what they unpack to
	scratch    = 16 << 10 // of the text that is looked at
	tapSize    = 8 << 10  // of one read of the body

	freeSize = 1 << 20
)

// MaxRatio is how many times its size on the wire a body may be unpacked.
const MaxRatio = 200

// Bomb says whether a body grows too much as it is unpacked: beyond a size
// that is let pass, to MaxRatio times what came over the wire and more. No honest
// answer is that regular.
func Bomb(unpacked, packed int64) bool { return unpacked > freeSize && unpacked/MaxRatio > packed }

// Packed looks into a body that begins like gzip, zlib or zstd, which whoever
// gets it may unpack, and passes every body on unchanged. Of a packed one, no
// byte is passed on before all that it and those before it unpack to was
// found clean. A secret ends it with ErrPackedEcho, a bomb with ErrBomb, and
// what cannot be checked (a window or dictionary that we do not have, a
// megabyte that unpacks to nothing) with ErrUnchecked.
//
// What only looks packed, and cannot be unpacked, is passed on once that is
// known. Of what follows the packed part, only another such part is looked
// into; what they unpack to is one text.
//
// scrub is asked to scrub each text that a body unpacks to.
func Packed(body io.Reader, scrub func(io.Reader) Scrubbed) io.Reader {
	return newPacked(body, scrub, maxLayers)
}

// A Scrubbed is a text that is being scrubbed.
type Scrubbed interface {
	io.Reader
	Redactions() int // so far
}

type packed struct {
	tap
	scrub  func(io.Reader) Scrubbed
	layers int // that may be undone still

	state   packedState
	ready   int   // bytes at the head of tap.buf that may be passed on
	end     error // behind them
	parts   *parts
	checked Scrubbed // their text, once it is clean
	clean   int64    // how much of it there was
	text    []byte
}

type packedState int

const (
	sniffing packedState = iota
	unpacking
	padding // behind a packed part: zeros, or another one
	plain
)

func newPacked(body io.Reader, scrub func(io.Reader) Scrubbed, layers int) *packed {
	return &packed{tap: tap{r: body}, scrub: scrub, layers: layers}
}

// Read implements io.Reader.
func (p *packed) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		switch {
		case p.ready > 0:
			n := p.pass(b[:min(len(b), p.ready)])
			p.ready -= n
			return n, nil
		case p.end != nil:
			return 0, p.end
		case p.state == unpacking:
			p.unpack()
		case p.state == plain:
			return p.rest(b)
		case p.state == sniffing && len(p.buf) == 0 && p.err == nil:
			if n, done := p.first(b); done {
				return n, p.err
			}
		default:
			p.sniff()
		}
	}
}

// first reads the beginning to where it is wanted, as it can stay there for
// nearly every body. Otherwise it is kept.
func (p *packed) first(b []byte) (n int, done bool) {
	for empty := 0; n == 0 && p.err == nil; empty++ {
		if n, p.err = p.r.Read(b); empty == maxEmpty && n == 0 && p.err == nil {
			p.err = io.ErrNoProgress
		}
	}
	kind, more := beginsLike(b[:n])
	if kind == 0 && !(more && p.err == nil) || p.layers == 0 {
		p.state = plain
		return n, true
	}
	p.buf = append(p.buf, b[:n]...)
	clear(b[:n])
	return 0, false
}

// sniff looks at the beginning of what comes next.
func (p *packed) sniff() {
	b := p.waiting()
	if p.state == padding {
		for p.ready < len(b) && b[p.ready] == 0 {
			p.ready++
		}
		if p.ready > 0 {
			p.skip(p.ready)
			return
		}
	}
	kind, more := beginsLike(b)
	switch {
	case more && p.err == nil:
		p.fill()
	case kind == 0 || p.layers == 0:
		p.skip(len(b))
		p.ready, p.state = len(b), plain
	default:
		p.state, p.clean = unpacking, 0
		p.parts = newParts(&p.tap, kind)
		var text io.Reader = p.parts
		if p.layers > 1 {
			text = newPacked(text, p.scrub, p.layers-1)
		}
		p.checked = p.scrub(text)
		if p.text == nil {
			p.text = make([]byte, scratch)
		}
	}
}

// unpack takes one step through the text of a packed part.
func (p *packed) unpack() {
	n, err := p.checked.Read(p.text)
	clear(p.text[:n])
	p.clean += int64(n)
	if p.checked.Redactions() > 0 {
		err = ErrPackedEcho
	}
	switch {
	case err == nil:
		p.ready = p.parts.cleanUpTo(p.clean)
	case err == io.EOF:
		// All of it was seen, or nobody can unpack what comes now.
		p.ready, p.state = p.taken, padding
		if p.parts.broken {
			p.state = plain
		}
		p.parts, p.checked = nil, nil
	default:
		if err != ErrPackedEcho {
			p.ready = p.parts.cleanUpTo(p.clean)
		}
		p.fail(err)
	}
}

// fail ends the body behind what may be passed on.
func (p *packed) fail(err error) {
	p.end = err
	p.forget(p.ready)
	p.parts, p.checked = nil, nil
}

// rest passes on what is not packed.
func (p *packed) rest(b []byte) (int, error) {
	if n := len(p.waiting()); n > 0 {
		p.skip(n)
		p.ready = n
		return p.Read(b)
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.r.Read(b)
}

// tap hands a body to who unpacks it byte by byte, so that it is known how
// much was taken, and keeps what was not passed on yet.
type tap struct {
	r     io.Reader
	buf   []byte
	taken int   // of buf
	base  int64 // bytes passed on before buf
	err   error // of r
}

// waiting is what was not taken yet of what is kept.
func (t *tap) waiting() []byte { return t.buf[t.taken:] }

func (t *tap) skip(n int) { t.taken += n }

// offset counts what was taken of the body.
func (t *tap) offset() int64 { return t.base + int64(t.taken) }

// pass copies from the head of what is kept and lets go of it.
func (t *tap) pass(b []byte) int {
	n := copy(b, t.buf)
	kept := copy(t.buf, t.buf[n:])
	clear(t.buf[kept:])
	t.buf = t.buf[:kept]
	t.taken -= n
	t.base += int64(n)
	return n
}

// forget drops what is kept but for its first n bytes.
func (t *tap) forget(n int) {
	clear(t.buf[n:])
	t.buf, t.taken = t.buf[:n], min(t.taken, n)
}

// fill reads once.
func (t *tap) fill() {
	if len(t.buf) > maxWaiting {
		t.err = ErrUnchecked
	}
	for empty := 0; t.err == nil; empty++ {
		if empty == maxEmpty {
			t.err = io.ErrNoProgress
			return
		}
		have := len(t.buf)
		if cap(t.buf)-have < tapSize {
			grown := make([]byte, have, 2*cap(t.buf)+tapSize)
			copy(grown, t.buf)
			clear(t.buf)
			t.buf = grown
		}
		n, err := t.r.Read(t.buf[have : have+tapSize])
		t.buf, t.err = t.buf[:have+n], err
		if n > 0 {
			return
		}
	}
}

// ReadByte implements io.ByteReader: whoever reads by it takes no more than
// it needs.
func (t *tap) ReadByte() (byte, error) {
	if t.taken == len(t.buf) {
		if t.fill(); t.taken == len(t.buf) {
			return 0, t.err
		}
	}
	c := t.buf[t.taken]
	t.taken++
	return c, nil
}

// Read implements io.Reader.
func (t *tap) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if t.taken == len(t.buf) {
		if t.fill(); t.taken == len(t.buf) {
			return 0, t.err
		}
	}
	n := copy(b, t.waiting())
	t.taken += n
	return n, nil
}
