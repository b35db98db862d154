package policy

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"moldable.sh/aivault/internal/api"
)

// setQuery checks the query and keeps it as it was given, but for characters
// that may not stand in a query unescaped: those are escaped.
func (r *Request) setQuery(query string, rules *Rules) error {
	if query == "" {
		return nil
	}
	escape := false
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case class[c]&clsQuery != 0:
		case c == '%':
			if _, ok := unescape(query, i); !ok {
				return badTarget("query holds a '%%' that is not followed by two hex digits")
			}
			i += 2
		case c < 0x20 || c == 0x7f:
			return badTarget("query holds a control character")
		case c == ' ':
			return badTarget("query holds a space").WithHint("write it as %%20 or +")
		case c == '#':
			return badTarget("query holds a '#': a fragment is never sent").WithHint("write it as %%23")
		case c == ';':
			return badTarget("query holds a ';', which some servers read as '&'").WithHint("write it as %%3B")
		default:
			escape = true
		}
	}
	if escape {
		if !utf8.ValidString(query) {
			return badTarget("query is not valid UTF-8")
		}
		out := make([]byte, 0, len(query)+16)
		for i := range len(query) {
			c := query[i]
			out = appendEscaped(out, c, c == '%' || class[c]&clsQuery != 0)
		}
		query = string(out)
	}
	for rest, more := query, true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		name, _, _ := strings.Cut(pair, "=")
		if err := checkParam(name, rules); err != nil {
			return err
		}
	}
	r.query = query
	return nil
}

// checkParam refuses a parameter that authenticates, in any spelling that a
// lenient server might take for it.
func checkParam(raw string, rules *Rules) error {
	name := raw
	if strings.ContainsAny(raw, "%+") {
		var err error
		if name, err = decodeParam(raw); err != nil {
			return err
		}
	}
	var buf [64]byte
	key := squash(buf[:0], name)
	switch string(key) {
	case "accesstoken", "oauthtoken", "apikey":
		return checkCallerParam(name, rules)
	case "httpmethod", "methodoverride", "httpmethodoverride", "xhttpmethod", "xhttpmethodoverride":
		return api.Errorf(api.PolicyViolation, "query parameter %s would change the method", api.Quote(name))
	case "method":
		// PHP and others read a blank, a '.' or a first '[' in a name as '_';
		// Google's APIs mark parameters of the system with a '$'.
		if t := strings.TrimLeft(name, " "); t != "" && strings.ContainsRune("_.-$[", rune(t[0])) {
			return api.Errorf(api.PolicyViolation, "query parameter %s would change the method", api.Quote(name))
		}
	}
	var buf2 [64]byte
	for _, a := range rules.AuthQuery {
		if string(squash(buf2[:0], a)) == string(key) {
			return checkCallerParam(name, rules)
		}
	}
	return nil
}

func checkCallerParam(name string, rules *Rules) error {
	for _, c := range rules.CallerQuery {
		if c == name {
			return nil
		}
	}
	return api.Errorf(api.PolicyViolation, "query parameter %s is not the caller's to set: aivault adds what authenticates", api.Quote(name))
}

// unescapeParam undoes the escapes of a parameter's name.
func unescapeParam(raw string) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '%':
			v, _ := unescape(raw, i) // checked by setQuery
			out, i = append(out, v), i+2
		case '+':
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}

// decodeParam undoes the escapes of a parameter's name, and refuses what two
// servers could read as two names. Letters beyond ASCII are folded: as the
// most careless comparison would.
func decodeParam(raw string) (string, error) {
	name := string(unescapeParam(raw))
	if !utf8.ValidString(name) {
		return "", badTarget("name of a query parameter is not valid UTF-8")
	}
	if isASCII(name) {
		for i := range len(name) {
			if name[i] < 0x20 || name[i] == 0x7f {
				return "", badTarget("name of a query parameter holds a control character")
			}
			if name[i] == '%' && twiceEscaped(name[i+1:]) {
				return "", badTarget("name of a query parameter is escaped twice")
			}
		}
		return name, nil
	}
	for _, c := range norm.NFKC.String(name) {
		if invisible(c) {
			return "", badTarget("name of a query parameter holds the invisible character %U", c)
		}
	}
	return foldParam(name), nil
}

// foldParam brings a name into the form in which names are compared: up and
// down again, as comparing without case does it: dotless and long letters end
// at their plain twins. An ASCII name stays as it is.
func foldParam(name string) string {
	if isASCII(name) {
		return name
	}
	return strings.ToLower(strings.ToUpper(norm.NFKC.String(name)))
}

// squash reduces a parameter's name to what lenient servers compare: letters
// and digits in lower case, up to an index in brackets.
func squash(buf []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			buf = append(buf, c+'a'-'A')
		case c == '[':
			if len(buf) > 0 {
				return buf
			}
		case c == '_' || c == '-' || c == '.' || c == ' ' || c == ']' || c == '$':
		default:
			buf = append(buf, c)
		}
	}
	return buf
}
