// Package redact removes secrets from what an upstream answered, while it
// streams.
//
// # What is found
//
// Every value of MinLength bytes or more: raw, in UTF-16 and UTF-32 (where it is ASCII),
// in base64 (all three alignments, standard and URL alphabet, padded or not)
// and in hex, and each
// of these with any of its characters written as a percent, JSON or HTML
// escape, in any mixture, also escaped twice. A byte of a base64 text that
// the value shares with what follows it is removed with it; of the one shared
// with what stands before, at most four bits of the value's first byte stay.
//
// In an event stream, a value is found that is spread over the lines of one
// event's data. A blank may be a plus, as in forms.
//
// Of a text that breaks off, what may be the beginning of a value is withheld.
// A body that begins like gzip, zlib or zstd is looked into (packed.go).
//
// What is not found: values shorter than MinLength, the beginning of a value
// at the regular end of a text, base64 with line breaks inside, values spread
// over several events, archives, and what an upstream computes from a value. A
// match tells whoever chose the text that a guess was right.
//
// # How
//
// One pass, whose cost does not grow with the number of values. Every fourth
// position of the text is looked up in a filter of five-byte windows that
// holds the four windows of each pattern's first eight bytes, so no pattern
// can pass between two looks. Where an escape occurs, the windows that begin
// or end with it are looked up too, decoded. A hit is followed byte by byte
// through a hashed trie (index.go), decoding as it goes (walk.go), against all
// patterns at once.
//
// A Set keeps no value: filter and trie are fingerprints under a key drawn
// for that Set. Who reads the key and the trie from memory can still guess a
// value character by character; what the fingerprints prevent is that values
// lie in the heap, to be found in a dump or in swap.
package redact

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"moldable.sh/aivault/internal/secret"
)

// MinLength is the shortest value that is looked for, in bytes: a shorter one
// would be found by chance in honest answers.
const MinLength = zoneLen

// A Set is what to look for, prepared once and used by many streams at once.
// The zero Set finds nothing. It keeps no value in the clear beyond what
// finding it needs, and its memory is wiped by Close.
type Set struct {
	ix       *index
	count    int
	closed   atomic.Bool
	scanners sync.Pool // of *scanner
}

var errClosed = errors.New("redact: the set of secrets was closed while an answer was read")

// NewSet prepares values (and, of each, its encodings: UTF-16 and UTF-32; base64 in all
// three alignments, standard and URL alphabets; hex; percent; JSON escapes). It
// keeps nothing of values: they may be wiped when it returns.
func NewSet(values []secret.Value) *Set {
	var looked []secret.Value
	seen := make(map[uint64][]int)
	k := newKeys()
	for _, v := range values {
		if v.Len() < MinLength {
			continue
		}
		h := k.sum(v.Expose())
		if !containsValue(looked, seen[h], v) {
			seen[h] = append(seen[h], len(looked))
			looked = append(looked, v)
		}
	}
	if len(looked) == 0 {
		return &Set{}
	}
	return &Set{ix: newIndex(k, looked), count: len(looked)}
}

func containsValue(values []secret.Value, at []int, v secret.Value) bool {
	for _, i := range at {
		if values[i].Equal(v) {
			return true
		}
	}
	return false
}

// Len is the number of values looked for: those of MinLength or more, equal
// ones counted once.
func (s *Set) Len() int { return s.count }

// String returns text with every match replaced by secret.Redacted, and how
// many there were. Of a closed Set it returns secret.Redacted alone.
func (s *Set) String(text string) (string, int) {
	if s.ix == nil || text == "" {
		return text, 0
	}
	if s.closed.Load() {
		return secret.Redacted, 1
	}
	sc := s.scanner()
	defer s.release(sc)
	b := []byte(text)
	sc.scan(b, true)
	if sc.clean() {
		return text, 0
	}
	out, n := sc.emit(nil, b, len(b))
	return string(out), n
}

// Reader scrubs r. It holds back no byte longer than a match that it may
// begin needs, and passes on at once what was read otherwise. A Read uses all
// of p as scratch space, as io.Reader allows: before the secret is removed, it
// may stand there.
func (s *Set) Reader(r io.Reader) *Reader {
	rd := &Reader{set: s, r: r}
	if s.ix != nil {
		rd.sc = s.scanner()
	}
	return rd
}

// Events is Reader for an event stream (text/event-stream): it finds values
// that are spread over the lines of one event's data, too.
func (s *Set) Events(r io.Reader) *Reader {
	rd := s.Reader(r)
	if rd.sc != nil {
		rd.sc.ofEvents(true)
	}
	return rd
}

// Close wipes what the Set holds. A Reader in use must be done before; one
// that is not fails its next Read, and passes nothing on unscrubbed.
func (s *Set) Close() {
	if s.ix == nil || s.closed.Swap(true) {
		return
	}
	s.ix.wipe()
}

func (s *Set) scanner() *scanner {
	if sc, ok := s.scanners.Get().(*scanner); ok {
		return sc
	}
	return &scanner{ix: s.ix}
}

func (s *Set) release(sc *scanner) {
	sc.reset()
	s.scanners.Put(sc)
}
