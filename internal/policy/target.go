package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"moldable.sh/aivault/internal/api"
)

// Classes of bytes in a target.
const (
	clsUnreserved = 1 << iota // never escaped
	clsPath                   // may stand unescaped in a segment
	clsQuery                  // may stand unescaped in a query
	clsPlain                  // may stand in a path that needs no second look, '/' included
)

const (
	lower     = "abcdefghijklmnopqrstuvwxyz"
	upper     = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits    = "0123456789"
	subDelims = "!$&'()*+,=" // RFC 3986 sub-delims but ';', which is refused
)

// class is a constant table.
var class = func() (t [256]uint8) {
	set := func(chars string, c uint8) {
		for i := range len(chars) {
			t[chars[i]] |= c
		}
	}
	set(lower+upper+digits+"-._~", clsUnreserved|clsPath|clsQuery|clsPlain)
	set(subDelims+":@", clsPath|clsQuery|clsPlain)
	set("/", clsPlain|clsQuery)
	set("?[]", clsQuery) // brackets: expand[]=x is how people write it
	return t
}()

const hexUpper = "0123456789ABCDEF"

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// setTarget splits, checks and canonicalises path and query.
func (r *Request) setTarget(target string, rules *Rules) error {
	if len(target) > MaxTarget {
		return badTarget("path and query are longer than %d bytes", MaxTarget)
	}
	path, query, hasQuery := strings.Cut(target, "?")
	if path == "" || path[0] != '/' {
		return badTarget("path %s does not start with '/'", api.Quote(path)).
			WithHint("the host comes from the capability; give the path alone, e.g. --path /v1/models")
	}
	if err := r.setPath(path, rules.Slashes); err != nil {
		return err
	}
	r.hasQuery = hasQuery
	if err := r.setQuery(query, rules); err != nil {
		return err
	}
	if len(r.path)+1+len(r.query) > MaxTarget {
		return badTarget("path and query are longer than %d bytes once they are escaped", MaxTarget)
	}
	return nil
}

func badTarget(format string, args ...any) *api.Error {
	return api.Errorf(api.InvalidRequest, format, args...)
}

// setPath takes the short way for a path that is its own canonical form, as
// nearly all are.
func (r *Request) setPath(path string, slashes bool) error {
	n := 0
	for i := range len(path) {
		c := path[i]
		if class[c]&clsPlain == 0 {
			return r.setEscapedPath(path, slashes)
		}
		if c == '/' {
			n++
		}
	}
	segs := make([]string, 0, n)
	for rest := path[1:]; ; {
		seg, after, more := strings.Cut(rest, "/")
		if err := checkSegment(seg, !more); err != nil {
			return err
		}
		segs = append(segs, seg)
		if !more {
			break
		}
		rest = after
	}
	r.path, r.segments = path, segs
	return nil
}

func (r *Request) setEscapedPath(path string, slashes bool) error {
	out := make([]byte, 0, len(path)+16)
	dec := make([]byte, 0, len(path)) // of the current segment
	segs := make([]string, 0, strings.Count(path, "/"))
	end := func(last bool) error {
		seg := string(dec)
		dec = dec[:0]
		if err := checkParts(seg, last); err != nil {
			return err
		}
		if err := checkText(seg); err != nil {
			return err
		}
		segs = append(segs, seg)
		return nil
	}
	out = append(out, '/')
	for i := 1; i < len(path); i++ {
		c := path[i]
		if c == '/' {
			if err := end(false); err != nil {
				return err
			}
			out = append(out, '/')
			continue
		}
		escaped := c == '%'
		if escaped {
			v, ok := unescape(path, i)
			if !ok {
				return badTarget("path holds a '%%' that is not followed by two hex digits")
			}
			c, i = v, i+2
		}
		switch err := checkPathByte(c, escaped); {
		case c == '/' && slashes: // an escaped one: it stays in its segment, and stays escaped
			r.slashed = true
		case err != nil:
			return err
		}
		dec = append(dec, c)
		keep := clsPath
		if escaped {
			keep = clsUnreserved // an escaped reserved character stays escaped: it may mean something else
		}
		out = appendEscaped(out, c, class[c]&uint8(keep) != 0)
	}
	if err := end(true); err != nil {
		return err
	}
	r.path, r.segments = string(out), segs
	return nil
}

func appendEscaped(out []byte, c byte, asIs bool) []byte {
	if asIs {
		return append(out, c)
	}
	return append(out, '%', hexUpper[c>>4], hexUpper[c&15])
}

