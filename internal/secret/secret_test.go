package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"text/template"

	jsonv2 "github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/secret"
)

const hidden = "sk-hidden-0123456789"

// leaks says in which form the secret is in s: as it is, or as one of the
// ways in which Go prints bytes.
func leaks(s string) string {
	b := []byte(hidden)
	for form, text := range map[string]string{
		"plain": hidden, "hex": fmt.Sprintf("%x", b), "HEX": fmt.Sprintf("%X", b), "spaced hex": fmt.Sprintf("% x", b),
		"decimal": strings.Trim(fmt.Sprint(b), "[]"), "Go": strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte"),
		"base64": strings.Trim(string(must(json.Marshal(b))), `"`), "octal": strings.Trim(fmt.Sprintf("%o", b), "[]"),
		"binary": strings.Trim(fmt.Sprintf("%b", b), "[]"), "runes": strings.Trim(fmt.Sprintf("%U", b), "[]"), "head": hidden[:6],
	} {
		if strings.Contains(s, text) {
			return form
		}
	}
	return ""
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type exported struct {
	Name  string
	Value secret.Value
	Ptr   *secret.Value
}

type unexported struct {
	value secret.Value
	ptr   *secret.Value
	inner struct{ deep []secret.Value }
}

type embedded struct{ secret.Value }

// holders is a secret in every place where a careless print may meet it.
func holders() map[string]any {
	v := secret.FromString(hidden)
	u := unexported{value: v, ptr: &v}
	u.inner.deep = []secret.Value{v}
	return map[string]any{
		"value": v, "pointer": &v, "pointer to pointer": new(&v), "slice": []secret.Value{v}, "array": [1]secret.Value{v},
		"map": map[string]secret.Value{"k": v}, "key": map[secret.Value]int{v: 1}, "interface": []any{v, &v}, "struct": exported{"n", v, &v},
		"pointer to struct": &exported{"n", v, &v}, "unexported": u, "pointer to unexported": &u, "embedded": embedded{v},
		"nested": struct{ A, B any }{exported{"n", v, &v}, u}, "anonymous": struct{ v secret.Value }{v},
	}
}

// What prints the bytes themselves has to be noticed, in every form.
func TestTheTestNotices(t *testing.T) {
	for _, verb := range []string{"%v", "%s", "%q", "%x", "%X", "% x", "%d", "%#v", "%o", "%b", "%U"} {
		if leaks(fmt.Sprintf(verb, []byte(hidden))) == "" {
			t.Errorf("%s of the bytes themselves was not recognised: %s", verb, fmt.Sprintf(verb, []byte(hidden)))
		}
	}
}

func TestFmt(t *testing.T) {
	for name, v := range holders() {
		for c := rune('A'); c <= 'z'; c++ {
			if c > 'Z' && c < 'a' {
				continue
			}
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "10.3", ".1000", "-+# 020.20"} {
				format := "%" + flags + string(c)
				if form := leaks(fmt.Sprintf(format, v)); form != "" {
					t.Errorf("%s of %s shows the secret, %s", format, name, form)
				}
			}
		}
		// Wrong formats on purpose, out of the linters' sight.
		printf := func(format string, args ...any) string { return fmt.Sprintf(strings.Clone(format), args...) }
		for how, out := range map[string]string{
			"Sprint": fmt.Sprint(v), "Sprintln": fmt.Sprintln(v, v), "bad verb": printf("%!", v), "too many": printf("x", v),
			"missing": printf("%[3]v %[1]v", v), "width": printf("%*v", v, 1), "error verb": printf("%w", v),
			"Appendf": string(fmt.Appendf(nil, "%v%+v%#v", v, v, v)),
		} {
			if form := leaks(out); form != "" {
				t.Errorf("%s of %s shows the secret, %s: %s", how, name, form, out)
			}
		}
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%5.2f", "%T"} {
		want := secret.Redacted
		if format == "%T" {
			want = "secret.Value"
		}
		if got := fmt.Sprintf(format, secret.FromString(hidden)); got != want {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestErrors(t *testing.T) {
	for name, v := range holders() {
		inner := fmt.Errorf("open %v: %w", v, errors.New("no"))
		for _, err := range []error{inner, fmt.Errorf("call: %w", inner), errors.Join(inner, inner)} {
			for _, out := range []string{err.Error(), fmt.Sprintf("%v %+v %#v %q", err, err, err, err)} {
				if form := leaks(out); form != "" {
					t.Errorf("%s in an error: %s", name, form)
				}
			}
		}
	}
}

func TestLogs(t *testing.T) {
	var out bytes.Buffer
	all := &slog.HandlerOptions{Level: slog.LevelDebug - 10, AddSource: true}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, all), slog.NewJSONHandler(&out, all)} {
		for name, v := range holders() {
			l := slog.New(h).With("with", v).WithGroup("g")
			l.Info("msg", "v", v, slog.Any("any", v), slog.Group("group", "v", v))
			l.Error(fmt.Sprint(v), name, v)
		}
	}
	std := log.New(&out, fmt.Sprint(secret.FromString(hidden)), log.LstdFlags)
	for _, v := range holders() {
		std.Print(v)
		std.Printf("%+v", v)
	}
	if out.Len() == 0 || !strings.Contains(out.String(), secret.Redacted) {
		t.Error("nothing was logged")
	}
	if form := leaks(out.String()); form != "" {
		t.Errorf("the log shows the secret, %s", form)
	}
}

func TestEncodings(t *testing.T) {
	for name, v := range holders() {
		for how, encode := range map[string]func() ([]byte, error){
			"encoding/json": func() ([]byte, error) { return json.Marshal(v) },
			"indented":      func() ([]byte, error) { return json.MarshalIndent(v, "", " ") },
			"json v2":       func() ([]byte, error) { return jsonv2.Marshal(v) },
			"xml":           func() ([]byte, error) { return xml.Marshal(v) },
			"gob": func() ([]byte, error) {
				var b bytes.Buffer
				err := gob.NewEncoder(&b).Encode(v)
				return b.Bytes(), err
			},
			"template": func() ([]byte, error) {
				var b bytes.Buffer
				err := template.Must(template.New("").Parse("{{.}} {{printf `%s %x` . .}}")).Execute(&b, v)
				return b.Bytes(), err
			},
		} {
			out, err := encode() // some holders cannot be encoded: then the error must not tell
			if form := leaks(string(out) + fmt.Sprint(err)); form != "" {
				t.Errorf("%s of %s shows the secret, %s", how, name, form)
			}
		}
	}
	v := secret.FromString(hidden)
	for how, got := range map[string][]byte{"v1": must(json.Marshal(v)), "v2": must(jsonv2.Marshal(v)), "pointer": must(jsonv2.Marshal(&v))} {
		if string(got) != `"[redacted]"` {
			t.Errorf("%s: %s", how, got)
		}
	}
	if got := must(json.Marshal(exported{"n", v, &v})); string(got) != `{"Name":"n","Value":"[redacted]","Ptr":"[redacted]"}` {
		t.Errorf("%s", got)
	}
}

// A panic prints its value without fmt.
func TestPanic(t *testing.T) {
	const child = "SECRET_TEST_PANIC_WITH"
	if name := os.Getenv(child); name != "" {
		panic(holders()[name])
	}
	for name := range holders() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPanic$")
		cmd.Env = append(os.Environ(), child+"="+name, "GOTRACEBACK=all")
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic: ")) {
			t.Fatalf("%s: no panic: %v\n%s", name, err, out)
		}
		if form := leaks(string(out)); form != "" {
			t.Errorf("a panic with %s shows the secret, %s", name, form)
		}
	}
}

