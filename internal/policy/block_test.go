package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
)

func blocking(t interface{ Fatal(...any) }, names ...string) *Limits {
	l, err := CompileLimits(api.Policy{Capability: "a/b", ResponseBlock: names})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func block(l *Limits, in string) (string, error) {
	out, err := io.ReadAll(l.Block(strings.NewReader(in)))
	return string(out), err
}

func TestBlockRemoves(t *testing.T) {
	l := blocking(t, "secret", "API_Key", "straße", "kiss", "a.b")
	for _, c := range []struct{ in, want string }{
		{`{}`, `{}`},
		{` { } `, ` { } `},
		{`{"a":1}`, `{"a":1}`},
		{"{ \"a\" : 1 ,\n\t\"b\" : [ 1 , 2 ] }\r\n", "{ \"a\" : 1 ,\n\t\"b\" : [ 1 , 2 ] }\r\n"},
		{`{"secret":1}`, `{}`},
		{`{"secret":1,"a":2}`, `{"a":2}`},
		{`{"a":2,"secret":1}`, `{"a":2}`},
		{`{"a":2,"secret":1,"b":3}`, `{"a":2,"b":3}`},
		{`{"secret":1,"secret":2,"a":2,"secret":3}`, `{"a":2}`},
		{"{\n  \"a\": 1,\n  \"secret\": {\"x\": [1, {\"secret\": 2}]},\n  \"b\": 2\n}", "{\n  \"a\": 1,\n  \"b\": 2\n}"},
		{"{\n  \"secret\": 1,\n  \"b\": 2\n}", "{\n  \"b\": 2\n}"},
		{"{\n  \"b\": 2,\n  \"secret\": 1\n}", "{\n  \"b\": 2\n}"},
		{"{\n  \"secret\": 1 , \n  \"secret\": 1\n}", "{\n}"},
		{`{"a":1 , "secret":2 , "b":3}`, `{"a":1 , "b":3}`},
		{`[{"secret":1},{"a":{"secret":[]}},[[{"secret":{}}]],"secret"]`, `[{},{"a":{}},[[{}]],"secret"]`},
		// names in other spellings
		{`{"SECRET":1,"Secret":2,"\u0073ecret":3,"\u0053\u0045cret":4,"\u017fecret":5,"secre\u0054":6,"ſECRET":7}`, `{}`},
		{`{"api_key":1,"API_KEY":2,"api-key":3,"apikey":4}`, `{"api-key":3,"apikey":4}`},
		{`{"STRAßE":1,"stra\u00dfe":2,"straẞe":3,"strasse":4}`, `{"strasse":4}`},
		{`{"\u212aiss":1,"KISS":2,"kis":3}`, `{"kis":3}`},
		{`{"secret ":1," secret":2,"secret\u0000":3,"\"secret\"":4,"sec\\ret":5,"a":"secret","a.b":1}`, `{"secret ":1," secret":2,"secret\u0000":3,"\"secret\"":4,"sec\\ret":5,"a":"secret"}`},
		{`{"a":{"b":1}}`, `{"a":{"b":1}}`},
		// values go through as they are
		{`{"n":[1e999,-0,0.10,123456789012345678901234567890,1E+2],"s":"\ud800\/\u0041é` + "\U0001F600\x7f" + `","l":[true,false,null]}`, `{"n":[1e999,-0,0.10,123456789012345678901234567890,1E+2],"s":"\ud800\/\u0041é` + "\U0001F600\x7f" + `","l":[true,false,null]}`},
		{`{"\ud800secret":1,"secret\udc00":2}`, `{"\ud800secret":1,"secret\udc00":2}`},
		{`{"secret":"a\"b}],","a":1}`, `{"a":1}`},
		{`{"secret":-1.5e+7,"a":1}`, `{"a":1}`},
		{`{"":{"secret":null}}`, `{"":{}}`},
		{`1`, `1`}, {` -0.5e3 `, ` -0.5e3 `}, {`"secret"`, `"secret"`}, {`null`, `null`}, {``, ``}, {`[]`, `[]`}, {`[ ]`, `[ ]`},
	} {
		got, err := block(l, c.in)
		if err != nil || got != c.want {
			t.Errorf("%s becomes\n%s, want\n%s (%v)", c.in, got, c.want, err)
		}
		byByte, err := io.ReadAll(l.Block(iotest.OneByteReader(strings.NewReader(c.in))))
		if err != nil || string(byByte) != c.want {
			t.Errorf("%s, byte by byte, becomes\n%s (%v)", c.in, byByte, err)
		}
		into, err := io.ReadAll(iotest.OneByteReader(l.Block(iotest.DataErrReader(strings.NewReader(c.in)))))
		if err != nil || string(into) != c.want {
			t.Errorf("%s, read byte by byte, becomes\n%s (%v)", c.in, into, err)
		}
	}
	long := strings.Repeat("x", 1<<20)
	if got, err := block(l, `{"`+long+`":1,"secret":"`+long+`","b`+long+`\u0041":[2]}`); err != nil || got != `{"`+long+`":1,"b`+long+`\u0041":[2]}` {
		t.Errorf("long names: %d bytes, %v", len(got), err)
	}
	// The longest name that can be blocked, in its longest spelling.
	l = blocking(t, strings.Repeat("k", maxLimitName))
	if got, err := block(l, `{"`+strings.Repeat(`\u212a`, maxLimitName)+`":1}`); err != nil || got != `{}` {
		t.Errorf("the longest name: %.20s %v", got, err)
	}
	// White space without end is cut, nothing else.
	l = blocking(t, "secret")
	blank := strings.Repeat(" \n", 1<<20)
	if got, err := block(l, `{"a":1`+blank+`,`+blank+`"b":2`+blank+`}`); err != nil || len(got) > 3*maxHeldBlank || strings.Join(strings.Fields(got), "") != `{"a":1,"b":2}` {
		t.Errorf("white space without end: %d bytes %v", len(got), err)
	}
}

func TestBlockRefusesWhatIsNoJSON(t *testing.T) {
	l := blocking(t, "secret")
	deep := strings.Repeat("[", maxNesting)
	if _, err := block(l, deep+strings.Repeat("]", maxNesting)); err != nil {
		t.Error("as deep as allowed:", err)
	}
	for _, in := range []string{
		" ", "\n", "\xef\xbb\xbf{}", "\x00", "{", "}", "]", "[", `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a":1]`, `[1}`, `[1,]`, `[,1]`, `[1 2]`, `{a:1}`, `{'a':1}`,
		`{1:2}`, `{"a"::1}`, `{"a":1,,"b":2}`, `{"a":1}{"secret":2}`, `{} {}`, `1 2`, `{"a":1}x`, `"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"", "\"\x1f\"", `01`, `-`, `+1`, `1.`, `.5`, `1.e1`, `1e`, `1e+`, `--1`, `0x1`, `1_0`, `-01`, `00`,
		`1.5.5`, `1e5e5`, `1e5.5`, `NaN`, `Infinity`, `nul`, `nulll`, `True`, `tru`, `truex`, `/**/{}`, `{"a":1/**/}`, "{\"a\":1}\x00", "\"\xff\"", "\"\xc0\xaf\"", "\"\xc3\"", "\"\xe0\x80\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf8\x88\x80\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\x80\x80\x80\"", "{\"\xc1\xb3ecret\":1}",
		"{\"s\xffecret\":1}", "\xff\xfe{\x00}\x00", "data: {}\n\n", "<html></html>", `)]}',{"a":1}`, `callback({"secret":1})`, "{\"a\":\"\xe2\x82\"}", "{\u00a0}", "{\v}", "1\f", deep + "[" + strings.Repeat("]", maxNesting+1),
	} {
		out, err := block(l, in)
		if api.CodeOf(err) != api.PolicyViolation || errors.Unwrap(err) != nil {
			t.Errorf("%.60q becomes %.60q, %v", in, out, err)
		}
		var e *api.Error
		if errors.As(err, &e) && (e.Hint != "aivault capability describe a/b" || len(e.Message) > 200) {
			t.Errorf("%q: %q", e.Message, e.Hint)
		}
		byByte, err2 := io.ReadAll(l.Block(iotest.OneByteReader(strings.NewReader(in))))
		if api.CodeOf(err2) != api.PolicyViolation || !strings.HasPrefix(in, string(byByte)) {
			t.Errorf("%.60q, byte by byte, becomes %.60q, %v", in, byByte, err2)
		}
	}
}