// unescape reads the escape whose '%' is s[i].
func unescape(s string, i int) (byte, bool) {
	if i+2 >= len(s) {
		return 0, false
	}
	hi, ok1 := unhex(s[i+1])
	lo, ok2 := unhex(s[i+2])
	return hi<<4 | lo, ok1 && ok2
}

// checkPathByte refuses the bytes that servers, proxies and URL parsers read
// in different ways, escaped or not.
func checkPathByte(c byte, escaped bool) error {
	switch {
	case c < 0x20 || c == 0x7f:
		return badTarget("path holds a control character")
	case c == '/': // only escaped ones come here
		return badTarget("path holds an escaped '/' (%%2F)")
	case c == '\\':
		return badTarget("path holds a '\\', escaped or not")
	case c == ';':
		return badTarget("path holds a ';', escaped or not")
	case escaped:
		return nil
	case c == '#':
		return badTarget("path holds a '#': a fragment is never sent")
	case c == ' ':
		return badTarget("path holds a space").WithHint("write it as %%20")
	}
	return nil
}

// checkSegment refuses what would make two readers disagree about which
// segments there are.
func checkSegment(seg string, last bool) error {
	if seg == "" {
		if last {
			return nil // one trailing '/'
		}
		return badTarget("path holds an empty segment ('//')")
	}
	// '.' and '..' are navigation; servers that strip blanks and dots from
	// the end of a name read '...' or '.. ' as navigation too.
	if seg[0] == '.' || seg[0] == ' ' {
		if strings.Trim(seg, ". ") == "" {
			return badTarget("path holds the segment %s", api.Quote(seg))
		}
	}
	return nil
}

// checkParts is checkSegment for each part of a segment between escaped '/':
// who undoes that escape must find the same segments below, and none that
// leads elsewhere.
func checkParts(seg string, last bool) error {
	if strings.IndexByte(seg, '/') < 0 {
		return checkSegment(seg, last)
	}
	for part := range strings.SplitSeq(seg, "/") {
		if part == "" {
			return badTarget("path holds an escaped '/' (%%2F) with nothing before or after it")
		}
		if err := checkSegment(part, false); err != nil {
			return err
		}
	}
	return nil
}

// checkText judges a decoded segment that is not plain ASCII as it stands.
func checkText(seg string) error {
	for i := range len(seg) {
		if seg[i] == '%' && twiceEscaped(seg[i+1:]) {
			return badTarget("path is escaped twice")
		}
	}
	if isASCII(seg) {
		return nil
	}
	if !utf8.ValidString(seg) {
		return badTarget("path is not valid UTF-8")
	}
	if !norm.NFC.IsNormalString(seg) {
		return badTarget("path is not in Unicode normal form C")
	}
	for _, c := range seg {
		if invisible(c) {
			return badTarget("path holds the invisible character %U", c)
		}
	}
	// Compatibility forms: a full-width or one-dot-leader '.', a full-width
	// '/', a care-of sign. Whoever normalises them gets another path.
	k := norm.NFKC.String(seg)
	for _, c := range `./\%;?#:` {
		if strings.Count(k, string(c)) != strings.Count(seg, string(c)) {
			return badTarget("path holds a look-alike of %q", c)
		}
	}
	for _, c := range k {
		if slashLike(c) || c < 0x20 {
			return badTarget("path holds a look-alike of a separator")
		}
	}
	return checkParts(k, false)
}

// twiceEscaped says whether s, which follows a '%', makes it an escape again.
func twiceEscaped(s string) bool {
	if len(s) > 0 && (s[0] == 'u' || s[0] == 'U') { // %u002e, which some servers decode
		return true
	}
	if len(s) < 2 {
		return false
	}
	_, ok1 := unhex(s[0])
	_, ok2 := unhex(s[1])
	return ok1 && ok2
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// invisible says whether c prints as nothing or as a blank, steers the
// direction of text, or is no character at all.
func invisible(c rune) bool {
	switch {
	case c == ' ':
		return false
	case c < utf8.RuneSelf:
		return c < 0x20 || c == 0x7f
	case c == 0x2800 || c == 0xFFFC || c == 0xFFFD: // blank braille, object, replacement
		return true
	}
	return unicode.In(c, unicode.C, unicode.Z,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

// slashLike are the separators' twins that compatibility forms don't fold.
func slashLike(c rune) bool {
	switch c {
	case 0x2044, 0x2215, 0x29F8, 0x2571, 0x2216, 0x29F5, 0x29F9, 0x2572:
		return true
	}
	return false
}
