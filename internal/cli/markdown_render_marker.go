package cli

import (
	"html"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// markerLabel is a name as it stands in a marker.
func markerLabel(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}, name)
}

// startsMarker says whether r is a '<' or looks like one, or begins the
// character reference of one.
func startsMarker(r rune) bool {
	switch r {
	case '<', '&',
		'\u00AB', '\u02C2', '\u02F1', '\u0356', '\u1438', '\u16B2', '\u2039', '\u2264', '\u2266', '\u226A', '\u226E', '\u2272', '\u227A', '\u22D6', '\u22D8',
		'\u2329', '\u276C', '\u276E', '\u2770', '\u27E8', '\u27EA', '\u2991', '\u29FC', '\u2A79', '\u2A7D', '\u2AA1', '\u2AA6',
		'\u3008', '\u300A', '\uFE3D', '\uFE3F', '\uFE64', '\uFF1C', '\U0001D236', '\U0001F8B0':
		return true
	}
	return false
}

// likeMarker says whether upstream text holds what a reader could take for a
// marker: a '<' and then "begin" or "end", in any case and in letters that
// look alike, with blanks, punctuation and invisible characters in between.
// It says yes too often rather than too rarely: the text is only written in
// another way then.
func likeMarker(s string) bool {
	if strings.IndexFunc(s, startsMarker) < 0 {
		return false
	}
	if atMarker(s) {
		return true
	}
	return strings.Contains(s, "&") && atMarker(html.UnescapeString(s))
}

func atMarker(s string) bool {
	// Decomposed, so that an accent is a mark of its own.
	runes := []rune(norm.NFKD.String(s))
	for i, r := range runes {
		if r != '&' && startsMarker(r) && (spells(runes[i+1:], "begin") || spells(runes[i+1:], "end")) {
			return true
		}
	}
	return false
}

// maxBetween bounds how much may stand between the letters of a marker.
const maxBetween = 64

// spells says whether text begins with a word.
func spells(text []rune, word string) bool {
	between := 0
	for _, r := range text {
		switch {
		case looksLike(r, word[0]):
			if word = word[1:]; word == "" {
				return true
			}
		case unicode.IsLetter(r) && !invisibleLetter(r) || unicode.IsDigit(r):
			return false
		default:
			if between++; between > maxBetween {
				return false
			}
		}
	}
	return false
}

// looksLike says whether r could be read as a lower-case ASCII letter. Of the
// scripts whose letters resemble ours, every letter could.
func looksLike(r rune, letter byte) bool {
	if r < 0x80 {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		if byte(r) == letter {
			return true
		}
		switch letter {
		case 'b':
			return r == '8' || r == '6'
		case 'e':
			return r == '3'
		case 'g':
			return r == '9' || r == 'q'
		case 'i':
			return r == 'l' || r == '1' || r == '!' || r == '|'
		}
		return false
	}
	return unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Cherokee, unicode.Coptic, unicode.Lisu, unicode.Georgian,
		unicode.Canadian_Aboriginal, unicode.Runic, unicode.Deseret, unicode.Glagolitic, unicode.Gothic, unicode.Old_Italic, unicode.Tifinagh)
}

// invisibleLetter says whether a letter shows nothing.
func invisibleLetter(r rune) bool {
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point) || r == '\u2800'
}
