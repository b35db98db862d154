package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"moldable.sh/aivault/internal/term"
)

// lineText shows a string without line breaks on one line: as it is, as a
// code span, or quoted.
func lineText(s string) string { return shown(s, isPlain) }

// keyText shows a member's name.
func keyText(s string) string { return shown(s, isPlainKey) }

func shown(s string, plain func(string) bool) string {
	switch {
	case !fitsSpan(s):
		return quoteText(s, true)
	case plain(s):
		return s
	}
	return codeSpan(s)
}

// startsList says whether s begins as a numbered item does.
func startsList(s string) bool {
	rest := strings.TrimLeft(s, "0123456789")
	return rest != s && rest != "" && (rest[0] == '.' || rest[0] == ')') && (len(rest) == 1 || rest[1] == ' ')
}

// isPlain says whether a string that fits a code span can stand as it is: it
// is no markup, no number and no literal, and cannot be taken for a name and a
// value.
func isPlain(s string) bool {
	if strings.ContainsAny(s, "*[]<>&\\`|~") || strings.Contains(s, ": ") || strings.HasSuffix(s, ":") {
		return false
	}
	numeric := true
	for i, r := range s {
		word := unicode.IsLetter(r) || unicode.IsDigit(r)
		if i == 0 && !word && !strings.ContainsRune("/($@.", r) {
			return false
		}
		numeric = numeric && (unicode.IsDigit(r) || strings.ContainsRune("+-.eE", r))
		if r == '_' && !(i+1 < len(s) && inWord(s[i-1]) && inWord(s[i+1])) {
			return false
		}
	}
	if numeric || startsList(s) {
		return false
	}
	for _, literal := range []string{"true", "false", "null"} {
		if strings.EqualFold(s, literal) {
			return false
		}
	}
	return true
}

// inWord says whether c belongs to a word: beside such a character, a '_' is
// no markup.
func inWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

// isPlainKey says whether a name that fits a code span can stand as it is.
func isPlainKey(s string) bool {
	if startsList(s) {
		return false
	}
	for i, r := range s {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
		case strings.ContainsRune("_$@", r):
		case i > 0 && strings.ContainsRune("-./ ", r):
		default:
			return false
		}
	}
	// Two '_' can be markup at the ends of words.
	return !strings.Contains(s, "_") || !strings.Contains(s, " ") && !(s[0] == '_' && s[len(s)-1] == '_')
}

// fitsSpan says whether a string can stand in a code span as it is. One that
// needs three backticks on each side cannot: at the start of a line these
// would look like a fence.
func fitsSpan(s string) bool {
	return s != "" && s == strings.TrimSpace(s) && longestRun(s) < 2 && term.Line(s) == s && !likeMarker(s)
}

// codeSpan puts s between rows of backticks that it does not hold.
func codeSpan(s string) string {
	row, pad := strings.Repeat("`", longestRun(s)+1), ""
	if s[0] == '`' || s[len(s)-1] == '`' {
		pad = " "
	}
	return row + pad + s + pad + row
}

// longestRun is the length of the longest row of backticks in s.
func longestRun(s string) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// quoteText writes s as a JSON string in which nothing can act on a terminal
// and nothing looks like a marker; if markup, nor is anything markup.
func quoteText(s string, markup bool) string {
	marker := likeMarker(s)
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case mustEscape(r), marker && startsMarker(r), markup && strings.ContainsRune("*_[<&`~|", r):
			b.WriteString(escapeRune(r))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// fitForFence says whether lines can stand in a fence as they are.
func fitForFence(s string) bool {
	plain := strings.NewReplacer("\n", " ", "\t", " ").Replace(s)
	return term.Line(plain) == plain && !likeMarker(s)
}

// escapeText writes lines with JSON's escapes for what must not stand there,
// and for backslashes.
func escapeText(s string) string {
	marker := likeMarker(s)
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r == '\r':
			b.WriteString(`\r`)
		case mustEscape(r), marker && startsMarker(r):
			b.WriteString(escapeRune(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// mustEscape asks what keeps text from steering a terminal.
func mustEscape(r rune) bool {
	if r < 0x7f {
		return r < 0x20
	}
	s := string(r)
	return term.Line(s) != s
}

func escapeRune(r rune) string {
	if r > 0xFFFF {
		hi, lo := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
