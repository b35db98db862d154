package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"moldable.sh/aivault/internal/secret"
)

func newSet(values ...string) *Set {
	var vs []secret.Value
	for _, v := range values {
		vs = append(vs, secret.FromString(v))
	}
	return NewSet(vs)
}

// pieces is a reader that gives one piece with each Read.
type pieces struct {
	p    [][]byte
	last error // with the last piece; nil: io.EOF after it
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.p[0])
	if p.p[0] = p.p[0][n:]; len(p.p[0]) == 0 {
		p.p = p.p[1:]
		if len(p.p) == 0 && p.last != nil {
			return n, p.last
		}
	}
	return n, nil
}

func stream(t testing.TB, s *Set, parts ...[]byte) (string, int) {
	t.Helper()
	return scrubbed(t, s, false, slices.Clone(parts)...)
}

// Every encoding of every shape, in text that touches it, split at every
// offset.
func TestEveryEncodingAtEverySplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	around := [][2]string{{"", ""}, {`{"echo":"`, `","ok":true}` + "\n\n"}, {"%41|&", "\\"}}
	for _, v := range shapes() {
		set := newSet(v)
		seen := make(map[string]bool)
		for n, e := range encodings() {
			if e.forText() && !utf8.ValidString(v) {
				continue
			}
			echoed := e.encode(rng, v)
			for i, a := range around {
				before, after := a[0], a[1]
				text := before + echoed + after
				whole, count := set.String(text)
				if count == 0 {
					t.Fatalf("%s of %q in %q: not found", e.name, v, text)
				}
				// Of base64, characters stay that hold bits of what was put
				// around the value.
				if !strings.HasPrefix(e.name, "base64") {
					if want := before + secret.Redacted + after; whole != want && v != `\\\\\\\\` {
						t.Fatalf("%s of %q in %q:\n got %q\nwant %q", e.name, v, text, whole, want)
					}
				}
				if leaks(whole, v) {
					t.Fatalf("%s of %q in %q: %q", e.name, v, text, whole)
				}
				if far, k := scrubbedFarOff(t, set, false, text); far != whole || k != count {
					t.Fatalf("%s of %q in %q, far from the end:\n got %q (%d)\nwant %q (%d)", e.name, v, text, far, k, whole, count)
				}
				if i != n%len(around) || seen[echoed] {
					continue // one of the three is split, no text twice
				}
				seen[echoed] = true
				for i := range len(text) + 1 {
					got, k := stream(t, set, []byte(text[:i]), []byte(text[i:]))
					if got != whole || k != count {
						t.Fatalf("%s of %q in %q split at %d:\n got %q (%d)\nwant %q (%d)", e.name, v, text, i, got, k, whole, count)
					}
				}
				if got, k := stream(t, set, bytes.SplitAfter([]byte(text), nil)...); got != whole || k != count {
					t.Fatalf("%s of %q in %q byte by byte:\n got %q (%d)\nwant %q (%d)", e.name, v, text, got, k, whole, count)
				}
			}
		}
	}
}

var (
	anyEscape  = regexp.MustCompile(`\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\.|%[0-9A-Fa-f]{2}|&#?[0-9A-Za-z]+;`)
	base64Text = regexp.MustCompile(`[0-9A-Za-z+/_-]{8,}`)
)

