package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
)

const (
	base64Std = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// sextet is what a character of base64 stands for, in either alphabet.
func sextet(c byte) (v byte, ok bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A', true
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26, true
	case '0' <= c && c <= '9':
		return c - '0' + 52, true
	case c == '+' || c == '-':
		return 62, true
	case c == '/' || c == '_':
		return 63, true
	}
	return 0, false
}

// last says what must follow a pattern: nothing when it is 0, else a base64
// character of which the highest bits are known. It fits into endBits.
type last uint64

// lastOf makes a last of the n lowest bits of c; n is 0, 2 or 4.
func lastOf(c byte, n int) last { return last(n/2)<<4 | last(c)&(1<<n-1) }

// accepts says whether c may be the last character.
func (l last) accepts(c byte) bool {
	n := l >> 4 * 2
	v, ok := sextet(c)
	return ok && last(v>>(6-n)) == l&0xf
}

// patternMaker encodes values, in one buffer that is wiped in the end.
type patternMaker struct{ src, dst, other []byte }

// each calls add with each pattern of value and what must follow it. add must
// not keep the pattern.
func (p *patternMaker) each(value []byte, add func(pattern []byte, l last)) {
	add(value, 0)

	p.grow(4*len(value) + 16)
	if bytes.IndexByte(value, ' ') >= 0 {
		// As forms write it.
		plus := p.dst[:len(value)]
		for i, c := range value {
			if plus[i] = c; c == ' ' {
				plus[i] = '+'
			}
		}
		add(plus, 0)
	}
	if isASCII(value) {
		// In UTF-16 of either byte order, up to the NUL before or after.
		wide := p.dst[:2*len(value)-1]
		clear(wide)
		for i, c := range value {
			wide[2*i] = c
		}
		add(wide, 0)
		// In UTF-32, likewise.
		wide = p.dst[:4*len(value)-3]
		clear(wide)
		for i, c := range value {
			wide[4*i] = c
		}
		add(wide, 0)
	}

	lower, other := p.dst[:2*len(value)], p.other[:2*len(value)]
	hex.Encode(lower, value)
	add(lower, 0)
	for i, c := range lower {
		other[i] = c
		if c >= 'a' {
			other[i] = c - 'a' + 'A'
		}
	}
	if !bytes.Equal(lower, other) {
		add(other, 0)
	}

	std := base64.NewEncoding(base64Std).WithPadding(base64.NoPadding)
	url := base64.NewEncoding(base64URL).WithPadding(base64.NoPadding)
	for skip := range 3 {
		n := skip + len(value)
		src := p.src[:n]
		clear(src[:skip])
		copy(src[skip:], value)
		std.Encode(p.dst, src)
		url.Encode(p.other, src)
		// What value alone decides: from the first character that holds no
		// bit of what stands before, to the last that holds none of what
		// follows. The character after that may hold the value's last bits.
		from, to := (8*skip+5)/6, 8*n/6
		l := lastOf(value[len(value)-1], 8*n%6)
		add(p.dst[from:to], l)
		if !bytes.Equal(p.dst[from:to], p.other[from:to]) {
			add(p.other[from:to], l)
		}
	}
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func (p *patternMaker) grow(n int) {
	if len(p.dst) < n {
		p.wipe()
		p.src, p.dst, p.other = make([]byte, n), make([]byte, n), make([]byte, n)
	}
}

func (p *patternMaker) wipe() {
	clear(p.src)
	clear(p.dst)
	clear(p.other)
}
