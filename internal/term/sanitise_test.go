package term

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"OPENAI_API_KEY", "OPENAI_API_KEY"},
		{"Grüße, 世界", "Grüße, 世界"},
		{"", ""},
		{"a\nb\tc\r", `a\u000ab\u0009c\u000d`},
		{"\x1b[2Jgone", `\u001b[2Jgone`},
		{"\u009b31m", `\u009b31m`},
		{"\x9b31m", `\x9b31m`},
		{"acme\u202egnp", `acme\u202egnp`},
		{"ac\u200bme", `ac\u200bme`},
		{"a\u2028b", `a\u2028b`},
		{"tag\U000e0041", `tag\udb40\udc41`},
		{"\x7f\x00", `\u007f\u0000`},
	} {
		if got := Line(c.in); got != c.want {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestWriterText(t *testing.T) {
	in := "héllo\tworld\r\n{\"a\":\"\u202eb\"}\n\x1b[31mred\rover 👩‍💻\n\r"
	want := "héllo\tworld\n{\"a\":\"\\u202eb\"}\n\\u001b[31mred\\u000dover 👩‍💻\n\\u000d"
	// Split at every offset: no split may change what is shown.
	for i := 0; i <= len(in); i++ {
		var b bytes.Buffer
		w := NewWriter(&b)
		for _, part := range []string{in[:i], in[i:]} {
			if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
				t.Fatalf("split %d: Write = %d, %v", i, n, err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatalf("split %d: Flush: %v", i, err)
		}
		if b.String() != want {
			t.Fatalf("split %d:\n got %q\nwant %q", i, b.String(), want)
		}
	}
}

func TestWriterRefusesBinary(t *testing.T) {
	for _, in := range []string{"PK\x03\x04\x00\x00", "\xff\xfe", "abc\xc3(", "ends in half \xe4\xb8"} {
		var b bytes.Buffer
		w := NewWriter(&b)
		_, err := w.Write([]byte(in))
		if err == nil {
			err = w.Flush()
		}
		if !errors.Is(err, ErrBinary) {
			t.Errorf("%q: %v, want ErrBinary", in, err)
		}
		if _, err := w.Write([]byte("more")); err == nil {
			t.Errorf("%q: written on after ErrBinary", in)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"plain", "\x1b]0;title\a", "\u202e\u2066", "\xff", "\U000e0001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Line(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, lineUnsafe) >= 0 {
			t.Fatalf("Line(%q) = %q", s, got)
		}
		if Line(got) != got {
			t.Fatalf("Line is not stable on %q", s)
		}
	})
}

func FuzzWriter(f *testing.F) {
	f.Add([]byte("text\r\n\x1b[0m"), 3)
	f.Add([]byte("\xe4\xb8\xad\r"), 1)
	f.Fuzz(func(t *testing.T, data []byte, split int) {
		if split < 0 || split > len(data) {
			return
		}
		show := func(parts ...[]byte) (string, error) {
			var b bytes.Buffer
			w := NewWriter(&b)
			for _, p := range parts {
				if _, err := w.Write(p); err != nil {
					return b.String(), err
				}
			}
			return b.String(), w.Flush()
		}
		whole, errWhole := show(data)
		parts, errParts := show(data[:split], data[split:])
		if (errWhole == nil) != (errParts == nil) || errWhole == nil && whole != parts {
			t.Fatalf("split %d of %q: %q %v, whole %q %v", split, data, parts, errParts, whole, errWhole)
		}
		if strings.IndexFunc(parts, textUnsafe) >= 0 {
			t.Fatalf("%q lets through %q", data, parts)
		}
	})
}