// leaks looks for v in text the slow way: as it stands, with its escapes
// undone up to twice, and in all that looks like base64 or hex in any of these.
func leaks(text, v string) bool {
	for range 3 {
		if strings.Contains(text, v) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", v)) {
			return true
		}
		for _, run := range base64Text.FindAllString(text, -1) {
			run = strings.NewReplacer("-", "+", "_", "/").Replace(run)
			for skip := range min(4, len(run)) {
				part := run[skip:]
				plain, _ := base64.RawStdEncoding.DecodeString(part[:len(part)/4*4])
				if strings.Contains(string(plain), v) {
					return true
				}
				if len(part)%4 > 1 {
					plain, _ = base64.RawStdEncoding.DecodeString(part)
					if strings.Contains(string(plain), v) {
						return true
					}
				}
			}
		}
		text = anyEscape.ReplaceAllStringFunc(text, func(e string) string {
			switch {
			case e[0] == '%':
				s, _ := url.PathUnescape(e)
				return s
			case e[0] == '&':
				return html.UnescapeString(e)
			case e[1] == 'u' || e[1] == 'x':
				var r rune
				fmt.Sscanf(e[2:], "%x", &r)
				return string(r)
			}
			return strings.NewReplacer("n", "\n", "t", "\t", "r", "\r", "b", "\b", "f", "\f").Replace(e[1:])
		})
	}
	return false
}

func TestOverlapsAndNeighbours(t *testing.T) {
	for _, c := range []struct {
		values []string
		text   string
		want   string
		n      int
	}{
		{[]string{"ABCDEFGH", "EFGHIJKL"}, "xABCDEFGHIJKLx", "x[redacted]x", 1},
		{[]string{"ABCDEFGH", "IJKLMNOP"}, "ABCDEFGHIJKLMNOP", "[redacted][redacted]", 2},
		{[]string{"ABCDEFGH", "ABCDEFGHIJ"}, "ABCDEFGHIJ ABCDEFGHI", "[redacted] [redacted]I", 2},
		{[]string{"ABCDEFGHIJ", "CDEFGHIJ"}, "ABCDEFGHIJ", "[redacted]", 1},
		{[]string{"CDEFGHIJ", "ABCDEFGHIJKLMNOP"}, "ABCDEFGHIJKLMNO", "AB[redacted]KLMNO", 1},
		{[]string{"aaaaaaaa"}, "aaaaaaaaa", "[redacted]", 1},
		{[]string{"ABCDEFGH", "ABCDEFGH", "short"}, "ABCDEFGH short", "[redacted] short", 1},
		{[]string{"[redacted]"}, "[redacted]", "[redacted]", 1},
	} {
		set := newSet(c.values...)
		if got, n := set.String(c.text); got != c.want || n != c.n {
			t.Errorf("%q in %q: got %q (%d), want %q (%d)", c.values, c.text, got, n, c.want, c.n)
		}
		for i := range len(c.text) + 1 {
			for j := i; j <= len(c.text); j++ {
				got, n := stream(t, set, []byte(c.text[:i]), []byte(c.text[i:j]), []byte(c.text[j:]))
				if got != c.want || n != c.n {
					t.Errorf("%q in %q split at %d and %d: got %q (%d)", c.values, c.text, i, j, got, n)
				}
			}
		}
	}
}

func TestLen(t *testing.T) {
	if n := newSet("1234567", "12345678", "12345678", "", "123456789").Len(); n != 2 {
		t.Errorf("got %d, want 2", n)
	}
	var zero Set
	if n := zero.Len(); n != 0 {
		t.Errorf("zero Set: %d", n)
	}
}

func TestNothingToLookFor(t *testing.T) {
	for name, set := range map[string]*Set{"zero": {}, "none": NewSet(nil), "short": newSet("1234567")} {
		if got, n := set.String("1234567"); got != "1234567" || n != 0 {
			t.Errorf("%s: got %q, %d", name, got, n)
		}
		if got, _ := stream(t, set, []byte("12345"), []byte("67")); got != "1234567" {
			t.Errorf("%s: got %q", name, got)
		}
		set.Close()
	}
}

// honest is text with much of what escapes and encodings look like.
const honest = `data: {"id":"chatcmpl-9a","text":"100% of \"sk-\" \\ \u00e9\n&amp; &lt;b&gt; &#65 &nope; %zz %4 \q \u12"}` + "\n\n" +
	"Basic c2stdGVzdDI= 736b2d7465737431 -----BEGIN KEY----- sk-test2 sk-proj-Ab3dEf6hIj9kLm2nOp5r & % \\"

