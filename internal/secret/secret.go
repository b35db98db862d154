// Package secret holds the one type in which aivault carries a secret.
//
// A Value prints as [redacted] through every formatting, logging and encoding
// path of the standard library. Its bytes can be had only through Expose,
// which internal/archtest allows in the few packages that seal, send or scrub
// secrets.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"unicode/utf8"

	"encoding/json"
)

// Redacted is what stands in every output in a secret's place.
const Redacted = "[redacted]"

// MaxSize is the longest value that a vault accepts, in bytes.
const MaxSize = 64 << 10

// Value is a secret. The zero Value is empty. Copies share the same bytes, so
// that Wipe on one wipes them all; == asks for the same copy, Equal for the
// same bytes.
//
// The bytes are held by a function, because reflection cannot look into one:
// fmt calls no methods on the unexported fields of a struct, and with a verb
// that does not fit (%s) it would print what a pointer to bytes points to.
type Value struct {
	open  *func() []byte
	pages *func(what int) bool // of one in locked memory
}

// New takes ownership of b: the caller must not use b afterwards.
func New(b []byte) Value {
	open := func() []byte { return b }
	return Value{open: &open}
}

// FromString copies s into a Value. The string itself stays in memory until
// the garbage collector reuses it; prefer New where the bytes are at hand.
func FromString(s string) Value { return New([]byte(s)) }

// Expose returns the secret's own bytes. They must not be kept, changed or
// printed, and are zero after Wipe.
func (v Value) Expose() []byte {
	if v.open == nil {
		return nil
	}
	return (*v.open)()
}

// Len is the secret's length in bytes.
func (v Value) Len() int { return len(v.Expose()) }

// IsZero says whether there is no secret, or an empty one.
func (v Value) IsZero() bool { return v.Len() == 0 }

// Clone copies the bytes, so that wiping one does not wipe the other.
func (v Value) Clone() Value { return New(append([]byte(nil), v.Expose()...)) }

// Equal compares in constant time for values of equal length.
func (v Value) Equal(w Value) bool {
	return subtle.ConstantTimeCompare(v.Expose(), w.Expose()) == 1
}

// Wipe overwrites the bytes of this Value and of all its copies.
func (v Value) Wipe() {
	b := v.Expose()
	clear(b)
	runtime.KeepAlive(b)
	if v.pages != nil {
		(*v.pages)(unlock)
	}
}

// String implements fmt.Stringer; it never returns the secret.
func (v Value) String() string { return Redacted }

// GoString implements fmt.GoStringer; it never returns the secret.
func (v Value) GoString() string { return Redacted }

// Format implements fmt.Formatter for every verb and flag.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements slog.LogValuer.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON writes "[redacted]". A client that must send a secret encodes
// it by hand.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

var errNotString = errors.New("must be a string")

// UnmarshalJSON reads a JSON string. Its errors never repeat the input.
func (v *Value) UnmarshalJSON(b []byte) error {
	var s string
	if len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &s) != nil || !utf8.ValidString(s) {
		return errNotString
	}
	*v = FromString(s)
	return nil
}
