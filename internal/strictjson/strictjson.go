// Package strictjson is the one decoder for JSON that aivault did not write
// itself a moment ago: requests, answers, the vault's state, key files and
// registry entries.
//
// It refuses what encoding/json lets through: duplicate names, unknown names,
// names in another case, invalid UTF-8, a byte order mark, trailing bytes and
// nesting deeper than MaxDepth. Its errors name the field, never its value.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is the deepest nesting that is accepted.
const MaxDepth = 64

// ErrTooLarge is returned by Read past its limit.
var ErrTooLarge = errors.New("larger than allowed")

// The library's defaults are already strict about names in another case; they
// are spelled out here so that a build-time default cannot soften them.
var (
	decoding = json.JoinOptions(
		json.RejectUnknownMembers(true),
		json.MatchCaseInsensitiveNames(false),
		jsontext.AllowDuplicateNames(false),
		jsontext.AllowInvalidUTF8(false),
	)
	encoding = json.JoinOptions(
		json.Deterministic(true),
		jsontext.AllowDuplicateNames(false),
		jsontext.AllowInvalidUTF8(false),
		jsontext.EscapeForHTML(false),
		jsontext.EscapeForJS(false),
		jsontext.Multiline(false),
		jsontext.PreserveRawStrings(true), // a line of the audit log stays as it stands there: escaped
	)
)

// Unmarshal decodes data, all of it, into v. A failure is an *Error; v may
// then be partly filled and must not be used.
func Unmarshal(data []byte, v any) error {
	if err := checkForm(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v, decoding); err != nil {
		return explain(data, err)
	}
	return nil
}

// Read decodes all of r into v; more than limit bytes are ErrTooLarge. What
// was read is wiped afterwards, since it may have held a secret.
func Read(r io.Reader, limit int64, v any) error {
	data, err := readAll(r, limit)
	defer func() { clear(data) }()
	if err != nil {
		return err
	}
	return Unmarshal(data, v)
}

// Marshal encodes v on one line. HTML characters are not escaped, and the
// members of maps are sorted by name.
func Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v, encoding)
	if err != nil {
		return nil, explainEncoding(err)
	}
	return b, nil
}

// readAll is io.ReadAll with a bound; it leaves no copy behind as it grows.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	limit = min(max(limit, 0), math.MaxInt64-1)
	buf := make([]byte, 0, min(limit+1, 4096))
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, ErrTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, fmt.Errorf("reading JSON: %w", err)
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(2*int64(cap(buf)), limit+1))
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
	}
}

// checkForm refuses, with a text that helps, what no JSON decoder should see.
func checkForm(data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &Error{Why: "begins with a byte order mark; plain UTF-8 was expected"}
	case len(data) >= 2 && (data[0] == 0 || data[1] == 0 ||
		data[0] == 0xfe && data[1] == 0xff || data[0] == 0xff && data[1] == 0xfe):
		return &Error{Why: "is UTF-16 or binary; JSON in UTF-8 was expected"}
	case len(bytes.TrimLeft(data, " \t\r\n")) == 0:
		return &Error{Why: "is empty; JSON was expected"}
	case tooDeep(data):
		return &Error{Why: fmt.Sprintf("is nested deeper than %d levels", MaxDepth)}
	}
	return nil
}

// tooDeep counts brackets outside strings. For bytes that are no JSON it may
// answer either way: the decoder refuses them all the same.
func tooDeep(data []byte) bool {
	for depth, i := 0, 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i += stringEnd(data[i+1:]) + 1
		}
	}
	return false
}

// stringEnd is the offset of the quote that closes a string, of which data is
// everything after the opening one; len(data) when none does. It looks for a
// quote again only past the last one found, so that a string of nothing but
// escapes costs one pass.
func stringEnd(data []byte) int {
	quote := -1
	for i := 0; i < len(data); {
		if quote < i {
			q := bytes.IndexByte(data[i:], '"')
			if q < 0 {
				return len(data)
			}
			quote = i + q
		}
		slash := bytes.IndexByte(data[i:quote], '\\')
		if slash < 0 {
			return quote
		}
		i += slash + 2
	}
	return len(data)
}
