package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
)

func issuing(t interface{ Fatal(...any) }, pointers ...string) *Issued {
	s, err := CompileIssued("a/b", pointers)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func redact(s *Issued, in string) (string, error) {
	out, err := io.ReadAll(s.Redact(strings.NewReader(in)))
	return string(out), err
}

func TestRedactReplaces(t *testing.T) {
	s := issuing(t, "/token", "/data/*/key", "/a~1b/c~0d", "/list/1", "/deep", "/deep/er", "/straße", "/*/own/secret", "/rows/*")
	for _, c := range []struct{ in, want string }{
		{`{}`, `{}`}, {`[]`, `[]`}, {`"token"`, `"token"`}, {`1`, `1`}, {``, ``}, {`null`, `null`},
		{`{"token":"x"}`, `{"token":"[redacted]"}`},
		{"{ \"id\" : 1 ,\n \"token\" : \"x\" , \"z\" : [ 1 ] }\n", "{ \"id\" : 1 ,\n \"token\" : \"[redacted]\" , \"z\" : [ 1 ] }\n"},
		{`{"token":12.5e3,"b":1}`, `{"token":"[redacted]","b":1}`},
		{`{"token":true}`, `{"token":"[redacted]"}`},
		{`{"token":null,"b":null}`, `{"token":null,"b":null}`},
		{`{"token":["x",{"y":[]}],"b":[2]}`, `{"token":"[redacted]","b":[2]}`},
		{`{"token":{"token":"x","z":"y"},"b":{}}`, `{"token":"[redacted]","b":{}}`},
		{`{"token":"a","token":"b","TOKEN":"c","tok\u0065n":"d","t":"e"}`, `{"token":"[redacted]","token":"[redacted]","TOKEN":"[redacted]","tok\u0065n":"[redacted]","t":"e"}`},
		{`{"STRAßE":"x","stra\u00dfe":"y"}`, `{"STRAßE":"[redacted]","stra\u00dfe":"[redacted]"}`},
		{`[{"token":"x"}]`, `[{"token":"x"}]`},
		{`{"data":[{"key":"x","id":1},{"id":2,"key":"y"},"key",[{"key":"z"}]]}`, `{"data":[{"key":"[redacted]","id":1},{"id":2,"key":"[redacted]"},"key",[{"key":"z"}]]}`},
		{`{"data":{"one":{"key":"x"},"two":{"key":{"key":1}}}}`, `{"data":{"one":{"key":"[redacted]"},"two":{"key":"[redacted]"}}}`},
		{`{"data":{"key":"x"}}`, `{"data":{"key":"x"}}`},
		{`{"a/b":{"c~d":"x","c~1d":"y"},"a~1b":{"c~d":"z"}}`, `{"a/b":{"c~d":"[redacted]","c~1d":"y"},"a~1b":{"c~d":"z"}}`},
		{`{"list":["a","b","c"]}`, `{"list":["a","[redacted]","c"]}`},
		{`{"list":[["a"],["b",["c"]],"d"]}`, `{"list":[["a"],"[redacted]","d"]}`},
		{`{"list":{"0":"a","1":"b"}}`, `{"list":{"0":"a","1":"[redacted]"}}`},
		{`{"deep":{"er":"x"}}`, `{"deep":"[redacted]"}`},
		{`[{"own":{"secret":"x","open":"y"}},{"own":[{"secret":"z"}]}]`, `[{"own":{"secret":"[redacted]","open":"y"}},{"own":[{"secret":"z"}]}]`},
		{`{"":"a","rows":{"":1}}`, `{"":"a","rows":{"":"[redacted]"}}`},
		{`{"rows":[1,"a",[2],{"b":3},null]}`, `{"rows":["[redacted]","[redacted]","[redacted]","[redacted]",null]}`},
		{`{"rows":{"a":1,"b":null,"` + strings.Repeat("x", 2*maxBlockName) + `":2}}`, `{"rows":{"a":"[redacted]","b":null,"` + strings.Repeat("x", 2*maxBlockName) + `":"[redacted]"}}`},
		{`{"token":"` + strings.Repeat(`\"x`, 20000) + `","b":1}`, `{"token":"[redacted]","b":1}`},
	} {
		for what, read := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return s.Redact(r) }, "byte by byte": func(r io.Reader) io.Reader { return s.Redact(iotest.OneByteReader(r)) },
			"read byte by byte": func(r io.Reader) io.Reader { return iotest.OneByteReader(s.Redact(iotest.DataErrReader(r))) },
		} {
			got, err := io.ReadAll(read(strings.NewReader(c.in)))
			if err != nil || string(got) != c.want {
				t.Errorf("%.200s, %s, becomes\n%.200s, want\n%.200s (%v)", c.in, what, got, c.want, err)
			}
		}
	}
	var none *Issued
	if r := strings.NewReader("x"); none.Redact(r) != r {
		t.Error("without pointers an answer is not handed on as it is")
	}
}