// An answer that breaks off is not taken for malformed, and one that never
// says anything is given up.
func TestBlockPassesErrorsOn(t *testing.T) {
	l := blocking(t, "secret")
	broken := errors.New("connection reset")
	out, err := io.ReadAll(l.Block(io.MultiReader(strings.NewReader(`{"a":1,"secr`), iotest.ErrReader(broken))))
	if err != broken || string(out) != `{"a":1` {
		t.Errorf("%q %v", out, err)
	}
	r := l.Block(emptyReader{})
	if _, err := r.Read(make([]byte, 10)); err != io.ErrNoProgress {
		t.Error(err)
	}
	r = l.Block(strings.NewReader(`x`))
	for range 2 {
		if n, err := r.Read(make([]byte, 10)); n != 0 || api.CodeOf(err) != api.PolicyViolation {
			t.Error(n, err)
		}
	}
	if n, err := l.Block(emptyReader{}).Read(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

// What is whole is handed on at once, not when the next piece comes.
func TestBlockIsPrompt(t *testing.T) {
	l := blocking(t, "secret")
	in, w := io.Pipe()
	out := l.Block(in)
	buf := make([]byte, 100)
	for _, c := range [][2]string{{`[{"a":"x`, `[{"a":"x`}, {`yz`, `yz`}, {`"}`, `"}`}, {`,{"secret":1,"b":[1`, `,{"b":[1`}} {
		go io.WriteString(w, c[0])
		n, err := out.Read(buf)
		if err != nil || string(buf[:n]) != c[1] {
			t.Errorf("after %s: %q %v", c[0], buf[:n], err)
		}
	}
	w.Close()
}

type endless struct {
	head, body, tail string
	times            int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.head == "" {
		if e.times > 0 {
			e.times--
			e.head = e.body
		} else if e.tail != "" {
			e.head, e.tail = e.tail, ""
		} else {
			return 0, io.EOF
		}
	}
	n := copy(p, e.head)
	e.head = e.head[n:]
	return n, nil
}

// Strings, names, numbers, white space and members without end need no memory.
func TestBlockIsBounded(t *testing.T) {
	l := blocking(t, "secret")
	const times, size = 64, 64 << 10
	for what, e := range map[string]*endless{
		"a string":             {`{"a":"`, strings.Repeat("x", size), `"}`, times},
		"a removed string":     {`{"secret":"`, strings.Repeat("\\u0041é", size/8), `"}`, times},
		"a name":               {`{"`, strings.Repeat("x", size), `":1}`, times},
		"a name in a removed":  {`{"secret":{"`, strings.Repeat("x", size), `":1}}`, times},
		"a number":             {`{"a":`, strings.Repeat("1", size), `}`, times},
		"white space":          {`{"a":1`, strings.Repeat(" ", size), `}`, times},
		"white space, removed": {`{"secret":1`, strings.Repeat(" ", size), `,"secret":1}`, times},
		"members":              {`{"a":1`, strings.Repeat(`,"a":1,"secret":[1]`, size/19), `}`, times},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := io.Copy(io.Discard, struct{ io.Reader }{l.Block(e)})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%s: %d bytes of memory for %d", what, used, n)
		}
	}
}

// reference reads a text and writes its tokens, less those members that are
// blocked.
func reference(text string, blocked []string) (string, error) {
	dec := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var b strings.Builder
	var value func(silent bool) error
	value = func(silent bool) error {
		print := func(format string, args ...any) {
			if !silent {
				fmt.Fprintf(&b, format, args...)
			}
		}
		switch dec.PeekKind() {
		case '{':
			dec.ReadToken()
			print("{")
			for dec.PeekKind() != '}' {
				name, err := dec.ReadToken()
				if err != nil {
					return err
				}
				drop := silent
				for _, n := range blocked {
					drop = drop || strings.EqualFold(n, name.String())
				}
				if !drop {
					print("%q:", name.String())
				}
				if err := value(drop); err != nil {
					return err
				}
			}
			dec.ReadToken()
			print("}")
		case '[':
			dec.ReadToken()
			print("[")
			for dec.PeekKind() != ']' {
				if err := value(silent); err != nil {
					return err
				}
			}
			dec.ReadToken()
			print("]")
		default:
			v, err := dec.ReadValue()
			if err != nil {
				return err
			}
			print("%s ", v)
		}
		return nil
	}
	if err := value(false); err != nil {
		return "", err
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return "", errors.New("more than one value")
	}
	return b.String(), nil
}

// chunks reads in pieces whose sizes are drawn from a seed.
type chunks struct {
	text string
	seed uint64
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.text == "" {
		return 0, io.EOF
	}
	c.seed = c.seed*6364136223846793005 + 1442695040888963407
	n := copy(p[:min(len(p), 1+int(c.seed>>59))], c.text)
	c.text = c.text[n:]
	return n, nil
}

func FuzzBlock(f *testing.F) {
	for _, s := range []string{
		`{"secret":1,"a":[{"SECRET":"x"}],"secret":null,"\u0073ecret":{}}`, `[1e999,-0.5,"\ud800é"]`, "{ \"a\" : 1 ,\n \"secret\":2}", `{"a":1}{}`, `{"k":{"K":1}}`, "\"\xff\"", `{"\u212a":1,"ſecret":2}`, `  `, `-`,
	} {
		f.Add(s, uint64(1))
	}
	blocked := []string{"secret", "k", "A\"b"}
	l := blocking(f, blocked...)
	f.Fuzz(func(t *testing.T, in string, seed uint64) {
		if len(in) > 5000 { // jsontext and encoding/json count depth in another way
			return
		}
		out, err := io.ReadAll(l.Block(&chunks{in, seed}))
		whole, errWhole := block(l, in)
		if string(out) != whole || (err == nil) != (errWhole == nil) {
			t.Fatalf("%q becomes %q %v, in pieces %q %v", in, whole, errWhole, out, err)
		}
		valid := in == "" || json.Valid([]byte(in)) && utf8.ValidString(in)
		if valid != (err == nil) {
			t.Fatalf("%q: %v", in, err)
		}
		if err != nil {
			if api.CodeOf(err) != api.PolicyViolation {
				t.Fatal(err)
			}
			return
		}
		if in == "" {
			return
		}
		want, err := reference(in, blocked)
		if err != nil {
			t.Fatalf("%q: the reference refuses: %v", in, err)
		}
		got, err := reference(whole, nil)
		if err != nil || got != want {
			t.Fatalf("%q becomes %q: %s, want %s (%v)", in, whole, got, want, err)
		}
		if all, _ := reference(in, nil); all == want && whole != in {
			t.Fatalf("nothing was to be removed from %q, and it became %q", in, whole)
		}
		if again, err := block(l, whole); err != nil || again != whole {
			t.Fatalf("%q is not stable: %q %v", whole, again, err)
		}
	})
}

// A text that is cut, or has a byte replaced, anywhere never gives away what is
// blocked.
func TestBlockedNeverShows(t *testing.T) {
	l := blocking(t, "hidden")
	name := rapid.SampledFrom([]string{`"hidden"`, `"HIDDEN"`, `"hid\u0064en"`, `"\u0048idden"`, `"open"`, `"o\"pen"`, `""`})
	var value func(t *rapid.T, depth int, marker string) string
	value = func(t *rapid.T, depth int, marker string) string {
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		if depth == 0 {
			kind = min(kind, 1)
		}
		blank := rapid.SampledFrom([]string{"", " ", "\n  "})
		switch kind {
		case 0:
			return `"` + marker + `\n,}"`
		case 1:
			return rapid.SampledFrom([]string{"1", "-0.5e1", "true", "null"}).Draw(t, "scalar")
		case 2:
			var parts []string
			for range rapid.IntRange(0, 3).Draw(t, "elements") {
				parts = append(parts, value(t, depth-1, marker))
			}
			return "[" + strings.Join(parts, ","+blank.Draw(t, "blank")) + "]"
		}
		var parts []string
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			n := name.Draw(t, "name")
			m := marker
			if !strings.Contains(n, "pen") && n != `""` {
				m = "CLASSIFIED"
			}
			parts = append(parts, blank.Draw(t, "blank")+n+blank.Draw(t, "blank")+":"+value(t, depth-1, m))
		}
		return "{" + strings.Join(parts, blank.Draw(t, "blank")+",") + "}"
	}
	rapid.Check(t, func(t *rapid.T) {
		text := value(t, 4, "plain")
		whole, err := block(l, text)
		if err != nil || strings.Contains(whole, "CLASSIFIED") {
			t.Fatalf("%s becomes %s %v", text, whole, err)
		}
		at := rapid.IntRange(0, len(text)).Draw(t, "at")
		cut, _ := block(l, text[:at])
		if !strings.HasPrefix(whole, cut) {
			t.Fatalf("cut at %d, %s becomes %s", at, text, cut)
		}
		// No reader may find a blocked member in what came out of a text with
		// one byte more.
		bad := text[:at] + rapid.SampledFrom([]string{`"`, `\`, `}`, `]`, `{`, `,`, `:`, "\xff", "\x00", "1", " "}).Draw(t, "byte") + text[at:]
		out, err := block(l, bad)
		if (err == nil) != (json.Valid([]byte(bad)) && utf8.ValidString(bad)) {
			t.Fatalf("%s: %v", bad, err)
		}
		if err == nil {
			want, _ := reference(bad, []string{"hidden"})
			if got, _ := reference(out, nil); got != want {
				t.Fatalf("%s becomes %s", bad, out)
			}
		}
	})
}

func TestFolded(t *testing.T) {
	letters := rapid.StringOf(rapid.RuneFrom([]rune("aAkKKsSſßẞéÉǅǆǄıİiIσςΣ_-1")))
	rapid.Check(t, func(t *rapid.T) {
		a, b := letters.Draw(t, "a"), letters.Draw(t, "b")
		if (string(appendFolded(nil, a)) == string(appendFolded(nil, []byte(b)))) != strings.EqualFold(a, b) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func BenchmarkBlock(b *testing.B) {
	var compact, pretty bytes.Buffer
	compact.WriteByte('[')
	for i := range 1000 {
		if i > 0 {
			compact.WriteByte(',')
		}
		fmt.Fprintf(&compact, `{"id":%d,"name":"item number %d of a list of many items","tags":["a","b","c"],"secret":{"key":"sk-%d","ttl":1.5e3},"ok":true}`, i, i, i)
	}
	compact.WriteByte(']')
	v := jsontext.Value(bytes.Clone(compact.Bytes()))
	if err := v.Indent(); err != nil {
		b.Fatal(err)
	}
	pretty.Write(v)
	long := `{"data":"` + strings.Repeat("iVBORw0KGgoAAAANSUhEUgAA", 40_000) + `"}`
	l := blocking(b, "secret", "token", "password")
	for _, c := range []struct {
		name string
		text []byte
	}{{"compact", compact.Bytes()}, {"pretty", pretty.Bytes()}, {"string", []byte(long)}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			r := bytes.NewReader(nil)
			for b.Loop() {
				r.Reset(c.text)
				if _, err := io.Copy(io.Discard, struct{ io.Reader }{l.Block(struct{ io.Reader }{r})}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
