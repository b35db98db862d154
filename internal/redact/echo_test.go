package redact

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"moldable.sh/aivault/internal/secret"
)

// joined is an event stream as its reader has it: the data of each event,
// lines joined, which a value may be spread over.
func joined(text, with string) string {
	var out strings.Builder
	inData := false
	for line := range strings.Lines(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)) {
		data, isData := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data:")
		if !isData {
			out.WriteString("\n" + line)
			inData = false
			continue
		}
		if inData {
			out.WriteString(with)
		}
		out.WriteString(strings.TrimPrefix(data, " "))
		inData = true
	}
	return out.String()
}

// scrubbed is what comes out of a text that comes in the parts given.
func scrubbed(t testing.TB, set *Set, events bool, parts ...[]byte) (string, int) {
	t.Helper()
	return drained(t, set, events, &pieces{p: parts}, 4*roomAtLeast)
}

// drained is what comes out of a text that is read so many bytes at a time: for
// a short one, enough that no buffer of the Reader's own takes most of the time.
func drained(t testing.TB, set *Set, events bool, text io.Reader, size int) (string, int) {
	t.Helper()
	r := set.Reader(text)
	if events {
		r = set.Events(text)
	}
	buf, out := make([]byte, size), []byte(nil)
	for {
		n, err := r.Read(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF {
			return string(out), r.Redactions()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// scrubbedFarOff is what comes out of a text that is read at once, far from
// where the stream ends: near its end each position is tried, here the index of
// windows has to find what there is, at each offset from the looks.
func scrubbedFarOff(t testing.TB, set *Set, events bool, text string) (string, int) {
	t.Helper()
	after := farOff
	if !events {
		after = farOff[:2*zoneLen*maxUnit]
	}
	var first string
	var count int
	for offset := range stride {
		before := farOff[:offset]
		out, n := drained(t, set, events, strings.NewReader(before+text+after), offset+len(text)+len(after)+roomAtLeast)
		got, ok := strings.CutPrefix(out, before)
		got, too := strings.CutSuffix(got, after)
		switch {
		case !ok || !too:
			t.Fatalf("%q: what stands around it is not the same", text)
		case offset == 0:
			first, count = got, n
		case got != first || n != count:
			t.Fatalf("%q behind %d bytes:\n got %q (%d)\nwant %q (%d)", text, offset, got, n, first, count)
		}
	}
	return first, count
}

// farOff is more than the end of a text is looked at position by position.
var farOff = strings.Repeat("|", zoneLen*maxUnit*(2+maxBreak))

// The end of the line before its data is the first character of a value that
// begins with one.
func TestAValueThatBeginsWithALine(t *testing.T) {
	t.Parallel()
	const v = "\nabc\ndef&"
	set := newSet(v)
	for _, end := range []string{"\n", "\r", "\r\n"} {
		for _, blank := range []string{"", " "} {
			for _, rest := range []string{v[1:], `a\u0062c` + v[4:], "%61bc" + v[4:8] + "&amp;"} {
				line := end + "data:" + blank
				text := "data: x" + strings.ReplaceAll("\n"+rest, "\n", line) + "|"
				const want = "data: x[redacted]|"
				for i := range len(text) {
					if got, n := scrubbed(t, set, true, []byte(text[:i]), []byte(text[i:])); got != want || n != 1 {
						t.Fatalf("%q split at %d: got %q (%d)", text, i, got, n)
					}
				}
				if got, n := scrubbedFarOff(t, set, true, text); got != want || n != 1 {
					t.Fatalf("%q, far from the end: got %q (%d)", text, got, n)
				}
				if got, n := scrubbed(t, set, false, []byte(text)); got != text || n != 0 {
					t.Fatalf("%q is no event: got %q (%d)", text, got, n)
				}
			}
		}
	}
}

// Every encoding, cut into lines of data at every offset of it, and into a
// line for each byte; then the whole split at every offset.
func TestEveryEncodingOverLinesOfData(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, v := range []string{"sk-test1", `sk-Ab3d+Ef6/h\j9=k "m2&%`} {
		set := newSet(v)
		for _, e := range encodings() {
			echoed := e.encode(rng, v)
			var lines strings.Builder
			for i := range len(echoed) {
				lines.WriteString("data: " + echoed[i:i+1] + "\n")
			}
			texts := []string{"id: 7\n" + lines.String() + "\n"}
			for cut := range len(echoed) + 1 {
				between := []string{"\ndata: ", "\r\ndata:", "\rdata: ", "\ndata:"}[cut%4]
				if strings.HasPrefix(echoed[cut:], " ") {
					between = "\ndata: " // of two blanks the first is none of the data's
				}
				texts = append(texts, "data: {"+echoed[:cut]+between+echoed[cut:]+"}\n\n")
			}
			for i, text := range texts {
				got, n := scrubbed(t, set, true, []byte(text))
				if n == 0 || leaks(joined(got, ""), v) || leaks(got, v) {
					t.Fatalf("%s of %q: %q becomes %q", e.name, v, text, got)
				}
				if i%5 == 0 { // with each way to end a line in turn
					if far, k := scrubbedFarOff(t, set, true, text); far != got || k != n {
						t.Fatalf("%s of %q in %q, far from the end:\n got %q (%d)\nwant %q (%d)", e.name, v, text, far, k, got, n)
					}
				}
				if want := strings.Count(text, "\n\n"); strings.Count(got, "\n\n") != want || i == 0 && !strings.HasPrefix(got, "id: 7\ndata: ") {
					t.Fatalf("%s of %q: %q becomes %q, which is other events", e.name, v, text, got)
				}
				if i > 0 && i%9 != 1 {
					continue
				}
				for split := range len(text) {
					if again, k := scrubbed(t, set, true, []byte(text[:split]), []byte(text[split:])); again != got || k != n {
						t.Fatalf("%s of %q in %q split at %d:\n got %q (%d)\nwant %q (%d)", e.name, v, text, split, again, k, got, n)
					}
				}
			}
		}
	}
}

// A value that has lines of its own, as an event carries it.
func TestValueWithLinesInAnEvent(t *testing.T) {
	const v = "-----BEGIN KEY-----\nMIIBVgIBADANBgkq\n\nhkiG9w0BAQ==\n-----END KEY-----"
	set := newSet(v)
	for _, end := range []string{"\n", "\r\n", "\r"} {
		text := "data: " + strings.ReplaceAll(v, "\n", end+"data: ") + end + end
		for split := range len(text) {
			if got, n := scrubbed(t, set, true, []byte(text[:split]), []byte(text[split:])); got != "data: [redacted]"+end+end || n != 1 {
				t.Fatalf("%q split at %d: %q, %d", text, split, got, n)
			}
		}
	}
}

// What is no second line of one event's data joins nothing.
func TestOtherLinesAreNotJoined(t *testing.T) {
	set := newSet("sk-test1")
	for _, text := range []string{
		"data: sk-t\n\ndata: est1\n\n", "data: sk-t\nid: est1\n\n", "data: sk-t\ndat: est1\n\n", "data: sk-t\n data: est1\n\n", "data: sk-t\n:\ndata: est1\n\n",
		"data: sk-t\r\n\r\ndata: est1\r\n\r\n", "sk-t\ndata est1\n", "data: {\"a\":\"sk-t\"}\n\n",
	} {
		if got, n := scrubbed(t, set, true, bytes.SplitAfter([]byte(text), nil)...); got != text || n != 0 {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	// Nor in a text that is no event stream.
	if got, n := set.String("data: sk-t\ndata: est1\n"); n != 0 {
		t.Error(got)
	}
}

// An event is passed on when it is there, whatever it ends with.
func TestEventsPassAtOnce(t *testing.T) {
	set := newSet("sk-test-ABCDEFGH", "}-is-how-it-begins", "\"-and-this-one-too")
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		pr, pw := io.Pipe()
		r, buf := set.Events(pr), make([]byte, 4096)
		for _, event := range []string{`data: {"a":"sk-test"}` + end, `data: "` + end, `data: s` + end, "id: 7" + end} {
			go pw.Write([]byte(event))
			if n, err := r.Read(buf); err != nil || string(buf[:n]) != event {
				t.Fatalf("%q: %q, %v", event, buf[:n], err)
			}
		}
		pw.Close()
	}
}

// A secret in 50 MiB, wherever it is and however the text comes.
func TestNoEchoInALargeBody(t *testing.T) {
	size := 50 << 20
	if testing.Short() {
		size = 3 << 20
	}
	rng := rand.New(rand.NewPCG(6, 6))
	values := []string{"sk-proj-Ab3dEf6hIj9kLm2nOp5q", "another-value-of-0123"}
	set := newSet(values...)
	block := jsonText(rng, 1<<20, 6)
	list := encodings()
	planted := 0
	next := func(i int) []byte {
		b := bytes.Clone(block)
		e := list[rng.IntN(len(list))].encode(rng, values[i%2])
		at := rng.IntN(len(b) - len(e) - 2)
		copy(b[at:], "|"+e+"|")
		planted++
		return b
	}
	for _, step := range []int{1 << 20, 4093} {
		var text io.Reader = &generated{next: next, left: size >> 20}
		if step < 1<<20 { // what differs shows sooner
			text = &inSteps{&generated{next: next, left: max(3, size>>20/8)}, step}
		}
		planted = 0
		r := set.Reader(text)
		var tail []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			tail = append(tail, buf[:n]...)
			for _, v := range values {
				if bytes.Contains(tail, []byte(v)) || bytes.Contains(tail, []byte(base64.StdEncoding.EncodeToString([]byte(v))[:16])) {
					t.Fatal("a leak")
				}
			}
			tail = append(tail[:0], tail[max(0, len(tail)-64):]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if r.Redactions() != planted {
			t.Errorf("in steps of %d: %d of %d found", step, r.Redactions(), planted)
		}
	}
}

type generated struct {
	next func(i int) []byte
	left int
	b    []byte
}

func (g *generated) Read(p []byte) (int, error) {
	if len(g.b) == 0 {
		if g.left == 0 {
			return 0, io.EOF
		}
		g.left--
		g.b = g.next(g.left)
	}
	n := copy(p, g.b)
	g.b = g.b[n:]
	return n, nil
}

type inSteps struct {
	r    io.Reader
	step int
}

func (s *inSteps) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.step)]) }

// FuzzEcho holds the stream against a reference that shares nothing with it:
// an echo is written by the standard library's encoders, and what comes out is
// decoded in every way by leaks. At every split the same comes out.
func FuzzEcho(f *testing.F) {
	for i, v := range shapes() {
		for how := range encodings() {
			if (i+how)%9 == 0 {
				f.Add(v, uint8(how), uint64(i), []byte(`{"a":"`), []byte("\"}\n\n"), uint16(3))
			}
		}
	}
	f.Add("sk-test1", uint8(0), uint64(1), []byte("data: "), []byte("\n\ndata: x\n\n"), uint16(0x8004))
	f.Add("sk-test1", uint8(9), uint64(1), []byte("data: "), []byte("\r\ndata: x\r\n\r\n"), uint16(0x8007))
	list := encodings()
	f.Fuzz(func(t *testing.T, v string, how uint8, seed uint64, before, after []byte, cut uint16) {
		e := list[int(how)%len(list)]
		if len(v) < MinLength || len(v) > 60 || len(before)+len(after) > 200 || e.forText() && !utf8.ValidString(v) {
			return
		}
		echo := e.encode(rand.New(rand.NewPCG(seed, 2)), v)
		events := cut&0x8000 != 0
		if events {
			at := int(cut&0x7fff) % (len(echo) + 1)
			echo = echo[:at] + "\ndata: " + echo[at:]
			if strings.ContainsAny(v, "\r\n") {
				return // a line of its own would be one of the stream
			}
		}
		text := string(before) + echo + string(after)
		set := newSet(v)
		got, n := scrubbed(t, set, events, []byte(text))
		if n == 0 {
			t.Fatalf("%s of %q in %q: not found", e.name, v, text)
		}
		if !strings.Contains(v, "|") {
			after := farOff[:maxUnit] // of a text that goes on, more may belong to a match
			ended, n := scrubbed(t, set, events, []byte(text+after))
			if far, k := scrubbedFarOff(t, set, events, text); far+after != ended || k != n {
				t.Fatalf("%s of %q in %q, far from the end:\n got %q (%d)\nwant %q (%d)", e.name, v, text, far+after, k, ended, n)
			}
		}
		// What stood around it, or takes its place, may spell the value as well.
		if seen := got; !leaks(string(before)+secret.Redacted+string(after), v) {
			if leaks(seen, v) || events && leaks(joined(seen, ""), v) {
				t.Fatalf("%s of %q in %q: %q", e.name, v, text, got)
			}
		}
		for split := range len(text) {
			if again, k := scrubbed(t, set, events, []byte(text[:split]), []byte(text[split:])); again != got || k != n {
				t.Fatalf("%s of %q in %q split at %d:\n got %q (%d)\nwant %q (%d)", e.name, v, text, split, again, k, got, n)
			}
		}
		reader := set.Reader
		if events {
			reader = set.Events
		}
		if again, err := io.ReadAll(reader(iotest.OneByteReader(strings.NewReader(text)))); err != nil || string(again) != got {
			t.Fatalf("%s of %q in %q byte by byte: %q, %v", e.name, v, text, again, err)
		}
		// Of what breaks off, no more is shown than of what ends.
		for split := range len(text) {
			broken, err := io.ReadAll(reader(io.MultiReader(strings.NewReader(text[:split]), iotest.ErrReader(errBroken))))
			if !errors.Is(err, errBroken) || !strings.HasPrefix(got, string(broken)) {
				t.Fatalf("%s of %q in %q broken off at %d: %q, %v; want a beginning of %q", e.name, v, text, split, broken, err, got)
			}
		}
	})
}
