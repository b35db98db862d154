package audit

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/strictjson"
)

// encode writes r as the first line of a log would be.
func encode(t testing.TB, r Record) []byte {
	t.Helper()
	c := genesis("v")
	line := append(c.appendPrefix(nil), "1700000000000,"...)
	line, err := appendBody(line, &r)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// fill sets every field of a struct to something that is not zero.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), text+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(v.Index(i), text)
		}
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1<<v.Type().Bits() - 1)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(-1 << (v.Type().Bits() - 1))
	default:
		panic("a field of a new kind: " + v.Kind().String())
	}
}

// The encoder is written by hand: it must know every field of Record, under
// the name and in the order that the struct gives.
func TestEncodeEveryField(t *testing.T) {
	for _, text := range []string{"x", "é\u202e\U0001f600\"\\\n\x1b\x7f<&>"} {
		var want Record
		fill(reflect.ValueOf(&want).Elem(), text)
		got, err := ParseLine(encode(t, want))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got.Record); d != "" {
			t.Error(d)
		}
	}
	var r Record
	fill(reflect.ValueOf(&r).Elem(), "x")
	line := encode(t, r)
	_, body, _ := strings.Cut(string(line), "1700000000000,")
	byReflection, err := strictjson.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(string(byReflection), "{"); body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}

func TestEncodeLeavesOutWhatIsEmpty(t *testing.T) {
	_, body, _ := strings.Cut(string(encode(t, Record{Event: CallRefused, Caller: &Caller{}})), "1700000000000,")
	if want := `"event":"call.refused","caller":{"uid":0,"gid":0}}`; body != want {
		t.Errorf("got %s, want %s", body, want)
	}
}

func TestEscaping(t *testing.T) {
	for in, want := range map[string]string{
		"plain ~":                     `plain ~`,
		"a\nb\r\t\x00":                `a\u000ab\u000d\u0009\u0000`,
		`q"b\s/`:                      `q\"b\\s/`,
		"\x1b[31m\x7f\u009b":          `\u001b[31m\u007f\u009b`,
		"\u202egpj.exe\u2066":         `\u202egpj.exe\u2066`,
		"\u2028\u2029\ufeff":          `\u2028\u2029\ufeff`,
		"\U0001f600\U0010ffff":        `\ud83d\ude00\udbff\udfff`,
		"bad\xff\xc0\xaf\xed\xa0\x80": `bad` + strings.Repeat(`\ufffd`, 6),
	} {
		e := encoder{}
		e.quote(in, longString)
		if got := string(e.b); got != `"`+want+`"` {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestLongStringsAreCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		left string // how the written form ends
	}{
		{strings.Repeat("a", longString), "a"},
		{strings.Repeat("a", longString+1), `a\u2026[+30]`},
		{strings.Repeat("é", 171), `\u00e9\u2026[+12]`},
		{strings.Repeat("\U0001f600", 100), `\ude00\u2026[+72]`},
		{strings.Repeat("\x00", 1<<20), `\u0000\u2026[+1048411]`},
	} {
		e := encoder{}
		e.quote(c.in, longString)
		got := strings.Trim(string(e.b), `"`)
		if len(got) > longString || !strings.HasSuffix(got, c.left) {
			t.Errorf("%d bytes: ...%s", len(got), got[len(got)-40:])
		}
		var s string
		if err := json.Unmarshal(e.b, &s); err != nil || !utf8.ValidString(s) {
			t.Error(err)
		}
	}
}

func TestLinesAreBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", 5000), strings.Repeat("\n", 5000)} {
		var r Record
		fill(reflect.ValueOf(&r).Elem(), text)
		r.Secrets = slices.Repeat(r.Secrets[:1], maxSecrets)
		r.Grants = slices.Repeat(r.Grants[:1], MaxGrants)
		line := encode(t, r)
		if len(line)+1 > MaxLine {
			t.Errorf("a line of %d bytes", len(line)+1)
		}
		if _, err := ParseLine(line); err != nil {
			t.Error(err)
		}
		r.Secrets = append(r.Secrets, SecretUse{})
		if _, err := appendBody(nil, &r); err == nil {
			t.Error("17 secrets accepted")
		}
		r.Secrets, r.Grants = r.Secrets[:1], append(r.Grants, "")
		if _, err := appendBody(nil, &r); err == nil {
			t.Error("17 grants accepted")
		}
	}
	if _, err := appendBody(nil, &Record{}); err == nil {
		t.Error("a record without an event accepted")
	}
}

