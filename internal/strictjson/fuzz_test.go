package strictjson

import (
	"bytes"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// What Unmarshal accepts is one valid, shallow UTF-8 document without
// duplicate names, and survives a round trip.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","count":3,"request":{"body":"x","headers":[{"a":[1,null,true]}]},"raw":[{}]}`,
		`{"name":"a","name":"b"}`, `{"raw":{"a":1,"\u0061":2}}`, `[[[[]]]]`, `{"key":"AQI="}`, "\xef\xbb\xbf{}",
		`{"name":"\ud83d\ude00"}`, `{"ratio":-1.5e300}`, `"\ud800"`, `{"":{"":[]}}`, `{} {}`, `null`, `{"request":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var free any
		if Unmarshal(in, &free) == nil {
			walk(t, in)
			again(t, free, new(any))
		}
		var d doc
		if Unmarshal(in, &d) == nil {
			walk(t, in)
			again(t, d, new(doc))
		}
	})
}

func again[T any](t *testing.T, v T, w *T) {
	t.Helper()
	out, err := Marshal(v)
	if err != nil {
		t.Fatalf("accepted, but cannot be written: %v", err)
	}
	if bytes.ContainsAny(out, "\n\r") {
		t.Fatalf("more than one line: %q", out)
	}
	if err := Unmarshal(out, w); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if out2, err := Marshal(*w); err != nil || !bytes.Equal(out, out2) {
		t.Fatalf("%q came back as %q, %v", out, out2, err)
	}
}

// walk reads the document token by token with a lenient decoder and keeps its
// own account of names and depth.
func walk(t *testing.T, in []byte) {
	t.Helper()
	if !utf8.Valid(in) {
		t.Fatal("invalid UTF-8 accepted")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(in), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var names []map[string]bool
	for values := 0; ; {
		kind, n := dec.StackIndex(dec.StackDepth())
		isName := kind == '{' && n%2 == 0
		tok, err := dec.ReadToken()
		if err == io.EOF {
			if values != 1 {
				t.Fatalf("%d documents accepted", values)
			}
			return
		}
		if err != nil {
			t.Fatalf("accepted, but a lenient decoder refuses: %v", err)
		}
		switch k := tok.Kind(); {
		case k == '{' || k == '[':
			names = append(names, map[string]bool{})
			if len(names) > MaxDepth {
				t.Fatal("too deep, but accepted")
			}
		case k == '}' || k == ']':
			names = names[:len(names)-1]
		case isName:
			seen := names[len(names)-1]
			if seen[tok.String()] {
				t.Fatalf("duplicate name %q accepted", tok.String())
			}
			seen[tok.String()] = true
		}
		if dec.StackDepth() == 0 {
			values++
		}
	}
}
