package redact

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// block is how many bytes are looked at at once.
const block = 64

// many introducers in a block, or one that is near, are a text in which they
// are dense.
const (
	many = 4
	near = block / many
)

// introducers finds the bytes of b that may be read in more than one way: a
// block at a time where they are dense, a kind at a time where they are not.
type introducers struct {
	b      []byte
	events bool

	dense      bool
	marks      uint64 // bit i: b[base+i] may be one
	base, done int    // the block that marks tells of
	at         [5]int // the first of each kind that is not passed, if it is not
}

// next is the first one from i on, len(b) if there is none. It is called with
// growing i.
func (in *introducers) next(i int) int {
	for {
		if i < in.done {
			if m := in.marks >> uint(i-in.base); m != 0 {
				return i + bits.TrailingZeros64(m)
			}
			i = in.done
		}
		if i+block > len(in.b) {
			break
		}
		if !in.dense {
			j := in.far(i)
			in.dense = j-i < near
			return j
		}
		in.mark(i)
		in.dense = bits.OnesCount64(in.marks) >= many
	}
	for i < len(in.b) && !special(in.b[i], in.events) {
		i++
	}
	return i
}

// mark looks at the block at i.
func (in *introducers) mark(i int) {
	b := (*[block]byte)(in.b[i:])
	var marks uint64
	for k := 0; k < block; k += 8 {
		v := binary.LittleEndian.Uint64(b[k:])
		hits := zeros(v^eachByte*'\\') | zeros(v^eachByte*'%') | zeros(v^eachByte*'&')
		if in.events {
			hits |= zeros(v^eachByte*'\n') | zeros(v^eachByte*'\r')
		}
		// The highest bits of the eight bytes, beside each other.
		marks |= hits >> 7 * 0x0102040810204080 >> 56 << (k & 63)
	}
	in.base, in.done, in.marks = i, i+block, marks
}

// eachByte times a byte is that byte eight times.
const eachByte = 0x0101010101010101

// zeros has the highest bit of each byte set that is zero in v.
func zeros(v uint64) uint64 {
	const low = eachByte * 0x7f
	return ^(v&low + low | v | low)
}

// far is next where they are not dense.
func (in *introducers) far(i int) int {
	kinds := "\\%&\r\n"
	if !in.events {
		kinds = kinds[:3]
	}
	first := len(in.b)
	for k := range len(kinds) {
		if in.at[k] <= i {
			in.at[k] = len(in.b)
			if j := bytes.IndexByte(in.b[i:], kinds[k]); j >= 0 {
				in.at[k] = i + j
			}
		}
		first = min(first, in.at[k])
	}
	return first
}