func TestCallerOf(t *testing.T) {
	got := CallerOf(grant.Caller{UID: 1, GID: 2, PID: 3, StartedAt: 4, User: "u", Program: "p", Contained: true, Operator: true})
	if d := cmp.Diff(&Caller{UID: 1, GID: 2, PID: 3, StartedAt: 4, User: "u", Program: "p", Operator: true}, got); d != "" {
		t.Error(d)
	}
}

// docs/audit-format.md lists the members of a record and the events; neither
// it nor the code may run ahead.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, members, _ := strings.Cut(string(b), "## Members")
	members, events, _ := strings.Cut(members, "## Events")
	members, caller, _ := strings.Cut(members, "\n`caller`:\n")
	for _, c := range []struct {
		what, text string
		want       []string
	}{
		{"record", members, jsonNames(reflect.TypeFor[Record]())},
		{"caller", caller, jsonNames(reflect.TypeFor[Caller]())},
		{"events", events, eventNames(t)},
	} {
		var got []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(c.text, -1) {
			for _, name := range strings.Split(row[1], ", ") {
				got = append(got, strings.Trim(name, "`"))
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-code +document):\n%s", c.what, d)
		}
	}
}

func jsonNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func eventNames(t *testing.T) (names []string) {
	b, err := os.ReadFile("audit.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t[A-Z]\w+ += "([a-z_.]+)"`).FindAllStringSubmatch(string(b), -1) {
		names = append(names, m[1])
	}
	return names
}

// Whatever a record holds, it becomes one line of printable ASCII that says
// what the record says, unless it was cut.
func FuzzRecord(f *testing.F) {
	f.Add("call.allowed", "p\n{\"seq\":1", "\x1b]0;x\x07", "\u202e\xff", int64(-1), uint64(1), true)
	f.Add("e", strings.Repeat("é", 600), strings.Repeat("\x00", 3000), strings.Repeat("\U0001f600", 300), int64(1)<<62, ^uint64(0), false)
	f.Add("\"", "\\", "\\u000a", "\",\"hash\":\"x", int64(0), uint64(0), true)
	f.Fuzz(func(t *testing.T, a, b, c, d string, n int64, u uint64, many bool) {
		r := Record{Event: "x" + a, RequestID: b, Caller: &Caller{UID: uint32(u), StartedAt: n, User: c, Program: d, Operator: many},
			Capability: a, Scope: c, Host: d, Method: a, Path: b, Object: c, Name: d, Provider: a, Code: b, Reason: c,
			Status: int(n), Bytes: n, Generation: u, Hash: d}
		if many {
			r.Secrets = slices.Repeat([]SecretUse{{b, u}, {c, 1}}, maxSecrets/2)
		}
		line := encode(t, r)
		if len(line)+1 > MaxLine {
			t.Fatalf("%d bytes", len(line)+1)
		}
		for _, c := range line {
			if c < ' ' || c > '~' {
				t.Fatalf("byte %#x in %q", c, line)
			}
		}
		ch := genesis("v")
		if err := ch.follow(line); err != nil || ch.seq != 1 {
			t.Fatal(err)
		}
		got, err := ParseLine(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if got.Seq != 1 || got.AtMs != 1700000000000 {
			t.Fatalf("a record forged seq or time: %s", line)
		}
		if strings.Contains(string(line), `\u2026[+`) {
			return
		}
		want := r
		for _, s := range []*string{&want.Event, &want.RequestID, &want.Capability, &want.Scope, &want.Host, &want.Method, &want.Path,
			&want.Object, &want.Name, &want.Provider, &want.Code, &want.Reason, &want.Hash, &want.Caller.User, &want.Caller.Program} {
			*s = string([]rune(*s)) // each bad byte becomes U+FFFD
		}
		for i := range want.Secrets {
			want.Secrets[i].ID = string([]rune(want.Secrets[i].ID))
		}
		if diff := cmp.Diff(want, got.Record); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := sample(1)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = appendBody(buf[:0], &r)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkEncodeByReflection(b *testing.B) {
	r := sample(1)
	for b.Loop() {
		if _, err := strictjson.Marshal(&r); err != nil {
			b.Fatal(err)
		}
	}
}
