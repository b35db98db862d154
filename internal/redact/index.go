package redact

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"strings"

	"moldable.sh/aivault/internal/secret"
)

const (
	zoneLen   = 8                       // the shortest pattern: what the filter knows of each
	windowLen = 5                       // bytes per look
	stride    = zoneLen - windowLen + 1 // between two looks

	windowMask = 1<<(8*windowLen) - 1
)

// keys are drawn for each Set, so that nobody can construct collisions.
type keys struct{ add, mul, window, zone uint64 }

func newKeys() keys {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	k := keys{
		add:    binary.LittleEndian.Uint64(b[0:]),
		mul:    binary.LittleEndian.Uint64(b[8:]) | 1,
		window: binary.LittleEndian.Uint64(b[16:]) | 1,
		zone:   binary.LittleEndian.Uint64(b[24:]) | 1,
	}
	clear(b[:])
	return k
}

// step extends the fingerprint h of some bytes by c.
func (k *keys) step(h uint64, c byte) uint64 {
	hi, lo := bits.Mul64((h+uint64(c)+1)^k.add, k.mul)
	return hi ^ lo
}

func (k *keys) sum(b []byte) uint64 {
	var h uint64
	for _, c := range b {
		h = k.step(h, c)
	}
	return h
}

// What a node of the trie is.
const (
	nodeInner = 1 << iota // a longer pattern goes on from here
	nodeFinal             // a pattern ends here
	nodeBits  = nodeInner | nodeFinal
)

// endBits of an entry in the table of ends are a last and, above it, the mark
// of a taken slot; the others are the fingerprint's.
const (
	endUsed = 1 << 6
	endBits = endUsed<<1 - 1
)

const digitMark = 1 << 4

// index finds patterns by keyed fingerprints.
//
// windows and zones are Bloom filters with one bit an entry: the windows of a
// pattern's first zoneLen bytes, and these bytes as one. nodes is the trie as
// a hash table: a slot is 13 bits of a prefix's fingerprint, a mark, and two
// bits of nodeBits. ends holds 57 bits of each whole pattern's fingerprint,
// and its last. A wrong yes of windows, zones or nodes costs time; ends
// decides.
type index struct {
	keys
	windows, zones []uint64
	nodes          []uint16
	ends           []uint64

	// Which bytes a pattern may begin with, and which its zone may hold:
	// with these, most of a text's escapes are done with at once.
	first, zoned [256]bool
	// Which bytes neither stand in a zone nor introduce an escape.
	away [256]bool
	// Which bytes behind a backslash make no escape that matters.
	dull [256]bool
	// The second letters of the names in HTML that begin with a byte.
	names [256]uint32
	// What a hexadecimal digit counts, and digitMark; 0 for other bytes.
	digits [256]byte
	// Whether a zone may hold the first byte of a four-byte character.
	zonedLong bool

	windowShift, zoneShift uint
}

func newIndex(k keys, values []secret.Value) *index {
	var p patternMaker
	defer p.wipe()
	patterns, nodes := 0, 0
	for _, v := range values {
		p.each(v.Expose(), func(pattern []byte, _ last) {
			patterns++
			nodes += len(pattern)
		})
	}
	ix := &index{keys: k, nodes: make([]uint16, nodes+nodes/2), ends: make([]uint64, 2*patterns)}
	ix.windows, ix.windowShift = newFilter(patterns * stride)
	ix.zones, ix.zoneShift = newFilter(patterns)
	for _, v := range values {
		p.each(v.Expose(), ix.insert)
	}
	for _, name := range strings.Fields(entityNames) {
		ix.names[name[0]] |= 1 << (name[1] & 31)
	}
	for c := range ix.digits {
		if d, ok := hexDigit(byte(c)); ok {
			ix.digits[c] = byte(d) | digitMark
		}
	}
	for c := range ix.away {
		ix.away[c] = !ix.zoned[c] && !introduces(byte(c))
	}
	for c := range ix.dull {
		if introduces(byte(c)) || endsLine(byte(c)) {
			continue // it may be what spells the rest, or stand within it
		}
		r, _, _, st := decode('\\', []byte{byte(c)}, 0, false)
		ix.dull[c] = st == none || st == complete && ix.away[r]
	}
	return ix
}

// newFilter makes a filter of which n entries take a sixteenth.
func newFilter(n int) (filter []uint64, shift uint) {
	b := uint(max(bits.Len(uint(16*n-1)), 6))
	return make([]uint64, 1<<b/64), 64 - b
}

