//go:build system

package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

// The secrets of a soak, by name.
const (
	soakOpenAI = "OPENAI_API_KEY"
	soakAcme   = "ACME_KEY"
	soakExtra  = "EXTRA_KEY"
)

// soakKeys are all values of a soak. Each begins and ends with a marker, which
// is the same in all and nowhere else: where a marker is, a part of a value
// is, however it got there.
type soakKeys struct {
	all     map[string]*soakKey
	markers []string
	needles [][]byte // each marker in encodings that need no decoding of their own

	mu sync.Mutex
	r  *rand.Rand
}

// A soakKey is one secret with the values that it had.
type soakKey struct {
	mu   sync.Mutex
	now  string
	next string          // while it is being replaced
	sent map[string]bool // by the daemon that runs
	old  []string        // replaced under the daemon that runs, which had sent them
}

const soakAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func newSoakKeys(r *rand.Rand) *soakKeys {
	k := &soakKeys{r: r, all: map[string]*soakKey{}}
	k.markers = []string{k.word(14), k.word(14)}
	for _, m := range k.markers {
		for _, text := range []string{m, hex.EncodeToString([]byte(m)), strings.ToUpper(hex.EncodeToString([]byte(m)))} {
			k.needles = append(k.needles, []byte(text))
		}
		for shift := range 3 {
			// The characters that the marker alone decides.
			b64 := base64.StdEncoding.EncodeToString(append(make([]byte, shift), m...))
			from, to := (shift*8+5)/6, (shift+len(m))*8/6
			k.needles = append(k.needles, []byte(b64[from:to]), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(b64[from:to])))
		}
	}
	for _, name := range []string{soakOpenAI, soakAcme, soakExtra} {
		k.all[name] = &soakKey{now: k.fresh(), sent: map[string]bool{}}
	}
	return k
}

func (k *soakKeys) word(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = soakAlphabet[k.r.IntN(len(soakAlphabet))]
	}
	return string(b)
}

// fresh is a value that was never used.
func (k *soakKeys) fresh() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.markers[0] + "-" + k.word(12+k.r.IntN(24)) + "-" + k.markers[1]
}

// leak says how a part of a value can be read in text, or is empty.
func (k *soakKeys) leak(text []byte) string {
	for round := range 3 {
		for i, needle := range k.needles {
			if at := bytes.Index(text, needle); at >= 0 {
				return fmt.Sprintf("needle %d, unescaped %d times, at byte %d of %d: %.200q", i, round, at, len(text), text[max(0, at-60):])
			}
		}
		if round == 0 && bytes.IndexByte(text, 0) >= 0 {
			if why := k.leak(bytes.ReplaceAll(text, []byte{0}, nil)); why != "" {
				return "UTF-16: " + why
			}
		}
		plain := unescapeAll(text)
		if bytes.Equal(plain, text) {
			break
		}
		text = plain
	}
	return ""
}

// unescapeAll takes one layer of escapes of any kind away. It knows nothing of
// how the product does that.
func unescapeAll(text []byte) []byte {
	if !bytes.ContainsAny(text, `%\&`) {
		return text
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := unescape(text)
		if n == 0 {
			r, n = rune(text[0]), 1
		}
		out = append(out, byte(r)) // values are ASCII
		text = text[n:]
	}
	return out
}

// unescape reads the escape that text begins with; n is 0 where there is none.
func unescape(text []byte) (r rune, n int) {
	number := func(from, digits, base int) (rune, int) {
		if len(text) < from+digits {
			return 0, 0
		}
		v, err := strconv.ParseUint(string(text[from:from+digits]), base, 32)
		if err != nil {
			return 0, 0
		}
		return rune(v), from + digits
	}
	switch {
	case text[0] == '%':
		return number(1, 2, 16)
	case bytes.HasPrefix(text, []byte(`\u`)):
		return number(2, 4, 16)
	case text[0] == '\\' && len(text) > 1 && strings.IndexByte(`/"\`, text[1]) >= 0:
		return rune(text[1]), 2
	case bytes.HasPrefix(text, []byte("&amp;")):
		return '&', 5
	case bytes.HasPrefix(text, []byte("&#")):
		end := bytes.IndexByte(text[:min(len(text), 10)], ';')
		from, base := 2, 10
		if len(text) > 2 && text[2]|0x20 == 'x' {
			from, base = 3, 16
		}
		if end > from {
			if r, n := number(from, end-from, base); n > 0 {
				return r, n + 1
			}
		}
	}
	return 0, 0
}

func (k *soakKey) value() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *soakKey) replacing(next string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = next
}

// replaced says what became of a change. Of a value that was replaced under
// another daemon than the one that runs, or that this one never sent, nobody
// promises anything.
func (k *soakKey) replaced(next string, ok, sameLife bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.now
	k.next = ""
	if !ok {
		k.sent = map[string]bool{} // the old one or the new: it will be seen
		k.now = ""
		return
	}
	if before != "" && sameLife && k.sent[before] {
		k.old = append(k.old, before)
		k.old = k.old[max(0, len(k.old)-8):]
	}
	k.now = next
}

// heard notes that the daemon sent a value.
func (k *soakKey) heard(value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if value == k.now {
		k.sent[value] = true
	}
}

// forget begins the life of another daemon.
func (k *soakKey) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sent, k.old = map[string]bool{}, nil
}

// known are the values that the daemon which runs has to know.
func (k *soakKey) known() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next != "" || !k.sent[k.now] {
		return nil
	}
	return append([]string{k.now}, k.old...)
}

// disguise writes a value as some upstream might.
func disguise(r *rand.Rand, value string) string {
	switch r.IntN(12) {
	case 0:
		return value
	case 1:
		return base64Of(r, value, base64.StdEncoding)
	case 2:
		return base64Of(r, value, base64.URLEncoding)
	case 3:
		return base64Of(r, value, base64.RawStdEncoding)
	case 4:
		return hex.EncodeToString([]byte(value))
	case 5:
		return strings.ToUpper(hex.EncodeToString([]byte(value)))
	case 6:
		return escaped(r, value, 1)
	case 7:
		return escaped(r, base64Of(r, value, base64.RawURLEncoding), r.Float64())
	case 8:
		return escaped(r, hex.EncodeToString([]byte(value)), r.Float64())
	case 9:
		return nested(r, escaped(r, value, r.Float64()))
	case 10:
		return "Bearer " + value
	}
	return escaped(r, value, r.Float64())
}

// base64Of is a value in the middle of something else, at any alignment.
func base64Of(r *rand.Rand, value string, e *base64.Encoding) string {
	before, after := "user:password"[:r.IntN(13)], "and what follows"[:r.IntN(16)]
	return e.EncodeToString([]byte(before + value + after))
}

// nested escapes what is escaped already, as one encoder does with what another
// made: it touches what begins an escape, and no letter or digit.
func nested(r *rand.Rand, text string) string {
	var b strings.Builder
	for _, c := range text {
		if strings.ContainsRune(`%\&`, c) {
			b.WriteString(escaped(r, string(c), 0.7))
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// escaped writes a part of the characters as escapes of any kind.
func escaped(r *rand.Rand, text string, part float64) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if r.Float64() >= part {
			b.WriteByte(c)
			continue
		}
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "%%%02X", c)
		case 1:
			fmt.Fprintf(&b, "%%%02x", c)
		case 2:
			fmt.Fprintf(&b, "\\u%04x", c)
		case 3:
			fmt.Fprintf(&b, "&#%d;", c)
		case 4:
			fmt.Fprintf(&b, "&#x%x;", c)
		}
	}
	return b.String()
}
