// Package strictjson is the one decoder for JSON that aivault did not write
// itself a moment ago: requests, answers, the vault's state, key files and
// registry entries.
//
// It refuses what encoding/json lets through: duplicate names, unknown names,
// names in another case, invalid UTF-8, a byte order mark, trailing bytes and
// nesting deeper than MaxDepth. Its errors name the field, never its value.
package strictjson

import "io"

// MaxDepth is the deepest nesting that is accepted.
const MaxDepth = 64

// Unmarshal decodes data, all of it, into v.
func Unmarshal(data []byte, v any) error { panic("contract") }

// Read decodes all of r into v; more than limit bytes are ErrTooLarge.
func Read(r io.Reader, limit int64, v any) error { panic("contract") }

// Marshal encodes v on one line. HTML characters are not escaped.
func Marshal(v any) ([]byte, error) { panic("contract") }

// ErrTooLarge is returned by Read past its limit.
var ErrTooLarge error
