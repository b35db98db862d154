package term

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line makes text fit for one line of a terminal: what could move the cursor,
// hide or reorder text, or end the line is written as an escape (\u001b).
func Line(text string) string {
	if strings.IndexFunc(text, lineUnsafe) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case lineUnsafe(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
		text = text[n:]
	}
	return b.String()
}

// lineUnsafe: control characters, line and paragraph separators, and the
// invisible format characters with which one name can pose as another.
func lineUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// textUnsafe is what must not reach a terminal even within a longer text:
// control characters other than line breaks and tabs, and the characters that
// reorder what follows. Joiners inside words and emoji are let through.
func textUnsafe(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case unicode.IsControl(r):
		return true
	}
	return unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// escape writes r as JSON would inside a string, so that an escaped JSON text
// still means the same.
func escape(r rune) string {
	if r > 0xFFFF {
		hi, lo := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// ErrBinary is what a Writer answers to bytes that are no text.
var ErrBinary error = binaryError{}

type binaryError struct{}

func (binaryError) Error() string { return "binary data is not written to a terminal" }

// A Writer passes text on to a terminal and escapes what could steer it. It
// refuses binary data with ErrBinary. What it was given is passed on at once,
// less an incomplete character at the end; Flush ends the text.
type Writer struct {
	w    io.Writer
	held []byte // at most 3 bytes: the beginning of a character, or a '\r'
	err  error
}

// NewWriter makes a Writer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write implements io.Writer.
func (t *Writer) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	text := p
	if len(t.held) > 0 {
		text = append(t.held, p...)
	}
	var rest []byte
	var out []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			if !utf8.FullRune(text) {
				rest = text
				break
			}
			t.err = ErrBinary
			break
		}
		if r == 0 {
			t.err = ErrBinary
			break
		}
		if r == '\r' {
			if len(text) == 1 {
				rest = text
				break
			}
			if text[1] == '\n' { // an ordinary line break
				text = text[1:]
				continue
			}
		}
		if textUnsafe(r) {
			out = append(out, escape(r)...)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	t.held = append([]byte(nil), rest...)
	if len(out) > 0 {
		if _, err := t.w.Write(out); err != nil && t.err == nil {
			t.err = err
		}
	}
	if t.err != nil {
		return 0, t.err
	}
	return len(p), nil
}

// Flush writes what Write held back; half a character is binary data.
func (t *Writer) Flush() error {
	if t.err != nil || len(t.held) == 0 {
		return t.err
	}
	if t.held[0] != '\r' {
		t.err = ErrBinary
		return t.err
	}
	t.held = nil
	_, t.err = io.WriteString(t.w, escape('\r'))
	return t.err
}
