package redact

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"moldable.sh/aivault/internal/secret"
)

// An upstream that answers in UTF-16, in either byte order, at either
// alignment, whole or byte by byte.
func TestUTF16(t *testing.T) {
	const value = "sk-0123456789abcdef"
	set := NewSet([]secret.Value{secret.FromString(value)})
	defer set.Close()
	for name, order := range map[string]binary.AppendByteOrder{"LE": binary.LittleEndian, "BE": binary.BigEndian} {
		for _, before := range []string{"", "x", "\ufeff{\"key\":\"", "sk-0", "\u20ac"} {
			var wide []byte
			for _, unit := range utf16.Encode([]rune(before + value + "\" and sk-01")) {
				wide = order.AppendUint16(wide, unit)
			}
			for odd, text := range []string{string(wide), "." + string(wide)} {
				got, n := set.String(text)
				stream, err := io.ReadAll(set.Reader(iotest.OneByteReader(strings.NewReader(text))))
				if err != nil || n != 1 || got != string(stream) || !strings.Contains(got, secret.Redacted) || strings.Contains(strings.ReplaceAll(got, "\x00", ""), value) {
					t.Errorf("%s, after %q and %d bytes: %d matches, %q, streamed %q, %v", name, before, odd, n, got, stream, err)
				}
			}
		}
	}
}
