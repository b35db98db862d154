package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/url"
	"strings"
	"unicode/utf16"
)

// encoding is one way in which an upstream may repeat a value.
type encoding struct {
	name   string
	encode func(rng *rand.Rand, v string) string
}

// encodings are all that the package promises to find, written with the
// standard library wherever it can, so that scrubber and test cannot share a
// mistake.
func encodings() []encoding {
	each := func(escape func(rng *rand.Rand, c byte) string) func(*rand.Rand, string) string {
		return func(rng *rand.Rand, v string) string {
			var b strings.Builder
			for i := range len(v) {
				b.WriteString(escape(rng, v[i]))
			}
			return b.String()
		}
	}
	sometimes := func(escape func(rng *rand.Rand, c byte) string) func(*rand.Rand, string) string {
		return each(func(rng *rand.Rand, c byte) string {
			if rng.IntN(3) > 0 && c != '\\' && c != '%' && c != '&' && c != '"' {
				return string([]byte{c})
			}
			return escape(rng, c)
		})
	}
	percent := func(rng *rand.Rand, c byte) string {
		s := fmt.Sprintf("%%%02x", c)
		if rng.IntN(2) == 0 {
			s = strings.ToUpper(s)
		}
		return s
	}
	unicode := func(rng *rand.Rand, c byte) string {
		return []string{fmt.Sprintf(`\u%04x`, c), fmt.Sprintf(`\u%04X`, c)}[rng.IntN(2)]
	}
	short := func(rng *rand.Rand, c byte) string {
		if c == '/' {
			return `\/`
		}
		if c >= 0x80 {
			return string([]byte{c})
		}
		s, _ := json.Marshal(string([]byte{c}))
		return string(s[1 : len(s)-1])
	}
	number := func(rng *rand.Rand, c byte) string {
		return []string{fmt.Sprintf("&#%d;", c), fmt.Sprintf("&#x%x;", c), fmt.Sprintf("&#X%04X;", c), fmt.Sprintf("&#%05d;", c)}[rng.IntN(4)]
	}
	backslashX := func(rng *rand.Rand, c byte) string { return fmt.Sprintf(`\x%02x`, c) }
	any := func(rng *rand.Rand, c byte) string {
		return []func(*rand.Rand, byte) string{percent, unicode, number, backslashX}[rng.IntN(4)](rng, c)
	}
	inJSON := func(s string) string { b, _ := json.Marshal(s); return string(b[1 : len(b)-1]) }
	ascii := func(s string) string { // as json.dumps of Python writes it
		s = inJSON(s)
		var b strings.Builder
		for _, r := range s {
			switch {
			case r < 0x80:
				b.WriteRune(r)
			case r < 0x10000:
				fmt.Fprintf(&b, `\u%04x`, r)
			default:
				high, low := utf16.EncodeRune(r)
				fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
			}
		}
		return b.String()
	}
	list := []encoding{
		{"raw", func(_ *rand.Rand, v string) string { return v }},
		{"hex", func(_ *rand.Rand, v string) string { return hex.EncodeToString([]byte(v)) }},
		{"HEX", func(_ *rand.Rand, v string) string { return strings.ToUpper(hex.EncodeToString([]byte(v))) }},
		{"percent all", each(percent)},
		{"percent some", sometimes(percent)},
		{"url.QueryEscape", func(_ *rand.Rand, v string) string {
			return strings.ReplaceAll(url.QueryEscape(v), "+", "%20")
		}},
		{"url.PathEscape", func(_ *rand.Rand, v string) string { return url.PathEscape(v) }},
		{"JSON unicode all", each(unicode)},
		{"JSON unicode some", sometimes(unicode)},
		{"JSON short", each(short)},
		{"json.Marshal", func(_ *rand.Rand, v string) string { return inJSON(v) }},
		{"JSON in JSON", func(_ *rand.Rand, v string) string { return inJSON(inJSON(v)) }},
		{"ASCII JSON in JSON", func(_ *rand.Rand, v string) string { return inJSON(ascii(v)) }},
		{"in JSON, ASCII", func(_ *rand.Rand, v string) string { return ascii(v) }},
		{"HTML numbers all", each(number)},
		{"HTML numbers some", sometimes(number)},
		{"html.EscapeString", func(_ *rand.Rand, v string) string { return html.EscapeString(v) }},
		{"HTML in JSON", func(_ *rand.Rand, v string) string { return inJSON(html.EscapeString(v)) }},
		{"HTML in HTML", func(_ *rand.Rand, v string) string { return html.EscapeString(html.EscapeString(v)) }},
		{"percent in percent", func(_ *rand.Rand, v string) string { return url.PathEscape(url.PathEscape(v)) }},
		{"backslash x", each(backslashX)},
		{"mixture", sometimes(any)},
		{"mixture all", each(any)},
		{"hex, escaped", func(rng *rand.Rand, v string) string {
			return sometimes(any)(rng, hex.EncodeToString([]byte(v)))
		}},
	}
	for _, alphabet := range []struct {
		name string
		enc  *base64.Encoding
	}{{"std", base64.StdEncoding}, {"raw std", base64.RawStdEncoding}, {"url", base64.URLEncoding}, {"raw url", base64.RawURLEncoding}} {
		for before := range 3 {
			for after := range 3 {
				list = append(list, encoding{
					fmt.Sprintf("base64 %s %d+%d", alphabet.name, before, after),
					func(_ *rand.Rand, v string) string {
						return alphabet.enc.EncodeToString([]byte("u:x"[:before] + v + "\r\n"[:after]))
					},
				})
			}
		}
		list = append(list, encoding{
			"base64 " + alphabet.name + ", escaped",
			func(rng *rand.Rand, v string) string {
				return sometimes(any)(rng, alphabet.enc.EncodeToString([]byte(v)))
			},
		}, encoding{
			"base64 " + alphabet.name + ", url.QueryEscape",
			func(rng *rand.Rand, v string) string { return url.QueryEscape(alphabet.enc.EncodeToString([]byte(v))) },
		})
	}
	return list
}

// forText says whether an encoding is made for text only.
func (e encoding) forText() bool {
	return strings.Contains(e.name, "JSON in") || strings.Contains(e.name, "in JSON") || e.name == "json.Marshal"
}

// shapes are values of the shapes that secrets have, with the characters that
// escapes are about.
func shapes() []string {
	return []string{
		"sk-test1",
		"sk-proj-Ab3dEf6hIj9kLm2nOp5q",
		"user:pa\"ss/w\\ord&<>'+%41=",
		"pässwörd-€-🔑-x",
		"123456:AAF-abc_DEF/ghi+jkl==",
		"-----BEGIN KEY-----\nMIIBVgIBADANBgkq\nhkiG9w0BAQ==\n-----END KEY-----\n",
		`{"type":"service_account","private_key":"-----BEGIN\nabc\u003d\n"}`,
		`\\\\\\\\`,
		"%%%%%%%%%%25",
		"&amp;&#65;&lt;x&amp",
		"aaaaaaaaaaaa",
		"abcabcabcab",
		"\x00\x01\x02\xff\xfe\xfd\x80\x81\x82",
	}
}
