// Package redact removes secrets from what an upstream answered, while it
// streams.
package redact

import (
	"io"

	"moldable.sh/aivault/internal/secret"
)

// MinLength is the shortest value that is looked for, in bytes: a shorter one
// would be found by chance in honest answers.
const MinLength = 8

// A Set is what to look for, prepared once and used by many streams at once.
// The zero Set finds nothing. It keeps no value in the clear beyond what
// finding it needs, and its memory is wiped by Close.
type Set struct{}

// NewSet prepares values (and, of each, its encodings: base64 in all three
// alignments, standard and URL alphabets; hex; percent; JSON escapes).
func NewSet(values []secret.Value) *Set { panic("contract") }

// Len is the number of values looked for.
func (s *Set) Len() int { panic("contract") }

// String returns text with every match replaced by secret.Redacted, and how
// many there were.
func (s *Set) String(text string) (string, int) { panic("contract") }

// Reader scrubs r. It holds back no byte longer than a match that it may
// begin needs, and passes on at once what was read otherwise.
func (s *Set) Reader(r io.Reader) *Reader { panic("contract") }

// Close wipes what the Set holds. A Reader in use must be done before.
func (s *Set) Close() { panic("contract") }

// A Reader is a scrubbed stream.
type Reader struct{}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) { panic("contract") }

// Redactions is how many matches were replaced so far.
func (r *Reader) Redactions() int { panic("contract") }
