package strictjson

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/secret"
)

type inner struct {
	Method  string            `json:"method,omitzero"`
	Body    *string           `json:"body,omitzero"`
	Headers []map[string]any  `json:"headers,omitzero"`
	Labels  map[string]string `json:"labels,omitzero"`
}

type doc struct {
	Name    string  `json:"name"`
	Count   uint8   `json:"count,omitzero"`
	Big     int64   `json:"big,omitzero"`
	Ratio   float64 `json:"ratio,omitzero"`
	On      bool    `json:"on,omitzero"`
	Key     []byte  `json:"key,omitzero"`
	Request inner   `json:"request,omitzero"`
	Raw     raw     `json:"raw,omitzero"`
}

type raw []byte

func (r raw) MarshalJSON() ([]byte, error)     { return r, nil }
func (r *raw) UnmarshalJSON(b []byte) error    { *r = append((*r)[:0], b...); return nil }
func (leaky) MarshalJSON() ([]byte, error)     { return nil, errors.New("leak sk-hidden") }
func (*leaky) UnmarshalJSON(b []byte) error    { return errors.New("cannot use " + string(b)) }
func (n *nested) UnmarshalJSON(b []byte) error { return Unmarshal(b, &n.inner) }

type leaky struct{}
type nested struct{ inner inner }

