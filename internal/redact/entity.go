package redact

import "strings"

// entityNames are the names that entity knows, each behind a space.
const (
	entityNames = " amp lt gt quot AMP LT GT QUOT apos sol bsol colon semi comma period excl quest num dollar" +
		" percnt ast midast plus equals commat lowbar UnderBar grave DiacriticalGrave Hat lpar rpar lsqb lbrack" +
		" rsqb rbrack lcub lbrace rcub rbrace verbar vert VerticalLine NewLine Tab "
	longestName = len("DiacriticalGrave")
	longestBare = len("quot")
)

// entity is the ASCII character of an HTML name. Only what HTML itself needs
// is bare: understood without a semicolon.
func entity(name []byte) (c byte, bare bool) {
	switch string(name) {
	case "amp", "AMP":
		return '&', true
	case "lt", "LT":
		return '<', true
	case "gt", "GT":
		return '>', true
	case "quot", "QUOT":
		return '"', true
	case "apos":
		return '\'', false
	case "sol":
		return '/', false
	case "bsol":
		return '\\', false
	case "colon":
		return ':', false
	case "semi":
		return ';', false
	case "comma":
		return ',', false
	case "period":
		return '.', false
	case "excl":
		return '!', false
	case "quest":
		return '?', false
	case "num":
		return '#', false
	case "dollar":
		return '$', false
	case "percnt":
		return '%', false
	case "ast", "midast":
		return '*', false
	case "plus":
		return '+', false
	case "equals":
		return '=', false
	case "commat":
		return '@', false
	case "lowbar", "UnderBar":
		return '_', false
	case "grave", "DiacriticalGrave":
		return '`', false
	case "Hat":
		return '^', false
	case "lpar":
		return '(', false
	case "rpar":
		return ')', false
	case "lsqb", "lbrack":
		return '[', false
	case "rsqb", "rbrack":
		return ']', false
	case "lcub", "lbrace":
		return '{', false
	case "rcub", "rbrace":
		return '}', false
	case "verbar", "vert", "VerticalLine":
		return '|', false
	case "NewLine":
		return '\n', false
	case "Tab":
		return '\t', false
	}
	return 0, false
}

// decodeName reads what follows "&".
func decodeName(b []byte, i int, eof bool) (r rune, next int, st status) {
	end := i
	for end < len(b) && end-i <= longestName && isLetter(b[end]) {
		end++
	}
	name := b[i:end]
	if end == len(b) && !eof {
		var want [longestName + 2]byte
		want[0] = ' '
		if n := copy(want[1:], name); strings.Contains(entityNames, string(want[:1+n])) {
			return 0, 0, truncated
		}
	}
	if end < len(b) && b[end] == ';' {
		if c, _ := entity(name); c != 0 {
			return rune(c), end + 1, complete
		}
	}
	for n := min(len(name), longestBare); n > 1; n-- {
		if c, bare := entity(name[:n]); bare {
			return rune(c), i + n, complete
		}
	}
	return 0, 0, none
}