// insert adds one pattern of at least zoneLen bytes, and what must follow it.
func (ix *index) insert(pattern []byte, l last) {
	zone := binary.LittleEndian.Uint64(pattern)
	for o := range stride {
		w := ix.windowBit(zone >> (8 * o))
		ix.windows[w>>6] |= 1 << (w & 63)
	}
	z := ix.zoneBit(zone)
	ix.zones[z>>6] |= 1 << (z & 63)
	ix.first[pattern[0]] = true
	for _, c := range pattern[:zoneLen] {
		ix.zoned[c] = true
		ix.zonedLong = ix.zonedLong || c >= 0xf0
	}

	var h uint64
	for i, c := range pattern {
		h = ix.step(h, c)
		if i < len(pattern)-1 {
			ix.addNode(h, nodeInner)
		}
	}
	ix.addNode(h, nodeFinal)
	ix.addEnd(h, l)
}

func (ix *index) windowBit(v uint64) uint64 {
	return (v & windowMask) * ix.window >> ix.windowShift
}

func (ix *index) hasWindow(v uint64) bool {
	w := ix.windowBit(v)
	return ix.windows[w>>6]>>(w&63)&1 != 0
}

func (ix *index) zoneBit(v uint64) uint64 { return (v ^ v>>29) * ix.zone >> ix.zoneShift }

func (ix *index) hasZone(v uint64) bool {
	z := ix.zoneBit(v)
	return ix.zones[z>>6]>>(z&63)&1 != 0
}

// A slot's tag is never 0, so that an empty slot differs from every taken one.
func nodeTag(h uint64) uint16 { return uint16(h)&^nodeBits | 1<<15 }

// slot is where the search for h begins in a table of n slots.
func slot(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// following is the slot after i in a table of n slots.
func following(i, n int) int {
	if i++; i == n {
		return 0
	}
	return i
}

func (ix *index) addNode(h uint64, flags uint16) {
	tag := nodeTag(h)
	for i := slot(h, len(ix.nodes)); ; i = following(i, len(ix.nodes)) {
		if n := ix.nodes[i]; n == 0 || n&^nodeBits == tag {
			ix.nodes[i] = n | tag | flags
			return
		}
	}
}

func (ix *index) addEnd(h uint64, l last) {
	e := h&^endBits | endUsed | uint64(l)
	for i := slot(h, len(ix.ends)); ; i = following(i, len(ix.ends)) {
		if ix.ends[i] == 0 || ix.ends[i] == e {
			ix.ends[i] = e
			return
		}
	}
}

// node looks up the prefix with fingerprint h: whether some pattern goes on
// from it, and whether one may end there.
func (ix *index) node(h uint64) (inner, final bool) {
	tag := nodeTag(h)
	for i := slot(h, len(ix.nodes)); ; i = following(i, len(ix.nodes)) {
		n := ix.nodes[i]
		if n == 0 {
			return false, false
		}
		if n&^nodeBits == tag {
			return n&nodeInner != 0, n&nodeFinal != 0
		}
	}
}

// end says whether the pattern with fingerprint h ends with it, and whether
// one does of which a last character must follow.
func (ix *index) end(h uint64) (here, wantsLast bool) {
	for i := slot(h, len(ix.ends)); ix.ends[i] != 0; i = following(i, len(ix.ends)) {
		if e := ix.ends[i]; e&^endBits == h&^endBits {
			l := last(e & (endUsed - 1))
			here, wantsLast = here || l == 0, wantsLast || l != 0
		}
	}
	return here, wantsLast
}

// endsWith says whether a pattern with fingerprint h ends with c as its last
// character.
func (ix *index) endsWith(h uint64, c byte) bool {
	for i := slot(h, len(ix.ends)); ix.ends[i] != 0; i = following(i, len(ix.ends)) {
		if e := ix.ends[i]; e&^endBits == h&^endBits && e&(endUsed-1) != 0 && last(e&(endUsed-1)).accepts(c) {
			return true
		}
	}
	return false
}

// wipe forgets the keys last of all that is stored; looking anything up
// afterwards finds nothing.
func (ix *index) wipe() {
	clear(ix.windows)
	clear(ix.zones)
	clear(ix.nodes)
	clear(ix.ends)
	clear(ix.first[:])
	clear(ix.zoned[:])
	clear(ix.dull[:])
	clear(ix.away[:])
	ix.zonedLong = false
	ix.keys = keys{}
}
