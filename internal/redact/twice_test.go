package redact

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

// A value is found behind any two escapings in a row, as libraries do them and
// as nobody does: each character of both.
func TestEscapedTwice(t *testing.T) {
	const value = `pw"q\r&s<t>'u/v+w=x~y%z` + "\n\t{}"
	set := newSet(value)
	all := func(style string) func(string) string {
		return func(s string) string {
			var b strings.Builder
			for i := range len(s) {
				fmt.Fprintf(&b, style, s[i])
			}
			return b.String()
		}
	}
	quoted := func(s string) string { text, _ := json.Marshal(s); return string(text[1 : len(text)-1]) }
	ways := map[string]func(string) string{
		"query": url.QueryEscape, "path": url.PathEscape, "html": html.EscapeString, "json": quoted,
		"json for scripts": func(s string) string { return strings.ReplaceAll(quoted(s), "/", `\/`) },
		"plain json": func(s string) string {
			return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s)
		},
		"named html": func(s string) string {
			return strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&apos;", `\`, "&bsol;", "%", "&percnt;", "\n", "&NewLine;").Replace(s)
		},
		"all percent": all("%%%02X"), "all u": all(`\u%04x`), "all x": all(`\x%02x`), "all numbers": all("&#%d;"), "all hex numbers": all("&#x%x;"),
	}
	for first, a := range ways {
		for second, b := range ways {
			text := "[" + b(a(value)) + "]"
			if got, n := set.String(text); n != 1 || got != "[[redacted]]" {
				t.Errorf("%s, then %s: %s\nis %s", first, second, text, got)
				continue
			}
			if got, err := io.ReadAll(set.Reader(iotest.OneByteReader(strings.NewReader(text)))); err != nil || string(got) != "[[redacted]]" {
				t.Errorf("%s, then %s, byte by byte: %s, %v", first, second, got, err)
			}
			if got, err := io.ReadAll(set.Events(iotest.HalfReader(strings.NewReader(text)))); err != nil || string(got) != "[[redacted]]" {
				t.Errorf("%s, then %s, as events: %s, %v", first, second, got, err)
			}
		}
	}
}