func TestHonestTextStaysAsItIs(t *testing.T) {
	set := newSet("sk-test9", "sk-proj-Ab3dEf6hIj9kLm2nOp5q", "-----BEGIN KEY-----\nMIIBVgIBADANBgkq")
	if got, n := set.String(honest); got != honest || n != 0 {
		t.Fatalf("got %q, %d", got, n)
	}
	for i := range len(honest) + 1 {
		if got, n := stream(t, set, []byte(honest[:i]), []byte(honest[i:])); got != honest || n != 0 {
			t.Fatalf("split at %d: got %q, %d", i, got, n)
		}
	}
	big := bytes.Repeat([]byte(honest), 2000)
	r := set.Reader(bytes.NewReader(big))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d bytes: %d bytes came out, %v", len(big), len(got), err)
	}
}

// After each Read of a stream, what is held back is a proper beginning of a
// match, and nothing else.
func TestHoldsBackOnlyWhatMayBeginAMatch(t *testing.T) {
	const v = "sk-test-ABCDEFGH/12345"
	set := newSet(v, "another-value-of-0")
	for _, c := range []struct{ text, held string }{
		{"data: {\"a\":1}\n\n", ""},
		{"data: {\"a\":\"line\\n\"}\n\n", ""},
		{"data: {\"a\":\"sk-test\"}\n\n", ""},
		{"data: sk-test-ABCDEFGH/12344", ""},
		{"data: sk-test-ABCDEFGH/1234 \n\n", ""},
		{"data: " + v, ""},
		{"data: " + v + "\n\n", ""},
		{"data: " + v[:1], v[:1]},
		{"data: " + v[:7], v[:7]},
		{"data: " + v[:8], v[:8]},
		{"data: " + v[:21], v[:21]},
		{"sks", "s"},
		{"an", "an"},
		{`sk\u002dtes`, `sk\u002dtes`},
		{`sk\u002dtes!`, ""},
		{`sk\u00`, `sk\u00`},
		{`x\u00`, `\u00`},
		{`x\u!!`, ""},
		{"100%", "%"},
		{"100%\n\n", ""},
		{"&am", "&am"},
		{"&nope", ""},
		{"a & b", ""},
		{"c2stdGVzdC1", "c2stdGVzdC1"},
		{"c2stdGVzdC2", ""},
	} {
		// What comes next never ends a match.
		next := &pieces{p: [][]byte{[]byte(c.text), []byte("|")}}
		r := set.Reader(next)
		var got []byte
		buf := make([]byte, 4096)
		for len(next.p) == 2 {
			n, err := r.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
			if string(r.held) != c.held && len(next.p) == 1 {
				t.Errorf("%q: held back %q, want %q", c.text, r.held, c.held)
			}
			if c.held == c.text {
				break
			}
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.ReplaceAll(c.text, v, secret.Redacted) + "|"
		if all := string(got) + string(rest); all != want {
			t.Errorf("%q: got %q, want %q", c.text, all, want)
		}
	}
}

// A Read gives what was read without waiting for more.
func TestPassesOnAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	r := newSet("sk-test-ABCDEFGH").Reader(pr)
	buf := make([]byte, 4096)
	for i := range 100 {
		event := fmt.Sprintf("data: {\"n\":%d,\"text\":\"a\\n\"}\n\n", i)
		go pw.Write([]byte(event))
		n, err := r.Read(buf)
		if err != nil || string(buf[:n]) != event {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
	}
}

func TestHeldBytesAreBounded(t *testing.T) {
	v := strings.Repeat("0123456789abcdef", 8)
	set := newSet(v)
	text := strings.Repeat(v[:100]+"!"+`\u0030`, 50) + v
	r := set.Reader(iotest.OneByteReader(strings.NewReader(text)))
	buf := make([]byte, 1)
	for {
		_, err := r.Read(buf)
		if len(r.held) > len(v) {
			t.Fatalf("%d bytes are held back for a value of %d", len(r.held), len(v))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if r.Redactions() != 1 {
		t.Errorf("%d matches", r.Redactions())
	}
}

func TestErrorsComeAfterTheText(t *testing.T) {
	boom := errors.New("boom")
	set := newSet("sk-test-ABCDEFGH")
	r := set.Reader(&pieces{p: [][]byte{[]byte("x sk-test-ABCDEFGH sk-te")}, last: boom})
	got, err := io.ReadAll(r)
	if string(got) != "x [redacted] " || !errors.Is(err, boom) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, boom) {
		t.Errorf("then %v", err)
	}
	r = set.Reader(iotest.ErrReader(boom))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, boom) {
		t.Errorf("got %d, %v", n, err)
	}
	r = set.Reader(silent{})
	if _, err := r.Read(make([]byte, 10)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("from a reader that never reads: %v", err)
	}
}

// Who cuts an answer short, by a time limit for one, does not read the secret
// that is on its way then but for its last byte.
func TestAStreamThatBreaksOffShowsNoBeginning(t *testing.T) {
	const value = "sk-test-ABCDEFGH"
	set := newSet(value)
	for name, echo := range map[string]string{
		"raw": value, "base64": base64.StdEncoding.EncodeToString([]byte(value)), "hex": hex.EncodeToString([]byte(value)),
		"escaped": strings.ReplaceAll(value, "-", `\u002d`),
	} {
		for cut := 1; cut < len(echo); cut++ {
			for _, step := range []int{1, 1 << 10} {
				text := "it is " + echo[:cut]
				broken := io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF))
				if step == 1 {
					broken = iotest.OneByteReader(broken)
				}
				got, err := io.ReadAll(set.Reader(broken))
				if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix("it is [redacted]", string(got)) {
					t.Fatalf("%s, cut after %d bytes: %q, %v", name, cut, got, err)
				}
			}
		}
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReadsOfEverySize(t *testing.T) {
	set := newSet("sk-test-ABCDEFGH", "aaaaaaaaaaaaaaaa")
	text := strings.Repeat("x", 700) + "sk-test-ABCDEFGH" + strings.Repeat("a", 40) + strings.Repeat(`y\n`, 900) + "sk-test-ABCDEFG"
	want, n := set.String(text)
	if n != 2 {
		t.Fatal(n)
	}
	for size := 1; size < 2000; size += 1 + size/7 {
		for _, source := range []io.Reader{strings.NewReader(text), iotest.HalfReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
			r := set.Reader(source)
			var got []byte
			buf := make([]byte, size)
			for {
				n, err := r.Read(buf)
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if string(got) != want {
				t.Fatalf("Reads of %d bytes differ: %q", size, got)
			}
		}
	}
	if err := iotest.TestReader(set.Reader(strings.NewReader(text)), []byte(want)); err != nil {
		t.Error(err)
	}
}

// A value as long as the vault takes, in its longest encodings.
func TestLongestValue(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	v := string(randomBytes(rng, secret.MaxSize))
	set := newSet(v)
	for _, e := range encodings() {
		if !slices.Contains([]string{"raw", "HEX", "base64 std 0+0", "base64 url 2+1", "percent all", "JSON unicode all", "HTML numbers all", "mixture"}, e.name) {
			continue
		}
		text := "before " + e.encode(rng, v) + " after"
		r := set.Reader(iotest.HalfReader(strings.NewReader(text)))
		out, err := io.ReadAll(r)
		if err != nil || r.Redactions() != 1 || len(out) > len("before  after")+len(secret.Redacted)+8 {
			t.Errorf("%s: %d matches, %d bytes left, %v", e.name, r.Redactions(), len(out), err)
		}
	}
}

func TestClose(t *testing.T) {
	v := "sk-test-ABCDEFGH"
	set := newSet(v)
	r := set.Reader(&pieces{p: [][]byte{[]byte("first sk-t"), []byte("est-ABCDEFGH " + v)}})
	buf := make([]byte, 100)
	if n, err := r.Read(buf); string(buf[:n]) != "first " || err != nil {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	set.Close()
	set.Close()
	out, err := io.ReadAll(r)
	if !errors.Is(err, errClosed) || len(out) != 0 {
		t.Errorf("after Close: %q, %v", out, err)
	}
	if got, _ := set.String("x " + v); got != secret.Redacted {
		t.Errorf("after Close: %q", got)
	}
	if slices.ContainsFunc(set.ix.nodes, func(n uint16) bool { return n != 0 }) || set.ix.keys != (keys{}) {
		t.Error("fingerprints were not wiped")
	}
}

// The Set must not need its values afterwards, nor keep them.
func TestKeepsNoValue(t *testing.T) {
	const v = "sk-test-ABCDEFGH-0123456789"
	value := secret.FromString(v)
	set := NewSet([]secret.Value{value})
	value.Wipe()
	if got, n := set.String("x " + v); n != 1 || got != "x [redacted]" {
		t.Errorf("after the value was wiped: %q", got)
	}
	dump := fmt.Sprintf("%#v %v", set.ix, set.ix.nodes)
	if strings.Contains(dump, v[:8]) {
		t.Error("the index shows the value")
	}
}

func TestManyStreamsAtOnce(t *testing.T) {
	set := newSet("sk-test-ABCDEFGH")
	text := strings.Repeat("some text sk-test-ABCDEFGH ", 500)
	done := make(chan string)
	for range 8 {
		go func() {
			out, _ := io.ReadAll(set.Reader(iotest.HalfReader(strings.NewReader(text))))
			done <- string(out)
		}()
	}
	for range 8 {
		if out := <-done; out != strings.Repeat("some text [redacted] ", 500) {
			t.Error("streams disturb each other")
		}
	}
}

func TestThousandsOfValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	values := randomValues(rng, 2_000)
	set := NewSet(values)
	list := encodings()
	text := jsonText(rng, 1<<19, 6)
	var b bytes.Buffer
	n := 0
	for len(text) > 0 {
		k := min(len(text), 1+rng.IntN(3000))
		b.Write(text[:k])
		text = text[k:]
		b.WriteByte('|')
		b.WriteString(list[rng.IntN(len(list))].encode(rng, string(values[rng.IntN(len(values))].Expose())))
		b.WriteByte('|')
		n++
	}
	whole, k := set.String(b.String())
	if k != n {
		t.Errorf("%d of %d found", k, n)
	}
	r := set.Reader(bytes.NewReader(b.Bytes()))
	if out, err := io.ReadAll(r); err != nil || string(out) != whole {
		t.Errorf("the stream differs from the whole, %v", err)
	}
}

func TestEntityNames(t *testing.T) {
	for _, name := range strings.Fields(entityNames) {
		c, bare := entity([]byte(name))
		if got := html.UnescapeString("&" + name + ";"); got != string([]byte{c}) {
			t.Errorf("&%s; is %q, not %q", name, got, c)
		}
		if got := html.UnescapeString("&" + name + "|"); (got == string([]byte{c})+"|") != bare {
			t.Errorf("&%s without a semicolon is %q", name, got)
		}
		if len(name) > longestName || bare && len(name) > longestBare {
			t.Errorf("%s is longer than the longest", name)
		}
	}
	src, err := os.ReadFile("entity.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`case ("[A-Za-z", ]+):`).FindAllStringSubmatch(string(src), -1) {
		for _, name := range strings.Split(m[1], ", ") {
			if name = strings.Trim(name, `"`); !strings.Contains(entityNames, " "+name+" ") {
				t.Errorf("%s is missing in entityNames", name)
			}
		}
	}
}
