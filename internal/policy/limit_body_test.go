package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
)

func require(fields ...string) api.Policy {
	var p api.Policy
	for _, f := range fields {
		pointer, values, _ := strings.Cut(f, "=")
		p.RequireJSON = append(p.RequireJSON, api.RequireJSON{Pointer: pointer, Values: strings.Split(values, "|")})
	}
	return p
}

var asJSON = api.Header{Name: "Content-Type", Value: "application/json"}

func TestCheckBody(t *testing.T) {
	for _, c := range []struct {
		policy    api.Policy
		good, bad []string
	}{
		{require("/model=gpt-4o-mini|o3"),
			[]string{`{"model":"gpt-4o-mini"}`, ` { "x":[1,{"model":"other"}], "model" : "o3", "y":{"Model":1} } `, `{"mod\u0065l":"\u006f3"}`, `{"model":"o3","MODELS":1}`, `{"a":1e999,"model":"o3"}`},
			[]string{
				`{}`, `{"model":"gpt-5"}`, `{"model":null}`, `{"model":["o3"]}`, `{"model":{"o3":1}}`, `{"Model":"o3"}`, `{"model":"o3","Model":"gpt-5"}`, `{"Model":"gpt-5","model":"o3"}`, `{"model":"o3","MODEL":"o3"}`,
				`{"model":"o3","model":"gpt-5"}`, `{"model":"o3","mod\u0065l":"o3"}`, `{"model":"O3"}`, `{"model":"o3 "}`, `{"model ":"o3"}`, `{"x":{"model":"o3"}}`, `[{"model":"o3"}]`, `"o3"`, `o3`, ``, ` `, `{`, `{"model":"o3"`, `{"model":"o3"}{}`,
				`{"model":"o3"}{"model":"gpt-5"}`, `{"model":"o3"} x`, `{"model":"o3",}`, "\xef\xbb\xbf" + `{"model":"o3"}`, "{\x00\"model\":\"o3\"}", `{"model":"o3","a":"` + "\xff" + `"}`, `{"model":"o3","a":"\ud800"}`, `{"model":"o3","a":{"b":1,"b":2}}`,
				`{'model':'o3'}`, `{"model":"o3"/**/}`, `{"model":"o3","a":01}`, "{\"model\":\"o3\",\"a\":\"\n\"}", `model=o3`, `{"model":"o3","\u212a":1,"\u212a":2}`,
				"\xff\xfe{\x00\"\x00m\x00", `{"model":"o3","a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
			}},
		{require("/task=1", "/kind=ask"), []string{`{"task":1,"kind":"ask"}`},
			[]string{`{"task":1}`, `{"task":1,"kind":"ask","ta\u017fk":2}`, `{"tas\u212a":1,"task":1,"kind":"ask"}`, `{"task":1,"\u212aind":"ask"}`, `{"kind":"ask"}`}},
		{require("/n=1|1.0|true|null"), []string{`{"n":1}`, `{"n":1.0}`, `{"n":"1"}`, `{"n":true}`, `{"n":null}`, `{"n":"null"}`},
			[]string{`{"n":1.00}`, `{"n":1e0}`, `{"n":10e-1}`, `{"n":01}`, `{"n":False}`, `{"n":false}`, `{"n":" 1"}`, `{"n":-1}`}},
		{require("/cfg/maxTokens=1", "/_=2"), []string{`{"cfg":{"maxTokens":1,"tokens":9,"_":0},"_":2,"-":3}`},
			[]string{`{"cfg":{"maxTokens":1,"max_tokens":9},"_":2}`, `{"cfg":{"max-Tokens":9,"maxTokens":1},"_":2}`, `{"cfg":{"MAX_TOKENS":1},"_":2}`, `{"c_fg":{"maxTokens":9},"cfg":{"maxTokens":1},"_":2}`, `{"cfg":{"maxTokens":1,"_max_tokens":9},"_":2}`}},
		{require("/big=12345678901234567890"), []string{`{"big":12345678901234567890}`}, []string{`{"big":12345678901234567891}`, `{"big":12345678901234567000}`, `{"big":1.2345678901234567890e19}`}},
		{require("/a/b/0/c=x"), []string{`{"a":{"b":[{"c":"x"},{"C":"y"}],"c":1}}`, `{"a":{"b":{"0":{"c":"x"}}}}`},
			[]string{`{"a":{"b":[]}}`, `{"a":{"b":[{"c":"y"}]}}`, `{"a":{"b":[0,{"c":"x"}]}}`, `{"a":{"B":1,"b":[{"c":"x"}]}}`, `{"A":{},"a":{"b":[{"c":"x"}]}}`, `{"a":{"b":[{"c":"x","C":"x"}]}}`, `{"a":{"b":{"00":{"c":"x"}}}}`, `{"a":"x"}`, `{"a":{"b":[[{"c":"x"}]]}}`}},
		{require("/list/10=z"), []string{`{"list":[0,1,2,3,4,5,6,7,8,9,"z"]}`}, []string{`{"list":["z"]}`, `{"list":[0,1,2,3,4,5,6,7,8,9,10]}`}},
		{require("/01=x"), []string{`{"01":"x"}`}, []string{`[0,"x"]`, `{"1":"x"}`}},
		{require("/+1=x"), nil, []string{`[0,"x"]`}},
		{require("/01=x", "/-=y"), []string{`{"01":"x","-":"y"}`}, []string{`[0,"x","y"]`}},
		{require("=a"), []string{`"a"`, ` "a" `}, []string{`"b"`, `["a"]`, `{"a":"a"}`, ``}},
		{require("/=a"), []string{`{"":"a"}`}, []string{`{}`, `"a"`, `{"":"b"}`}},
		{require("/a~1b=1", "/c~0d=2", "/e~01=3"), []string{`{"a/b":1,"c~d":2,"e~1":3}`}, []string{`{"a~1b":1,"c~0d":2,"e~01":3}`, `{"a":{"b":1},"c~d":2,"e~1":3}`}},
		{require("/a=1", "/a/b=2"), nil, []string{`{"a":1}`, `{"a":{"b":2}}`}}, // contradicts itself: nothing passes
		{require("/é=ü"), []string{`{"é":"ü"}`, `{"\u00e9":"\u00fc"}`}, []string{`{"É":"ü"}`, "{\"e\u0301\":\"ü\"}", `{"é":"Ü"}`}},
	} {
		l := limits(t, c.policy)
		if !l.InspectsBody() {
			t.Error("not inspected")
		}
		r := asking(t, "/x", asJSON)
		for _, body := range c.good {
			if err := l.CheckBody(r, []byte(body)); err != nil {
				t.Errorf("%s: %v", body, err)
			}
		}
		for _, body := range c.bad {
			err := l.CheckBody(r, []byte(body))
			if api.CodeOf(err) != api.PolicyViolation {
				t.Errorf("%.80q: %v", body, err)
			} else if m := err.Error(); len(m) > 300 || strings.ContainsAny(m, "\x00\n") || !utf8.ValidString(m) {
				t.Errorf("%.80q: %q", body, m)
			}
		}
	}
}

func TestCheckBodyContentType(t *testing.T) {
	l := limits(t, require("/model=o3"))
	body := []byte(`{"model":"o3"}`)
	for _, h := range [][]api.Header{
		{asJSON}, {{Name: "content-type", Value: "application/vnd.x+json; charset=utf-8"}}, {asJSON, {Name: "X-Content-Type", Value: "text/plain"}},
	} {
		if err := l.CheckBody(asking(t, "/x", h...), body); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	for _, h := range [][]api.Header{
		nil, {{Name: "Content-Type", Value: ""}}, {{Name: "Content-Type", Value: "text/plain"}}, {{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}, {{Name: "Content-Type", Value: "multipart/form-data; boundary=x"}},
		{{Name: "Content-Type", Value: "application/json; charset=utf-16"}}, {{Name: "Content-Type", Value: "application/json, text/plain"}}, {asJSON, {Name: "Content-Encoding", Value: "gzip"}}, {asJSON, {Name: "content-encoding", Value: "identity"}},
	} {
		if err := l.CheckBody(asking(t, "/x", h...), body); api.CodeOf(err) != api.PolicyViolation {
			t.Errorf("%v: %v", h, err)
		}
	}
	twice := &Request{method: "POST", path: "/", headers: []api.Header{asJSON, asJSON}}
	if err := l.CheckBody(twice, body); api.CodeOf(err) != api.PolicyViolation {
		t.Error("two content types:", err)
	}
	huge := append([]byte(`{"model":"o3","x":"`), bytes.Repeat([]byte("x"), MaxInspected)...)
	if err := l.CheckBody(asking(t, "/x", asJSON), append(huge, `"}`...)); api.CodeOf(err) != api.PolicyViolation {
		t.Error("longer than what is inspected:", err)
	}
}

// What passes says the same to another reader, one that takes names without
// regard to case and the last of those that occur twice.
func FuzzCheckBody(f *testing.F) {
	for _, s := range []string{
		`{"model":"o3","opt":{"n":1}}`, `{"model":"o3","MODEL":"x","opt":{"n":1}}`, `{"opt":{"N":2,"n":1},"model":"o3"}`, `{"model":"o3","opt":{"n":1.0}}`, `{"model":"o3","opt":[{"n":1}]}`, `{"model":"o3","opt":{"n":1}} {}`, `{"mo\u0064el":"o\u0033","opt":{"n":"1"}}`,
	} {
		f.Add([]byte(s))
	}
	l := limits(f, require("/model=o3", "/opt/n=1"))
	r := asking(f, "/x", asJSON)
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		err := l.CheckBody(r, body)
		if !bytes.Equal(body, given) {
			t.Fatal("the body is changed")
		}
		if err != nil {
			if api.CodeOf(err) != api.PolicyViolation {
				t.Fatal(err)
			}
			return
		}
		var lenient struct {
			Model string
			Opt   struct{ N any }
		}
		if err := json.Unmarshal(body, &lenient); err != nil {
			t.Fatalf("%q passes, and encoding/json refuses it: %v", body, err)
		}
		if lenient.Model != "o3" || fmt.Sprint(lenient.Opt.N) != "1" {
			t.Fatalf("%q passes, and encoding/json reads %+v", body, lenient)
		}
	})
}

func BenchmarkCheckBody(b *testing.B) {
	l := limits(b, require("/model=o3|gpt-4o-mini", "/stream=true"))
	r := asking(b, "/x", asJSON)
	body := []byte(`{"model":"gpt-4o-mini","messages":[` + strings.Repeat(`{"role":"user","content":"Tell me a story about a dog."},`, 100) + `{}],"stream":true}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := l.CheckBody(r, body); err != nil {
			b.Fatal(err)
		}
	}
}
