package policy

import "strings"

// partHeader says whether a header (folded) asks for a part of an answer. In
// a part no secret could be told from other text: who chooses where an echo
// is cut gets it piece by piece, each too short to be known. Nor is a value
// without its name a field that could be removed.
func partHeader(name string) bool {
	return name == "range" || name == "a-im" || strings.HasSuffix(name, "-range") && name != "content-range"
}

// asciiCharsets are beginnings of the names of charsets in which a text of
// ASCII is the same bytes as in ASCII.
var asciiCharsets = [...]string{
	"utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4", "iso-8859-", "iso8859-", "iso_8859-", "latin", "windows-125", "windows-874", "windows-31j", "cp125",
	"koi8-", "shift_jis", "shift-jis", "sjis", "euc-", "gbk", "gb2312", "gb18030", "big5", "macintosh", "tis-620", "binary",
}

// SameAsASCII says whether every charset that a media type names, or a list of
// such with or without their weights, writes ASCII as ASCII does. A secret is
// looked for in those bytes: in UTF-16, say, it would pass unseen. What has no
// charset passes, and what is not known does not.
func SameAsASCII(mediaTypes string) bool {
	text := strings.ToLower(mediaTypes)
	for {
		_, after, found := strings.Cut(text, "charset")
		if !found {
			return true
		}
		// RFC 2231 writes charset*=us-ascii'en'utf-8, and charset*0=.
		after = strings.TrimLeft(after, "*0123456789 \t")
		value, found := strings.CutPrefix(after, "=")
		if !found {
			text = after // the end of another word
			continue
		}
		value = strings.TrimLeft(value, " \t\"'")
		if value != "" && strings.IndexByte(";,", value[0]) < 0 && !asciiCharset(value) {
			return false
		}
		text = value
	}
}

func asciiCharset(name string) bool {
	for _, c := range asciiCharsets {
		if strings.HasPrefix(name, c) {
			return true
		}
	}
	return false
}

// acceptedCharsets says whether all that an Accept-Charset lists is as
// SameAsASCII wants it.
func acceptedCharsets(list string) bool {
	for one := range strings.SplitSeq(strings.ToLower(list), ",") {
		if !asciiCharset(strings.TrimLeft(one, " \t\"'")) {
			return false
		}
	}
	return true
}