func TestUnmarshalJSON(t *testing.T) {
	for in, want := range map[string]string{`"abc"`: "abc", `""`: "", `"\u00e9\n\"\ud83d\ude00"`: "é\n\"\U0001f600"} {
		for how, decode := range map[string]func([]byte, any) error{
			"v1": json.Unmarshal, "v2": func(b []byte, v any) error { return jsonv2.Unmarshal(b, v) },
		} {
			var v secret.Value
			if err := decode([]byte(in), &v); err != nil || string(v.Expose()) != want {
				t.Errorf("%s %s: %v", how, in, err)
			}
		}
	}
	for _, in := range []string{`12345678`, `{"sk-hidden":1}`, `["sk-hidden"]`, `true`, `null`, `sk-hidden`, `"sk-hidden`, ``, "\"sk-hidden\n\"", `"a""b"`} {
		v := secret.FromString("before")
		err := v.UnmarshalJSON([]byte(in))
		if err == nil || strings.Contains(err.Error(), "sk-h") || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v", in, err)
		}
		if string(v.Expose()) != "before" {
			t.Errorf("%q changed the value", in)
		}
	}
}

func TestValue(t *testing.T) {
	var zero secret.Value
	if !zero.IsZero() || zero.Len() != 0 || zero.Expose() != nil || zero.String() != secret.Redacted || !zero.Equal(secret.FromString("")) {
		t.Error("the zero Value")
	}
	zero.Wipe()
	if c := zero.Clone(); !c.IsZero() {
		t.Error("clone of the zero Value")
	}
	b := []byte(hidden)
	v := secret.New(b)
	if v.IsZero() || v.Len() != len(hidden) || string(v.Expose()) != hidden {
		t.Error("New")
	}
	twin, clone := v, v.Clone()
	for other, want := range map[string]bool{hidden: true, hidden + "x": false, hidden[1:]: false, "": false, strings.ToUpper(hidden): false} {
		if v.Equal(secret.FromString(other)) != want {
			t.Errorf("Equal(%q) is not %v", other, want)
		}
	}
	v.Wipe()
	if want := make([]byte, len(hidden)); !bytes.Equal(b, want) || !bytes.Equal(twin.Expose(), want) {
		t.Error("Wipe left the bytes")
	}
	if string(clone.Expose()) != hidden {
		t.Error("Wipe reached a clone")
	}
}