func TestUnmarshal(t *testing.T) {
	var got doc
	body := "a<b>\u2028"
	in := ` {"name":"n","count":255,"big":-9,"ratio":1.5,"on":true,"key":"AQI=","request":{"method":"GET","body":"a<b>\u2028",
		"headers":[{"x":1}],"labels":{"a":"b"}},"raw":{"any":[1, 2]}}` + "\r\n\t "
	if err := Unmarshal([]byte(in), &got); err != nil {
		t.Fatal(err)
	}
	want := doc{Name: "n", Count: 255, Big: -9, Ratio: 1.5, On: true, Key: []byte{1, 2}, Raw: raw(`{"any":[1, 2]}`),
		Request: inner{Method: "GET", Body: &body, Headers: []map[string]any{{"x": 1.0}}, Labels: map[string]string{"a": "b"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	deep := strings.Repeat(`[`, MaxDepth+1) + strings.Repeat(`]`, MaxDepth+1)
	for _, c := range []struct{ name, in, want string }{
		{"duplicate name", `{"name":"a","name":"b"}`, `field "/name" appears twice`},
		{"duplicate name escaped", `{"name":"a","\u006eame":"b"}`, `field "/name" appears twice`},
		{"duplicate below", `{"name":"a","request":{"labels":{"x":"1","x":"2"}}}`, `field "/request/labels/x" appears twice`},
		{"duplicate in any", `{"request":{"headers":[{"x":1,"x":2}]}}`, `field "/request/headers/0/x" appears twice`},
		{"duplicate in a type's own decoding", `{"raw":{"x":1,"x":2}}`, `field "/raw/x" appears twice`},
		{"unknown name", `{"name":"a","url":"sk-hidden"}`, `field "/url" is not known`},
		{"unknown name below", `{"request":{"host":"sk-hidden"}}`, `field "/request/host" is not known`},
		{"another case", `{"Name":"sk-hidden"}`, `field "/Name" is not known`},
		{"control characters in a name", `{"a\u001b[2J\n\u202e":1}`, `field "/a\x1b[2J\n\u202e" is not known`},
		{"long name", `{"` + strings.Repeat("é", 500) + `":1}`, `field "/` + strings.Repeat(`\u00e9`, 63) + `..." is not known`},
		{"string for number", `{"count":"sk-hidden"}`, `field "/count" must be a whole number from 0 to 255`},
		{"number for string", `{"name":77777}`, `field "/name" must be a string`},
		{"fraction", `{"count":1.5}`, `field "/count" must be a whole number from 0 to 255`},
		{"exponent", `{"count":1e1}`, `field "/count" must be a whole number from 0 to 255`},
		{"too great", `{"count":256}`, `field "/count" must be a whole number from 0 to 255`},
		{"int64", `{"big":9223372036854775808}`, `field "/big" must be a whole number from -9223372036854775808 to 9223372036854775807`},
		{"float", `{"ratio":"sk-hidden"}`, `field "/ratio" must be a number`},
		{"bool", `{"on":1}`, `field "/on" must be true or false`},
		{"base64", `{"key":"sk-hidden!"}`, `field "/key" must be a string in base64`},
		{"object", `{"request":["sk-hidden"]}`, `field "/request" must be an object`},
		{"array", `{"request":{"headers":"sk-hidden"}}`, `field "/request/headers" must be an array`},
		{"pointer", `{"request":{"body":{"sk-hidden":1}}}`, `field "/request/body" must be a string`},
		{"top level", `"sk-hidden"`, `the JSON must be an object`},
		{"trailing object", `{"name":"a"}{"name":"b"}`, `the JSON goes on after its end, at byte 12`},
		{"trailing byte", `{"name":"a"} x`, `the JSON goes on after its end, at byte 12`},
		{"trailing NUL", "{\"name\":\"a\"}\x00", `the JSON goes on after its end, at byte 12`},
		{"BOM", "\xef\xbb\xbf{}", `the JSON begins with a byte order mark; plain UTF-8 was expected`},
		{"UTF-16 LE", "{\x00}\x00", `the JSON is UTF-16 or binary; JSON in UTF-8 was expected`},
		{"UTF-16 BE", "\x00{\x00}", `the JSON is UTF-16 or binary; JSON in UTF-8 was expected`},
		{"UTF-16 BOM", "\xff\xfe{\x00", `the JSON is UTF-16 or binary; JSON in UTF-8 was expected`},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", `field "/name" is malformed at byte 9`},
		{"overlong UTF-8", "{\"name\":\"\xc0\xae\"}", `field "/name" is malformed at byte 9`},
		{"lone surrogate", `{"name":"\ud800"}`, `field "/name" is malformed at byte 9`},
		{"raw control", "{\"name\":\"a\nb\"}", `field "/name" is malformed at byte 10`},
		{"comment", `{/**/}`, `the JSON is malformed at byte 1`},
		{"trailing comma", `{"name":"a",}`, `the JSON is malformed at byte 11`},
		{"cut off", `{"name":"sk-hid`, `field "/name" is malformed at byte 15`},
		{"NaN", `{"ratio":NaN}`, `field "/ratio" is malformed at byte 9`},
		{"leading zero", `{"count":01}`, `the JSON is malformed at byte 10`},
		{"empty", "", `the JSON is empty; JSON was expected`},
		{"blank", " \n", `the JSON is empty; JSON was expected`},
		{"deep", deep, `the JSON is nested deeper than 64 levels`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Unmarshal([]byte(c.in), new(doc))
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "sk-hid") || strings.Contains(err.Error(), "7777") {
				t.Errorf("the error repeats the value: %s", err)
			}
		})
	}
}

func TestDepth(t *testing.T) {
	nest := func(n int) []byte {
		return []byte(strings.Repeat(`{"a\\\"[[":[`, n/2) + strings.Repeat(`]}`, n/2))
	}
	if err := Unmarshal(nest(MaxDepth), new(any)); err != nil {
		t.Errorf("%d levels: %v", MaxDepth, err)
	}
	if err := Unmarshal(nest(MaxDepth+2), new(any)); err == nil {
		t.Errorf("%d levels accepted", MaxDepth+2)
	}
	if err := Unmarshal([]byte(`["`+strings.Repeat("[", 100)+`\"`+strings.Repeat("{", 100)+`\\"]`), new(any)); err != nil {
		t.Errorf("brackets inside a string counted: %v", err)
	}
	if err := Unmarshal([]byte(`{"raw":`+string(nest(MaxDepth))+`}`), new(doc)); err == nil {
		t.Error("depth not enforced inside a type's own decoding")
	}
}

// A string of escapes must not cost a pass per escape: quadratic, this would
// take minutes.
func TestDepthScanIsLinear(t *testing.T) {
	for _, s := range []string{`\n`, `\"`, `\\`, `\n\"`} {
		in := []byte(`["` + strings.Repeat(s, 4<<20/len(s)) + `"]`)
		if tooDeep(in) {
			t.Errorf("%s: too deep", s)
		}
	}
}

func TestOwnUnmarshalers(t *testing.T) {
	var s struct {
		Value secret.Value `json:"value"`
	}
	if err := Unmarshal([]byte(`{"value":"sk-\u00e9"}`), &s); err != nil || string(s.Value.Expose()) != "sk-é" {
		t.Errorf("secret: %v", err)
	}
	for in, want := range map[string]string{
		`{"value":12345}`:         `field "/value" must be a string`,
		`{"value":["sk-hidden"]}`: `field "/value" must be a string`,
		`{"value":null}`:          `field "/value" must be a string`,
	} {
		if err := Unmarshal([]byte(in), &s); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
	var l struct {
		L leaky `json:"l"`
	}
	if err := Unmarshal([]byte(`{"l":"sk-hidden"}`), &l); err == nil || err.Error() != `field "/l" must be of another form` {
		t.Errorf("a type's own error got through: %v", err)
	}
	var n struct {
		N nested `json:"n"`
	}
	if err := Unmarshal([]byte(`{"n":{"labels":{"a":1}}}`), &n); err == nil || err.Error() != `field "/n/labels/a" must be a string` {
		t.Errorf("nested: %v", err)
	}
}

func TestMarshal(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{map[string]string{"b": "<&>", "a": "\u2028\n"}, "{\"a\":\"\u2028\\n\",\"b\":\"<&>\"}"},
		{struct {
			A []string          `json:"a"`
			M map[string]string `json:"m"`
		}{}, `{"a":[],"m":{}}`},
		{doc{Name: "x", Raw: raw("{\n \"a\" : 1\n}")}, `{"name":"x","raw":{"a":1}}`},
		{struct {
			V secret.Value `json:"v"`
		}{secret.FromString("sk-hidden")}, `{"v":"[redacted]"}`},
	} {
		got, err := Marshal(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("got %s, %v\nwant %s", got, err, c.want)
		}
	}
	for _, bad := range []any{leaky{}, map[string]string{"a": "sk-hidden\xff"}, doc{Raw: raw(`{"a":1,"a":2}`)}, doc{Raw: raw("sk-hidden")}, func() {}} {
		got, err := Marshal(bad)
		if err == nil || strings.Contains(err.Error(), "sk-hidden") || !strings.Contains(err.Error(), "cannot be written") {
			t.Errorf("%T: %s, %v", bad, got, err)
		}
	}
}

func TestRead(t *testing.T) {
	in := `{"name":"` + strings.Repeat("n", 20000) + `"}`
	size := int64(len(in))
	for _, limit := range []int64{size, size + 1, 1 << 40, 1<<63 - 1} {
		var d doc
		if err := Read(iotest.HalfReader(strings.NewReader(in)), limit, &d); err != nil || len(d.Name) != 20000 {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	for _, limit := range []int64{size - 1, 4096, 1, 0, -1} {
		if err := Read(strings.NewReader(in), limit, new(doc)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	boom := errors.New("boom")
	if err := Read(io.MultiReader(strings.NewReader(`{"name":"a"}`), iotest.ErrReader(boom)), 100, new(doc)); !errors.Is(err, boom) {
		t.Errorf("reader's error: %v", err)
	}
}

// Read wipes its buffer, so nothing decoded may live in it.
func TestReadKeepsNoAlias(t *testing.T) {
	var d doc
	if err := Read(strings.NewReader(`{"name":"keep","raw":[1],"request":{"labels":{"k":"v"}}}`), 100, &d); err != nil {
		t.Fatal(err)
	}
	if d.Name != "keep" || string(d.Raw) != "[1]" || d.Request.Labels["k"] != "v" {
		t.Errorf("%+v", d)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	in := []byte(`{"name":"openai/chat-completions","count":1,"request":{"method":"POST","body":"` +
		strings.Repeat(`{\"role\":\"user\"},`, 50) + `","labels":{"a":"b"}}}`)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		var d doc
		if err := Unmarshal(in, &d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDepthScan(b *testing.B) {
	in := []byte(`{"body":"` + strings.Repeat(`x`, 1<<20) + `"}`)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if tooDeep(in) || bytes.HasPrefix(in, []byte("x")) {
			b.Fatal("deep")
		}
	}
}
