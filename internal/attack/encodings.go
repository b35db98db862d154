package attack

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf16"
)

// An encoding is one way of writing a text down.
type encoding struct {
	name  string
	write func(string) string
}

// A style writes one character; those of a text may be mixed.
var styles = []func(byte) string{
	func(c byte) string { return string(rune(c)) },
	func(c byte) string { return fmt.Sprintf("%%%02X", c) },
	func(c byte) string { return fmt.Sprintf("%%%02x", c) },
	func(c byte) string { return fmt.Sprintf(`\u%04x`, c) },
	func(c byte) string { return fmt.Sprintf(`\u%04X`, c) },
	func(c byte) string { return fmt.Sprintf("&#%d;", c) },
	func(c byte) string { return fmt.Sprintf("&#x%x;", c) },
	func(c byte) string { return fmt.Sprintf("&#X%04X;", c) },
}

// each writes every character in one style.
func each(style func(byte) string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			b.WriteString(style(s[i]))
		}
		return b.String()
	}
}

// mixed writes each character in a style that seed chooses.
func mixed(seed int) func(string) string {
	return func(s string) string {
		var b strings.Builder
		n := uint32(seed)*2654435761 + 1
		for i := range len(s) {
			n = n*1664525 + 1013904223
			b.WriteString(styles[n>>24%uint32(len(styles))](s[i]))
		}
		return b.String()
	}
}

// encodings are those that the run has time for: all, or one of each kind.
func (s *Stand) encodings() []encoding {
	all := allEncodings()
	if s.full {
		return all
	}
	return slices.DeleteFunc(all, func(e encoding) bool {
		var n, after int
		if _, err := fmt.Sscanf(e.name, "mixture %d", &n); err == nil {
			return n > 2
		}
		_, alignment, aligned := strings.Cut(e.name, " +")
		if _, err := fmt.Sscanf(alignment, "%d-%d", &n, &after); aligned && err == nil {
			return after > 0 || n > 0 && strings.Contains(e.name, "unpadded")
		}
		return false
	})
}

// allEncodings are those that a secret is looked for in: themselves, one inside
// an escape, and escapes in any mixture.
func allEncodings() []encoding {
	all := []encoding{{"raw", func(s string) string { return s }}}
	for i, style := range styles[1:] {
		all = append(all, encoding{fmt.Sprintf("escape %d", i+1), each(style)})
	}
	for seed := range 12 {
		all = append(all, encoding{fmt.Sprintf("mixture %d", seed), mixed(seed)})
	}
	basis := map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64 unpadded": base64.RawStdEncoding, "base64url": base64.URLEncoding, "base64url unpadded": base64.RawURLEncoding}
	for _, name := range []string{"base64", "base64 unpadded", "base64url", "base64url unpadded"} {
		for before := range 3 {
			for after := range 3 {
				write := func(s string) string {
					return basis[name].EncodeToString([]byte("xyz"[:before] + s + "uvw"[:after]))
				}
				all = append(all, encoding{fmt.Sprintf("%s +%d-%d", name, before, after), write})
			}
		}
	}
	percent, unicode := each(styles[2]), each(styles[4])
	std := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	inHex := func(s string) string { return hex.EncodeToString([]byte(s)) }
	return append(all,
		encoding{"hex", inHex},
		encoding{"HEX", func(s string) string { return strings.ToUpper(inHex(s)) }},
		encoding{"query", queryEscape},
		encoding{"html", func(s string) string {
			return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;", "/", "&sol;", "+", "&plus;", "=", "&equals;").Replace(s)
		}},
		encoding{"json", func(s string) string { return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `/`, `\/`).Replace(s) }},
		encoding{"base64 escaped", func(s string) string { return percent(std(s)) }},
		encoding{"base64 in json", func(s string) string { return strings.ReplaceAll(std(s), "/", `\/`) }},
		encoding{"base64 mixed", func(s string) string { return mixed(99)(std(s)) }},
		encoding{"hex escaped", func(s string) string { return unicode(inHex(s)) }},
		encoding{"escaped twice", func(s string) string { return strings.ReplaceAll(percent(s), "%", "%25") }},
		encoding{"json in json", func(s string) string { return strings.ReplaceAll(unicode(s), `\`, `\\`) }},
		encoding{"utf-32", func(s string) string {
			var b strings.Builder
			for _, r := range s {
				b.Write([]byte{byte(r), byte(r >> 8), byte(r >> 16), 0})
			}
			return b.String()
		}},
		encoding{"json in a query", func(s string) string { return queryEscape(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)) }},
		encoding{"html in a query", func(s string) string { return queryEscape(html.EscapeString(s)) }},
		encoding{"json in html", func(s string) string { return html.EscapeString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)) }},
		encoding{"escaped letter by letter, twice", func(s string) string { return percent(unicode(s)) }},
		encoding{"utf-16", func(s string) string {
			var b strings.Builder
			for _, u := range utf16.Encode([]rune(s)) {
				b.Write([]byte{byte(u), byte(u >> 8)})
			}
			return b.String()
		}},
		encoding{"Basic", func(s string) string { return "Basic " + std("user:"+s) }},
		encoding{"in a request", func(s string) string { return "GET / HTTP/1.1\r\nAuthorization: Bearer " + s + "\r\n" }},
	)
}

// printable says whether a text can be the value of a header.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f }) < 0
}
