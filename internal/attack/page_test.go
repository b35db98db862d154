package attack_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/attack"
)

//go:generate env AIVAULT_TEST_FULL=1 go test -run ^TestAttacks$ -timeout 10m -update

var update = flag.Bool("update", false, "write docs/security/attacks.md from a run of the table")

const pagePath = "../../docs/security/attacks.md"

const pageIntro = `# Attacks

What products of this kind have been broken by, and what comes of it here. This page is made by a run of the attack suite
(` + "`go generate ./internal/attack`" + `); a test fails when a run and the page differ.

The suite is part of the product: ` + "`aivault doctor --attack`" + ` starts the ` + "`aivaultd`" + ` beside the CLI on a throw-away vault, copies your configuration into it (names, hosts, rules, limits, grants)
with a decoy for every value, and makes the attacks of the first tables below, each with many variants. The caller of an attack is raw
HTTP over a socket on which nobody is operator, with nothing of the CLI between; the upstream is one of its own on this
machine, which misbehaves as it is told to, byte by byte. Of each attack these are checked: the error code; that nothing reached
the upstream, or exactly what was asked, byte for byte; that no decoy, nor a part of one, can be read from the answer in any encoding (the
check decodes, again and again, and knows nothing of how aivault scrubs); and that the audit log has a record. And each has a twin: the
nearest honest request, which has to be let through, or a guard that refuses everything would pass.

It takes about half a minute, calls no real host, needs no network, and leaves nothing behind. The exit status is 1 when an attack gets
through; ` + "`--json`" + ` prints all results as an object. What was configured here is attacked only with requests that an explanation, which sends
nothing, says would be refused.

` + "`go test ./internal/attack`" + ` runs the same table against the daemon of the source tree, with longer answers and more encodings.
`

// page is the whole page; what an attack came to is from its result.
func page(results map[string]attack.Result) string {
	var b strings.Builder
	b.WriteString(pageIntro)
	for _, class := range classes() {
		fmt.Fprintf(&b, "\n## %s%s\n\n", strings.ToUpper(class[:1]), class[1:])
		var rows []string
		for _, a := range attack.Table() {
			if a.Class == class {
				rows = append(rows, row(&a, results[a.ID].Outcome))
			}
		}
		if len(rows) > 0 {
			b.WriteString("| attack | what is tried | if it worked | result |\n|---|---|---|---|\n" + strings.Join(rows, ""))
		}
		if more := elsewhere(class); more != "" {
			if len(rows) > 0 {
				b.WriteString("\nWhat needs more than a socket and an upstream:\n\n")
			}
			b.WriteString("| what is tried | result | tests |\n|---|---|---|\n" + more)
		}
	}
	return b.String()
}

func row(a *attack.Attack, outcome string) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", a.ID, cell(a.Title), cell(a.Harm), outcome)
}

func elsewhere(class string) string {
	var b strings.Builder
	for _, e := range attack.Elsewheres() {
		if e.Class == class {
			fmt.Fprintf(&b, "| %s | %s | `%s` |\n", cell(e.Title), e.Result, strings.Join(e.Tests, "`, `"))
		}
	}
	return b.String()
}

func cell(s string) string {
	s = strings.ReplaceAll(s, "|", `\|`)
	return strings.ToUpper(s[:1]) + s[1:]
}

func classes() []string { return append(attack.Classes(), "vault") }

// checkPage compares the page with a run, or writes it.
func checkPage(t *testing.T, results map[string]attack.Result) {
	if *update && !t.Failed() {
		if err := os.WriteFile(pagePath, []byte(page(results)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attack.Table() {
		if r, ran := results[a.ID]; ran && !strings.Contains(string(text), row(&a, r.Outcome)) {
			t.Errorf("docs/security/attacks.md does not say of %s: %s; run make generate", a.ID, r.Outcome)
		}
	}
	if len(results) < len(attack.Table()) {
		return
	}
	if d := cmp.Diff(page(results), string(text)); d != "" {
		t.Errorf("docs/security/attacks.md is not what the run says; run make generate:\n%s", d)
	}
}

func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range attack.Table() {
		switch {
		case seen[a.ID]:
			t.Errorf("%s is there twice", a.ID)
		case !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(a.ID):
			t.Errorf("%q is no id", a.ID)
		case a.Run == nil || a.Twin == nil:
			t.Errorf("%s cannot be run, or has no twin", a.ID)
		case a.Title == "" || !strings.HasSuffix(a.Harm, "."):
			t.Errorf("%s does not say what it is", a.ID)
		case !slices.Contains(attack.Classes(), a.Class):
			t.Errorf("%s is of no class", a.ID)
		}
		seen[a.ID] = true
	}
	text, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attack.Table() {
		if !strings.Contains(string(text), "| `"+a.ID+"` | "+cell(a.Title)+" | "+cell(a.Harm)+" |") {
			t.Errorf("docs/security/attacks.md lacks %s as it is; run make generate", a.ID)
		}
	}
	for _, class := range classes() {
		if !strings.Contains(string(text), elsewhere(class)) {
			t.Errorf("docs/security/attacks.md lacks tests of the class %s; run make generate", class)
		}
	}
}

// TestTheOtherTestsExist: what the page says is shown elsewhere is shown there.
func TestTheOtherTestsExist(t *testing.T) {
	found := map[string][]string{}
	for _, e := range attack.Elsewheres() {
		if len(e.Tests) == 0 || e.Result == "" || e.Title == "" || !slices.Contains(classes(), e.Class) {
			t.Errorf("%q is not described", e.Title)
		}
		for _, name := range e.Tests {
			pkg, test, _ := strings.Cut(name, ".")
			test, story, isStory := strings.Cut(test, "/")
			dir := filepath.Join("../../internal", pkg)
			if strings.HasPrefix(pkg, "cmd/") {
				dir = filepath.Join("../..", pkg)
			}
			if found[dir] == nil {
				found[dir] = tests(t, dir)
			}
			if !slices.Contains(found[dir], test) {
				t.Errorf("%s: there is no such test", name)
			}
			if isStory {
				if _, err := os.Stat(filepath.Join(dir, "testdata/script", story+".txtar")); err != nil {
					t.Errorf("%s: there is no such story", name)
				}
			}
		}
	}
}

// tests are the tests and fuzz targets of a directory.
func tests(t *testing.T, dir string) (names []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