// A name in its longest spelling is known, too.
func TestRedactLongNames(t *testing.T) {
	long := strings.Repeat("k", maxLimitName)
	if got, err := redact(issuing(t, "/"+long), `{"`+strings.Repeat(`\u212a`, maxLimitName)+`":1}`); err != nil || strings.Contains(got, ":1") {
		t.Error(got, err)
	}
}

func TestRedactRefusesWhatIsNoJSON(t *testing.T) {
	s := issuing(t, "/token")
	for _, in := range []string{" ", "{", `{"token":"x"`, `{"token":"x"}{"token":"y"}`, "{\"token\":\"x\"}\n{\"token\":\"y\"}", `{"token":nul}`, "token=x", "data: {}\n", "\xef\xbb\xbf{}", `{"token":"x\n` + "\n", `<a token="x">`, "{\"token\":\"\xff\"}", `{'token':'x'}`} {
		out, err := redact(s, in)
		if api.CodeOf(err) != api.PolicyViolation || strings.Contains(out, "x") {
			t.Errorf("%q becomes %q, %v", in, out, err)
		}
		var e *api.Error
		if errors.As(err, &e) && (e.Hint != "aivault capability describe a/b" || strings.Contains(e.Message, "x\"")) {
			t.Errorf("%q: %q", e.Message, e.Hint)
		}
	}
	broken := errors.New("connection reset")
	out, err := io.ReadAll(s.Redact(io.MultiReader(strings.NewReader(`{"a":1,"token":"sec`), iotest.ErrReader(broken))))
	if err != broken || string(out) != `{"a":1,"token":"[redacted]"` {
		t.Errorf("%q %v", out, err)
	}
}

// With a policy that removes members as well, each does its own.
func TestRedactBesideBlock(t *testing.T) {
	l, s := blocking(t, "secret"), issuing(t, "/token", "/secret/token")
	out, err := io.ReadAll(l.Block(s.Redact(strings.NewReader(`{"secret":{"token":"x"},"token":{"secret":1},"a":{"secret":1,"token":"kept"}}`))))
	if err != nil || string(out) != `{"token":"[redacted]","a":{"token":"kept"}}` {
		t.Errorf("%s %v", out, err)
	}
}

func TestRedactIsPromptAndBounded(t *testing.T) {
	s := issuing(t, "/token", "/data/*/key")
	in, w := io.Pipe()
	out := s.Redact(in)
	buf := make([]byte, 100)
	for _, c := range [][2]string{{`{"a":"x`, `{"a":"x`}, {`yz`, `yz`}, {`","tok`, `"`}, {`en":"se`, `,"token":"[redacted]"`}, {`cret","data":[{"key":{`, `,"data":[{"key":"[redacted]"`}, {`}}]}`, `}]}`}} {
		go io.WriteString(w, c[0])
		if n, err := out.Read(buf); err != nil || string(buf[:n]) != c[1] {
			t.Errorf("after %s: %q %v", c[0], buf[:n], err)
		}
	}
	w.Close()
	const times, size = 64, 64 << 10
	for what, e := range map[string]*endless{
		"a string":         {`{"a":"`, strings.Repeat("x", size), `"}`, times},
		"a token":          {`{"token":"`, strings.Repeat("\\u0041é", size/8), `"}`, times},
		"a token's object": {`{"token":{"a":1`, strings.Repeat(`,"a":[1,{"b":2}]`, size/16), `}}`, times},
		"a name":           {`{"`, strings.Repeat("x", size), `":1}`, times},
		"elements":         {`{"data":[{}`, strings.Repeat(`,{"key":"x","id":1}`, size/19), `]}`, times},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := io.Copy(io.Discard, struct{ io.Reader }{s.Redact(e)})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err != nil || used > 1<<20 {
			t.Errorf("%s: %d bytes of memory for %d, %v", what, used, n, err)
		}
	}
}

