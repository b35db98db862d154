package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// shownDotenv is what a file holds, in a form to compare.
func shownDotenv(t interface{ Fatal(...any) }, text string) []string {
	entries, err := parseDotenv([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%d %s=%s", e.Line, e.Name, e.Value.Expose()))
	}
	return out
}

func TestDotenv(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"comments and blank lines", "\n  \t\n# A=1\n   # B=2\r\n", nil},
		{"plain", "A=1\nB_2=two words\nc.d-e=x", []string{"1 A=1", "2 B_2=two words", "3 c.d-e=x"}},
		{"blanks", "  A = 1 \t\n\tB\t=\t2", []string{"1 A=1", "2 B=2"}},
		{"line ends of other systems", "A=1\r\nB=2\r\n\r\nC=3\r", []string{"1 A=1", "2 B=2", "4 C=3"}},
		{"a mark of the byte order", "\ufeffA=1", []string{"1 A=1"}},
		{"export", "export A=1\nexport\tB='2'\nexport=3\nexport =4", []string{"1 A=1", "2 B=2", "3 export=3", "4 export=4"}},
		{"comments behind", "A=1 # one\nB=1#2\nC=# no\nD= # no\nE=#yes\nF=a\t#b", []string{"1 A=1", "2 B=1#2", "3 C=# no", "4 D=", "5 E=#yes", "6 F=a"}},
		{"empty", "A=\nB=''\nC=\"\"\nD=", []string{"1 A=", "2 B=", "3 C=", "4 D="}},
		{"equals signs", "A=b=c==\nB='='", []string{"1 A=b=c==", "2 B=="}},
		{"single quotes", `A=' x\n"$Y" # ' # z`, []string{`1 A= x\n"$Y" # `}},
		{"back quotes", "A=`it's \"x\"`", []string{`1 A=it's "x"`}},
		{"double quotes", `A="a\nb\tc\\d\"e\$f\g \q"`, []string{"1 A=a\nb\tc\\d\"e$f\\g \\q"}},
		{"many lines", "A=\"one\r\ntwo\n\"\nB='x\n\ny'\nC=1", []string{"1 A=one\ntwo\n", "4 B=x\n\ny", "7 C=1"}},
		{"no expansion", "A=$B\nB=${A}\nC=\"$(id)\"", []string{"1 A=$B", "2 B=${A}", "3 C=$(id)"}},
		{"a quote inside", "A=it's\nB=say \"x\"", []string{"1 A=it's", "2 B=say \"x\""}},
		{"one twice", "A=1\nA=2", []string{"1 A=1", "2 A=2"}},
		{"other alphabets", "A=héllo 世界", []string{"1 A=héllo 世界"}},
		{"a carriage return inside", "A=a\rb", []string{"1 A=a\rb"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, shownDotenv(t, c.text)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDotenvRefuses(t *testing.T) {
	const shape = "it reads NAME=VALUE, with a name of letters, digits, '_', '-' and '.'"
	for text, want := range map[string]string{
		"sk-secret":                 "line 1: " + shape,
		"A=1\nsk-secret\n":          "line 2: " + shape,
		"=sk-secret":                "line 1: " + shape,
		"1A=sk-secret":              "line 1: " + shape,
		"A B=sk-secret":             "line 1: " + shape,
		"É=sk-secret":               "line 1: " + shape,
		"export A":                  "line 1: " + shape,
		"export export A=sk-secret": "line 1: " + shape,
		"A: sk-secret":              "line 1: " + shape,
		"\n\nA=\"sk-secret\nB=2\n":  "line 3: the quote that begins here does not end",
		"A='sk-secret":              "line 1: the quote that begins here does not end",
		`A="sk-secret\"`:            "line 1: the quote that begins here does not end",
		`A="sk-secret\`:             "line 1: the quote that begins here does not end",
		`A="sk"-secret`:             "line 1: something stands after the closing quote",
		"A='x\ny' 'sk-secret'":      "line 2: something stands after the closing quote",
		"A=a\x00sk-secret":          "it is no text in UTF-8",
		"A=\xffsk-secret":           "it is no text in UTF-8",
	} {
		entries, err := parseDotenv([]byte(text))
		if err == nil || err.Error() != want || entries != nil {
			t.Errorf("%q: %v, %v", text, entries, err)
		}
	}
}

// Every value has a form in which it is read back, whatever it holds.
func TestDotenvReadsWhatIsWritten(t *testing.T) {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "$", `\$`, "`", "\\`")
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var want []string
		line := 1
		for range rapid.IntRange(0, 8).Draw(t, "entries") {
			name := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.-]{0,12}`).Draw(t, "name")
			value := strings.ReplaceAll(rapid.String().Draw(t, "value"), "\x00", "")
			kinds := []string{`"` + escape.Replace(value) + `"`}
			if !strings.ContainsAny(value, "'\r") {
				kinds = append(kinds, "'"+value+"'")
			}
			if !strings.ContainsAny(value, "`\r") {
				kinds = append(kinds, "`"+value+"`")
			}
			if !strings.ContainsAny(value, " \t\r\n#\"'`") {
				kinds = append(kinds, value)
			}
			written := rapid.SampledFrom(kinds).Draw(t, "kind")
			entry := rapid.SampledFrom([]string{"", "export ", " \t", "# x\n\n"}).Draw(t, "before")
			want = append(want, fmt.Sprintf("%d %s=%s", line+strings.Count(entry, "\n"), name, value))
			entry += name + rapid.SampledFrom([]string{"=", " = "}).Draw(t, "sign") + written + rapid.SampledFrom([]string{"\n", " \n", " # c\n\n"}).Draw(t, "after")
			line += strings.Count(entry, "\n")
			text.WriteString(entry)
		}
		if d := cmp.Diff(want, shownDotenv(t, text.String())); d != "" {
			t.Fatalf("%q: %s", text.String(), d)
		}
	})
}

// A large file costs what its bytes cost: with a buffer for each value, this
// one would take minutes.
func TestDotenvIsLinear(t *testing.T) {
	const n = 300_000
	entries, err := parseDotenv([]byte(strings.Repeat("A='x'\n", n)))
	if err != nil || len(entries) != n || string(entries[n-1].Value.Expose()) != "x" {
		t.Fatal(len(entries), err)
	}
}

func FuzzDotenv(f *testing.F) {
	for _, s := range []string{"A=1", "export A='b' # c", "A=\"x\\n\ny\"\r\nB=2", "A", "A=`", "\ufeff#", "A=\"\\", "A = # x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := string(data)
		entries, err := parseDotenv(data)
		if string(data) != before {
			t.Fatal("the file's text was changed")
		}
		if err != nil {
			if len(entries) > 0 {
				t.Fatal("an error and entries")
			}
			return
		}
		lines := strings.Count(before, "\n") + 1
		last := 0
		for _, e := range entries {
			value := string(e.Value.Expose())
			if e.Name == "" || e.Line <= last || e.Line > lines || strings.ContainsAny(e.Name, " =\n\"'") || strings.Contains(value, "\x00") {
				t.Fatalf("%q: %+v", before, e)
			}
			last = e.Line
			// Written again in the one form that holds everything, it is the same.
			again, err := parseDotenv([]byte(e.Name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(value) + `"`))
			if err != nil || len(again) != 1 || again[0].Name != e.Name || !again[0].Value.Equal(e.Value) {
				t.Fatalf("%q: %q becomes %v, %v", before, value, again, err)
			}
		}
	})
}
