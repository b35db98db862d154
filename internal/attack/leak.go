package attack

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"html"
	"io"
	"strconv"
	"strings"
)

// windowLen is how much of a secret in a row counts as the secret.
const windowLen = 12

// A finder knows secrets by their windows.
type finder struct {
	windows map[string]bool
	begins  [1 << 16]bool // the first two bytes of each
}

func newFinder() *finder { return &finder{windows: map[string]bool{}} }

func (f *finder) add(secret string) {
	for i := range len(secret) - windowLen + 1 {
		f.windows[secret[i:i+windowLen]] = true
		f.begins[int(secret[i])<<8|int(secret[i+1])] = true
	}
}

// in says whether a window stands in data as it is.
func (f *finder) in(data []byte) bool {
	for i := range len(data) - windowLen + 1 {
		if f.begins[int(data[i])<<8|int(data[i+1])] && f.windows[string(data[i:i+windowLen])] {
			return true
		}
	}
	return false
}

// find says how a secret, or windowLen bytes of it, can be read from data; ""
// where it cannot. It undoes encodings again and again and looks at what comes
// out: it knows nothing of how aivault looks for secrets.
func (f *finder) find(data []byte) string {
	type view struct {
		data []byte
		how  string
		deep int
	}
	seen := map[string]bool{}
	todo := []view{{data, "as it is", 0}}
	for len(todo) > 0 {
		v := todo[0]
		todo = todo[1:]
		if len(v.data) < windowLen || len(v.data) < 1<<20 && seen[string(v.data)] {
			continue
		}
		if len(v.data) < 1<<20 {
			seen[string(v.data)] = true
		}
		if f.in(v.data) {
			return v.how
		}
		if v.deep == 3 || v.deep == 1 && len(v.data) > 256<<10 {
			continue
		}
		add := func(data []byte, how string) {
			if len(data) >= windowLen && !bytes.Equal(data, v.data) {
				todo = append(todo, view{data, v.how + ", " + how, v.deep + 1})
			}
		}
		add(unescape(v.data), "unescaped")
		add(bytes.ReplaceAll(v.data, []byte{0}, nil), "without NUL")
		add(joinEvents(v.data), "lines joined")
		for _, d := range unpack(v.data) {
			add(d, "unpacked")
		}
		add(fromHex(v.data, 0), "from hex")
		add(fromHex(v.data, 1), "from hex")
		for shift := range 4 {
			add(fromBase64(v.data, shift), "from base64")
		}
	}
	return ""
}

// unescape undoes percent, JSON and HTML escapes, whichever stands where.
func unescape(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		rest := data[i:]
		switch {
		case rest[0] == '%' && len(rest) > 2 && isHex(rest[1:3]):
			out, i = append(out, number(rest[1:3], 16)...), i+3
		case rest[0] == '\\' && len(rest) > 5 && rest[1] == 'u' && isHex(rest[2:6]):
			out, i = append(out, number(rest[2:6], 16)...), i+6
		case rest[0] == '\\' && len(rest) > 3 && rest[1] == 'x' && isHex(rest[2:4]):
			out, i = append(out, number(rest[2:4], 16)...), i+4
		case rest[0] == '\\' && len(rest) > 1:
			out, i = append(out, rest[1]), i+2
		case rest[0] == '&':
			end := bytes.IndexByte(rest[:min(len(rest), 40)], ';')
			if end < 0 {
				out, i = append(out, '&'), i+1
				break
			}
			out, i = append(out, html.UnescapeString(string(rest[:end+1]))...), i+end+1
		default:
			out, i = append(out, rest[0]), i+1
		}
	}
	return out
}

func isHex(b []byte) bool {
	for _, c := range b {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

func number(digits []byte, base int) []byte {
	n, err := strconv.ParseUint(string(digits), base, 32)
	if err != nil {
		return nil
	}
	if n < 0x100 {
		return []byte{byte(n)}
	}
	return []byte(string(rune(n)))
}

// joinEvents puts the data lines of an event together.
func joinEvents(data []byte) []byte {
	text := strings.NewReplacer("\r", "", "\ndata: ", "", "\ndata:", "").Replace(string(data))
	return []byte(text)
}

// unpack decompresses what begins like a compressed stream.
func unpack(data []byte) (all [][]byte) {
	const most = 8 << 20
	read := func(r io.Reader, err error) {
		if err == nil {
			b, _ := io.ReadAll(io.LimitReader(r, most)) // what there is before an error counts
			all = append(all, b)
		}
	}
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(data))
		read(r, err)
	case len(data) > 2 && data[0]&0x0f == 8 && (uint(data[0])<<8|uint(data[1]))%31 == 0:
		r, err := zlib.NewReader(bytes.NewReader(data))
		read(r, err)
	}
	if len(data) < 64<<10 {
		read(flate.NewReader(bytes.NewReader(data)), nil)
	}
	return all
}

// fromHex decodes each run of hex digits, beginning at its first or second.
func fromHex(data []byte, shift int) []byte {
	var out []byte
	for i := 0; i < len(data); i++ {
		end := i
		for end < len(data) && isHex(data[end:end+1]) {
			end++
		}
		if run := data[i:end]; len(run) >= 2*windowLen {
			run = run[shift:]
			b := make([]byte, len(run)/2)
			_, _ = hex.Decode(b, run[:len(b)*2]) // digits alone
			out = append(append(out, b...), '\n')
		}
		i = end
	}
	return out
}

// fromBase64 decodes each run of base64, of either alphabet, beginning at one
// of its first four characters.
func fromBase64(data []byte, shift int) []byte {
	var out []byte
	for i := 0; i < len(data); i++ {
		end := i
		for end < len(data) && isBase64(data[end]) {
			end++
		}
		if run := data[i:end]; len(run) >= windowLen {
			run = run[shift:]
			run = run[:len(run)/4*4]
			text := strings.NewReplacer("-", "+", "_", "/").Replace(string(run))
			b := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
			n, _ := base64.RawStdEncoding.Decode(b, []byte(text)) // of that alphabet alone
			out = append(append(out, b[:n]...), '\n')
			if tail := data[i+shift : end]; len(tail)%4 > 1 {
				last := strings.NewReplacer("-", "+", "_", "/").Replace(string(tail[len(tail)/4*4:]))
				if b, err := base64.RawStdEncoding.DecodeString(last); err == nil {
					out = append(out[:len(out)-1], append(b, '\n')...)
				}
			}
		}
		i = end
	}
	return out
}

func isBase64(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_'
}