func TestCompileIssued(t *testing.T) {
	many := make([]string, maxIssued+1)
	for i := range many {
		many[i] = "/t" + strconv.Itoa(i)
	}
	if _, err := CompileIssued("a/b", many[1:]); err != nil {
		t.Error(err)
	}
	for _, p := range [][]string{
		{""}, {"token"}, {"/"}, {"/a//b"}, {"/a/"}, {"/~"}, {"/~2"}, {"/a~"}, {"/a\nb"}, {"/\xff"}, {"/a", "/a"}, {strings.Repeat("/a", maxTokens+1)},
		{"/" + strings.Repeat("a", maxLimitName+1)}, {"/" + strings.Repeat("a/", maxPointer/2)}, many,
	} {
		if s, err := CompileIssued("a/b", p); api.CodeOf(err) != api.InvalidRequest || s != nil || len(err.Error()) > 500 {
			t.Errorf("%.50q: %v", p, err)
		}
	}
	if s, err := CompileIssued("a/b", nil); s != nil || err != nil {
		t.Error(s, err)
	}
}

// redactedWhole is Redact of a text at hand: it looks every value up by the
// way that leads to it.
func redactedWhole(text string, pointers []string) string {
	dec := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var out strings.Builder
	last := 0
	taken := func(way []string) bool {
		for _, p := range pointers {
			tokens := strings.Split(p, "/")[1:]
			same := len(tokens) == len(way)
			for i := 0; same && i < len(way); i++ {
				want := strings.ReplaceAll(strings.ReplaceAll(tokens[i], "~1", "/"), "~0", "~")
				same = tokens[i] == "*" || strings.EqualFold(want, way[i])
			}
			if same {
				return true
			}
		}
		return false
	}
	var value func(way []string)
	value = func(way []string) {
		kind := dec.PeekKind()
		if kind != 'n' && taken(way) {
			v, _ := dec.ReadValue()
			end := int(dec.InputOffset())
			out.WriteString(text[last:end-len(v)] + `"[redacted]"`)
			last = end
			return
		}
		if kind != '{' && kind != '[' {
			dec.ReadValue()
			return
		}
		dec.ReadToken()
		for i := 0; dec.PeekKind() != '}' && dec.PeekKind() != ']'; i++ {
			name := strconv.Itoa(i)
			if kind == '{' {
				n, _ := dec.ReadToken()
				name = n.String()
			}
			value(append(way[:len(way):len(way)], name))
		}
		dec.ReadToken()
	}
	value(nil)
	return out.String() + text[last:]
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{
		`{"token":"x","a":[{"KEY":"x"}],"token":null,"\u0074oken":{}}`, `[{"b":["x",1,{"c":"y"}]},[]]`, "{ \"a\" : {\"k\":{\"key\":2}} ,\n \"token\":[2]}", `{"a":1}{}`, `{"\u212aey":1,"a":[{"\u212aey":[1e5]},-0.5]}`, "\"\xff\"", `  `, `{"b":{"1":[0,{"":3}]}}`,
	} {
		f.Add(s)
	}
	pointers := []string{"/token", "/a/*/key", "/b/1", "/*/b/*/c", "/x~1y/~0", "/*/*/*/*", "/c/0/0"}
	s := issuing(f, pointers...)
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 3000 { // jsontext counts depth in another way; and white space is cut beyond some length
			return
		}
		whole, err := redact(s, in)
		if valid := in == "" || json.Valid([]byte(in)) && utf8.ValidString(in); valid != (err == nil) {
			t.Fatalf("%q: %v", in, err)
		}
		if err == nil && in != "" {
			if want := redactedWhole(in, pointers); whole != want {
				t.Fatalf("%q becomes\n%q, want\n%q", in, whole, want)
			}
			if again, err := redact(s, whole); err != nil || again != whole {
				t.Fatalf("%q is not stable: %q %v", whole, again, err)
			}
		}
		step := 1 + len(in)/100
		for at := 0; at <= len(in); at += step {
			out, errSplit := io.ReadAll(s.Redact(io.MultiReader(strings.NewReader(in[:at]), strings.NewReader(in[at:]))))
			if string(out) != whole || (err == nil) != (errSplit == nil) {
				t.Fatalf("%q, split at %d, becomes %q %v, whole %q %v", in, at, out, errSplit, whole, err)
			}
			// What a cut answer gave is a beginning of what the whole one gives.
			if cut, _ := redact(s, in[:at]); !strings.HasPrefix(whole, cut) {
				t.Fatalf("%q, cut at %d, becomes %q, whole %q", in, at, cut, whole)
			}
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	var list strings.Builder
	list.WriteString(`{"data":[{}`)
	for i := range 1000 {
		fmt.Fprintf(&list, `,{"id":%d,"name":"item number %d of a list of many items","tags":["a","b","c"],"key":"sk-%d","ok":true}`, i, i, i)
	}
	list.WriteString("]}")
	s := issuing(b, "/data/*/key", "/key")
	b.SetBytes(int64(list.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{s.Redact(strings.NewReader(list.String()))}); err != nil {
			b.Fatal(err)
		}
	}
}
